"""Cutting a run: what a condition keeps becomes the files of a trainer, without any model call."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.shards.card import Card, Tally, identity_in, render, tally_in
from pipeline.shards.condition import Clause, Condition
from pipeline.shards.export import MEDIA_FOLDER, Exporter, Learn, Made, Split
from pipeline.shards.files import write_split
from pipeline.shards.formats.layout import Format, Kind, Layout, Media
from pipeline.shards.formats.native import NATIVE
from pipeline.shards.funnel import Funnel, funnel, loss_sql
from pipeline.shards.samples import Facts
from pipeline.shards.spill import Spill
from pipeline.shards.table import Rows
from pipeline.shards.tokens import TokenCounter
from pipeline.storage import Storage
from schemas.arrow import from_table
from schemas.errors import Fatal, UserError
from schemas.record import SCHEMA_VERSION, content_id
from schemas.trajectory import Trajectory

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUFFIXES = (".parquet", ".json", ".jsonl")

_BUCKET, _PICTURED_BUCKET = 10_000, 64
"""Samples that are put in order in memory at a time; fewer where each holds a hundred pictures."""

_LEARNABLE = Clause("nothing to learn", "n_trainable >= 1")
"""An attempt without one valid turn has nothing to train on, whatever the condition says."""

_KEPT = """
CREATE OR REPLACE TABLE kept AS
SELECT k.shard, k.trajectory_id, k.protocol, k.teacher, k.verifier, k.evidence_gain, k.p_gold_evidence, k.grounding_iou,
    k.p_gold_steps, o.n_attempts, o.n_correct, row_number() OVER (ORDER BY k.trajectory_id) - 1 AS rank
FROM (SELECT * FROM rows WHERE {loss} IS NULL {first}) k JOIN (
    SELECT question_id, count(*) FILTER (answer_correct AND NOT coalesce(reflected, false)) AS n_correct,
        count(*) FILTER (answer_correct IS NOT NULL OR status NOT IN ('answered', 'not_run')) AS n_attempts
    FROM rows GROUP BY question_id
) o USING (question_id)
"""
_FIRST_OF_QUESTION = "QUALIFY row_number() OVER (PARTITION BY question_id ORDER BY attempt, trajectory_id) = 1"

_MAKERS = ("protocol", "teacher", "verifier")


@dataclass(frozen=True)
class Order:
    """What to cut.

    name: folder under `cuts/`; kind: what is trained; rows_per_file: at most, in Parquet. format: whose records; media:
    how they hold pictures, None for the format's way. learn: of a corrected rollout all turns, or its corrections.
    test_share: of the videos, in 0..1, drawn by their ids and the seed. tokenizer: whose tokens are counted, "" for
    none; max_tokens: rows with more are dropped.
    """

    name: str
    kind: Kind
    condition: Condition
    rows_per_file: int
    format: Format = NATIVE
    media: Media | None = None
    learn: Learn = "all"
    test_share: float = 0.0
    seed: int = 0
    tokenizer: str = ""
    max_tokens: int | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        return ("train", "test") if self.test_share > 0 else ("train",)


@dataclass(frozen=True)
class Cut:
    """What was cut. folder: its URL; rows, files: how many there are; split_rows: the rows of each split.

    made: False where the same cut was there already. funnel: of the attempts; an RL cut has a row per question, other
    kinds have one or more for each attempt that is kept.
    dropped: rows that were kept and could not be written, by reason, most frequent first.
    """

    folder: str
    rows: int
    files: int
    made: bool
    funnel: Funnel
    split_rows: dict[str, int]
    dropped: tuple[tuple[str, int], ...]


def cut(rows: Rows, order: Order, show: Callable[[int, int], None] = lambda done, total: None) -> Cut:
    """Writes RUN/cuts/NAME: records first, README.md last, which completes it. The same order gives the same bytes.

    show: called with shards done and in all. Raises UserError for a bad name or condition, for what the format cannot
    hold, or where the name is taken by another cut; Fatal where a row cannot be rendered faithfully, or on a full disk.
    """
    if not _NAME.fullmatch(order.name):
        raise UserError(f"cut name {order.name!r}: use letters, digits, dots, dashes and underscores only")
    media, layout = order.format.layout(order.kind, order.media)
    condition = order.condition.plus(_LEARNABLE)
    found = funnel(rows, condition)
    first = _FIRST_OF_QUESTION if order.kind == "rl" else ""
    rows.query(_KEPT.format(loss=loss_sql(rows, condition), first=first))
    _require_fitting(rows, order)
    identity = _identity(rows, order, condition, media)
    folder = f"cuts/{order.name}"
    url = f"{rows.store.url.rstrip('/')}/{folder}"
    if (readme := rows.store.storage.read_or_none(f"{folder}/README.md")) is not None:
        _require_same(order.name, readme, identity)
        return _result(url, False, found, tally_in(readme))
    _clear(rows.store.storage, folder)
    exporter = _exporter(rows, order, identity, media, layout, folder)
    tally = _write(rows, order, identity, exporter, folder, show)
    card = Card(
        name=order.name,
        kind=order.kind,
        format=order.format,
        media=media,
        condition=condition,
        funnel=found,
        tally=tally,
        identity=identity,
        makers=_makers(rows),
        schema=exporter.schema,
        suffix=layout.suffix,
        counted=None if exporter.counter is None else exporter.counter.sees,
    )
    rows.store.storage.write(f"{folder}/README.md", render(card).encode())
    return _result(url, True, found, tally)


def _result(url: str, made: bool, found: Funnel, tally: Tally) -> Cut:
    return Cut(url, sum(tally.rows.values()), tally.files, made, found, tally.rows, tally.dropped)


def _require_fitting(rows: Rows, order: Order) -> None:
    of = order.format
    if not 0 <= order.test_share < 1:
        raise UserError(f"--test-share {order.test_share}: from 0 up to, not including, 1")
    if order.learn != "all" and order.kind != "sft":
        raise UserError(f"--learn {order.learn} is for SFT rows: leave it out for {order.kind}")
    if order.max_tokens is not None and not order.tokenizer:
        raise UserError("--max-tokens needs --tokenizer: tokens of which model?")
    kept = [row["protocol"] for row in rows.query("SELECT DISTINCT protocol FROM kept ORDER BY 1")]
    if of.protocol and (foreign := [name for name in kept if name != of.protocol]):
        raise UserError(f"format {of.name} holds runs of {of.protocol} only, this one is of {', '.join(foreign)}")


def _makers(rows: Rows) -> dict[str, str]:
    """The protocols, teachers and verifiers behind the rows, each as one text."""
    lists = [f"coalesce(string_agg(DISTINCT {name}, ', ' ORDER BY {name}), 'none') AS {name}" for name in _MAKERS]
    return rows.query(f"SELECT {', '.join(lists)} FROM kept")[0]


def _identity(rows: Rows, order: Order, condition: Condition, media: Media) -> dict[str, str]:
    """All that decides the bytes of a cut: two cuts with equal identities are equal."""
    own = rows.fingerprints["replay"]
    inputs = [
        [file.stage, file.shard, file.rows, file.size, *({rows.fingerprints_of(file.shard)["replay"]} - {own})]
        for file in rows.files
        if file.stage != "caption"
    ]
    return {
        "kind": order.kind,
        "format": order.format.name,
        "media": media,
        "learn": order.learn,
        "preset": order.condition.name,
        "condition": condition.sql,
        "rows_per_file": str(order.rows_per_file),
        "test_share": str(order.test_share),
        "seed": str(order.seed),
        "tokenizer": order.tokenizer,
        "max_tokens": str(order.max_tokens),
        "schema_version": str(SCHEMA_VERSION),
        "run_fingerprint": own,
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


def _clear(storage: Storage, folder: str) -> None:
    """Removes what a cut that did not come to its end left behind."""
    for suffix in _SUFFIXES:
        for name in storage.names(folder, suffix):
            storage.fs.rm_file(storage.path(f"{folder}/{name}"))
    if storage.fs.exists(media := storage.path(f"{folder}/{MEDIA_FOLDER}")):
        storage.fs.rm(media, recursive=True)


def _exporter(
    rows: Rows, order: Order, identity: dict[str, str], media: Media, layout: Layout, folder: str
) -> Exporter:
    kept: set[str] = set()

    def keep(name: str, data: bytes) -> None:
        if name not in kept:
            kept.add(name)
            rows.store.storage.write(f"{folder}/{name}", data)

    return Exporter(
        kind=order.kind,
        media=media,
        layout=layout,
        learn=order.learn,
        kept_by=identity["condition"],
        test_share=order.test_share,
        seed=order.seed,
        counter=TokenCounter(order.tokenizer) if order.tokenizer else None,
        max_tokens=order.max_tokens,
        keep=keep,
    )


def _write(
    rows: Rows,
    order: Order,
    identity: dict[str, str],
    exporter: Exporter,
    folder: str,
    show: Callable[[int, int], None],
) -> Tally:
    """Writes the records and what stands beside them. Raises Fatal where a kept row is not found again."""
    storage, layout = rows.store.storage, exporter.layout
    with ExitStack() as stack:
        bucket = _PICTURED_BUCKET if exporter.media == "embedded" else _BUCKET
        spills = {split: stack.enter_context(Spill(exporter.schema, bucket)) for split in order.splits}
        _collect(rows, exporter, spills, show)
        done = {
            split: write_split(storage, folder, split, spill, layout, order.rows_per_file, identity)
            for split, spill in spills.items()
        }
        counts: dict[str, int] = {split: spill.rows for split, spill in spills.items()}
    if order.format.beside is not None and layout.suffix != "parquet":
        for name, data in order.format.beside(order.name, layout.suffix, order.splits).items():
            storage.write(f"{folder}/{name}", data)
    return Tally(
        rows=counts,
        n_bytes={split: n_bytes for split, (_, n_bytes) in done.items()},
        files=sum(files for files, _ in done.values()),
        dropped=tuple(sorted(exporter.dropped.items(), key=lambda item: (-item[1], item[0]))),
    )


def _collect(rows: Rows, exporter: Exporter, spills: Mapping[Split, Spill], show: Callable[[int, int], None]) -> None:
    shards = rows.query("SELECT shard, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
    for done, shard in enumerate(shards):
        show(done, len(shards))
        known = rows.query(f"SELECT * FROM kept WHERE shard = {int(shard['shard'])}")
        made_by = {"run_fingerprint": rows.fingerprints_of(shard["shard"])["replay"]}
        facts: dict[str, Facts] = {row["trajectory_id"]: row | made_by for row in known}
        table = rows.store.table("teach", shard["shard"])
        wanted = table.filter(pc.is_in(table["trajectory_id"], pa.array(list(facts), pa.string())))
        if wanted.num_rows != shard["n"]:
            raise Fatal(f"shard {shard['shard']}: {shard['n']} rows are kept, {wanted.num_rows} were found again")
        for made in exporter.records(from_table(Trajectory, wanted), facts):
            for split, spill in spills.items():
                _spill(spill, [record for record in made if record.split == split], exporter.schema)
    show(len(shards), len(shards))


def _spill(spill: Spill, records: Sequence[Made], schema: pa.Schema) -> None:
    if records:
        table = pa.Table.from_pylist([record.columns for record in records], schema=schema)
        spill.add(table, [(record.rank, record.number) for record in records])
