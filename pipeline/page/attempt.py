"""One attempt of a run with all that the run says of it, read from its shard's rows."""

from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow.compute as pc

from pipeline.page.columns import read_columns
from pipeline.page.shared import SharedRows, columns_in, quoted
from pipeline.page.state import DEFAULT
from schemas.arrow import arrow_schema, from_table
from schemas.captions import CaptionTree, Picture
from schemas.errors import Rejected
from schemas.record import Record
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from schemas.video import Video

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Ruling:
    """What one clause of a preset says of a row. holds: None where it is NULL, which counts as failed.

    values: of the columns that it names.
    """

    reason: str
    sql: str
    holds: bool | None
    values: dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """facts: the row of a list (`SharedRows.listed`). trajectory, verdict: None before the stage was there; tree: the
    captions of its video, without the overview's pixels, None where there are none.

    loss: None where the preset keeps it, else level, reason and message; rulings: of the preset's clauses, in order.
    """

    trajectory_id: str
    facts: dict[str, Any]
    trajectory: Trajectory | None
    verdict: Verdict | None
    tree: CaptionTree | None
    preset: str
    loss: tuple[str, str, str] | None
    rulings: tuple[Ruling, ...]

    @property
    def video(self) -> Video | None:
        """The video as the run decoded it."""
        return (self.trajectory and self.trajectory.video) or (self.tree and self.tree.video) or None


def read_attempt(rows: SharedRows, trajectory_id: str, preset: str) -> Attempt:
    """Raises Rejected (`unknown`) where the run plans no such attempt, UserError where there is no such preset."""
    facts = _facts(rows, trajectory_id, preset)
    shard = facts["shard"]
    return Attempt(
        trajectory_id=trajectory_id,
        facts=facts,
        trajectory=_row(rows, Trajectory, "teach", shard, trajectory_id),
        verdict=_row(rows, Verdict, "replay", shard, trajectory_id),
        tree=_tree(rows, shard, facts["video_id"]),
        preset=preset,
        loss=None if facts["level"] is None else (facts["level"], facts["outcome"], facts["message"] or ""),
        rulings=_rulings(rows, preset, facts),
    )


def read_video(rows: SharedRows, trajectory_id: str) -> Video | None:
    """The video of an attempt as the run's captions name it, None where it could not be used. Raises Rejected."""
    facts = _facts(rows, trajectory_id)
    tree = _tree(rows, facts["shard"], facts["video_id"])
    return tree.video if tree else None


def read_trajectory(rows: SharedRows, trajectory_id: str) -> Trajectory | None:
    """The trajectory of an attempt, None before it was made. Raises Rejected."""
    return _row(rows, Trajectory, "teach", _facts(rows, trajectory_id)["shard"], trajectory_id)


def kept_overview(rows: SharedRows, trajectory_id: str) -> tuple[Picture, ...]:
    """The overview's pictures that the captions hold, for where the video is no more."""
    facts = _facts(rows, trajectory_id)
    name = rows.store.shard_name("caption", facts["shard"])
    if not rows.has("caption", facts["shard"]):
        return ()
    table = read_columns(rows.store, name, arrow_schema(CaptionTree).names)
    found = from_table(CaptionTree, table.filter(pc.equal(table["video_id"], facts["video_id"])))
    return found[0].overview if found else ()


def _facts(rows: SharedRows, trajectory_id: str, preset: str = DEFAULT) -> dict[str, Any]:
    facts = rows.attempt(trajectory_id, preset)
    if facts is None:
        raise Rejected("unknown", "this run plans no such attempt")
    return facts


def _rulings(rows: SharedRows, preset: str, facts: dict[str, Any]) -> tuple[Ruling, ...]:
    """What each clause says of one row."""
    clauses = rows.condition(preset).clauses
    if not clauses:
        return ()
    judged = ", ".join(f"{rows.check(clause.sql)} AS c{number}" for number, clause in enumerate(clauses))
    here = f"trajectory_id = {quoted(facts['trajectory_id'])}"
    with rows.steady():
        (found,) = rows.query(f"SELECT {judged} FROM {rows.listed(preset)} rows WHERE {here}")
    return tuple(
        Ruling(clause.reason, clause.sql, found[f"c{number}"], {name: facts[name] for name in columns_in(clause.sql)})
        for number, clause in enumerate(clauses)
    )


def _row(rows: SharedRows, record: type[R], stage: str, shard: int, trajectory_id: str) -> R | None:
    """One row of a shard, None where the stage has not committed it."""
    if not rows.has(stage, shard):
        return None
    table = read_columns(rows.store, rows.store.shard_name(stage, shard), arrow_schema(record).names)
    found = from_table(record, table.filter(pc.equal(table["trajectory_id"], trajectory_id)))
    return found[0] if found else None


def _tree(rows: SharedRows, shard: int, video_id: str) -> CaptionTree | None:
    if not rows.has("caption", shard):
        return None
    names = [name for name in arrow_schema(CaptionTree).names if name != "overview"]
    table = read_columns(rows.store, rows.store.shard_name("caption", shard), names)
    found = table.filter(pc.equal(table["video_id"], video_id)).to_pylist()
    return CaptionTree.model_validate(found[0] | {"overview": ()}) if found else None
