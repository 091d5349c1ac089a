"""The flat table: what it joins, what a condition may say, and that it reaches nothing outside of it."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline.shards.columns import COLUMNS
from pipeline.shards.table import Rows
from pipeline.stages import checks
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from schemas.trajectory import Observation, Reflection, Trajectory
from schemas.verdict import Verdict
from tests.shards.runs import GOOD, HOSTILE, begin, commit, question, trajectory, tree, verdict, whole_run


def count(rows: Rows, condition: str) -> int:
    (row,) = rows.query(f"SELECT count(*) AS n FROM rows WHERE {rows.check(condition)}")
    return int(row["n"])


def test_there_is_one_row_per_planned_attempt_with_every_column(rows: Rows) -> None:
    found = rows.query(f"SELECT {', '.join(c.name for c in COLUMNS)} FROM rows ORDER BY trajectory_id")
    assert len(found) == len({row["trajectory_id"] for row in found}) == 12
    assert set(Verdict.model_fields) - {"error", "usage", "failure"} <= {column.name for column in COLUMNS}
    good = found[0]
    assert (good["status"], good["captioned"], good["rolled_out"], good["verified"]) == ("answered", True, True, True)
    assert (good["n_trainable"], good["n_invalid"], good["n_hints"], good["hint_level"]) == (2, 0, 0, -1)
    assert good["think_chars"] == len("Look at [2, 5], ünï.") + len("so it is")
    assert (good["p_gold_steps"], good["duration_s"], good["n_choices"], good["n_clues"]) == ([0.5, 0.75], 64.0, 4, 1)
    assert (good["cost_usd"], good["calls"], good["question_chars"]) == (0.25, 2, len(f"Which colour, {HOSTILE}?"))


def test_what_no_stage_has_done_yet_is_there_and_unknown(rows: Rows) -> None:
    assert count(rows, "status = 'not_run' AND NOT rolled_out AND NOT verified AND NOT captioned") == 2
    assert count(rows, "rolled_out AND NOT verified AND well_formed IS NULL AND shard = 4") == 2


def test_a_run_that_has_only_been_planned_loads(tmp_path: Path) -> None:
    rows = Rows(begin(str(tmp_path), [question(0, "v0")], attempts=3))
    assert count(rows, "status = 'not_run'") == 3


def test_a_corrected_rollout_is_told_from_others(tmp_path: Path) -> None:
    store = begin(str(tmp_path), [question(0, "v0")], attempts=2)
    made = [trajectory(question(0, "v0"), n, turns=GOOD, final="C") for n in range(2)]
    wrong = Reflection(after_turn=1, max_turns=5, wrong_answer="A", wrong_raw="<answer>A</answer>")
    made[1] = made[1].model_copy(update={"reflection": wrong})
    commit(store, "caption", 0, [tree("v0")])
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t) for t in made])
    assert [count(Rows(store), c) for c in ("reflected", "NOT reflected")] == [1, 1]


def told_run(url: str) -> RunStore:
    """As `whole_run`, but with verdicts that tell of their trajectories."""
    store = whole_run(url)
    for shard in range(4):
        made = {t.trajectory_id: t for t in store.rows(Trajectory, "teach", shard)}
        old = store.rows(Verdict, "replay", shard)
        commit(store, "replay", shard, [v.model_copy(update=checks.told(made[v.trajectory_id])) for v in old])
    return store


def test_a_verdict_tells_what_its_trajectory_says(rows: Rows, tmp_path: Path) -> None:
    told = Rows(told_run(str(tmp_path)))
    query = f"SELECT {', '.join(c.name for c in COLUMNS)} FROM rows ORDER BY trajectory_id"
    assert told.query(query) == rows.query(query)
    (found,) = told.query("SELECT zoom_starts_s, zoom_ends_s FROM rows WHERE trajectory_id = 'q0@0'")
    assert found == {"zoom_starts_s": [2.0], "zoom_ends_s": [5.0]}


def test_a_refused_zoom_is_none(tmp_path: Path) -> None:
    asked = question(0, "v0")
    store = begin(str(tmp_path), [asked], attempts=1)
    refused = GOOD[0].model_copy(update={"observations": (Observation(call_id="0.0", kind="error", text="too long"),)})
    made = trajectory(asked, 0, turns=(refused, GOOD[0], GOOD[1]), final="C")
    commit(store, "teach", 0, [made])
    (found,) = Rows(store).query("SELECT zoom_starts_s, zoom_ends_s FROM rows")
    assert (tuple(found["zoom_starts_s"]), tuple(found["zoom_ends_s"])) == ((2.0,), (5.0,))
    assert checks.told(made)["zoom_starts_s"] == (2.0,)


def test_trajectories_stay_unread_where_verdicts_tell_enough(tmp_path: Path) -> None:
    """Shard 4 has no verdicts: its trajectories are read, those of the others only for what no verdict tells."""
    rows = Rows(told_run(str(tmp_path)))
    for number in range(4):
        (tmp_path / f"trajectories/shard-{number:05d}.parquet").unlink()
    assert count(rows, "think_chars > 0 AND cost_usd > 0 AND status = 'answered' AND n_trainable = 2") == 3
    with pytest.raises(Fatal, match="cannot be read"):
        count(rows, "Final_Answer = 'C'")


def test_a_file_without_the_newest_columns_is_read(store: RunStore, rows: Rows) -> None:
    for shard in range(4):
        path = store.storage.path(f"verdicts/shard-{shard:05d}.parquet")
        table = pq.read_table(path)
        newest = ["p_gold_disordered", *checks.told(store.rows(Trajectory, "teach", 0)[0])]
        pq.write_table(table.drop_columns(newest), path)
    query = f"SELECT {', '.join(c.name for c in COLUMNS)} FROM rows ORDER BY trajectory_id"
    assert Rows(store).query(query) == rows.query(query)


@pytest.mark.parametrize("name", ["a=b/shard=7", "r[1]*?", 'it\'s "here"', "ünï {x}"])
def test_a_run_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    assert count(Rows(told_run(str(tmp_path / name))), "shard < 6 AND n_choices = 4") == 12


def test_a_run_that_goes_on_is_seen_as_it_was(tmp_path: Path) -> None:
    asked = [question(n, f"v{n}") for n in range(2)]
    store = begin(str(tmp_path), asked, attempts=1)
    commit(store, "teach", 0, [trajectory(asked[0], 0, turns=GOOD, final="C")])
    rows = Rows(store)
    commit(store, "teach", 1, [trajectory(asked[1], 0, turns=GOOD, final="C")])
    assert (count(rows, "rolled_out"), count(Rows(store), "rolled_out")) == (1, 2)


def test_a_damaged_page_is_no_mistake_of_the_user(store: RunStore) -> None:
    rows = Rows(store)
    path = Path(store.storage.path("verdicts/shard-00000.parquet"))
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(bytes(data))
    with pytest.raises(Fatal):
        rows.query("SELECT sum(n_zooms), min(mismatch), min(well_formed) FROM rows")


def test_a_run_on_an_object_store_loads() -> None:
    assert count(Rows(whole_run("memory://shards-table")), "true") == 12
    assert count(Rows(told_run("memory://shards-told")), "n_choices = 4 AND n_trainable >= 1") == 5


def test_a_video_in_two_shards_does_not_double_its_attempts(tmp_path: Path) -> None:
    asked = question(0, "v0")
    store = begin(str(tmp_path), [asked], attempts=1)
    from pipeline.plan import Plan

    Plan(store).extend([asked], attempts=3, videos_per_shard=1)
    for shard, attempts in ((0, [0]), (1, [1, 2])):
        commit(store, "caption", shard, [tree("v0")])
        commit(store, "teach", shard, [trajectory(asked, n, turns=GOOD, final="C") for n in attempts])
    assert count(Rows(store), "captioned AND status = 'answered'") == 3


@pytest.mark.parametrize(
    "condition",
    [
        "n_zooms = 1",
        "N_ZOOMS = 1 AND status LIKE 'a%' -- a remark",
        "len(list_filter(gain_per_step, lambda g: g > 0)) > 0",
        "rows.n_zooms BETWEEN 1 AND 2",
        "len([g for g in gain_per_step if g > 0.1]) = 1",
        "(n_zooms = 1) OR (n_zooms = 2)",
        "teacher != 'ü; DROP TABLE rows --'",
        "p_gold_steps[1] > 0 AND evidence_gain IS NOT NULL",
        "CASE WHEN verified THEN n_zooms = 1 ELSE false END",
    ],
)
def test_expressions_over_the_columns_are_conditions(rows: Rows, condition: str) -> None:
    assert count(rows, condition) >= 1


@pytest.mark.parametrize(
    "condition",
    [
        "1=1; DROP TABLE rows",
        "1=1); DROP TABLE rows; --",
        "1=1) OR (1=1",
        "1=1) --",
        "1=1 /*",
        "ATTACH '/tmp/other.db'",
        "COPY rows TO '/tmp/stolen'",
        "1=1; COPY rows TO '/tmp/stolen'",
        "EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))",
        "n_zooms IN (SELECT 1)",
        "(SELECT content FROM read_text('/etc/passwd')) = 'x'",
        "read_text('/etc/passwd') IS NULL",
        "EXISTS (FROM caption)",
        "1=1 UNION SELECT true",
        "1=1 ORDER BY 1",
        "1=1 LIMIT 1",
        "1=1 GROUP BY ALL",
        "sum(n_zooms) > 1",
        "row_number() OVER () = 1",
        "columns(*) = 1",
        "n_zooms = $1",
        "n_zooms = ?",
        "random() > 0.5",
        "now() > '2020-01-01'",
        "current_setting('threads') = '1'",
        "pg_sleep(1) IS NULL",
        "current_localtimestamp() > '2020-01-01'",
        "age(TIMESTAMP '2020-01-01') > INTERVAL 1 YEAR",
        "getenv('HOME') = '/root'",
        "#66 IS NOT NULL",
        "version() = 'v1'",
        "hash(trajectory_id) % 2 = 0",
        "getvariable('x') IS NULL",
        "PRAGMA version",
        "CALL pragma_version()",
        "n_zooms IN (FROM read_csv('/etc/passwd'))",
        "1 = ANY (SELECT 1 FROM glob('/*'))",
        "read_blob('/etc/passwd') IS NULL",
        "sniff_csv('/etc/passwd') IS NULL",
        "query('SELECT 1') = 1",
        "generate_subscripts([1], 1) = 1",
        "SET threads = 1",
        "INSTALL httpfs",
        "unnest([true])",
        "n_zooms",
        "'true'",
        "NULL",
        "",
        " ",
    ],
)
def test_anything_else_is_refused_in_one_line(rows: Rows, condition: str) -> None:
    with pytest.raises(UserError) as refused:
        rows.check(condition)
    assert "\n" not in str(refused.value) and "condition" in str(refused.value)
    assert count(rows, "true") == 12


def test_the_connection_itself_is_locked(rows: Rows, tmp_path: Path) -> None:
    """Even a statement that got past the check could neither read nor write a file, nor unlock the connection."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for statement in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"COPY rows TO '{tmp_path}/stolen.csv'",
        f"ATTACH '{tmp_path}/other.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        f"SELECT * FROM read_text('{rows.store.storage.path('run.yaml')}')",
        f"SELECT * FROM read_parquet('{rows.store.storage.path('verdicts/*.parquet')}')",
        f"SELECT * FROM glob('{rows.store.storage.path('*')}')",
    ):
        with pytest.raises(duckdb.Error):
            rows._data.sql.execute(statement)
    assert not (tmp_path / "stolen.csv").exists()


def test_an_unknown_column_is_named_with_those_that_exist(rows: Rows) -> None:
    with pytest.raises(
        UserError, match=r"no column well_fromed\. Did you mean well_formed.*Columns: trajectory_id, .*"
    ):
        rows.check("well_fromed")
    with pytest.raises(UserError, match="single quotes"):
        rows.check('status = "answered"')


def test_a_value_that_breaks_a_condition_is_the_users_mistake(rows: Rows) -> None:
    with pytest.raises(UserError, match="cannot be evaluated"):
        count(rows, "final_answer::INT > 3")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        Rows(RunStore(str(tmp_path)))


def test_a_shard_that_lost_or_doubled_a_row_is_refused(tmp_path: Path) -> None:
    asked = question(0, "v0")
    store = begin(str(tmp_path), [asked], attempts=2)
    made = [trajectory(asked, n, turns=GOOD, final="C") for n in range(2)]
    commit(store, "teach", 0, made[:1])
    with pytest.raises(Fatal, match=r"1 attempts are not once in the rows of the teach stage.*q0@1"):
        Rows(store)
    commit(store, "teach", 0, [*made, made[0]])
    with pytest.raises(Fatal, match="q0@0"):
        Rows(store)
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(made[0]), verdict(made[0])])
    with pytest.raises(Fatal, match="replay stage"):
        Rows(store)


def test_a_file_that_is_damaged_or_of_another_version_is_named(store: RunStore) -> None:
    store.storage.write("verdicts/shard-00002.parquet", b"PAR1 no")
    with pytest.raises(Fatal, match=r"verdicts/shard-00002\.parquet is not a readable Parquet file"):
        Rows(store)
    store.storage.remove(store.shard_name("replay", 2))
    store.commit("replay", 2, [], {"schema_version": 99})
    with pytest.raises(UserError, match="version 99"):
        Rows(store)


def test_every_column_says_what_it_means() -> None:
    assert [column.name for column in COLUMNS if not column.meaning] == []
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
