"""Cutting a run: what a condition keeps becomes the files of a trainer, without any model call."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.shards.card import Card, Tally, identity_in, render, tally_in
from pipeline.shards.choosing import LEARNABLE, choose
from pipeline.shards.collecting import Show, helpers
from pipeline.shards.condition import Condition
from pipeline.shards.export import MEDIA_FOLDER, Exporter, Shelf
from pipeline.shards.formats.layout import Layout, Media
from pipeline.shards.funnel import Funnel
from pipeline.shards.lineage import LINEAGE, digests, identity, lineage, require_same
from pipeline.shards.order import Order
from pipeline.shards.plot import PLOT, plot
from pipeline.shards.table import Rows
from pipeline.shards.writing import write_records
from pipeline.storage import Storage
from schemas.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUFFIXES = (".parquet", ".json", ".jsonl")

_MAKERS = ("protocol", "teacher", "verifier")


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


def cut(rows: Rows, order: Order, show: Show = lambda done, total: None, alone: bool = True) -> Cut:
    """Writes RUN/cuts/NAME: records first, README.md last, which completes it. The same order gives the same bytes.

    alone: without other processes, which many rows pay for, but which a script without `if __name__ == "__main__"`
    cannot start.

    Raises UserError for a bad name or condition, for what the format cannot hold, or where the name is taken by another
    cut; Fatal where a row cannot be rendered faithfully, or on a full disk.
    """
    if not _NAME.fullmatch(order.name):
        raise UserError(f"cut name {order.name!r}: use letters, digits, dots, dashes and underscores only")
    media, layout = order.format.layout(order.kind, order.media)
    condition = order.condition.plus(LEARNABLE)
    storage, folder = rows.store.storage, f"cuts/{order.name}"
    url = f"{rows.store.url.rstrip('/')}/{folder}"
    exporter = _exporter(rows, order, condition, media, layout, folder)
    readme = storage.read_or_none(f"{folder}/README.md")
    # Both take seconds for a run of a million rows, in which the choice is made.
    with helpers(rows, exporter, alone or readme is not None) as pool, ThreadPoolExecutor(1) as aside:
        reading = aside.submit(digests, rows)
        found = choose(rows, order.condition, order.kind, order.seed)
        _require_fitting(rows, order)
        read = reading.result()
        mark = identity(rows, order, condition, media, read)
        if readme is not None:
            require_same(order.name, identity_in(readme), mark)
            return _result(url, False, found, tally_in(readme))
        counter = exporter.counter  # a tokenizer that cannot be loaded is told of before anything is written
        _clear(storage, folder)
        tally = write_records(rows, order, mark, exporter, folder, show, pool)
    storage.write(f"{folder}/{PLOT}", plot(found, _zooms(rows)))
    written = {"rows": tally.rows, "not_written": dict(tally.dropped)}
    storage.write(f"{folder}/{LINEAGE}", lineage(rows, condition, mark, read, found, written))
    card = Card(
        name=order.name,
        kind=order.kind,
        format=order.format,
        media=media,
        condition=condition,
        funnel=found,
        tally=tally,
        identity=mark,
        fingerprints=rows.fingerprints,
        makers=_makers(rows),
        schema=exporter.schema,
        suffix=layout.suffix,
        counted=None if counter is None else counter.sees,
    )
    storage.write(f"{folder}/README.md", render(card).encode())
    return _result(url, True, found, tally)


def _result(url: str, made: bool, found: Funnel, tally: Tally) -> Cut:
    return Cut(url, sum(tally.rows.values()), tally.files, made, found, tally.rows, tally.dropped)


def _require_fitting(rows: Rows, order: Order) -> None:
    of = order.format
    for name, most in (("rows", order.rows_per_file), ("mb", order.bytes_per_file)):
        if most is not None and most < 1:
            raise UserError(f"--{name}-per-file {most}: must be at least 1")
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


def _zooms(rows: Rows) -> dict[int, int]:
    """Kept attempts by how many zooms they made."""
    counted = rows.query("SELECT coalesce(n_zooms, 0) AS zooms, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
    return {row["zooms"]: row["n"] for row in counted}


def _clear(storage: Storage, folder: str) -> None:
    """Removes what a cut that did not come to its end left behind."""
    for suffix in _SUFFIXES:
        for name in storage.names(folder, suffix):
            storage.fs.rm_file(storage.path(f"{folder}/{name}"))
    if storage.fs.exists(media := storage.path(f"{folder}/{MEDIA_FOLDER}")):
        storage.fs.rm(media, recursive=True)


def _exporter(rows: Rows, order: Order, condition: Condition, media: Media, layout: Layout, folder: str) -> Exporter:
    return Exporter(
        kind=order.kind,
        media=media,
        layout=layout,
        learn=order.learn,
        kept_by=condition.sql,
        test_share=order.test_share,
        seed=order.seed,
        tokenizer=order.tokenizer,
        max_tokens=order.max_tokens,
        shelf=Shelf(rows.store.storage, folder),
    )
