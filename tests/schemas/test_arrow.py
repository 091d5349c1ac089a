"""The Arrow schemas: pinned, so that no column changes unnoticed, and the same for empty and full tables."""

from pathlib import Path

import pytest

from pipeline.plan import Planned
from schemas.arrow import arrow_schema, from_table, to_table
from schemas.captions import CaptionTree
from schemas.record import SCHEMA_VERSION, Record
from schemas.samples import RlSample, SftSample, StepSample
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.stages.test_checks import ANSWER, trajectory, turn, zoom

RECORDS: tuple[type[Record], ...] = (Planned, CaptionTree, Trajectory, Verdict, SftSample, RlSample, StepSample)
GOLDEN = Path(__file__).parent / f"arrow_v{SCHEMA_VERSION}"


@pytest.mark.parametrize("record", RECORDS)
def test_the_schema_is_the_pinned_one(record: type[Record]) -> None:
    """A wanted change: raise SCHEMA_VERSION once rows of this version are in use, and write the files anew."""
    assert arrow_schema(record).to_string() + "\n" == (GOLDEN / f"{record.__name__}.txt").read_text()


def test_every_column_of_a_verdict_is_defined_where_it_stands() -> None:
    assert all(field.description for field in Verdict.model_fields.values())


def test_a_row_comes_back_as_it_went() -> None:
    row = trajectory(turn("a", zoom(1, 2)), ANSWER)
    table = to_table(Trajectory, [row])
    assert from_table(Trajectory, table) == [row]
    assert to_table(Trajectory, []).schema.equals(table.schema)


def test_only_what_may_be_missing_is_nullable() -> None:
    schema = arrow_schema(Trajectory)
    assert not schema.field("status").nullable and schema.field("final_answer").nullable
    with pytest.raises(TypeError, match="one type"):

        class Mixed(Record):
            pair: tuple[int, str]

        arrow_schema(Mixed)
