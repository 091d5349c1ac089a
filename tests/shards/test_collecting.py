"""Kept rows as records: read as they are, by one process or several, in files of any size."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards import collecting
from pipeline.shards.attempts import UNREAD, kept_attempts
from pipeline.shards.export import Exporter, Shelf
from pipeline.shards.formats.native import NATIVE
from pipeline.shards.spill import NUMBER, RANK, Spill
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.arrow import from_table
from schemas.errors import Fatal
from schemas.record import Record
from schemas.trajectory import Trajectory, Turn
from tests.shards.crowded import crowded_run
from tests.shards.cutting import cut, digests, rows_of
from tests.shards.published import ATTEMPTS, Runs
from tests.shards.runs import GOOD, begin, commit, frames, question, trajectory, verdict, whole_run


@pytest.mark.parametrize("name", sorted(ATTEMPTS))
def test_kept_attempts_are_the_very_records_that_validation_gives(runs: Runs, name: str) -> None:
    _same_as_validated(runs(name))


def test_so_are_those_of_films_and_of_caption_trees(films: RunStore, walks: RunStore) -> None:
    _same_as_validated(films)
    _same_as_validated(walks)


def _same_as_validated(store: RunStore) -> None:
    for shard in store.finished("teach"):
        expected = from_table(Trajectory, store.table("teach", shard))
        found = kept_attempts(store, shard, {t.trajectory_id for t in expected})
        assert [_read(t) for t in found] == [_read(t) for t in expected]
        (last,) = kept_attempts(store, shard, {expected[-1].trajectory_id, "no such"})
        assert _read(last) == _read(expected[-1])
        for name in UNREAD & set(Trajectory.model_fields):
            with pytest.raises(AttributeError):
                getattr(last, name)


def _read(value: Any) -> Any:
    """What a record holds, types and all, but for what is not read: of a turn with an action its raw text, too."""
    if isinstance(value, Record):
        unread = UNREAD | ({"raw"} if isinstance(value, Turn) and value.actions else set())
        return type(value), {name: _read(field) for name, field in vars(value).items() if name not in unread}
    return (tuple, [_read(item) for item in value]) if isinstance(value, tuple) else (type(value), value)


def test_rows_of_every_fate_are_read_as_they_are(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path))
    for shard in range(5):
        expected = store.rows(Trajectory, "teach", shard)
        found = kept_attempts(store, shard, [t.trajectory_id for t in expected])
        assert [_read(t) for t in found] == [_read(t) for t in expected]


def test_attempts_on_a_video_share_an_overview_only_where_it_is_the_same(tmp_path: Path) -> None:
    store = begin(str(tmp_path), [question(0, "v0")], attempts=3)
    made = [trajectory(question(0, "v0"), n, turns=GOOD, final="C") for n in range(3)]
    assert made[1].overview is not None
    other = made[1].overview.model_copy(update={"frames": frames(2, 0.04)})
    made[1] = made[1].model_copy(update={"overview": other})
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t) for t in made])
    first, second, third = kept_attempts(store, 0, [t.trajectory_id for t in made])
    assert first.overview is third.overview and second.overview == other
    cut(store.url, "all", None, "true", "sft")
    times = [[image["time_s"] for image in row["images"][:2]] for row in rows_of(store, "all", "train")]
    assert times == [[0.0, 1.0], [0.04, 1.04], [0.0, 1.0]]


def test_a_shard_of_an_earlier_schema_is_validated(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path))
    path = store.storage.path(store.shard_name("teach", 0))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["reflection", "tools"]), path)
    found = kept_attempts(store, 0, ["q0@0"])
    assert [t.trajectory_id for t in found] == ["q0@0"] and found[0].reflection is None and found[0].tools == ()


def test_a_kept_row_that_is_not_found_again_stops_the_cut(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path))
    rows = Rows(store)
    rows.query("CREATE TABLE kept AS SELECT shard, video_id, 'q9@9' AS trajectory_id, 0 AS rank FROM rows LIMIT 1")
    media, layout = NATIVE.layout("sft", None)
    exporter = Exporter("sft", media, layout, "all", {}, 0.0, 0, "", None, Shelf(store.storage, "cuts/none"))
    with pytest.raises(Fatal, match="1 rows are kept, 0 were found again"):
        collecting.collect(rows, exporter, {}, lambda done, total: None, pool=None)


@pytest.mark.parametrize(("name", "media"), [("native", "reference"), ("native", "embedded"), ("ms-swift", "files")])
def test_several_processes_give_the_same_bytes_as_one(
    films: RunStore, name: str, media: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most, folder in ((10_000, "here"), (0, "there")):
        monkeypatch.setattr(collecting, "_ALONE", most)
        monkeypatch.setattr(collecting, "_PICTURED_ALONE", most)
        cut(films.url, f"{folder}-{name}-{media}", None, "true", "sft", format=name, media=media)
        made = digests(films, f"{folder}-{name}-{media}")
        # These name the cut.
        found.append({path: digest for path, digest in made.items() if path not in ("README.md", "dataset_info.json")})
    assert found[0] == found[1] and len(found[0]) > 2


@pytest.mark.parametrize("held", [0, 4_000, 10**9])
def test_rows_come_back_in_order_whatever_waits_in_memory(held: int) -> None:
    schema = pa.schema([("text", pa.string())])
    with Spill(schema, 7, held) as spill:
        for start in (40, 0, 80, 20, 60):
            places = {RANK: list(range(start + 19, start - 1, -1)), NUMBER: [0] * 20}
            spill.add(pa.table({"text": [f"row {rank}" for rank in places[RANK]], **places}))
        for _ in range(2):  # sizes are told from a first look, files written at a second
            read = [text for table in spill.tables() for text in table["text"].to_pylist()]
            assert read == [f"row {rank}" for rank in range(100)]
        assert [table.num_rows for table in spill.files([30, 70])] == [30, 70]


@pytest.mark.parametrize("sizes", [[100], [30, 70], [33, 33, 34], [1] * 100, [7, 7, 86]])
def test_what_several_processes_put_on_shelves_is_read_in_order_piece_by_piece(sizes: list[int]) -> None:
    schema = pa.schema([("text", pa.string())])
    with Spill(schema, 7) as spill:
        for start in (40, 0, 80, 20, 60):
            ranks = list(range(start + 19, start - 1, -1))
            table = pa.table({"text": [f"row {rank}" for rank in ranks], RANK: ranks, NUMBER: [0] * 20})
            if start == 20:
                spill.add(table)  # one that this process made
            else:
                spill.note(spill.shelves.put(table, f"writer-{start % 3}"))
        pieces = spill.pieces(sizes)
        assert pieces is not None and spill.rows == 100
        read = [piece.read()["text"].to_pylist() for piece in pieces]
        assert [len(rows) for rows in read] == sizes
        assert [text for rows in read for text in rows] == [f"row {rank}" for rank in range(100)]
        assert [len(table) for table in spill.files(sizes)] == sizes


def test_rows_that_wait_in_memory_are_no_pieces() -> None:
    with Spill(pa.schema([("text", pa.string())]), 7) as spill:
        spill.add(pa.table({"text": ["row"], RANK: [0], NUMBER: [0]}))
        assert spill.pieces([1]) is None


def test_files_are_no_larger_than_was_asked_for(tmp_path: Path) -> None:
    store = crowded_run(str(tmp_path))
    cut(store.url, "whole", None, "true", "sft")
    whole = rows_of(store, "whole", "train")
    table = pq.read_table(store.storage.path("cuts/whole/train-00000-of-00001.parquet"))
    largest = max(table.slice(n, 1).nbytes for n in range(36))
    cut(store.url, "parts", None, "true", "sft", bytes_per_file=5 * largest)
    names = store.storage.names("cuts/parts", ".parquet")
    tables = [pq.read_table(store.storage.path(f"cuts/parts/{name}")) for name in names]
    assert names == [f"train-{n:05d}-of-{len(names):05d}.parquet" for n in range(len(names))] and len(names) > 5
    assert all(table.nbytes <= 5 * largest * 1.01 for table in tables)
    assert rows_of(store, "parts", "train") == whole
    cut(store.url, "single", None, "true", "sft", bytes_per_file=1)
    assert len(store.storage.names("cuts/single", ".parquet")) == 36
    cut(store.url, "rows", None, "true", "sft", 4, bytes_per_file=10**9)
    assert len(store.storage.names("cuts/rows", ".parquet")) == 9
    assert "bytes_per_file: '1'" in store.storage.read("cuts/single/README.md").decode()
