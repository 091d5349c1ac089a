"""The flat table: what it joins, what a condition may say, and that it reaches nothing outside of it."""

from pathlib import Path

import duckdb
import pytest

from pipeline.shards.columns import COLUMNS
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from schemas.trajectory import Reflection
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


def test_a_run_on_an_object_store_loads() -> None:
    assert count(Rows(whole_run("memory://shards-table")), "true") == 12


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
    store.commit("replay", 2, [], {"schema_version": 99})
    with pytest.raises(UserError, match="version 99"):
        Rows(store)


def test_every_column_says_what_it_means() -> None:
    assert [column.name for column in COLUMNS if not column.meaning] == []
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
