"""Finished shards rolled up: the same rows, statistics and cuts out of fewer files, and never out of stale ones."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from jobs.presets import preset
from jobs.roll_up import roll_up_apart
from pipeline.shards import lineage, rendered, rollup
from pipeline.shards.columns import COLUMNS
from pipeline.shards.digests import footer_digests
from pipeline.shards.rolling import roll_up
from pipeline.shards.stats import collect
from pipeline.shards.table import Rows
from pipeline.stages import checks
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.benchmarks.large_runs import large_run
from tests.shards.cutting import cut, digests, rows_of
from tests.shards.published import ATTEMPTS, Runs
from tests.shards.runs import commit, verdict, whole_run
from tests.shards.test_generations import grown, run_of_two_questions


@pytest.fixture(autouse=True)
def parts_of_two_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "SHARDS", 2)


def told(store: RunStore) -> RunStore:
    """The run with verdicts that tell of their trajectories, as every stage writes them now."""
    for shard in store.finished("replay"):
        attempts = {t.trajectory_id: t for t in store.rows(Trajectory, "teach", shard)}
        old = store.rows(Verdict, "replay", shard)
        commit(store, "replay", shard, [v.model_copy(update=checks.told(attempts[v.trajectory_id])) for v in old])
    return store


def every_row(store: RunStore) -> list[dict[str, Any]]:
    columns = ", ".join(f'"{column.name}"' for column in COLUMNS)
    return Rows(store).query(f"SELECT {columns} FROM rows ORDER BY trajectory_id")


def statistics(store: RunStore) -> str:
    return json.dumps(collect(Rows(store), preset("default"), by="status").as_json())


def rolled(store: RunStore) -> list[str]:
    return store.storage.names("rollup", ".parquet")


def test_rows_statistics_and_cuts_are_the_same_rolled_up(tmp_path: Path) -> None:
    store = told(whole_run(str(tmp_path)))
    rows, figures = every_row(store), statistics(store)
    cut(store.url, "before", None, "status = 'answered' AND final_answer <> ''", "sft")
    assert list(roll_up(store)) == [range(0, 2), range(2, 4)]  # no stage has seen the last shard's attempts judged
    assert every_row(store) == rows and len(rows) == 12
    assert statistics(store) == figures
    cut(store.url, "after", None, "status = 'answered' AND final_answer <> ''", "sft")
    before, after = digests(store, "before"), digests(store, "after")
    assert [before[name] for name in sorted(before) if name.startswith("train")] == [
        after[name] for name in sorted(after) if name.startswith("train")
    ]
    assert before["lineage.json"] == after["lineage.json"]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_rows_that_were_rendered_ahead_are_those_of_a_cut_to_the_byte(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    footers = cache(lambda names: footer_digests(RunStore(str(tmp_path)).storage, names))
    monkeypatch.setattr(lineage, "footer_digests", lambda _, names: footers(tuple(names)))
    store = told(whole_run(str(tmp_path)))
    kept = "status = 'answered' OR status = 'gave_up'"
    cut(store.url, "before", None, kept, "sft", test_share=share)
    for span in rendered.due(store):
        rendered.render(store, span)
    assert rendered.there(store, sizes_of(store)) == {0, 1, 2, 3}
    list(roll_up(store))
    broken = store.shard_name("teach", 0)  # of the same size: who renders its rows anew is told at once
    data = store.storage.read(broken)
    store.storage.write(broken, bytes(len(data)))
    cut(store.url, "after", None, kept, "sft", test_share=share)
    before, after = digests(store, "before"), digests(store, "after")
    records = [name for name in before if name.endswith(".parquet")]
    assert records and [before[name] for name in records] == [after[name] for name in records]
    with pytest.raises(pa.ArrowInvalid):
        cut(store.url, "corrections", None, kept, "sft", test_share=share, learn="corrections")


def sizes_of(store: RunStore) -> dict[int, int]:
    return {n: store.storage.size(store.shard_name("teach", n)) for n in store.finished("teach")}


def test_what_cannot_be_rendered_is_left_to_the_cut_that_keeps_it(tmp_path: Path) -> None:
    store = told(run_of_two_questions(str(tmp_path)))
    first, second = store.rows(Trajectory, "teach", 0)
    commit(store, "teach", 0, [first.model_copy(update={"protocol_version": "0"}), second])
    (span,) = rendered.due(store)
    rendered.render(store, span)
    cut(store.url, "good", None, "trajectory_id <> 'q0@0'", "sft")
    assert len(rows_of(store, "good", "train")) == 3
    with pytest.raises(UserError, match="q0@0 was made with version 0 of videozoomer"):
        cut(store.url, "all", None, "true", "sft")


@pytest.mark.parametrize("name", sorted(ATTEMPTS))
def test_the_rows_of_every_protocol_can_be_rendered_ahead(
    runs: Runs, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol without memory has several rows for an attempt."""
    monkeypatch.setattr(rollup, "SHARDS", 1)
    shutil.copytree(runs(name).url, tmp_path / "run")
    store = RunStore(str(tmp_path / "run"))
    cut(store.url, "before", None, "true", "sft")
    (span,) = rendered.due(store)
    rendered.render(store, span)
    assert rendered.there(store, sizes_of(store)) == {0}
    assert rendered.picked(store, 0, {"q-1@0": rendered._NOTHING, "q-1@1": rendered._NOTHING}, "").num_rows >= 2
    cut(store.url, "after", None, "true", "sft")
    before, after = digests(store, "before"), digests(store, "after")
    assert before["train-00000-of-00001.parquet"] == after["train-00000-of-00001.parquet"]


def test_rolled_up_shards_are_not_opened(tmp_path: Path) -> None:
    """What the shards say is then in the parts, so that bytes of the same number go unnoticed by statistics."""
    store = told(whole_run(str(tmp_path)))
    figures = statistics(store)
    list(roll_up(store))
    for stage in ("caption", "teach", "replay"):
        name = store.shard_name(stage, 0)
        store.storage.write(name, bytes(len(store.storage.read(name))))
    assert statistics(store) == figures


def test_a_part_of_other_shards_than_there_are_is_not_read(tmp_path: Path) -> None:
    store = told(whole_run(str(tmp_path)))
    list(roll_up(store))
    changed = [
        verdict(t, verifier="another one").model_copy(update=checks.told(t)) for t in store.rows(Trajectory, "teach", 0)
    ]
    commit(store, "replay", 0, changed)
    found = Rows(store).query("SELECT verifier FROM rows WHERE shard = 0")
    assert [row["verifier"] for row in found] == ["another one"] * 2


def test_a_part_of_another_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = told(whole_run(str(tmp_path)))
    rows = every_row(store)
    list(roll_up(store))
    monkeypatch.setattr(rollup, "_VERSION", "another")
    store.storage.write("rollup/videos-00000.parquet", b"")  # would be fatal to whoever read it
    assert every_row(store) == rows


def test_parts_of_another_version_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = told(whole_run(str(tmp_path)))
    rows = every_row(store)
    for version in ("1", "2"):
        monkeypatch.setattr(rollup, "_VERSION", version)
        monkeypatch.setattr(rendered, "_VERSION", version)
        assert rollup.due(store) == rendered.due(store) != []
        list(roll_up(store))
        for span in rendered.due(store):
            rendered.render(store, span)
        assert rollup.due(store) == rendered.due(store) == []
        assert every_row(store) == rows
    store.storage.write("rollup/samples-00000.parquet", b"torn")
    assert len(rendered.due(store)) == 1


def test_a_damaged_part_is_told_by_its_name(tmp_path: Path) -> None:
    store = told(whole_run(str(tmp_path)))
    list(roll_up(store))
    store.storage.write("rollup/rows-00000.parquet", b"torn")
    with pytest.raises(Fatal, match=r"rollup/rows-00000\.parquet is not a readable Parquet file"):
        Rows(store)


def test_verdicts_that_do_not_tell_of_their_trajectories_are_left_in_their_shards(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path))
    assert list(roll_up(store)) == [] and rolled(store) == []


def test_new_shards_come_in_parts_of_their_own(tmp_path: Path) -> None:
    store = told(run_of_two_questions(str(tmp_path)))
    list(roll_up(store))
    before = {name: store.storage.read(f"rollup/{name}") for name in rolled(store)}
    assert sorted(before) == ["rows-00000.parquet", "videos-00000.parquet"]
    grown(store)
    assert {row["generation"] for row in told_rows(store)} == {0, 1}
    assert list(roll_up(store)) == []  # one shard is no part
    assert {name: store.storage.read(f"rollup/{name}") for name in rolled(store)} == before


def told_rows(store: RunStore) -> list[dict[str, Any]]:
    return Rows(told(store)).query("SELECT generation FROM rows")


def test_a_driver_rolls_up_what_is_due_and_says_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # its process has parts of the real size
    store = large_run(tmp_path, 65 * 640)
    roll_up_apart(store, Console())
    assert rolled(store) == ["rows-00000.parquet", "samples-00000.parquet", "videos-00000.parquet"]
    assert Rows(store).query("SELECT count(*) AS n, count(DISTINCT shard) AS shards FROM rows") == [
        {"n": 65 * 640, "shards": 65}
    ]
    for name in rolled(store):
        store.storage.remove(f"rollup/{name}")
    store.storage.write(store.shard_name("teach", 3), b"torn")
    roll_up_apart(store, Console())
    assert "not rolled up" in capsys.readouterr().out and rolled(store) == []
