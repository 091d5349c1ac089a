"""Cutting a run: what a condition keeps becomes Parquet files for a trainer, without any model call."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.card import Card, identity_in, render
from pipeline.shards.condition import Clause, Condition
from pipeline.shards.funnel import Funnel, funnel, loss_sql
from pipeline.shards.samples import Facts, n_sft_samples, rl_sample, sft_samples
from pipeline.shards.spill import Spill
from pipeline.shards.table import Rows
from schemas.arrow import arrow_schema, from_table, to_table
from schemas.errors import Fatal, UserError
from schemas.record import SCHEMA_VERSION, Record, canonical_json, content_id
from schemas.samples import RlSample, SftSample
from schemas.trajectory import Trajectory

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ROWS_PER_GROUP = 1000
_RECORDS: dict[str, type[Record]] = {"sft": SftSample, "rl": RlSample}

_LEARNABLE = Clause("nothing to learn", "n_trainable >= 1")
"""An attempt without one valid turn has nothing to train on, whatever the condition says."""

_KEPT = """
CREATE OR REPLACE TABLE kept AS
SELECT k.shard, k.trajectory_id, k.protocol, k.teacher, k.verifier, k.evidence_gain, k.p_gold_evidence, k.grounding_iou,
    o.n_attempts, o.n_correct, {samples} AS n_samples,
    coalesce(sum({samples}) OVER (ORDER BY k.trajectory_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS rank
FROM (SELECT * FROM rows WHERE {loss} IS NULL {first}) k JOIN (
    SELECT question_id, count(*) FILTER (answer_correct) AS n_correct,
        count(*) FILTER (answer_correct IS NOT NULL OR status NOT IN ('answered', 'not_run')) AS n_attempts
    FROM rows GROUP BY question_id
) o USING (question_id)
"""
_FIRST_OF_QUESTION = "QUALIFY row_number() OVER (PARTITION BY question_id ORDER BY attempt, trajectory_id) = 1"

_MAKERS = ("protocol", "teacher", "verifier")


@dataclass(frozen=True)
class Order:
    """What to cut. name: folder under `cuts/`; kind: rows for supervised or for RL training; rows_per_file: at most."""

    name: str
    kind: Literal["sft", "rl"]
    condition: Condition
    rows_per_file: int


@dataclass(frozen=True)
class Cut:
    """What was cut. folder: its URL; rows, files: how many there are.

    made: False where the same cut was there already. funnel: of the attempts; an RL cut has a row per question.
    """

    folder: str
    rows: int
    files: int
    made: bool
    funnel: Funnel


def cut(rows: Rows, order: Order, show: Callable[[int, int], None] = lambda done, total: None) -> Cut:
    """Writes RUN/cuts/NAME: train files first, README.md last, which completes it. The same order gives the same bytes.

    show: called with shards done and in all. Raises UserError for a bad name or condition, or where the name is taken
    by another cut; Fatal where a row cannot be rendered faithfully or the disk is full.
    """
    if not _NAME.fullmatch(order.name):
        raise UserError(f"cut name {order.name!r}: use letters, digits, dots, dashes and underscores only")
    condition = order.condition.plus(_LEARNABLE)
    found = funnel(rows, condition)
    first = _FIRST_OF_QUESTION if order.kind == "rl" else ""
    samples = "1" if order.kind == "rl" else n_sft_samples()
    rows.query(_KEPT.format(loss=loss_sql(rows, condition), first=first, samples=samples))
    (kept,) = rows.query("SELECT coalesce(sum(n_samples), 0)::BIGINT AS n FROM kept")
    identity = _identity(rows, order, condition)
    storage, folder = rows.store.storage, f"cuts/{order.name}"
    n_files = max(1, -(-kept["n"] // order.rows_per_file))
    result = Cut(f"{rows.store.url.rstrip('/')}/{folder}", kept["n"], n_files, True, found)
    if (readme := storage.read_or_none(f"{folder}/README.md")) is not None:
        _require_same(order.name, readme, identity)
        return replace(result, made=False)
    names = [f"train-{number:05d}-of-{n_files:05d}.parquet" for number in range(n_files)]
    for stale in set(storage.names(folder, ".parquet")) - set(names):
        storage.fs.rm_file(storage.path(f"{folder}/{stale}"))
    n_bytes = _write(rows, order, identity, [f"{folder}/{name}" for name in names], kept["n"], show)
    card = Card(
        name=order.name,
        kind=order.kind,
        condition=condition,
        funnel=found,
        rows=kept["n"],
        n_bytes=n_bytes,
        identity=identity,
        makers=_makers(rows),
        columns=tuple(arrow_schema(_RECORDS[order.kind]).names),
    )
    storage.write(f"{folder}/README.md", render(card).encode())
    return result


def _makers(rows: Rows) -> dict[str, str]:
    """The protocols, teachers and verifiers behind the rows, each as one text."""
    lists = [f"coalesce(string_agg(DISTINCT {name}, ', ' ORDER BY {name}), 'none') AS {name}" for name in _MAKERS]
    return rows.query(f"SELECT {', '.join(lists)} FROM kept")[0]


def _identity(rows: Rows, order: Order, condition: Condition) -> dict[str, str]:
    """All that decides the bytes of a cut: two cuts with equal identities are equal."""
    inputs = [[file.stage, file.shard, file.rows, file.size] for file in rows.files if file.stage != "caption"]
    return {
        "kind": order.kind,
        "preset": order.condition.name,
        "condition": condition.sql,
        "rows_per_file": str(order.rows_per_file),
        "schema_version": str(SCHEMA_VERSION),
        "run_fingerprint": rows.fingerprints["replay"],
        "shards": str(sum(file.stage == "teach" for file in rows.files)),
        "inputs": content_id(inputs, 16),
    }


def _require_same(name: str, readme: bytes, identity: dict[str, str]) -> None:
    existing = identity_in(readme)
    if existing is None:
        raise UserError(f"cuts/{name} has a README.md that no cut wrote: choose another name")
    different = sorted(key for key in existing.keys() | identity.keys() if existing.get(key) != identity.get(key))
    if different:
        grown = set(different) <= {"inputs", "shards"}
        why = "was cut before the run grew" if grown else f"differs in {', '.join(different)}"
        raise UserError(f"the cut {name} exists and {why}: choose another name, or delete cuts/{name}")


def _write(
    rows: Rows, order: Order, identity: dict[str, str], paths: list[str], total: int, show: Callable[[int, int], None]
) -> int:
    """Writes the files; gives the bytes of all. Raises Fatal where a kept row is not found again."""
    shards = rows.query("SELECT shard, sum(n_samples)::BIGINT AS n FROM kept GROUP BY 1 ORDER BY 1")
    n_bytes = 0
    with Spill(arrow_schema(_RECORDS[order.kind]), order.rows_per_file) as spill:
        for done, shard in enumerate(shards):
            show(done, len(shards))
            table, ranks = _shard(rows, order, identity, shard["shard"])
            if len(ranks) != shard["n"]:
                raise Fatal(f"shard {shard['shard']}: {shard['n']} rows are kept, {len(ranks)} were found again")
            spill.add(table, ranks)
        show(len(shards), len(shards))
        for number, path in enumerate(paths):
            part = spill.file(number)
            if part.num_rows != min(order.rows_per_file, total - number * order.rows_per_file):
                raise Fatal(f"{path}: {part.num_rows} rows, which is not its share of {total}")
            data = _parquet(part, identity)
            rows.store.storage.write(path, data)
            n_bytes += len(data)
    return n_bytes


def _shard(rows: Rows, order: Order, identity: dict[str, str], shard: int) -> tuple[pa.Table, list[int]]:
    """The samples of a shard with their places."""
    known = rows.query(f"SELECT * FROM kept WHERE shard = {int(shard)}")
    facts: dict[str, Facts] = {row["trajectory_id"]: row for row in known}
    table = rows.store.table("teach", shard)
    wanted = table.filter(pc.is_in(table["trajectory_id"], pa.array(list(facts), pa.string())))
    origin = {"run_fingerprint": identity["run_fingerprint"], "kept_by": identity["condition"]}
    samples: list[Record] = []
    ranks: list[int] = []
    for trajectory in from_table(Trajectory, wanted):
        known_of = facts[trajectory.trajectory_id]
        if order.kind == "rl":
            made: Sequence[Record] = [rl_sample(trajectory, known_of, origin)]
        else:
            made = sft_samples(trajectory, known_of, origin)
        samples += made
        ranks += range(int(known_of["rank"]), int(known_of["rank"]) + len(made))
    return to_table(_RECORDS[order.kind], samples), ranks


def _parquet(table: pa.Table, identity: dict[str, str]) -> bytes:
    """A table as a file. An empty one has no row group at all: `datasets` cannot read a row group of no rows."""
    buffer = io.BytesIO()
    marked = table.replace_schema_metadata({b"zoomtrail": canonical_json(identity).encode()})
    with pq.ParquetWriter(buffer, marked.schema, compression="zstd") as writer:
        if marked.num_rows:
            writer.write_table(marked, row_group_size=_ROWS_PER_GROUP)
    return buffer.getvalue()
