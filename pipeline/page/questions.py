"""The texts of a run's questions, read once from its plan: the SQL table holds none."""

from collections.abc import Iterable
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.page.columns import read_columns
from pipeline.store import RunStore

_COLUMNS = ("attempt", "question.question_id", "question.text", "question.choices", "question.answer_text")

_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("text", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer_text", pa.string()),
    ]
)


class Questions:
    """Texts by question id. Raises as `read_columns` when it first looks."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """The text of each question."""
        asked = self._asked
        wanted = asked.filter(pc.is_in(asked["question_id"], pa.array(list(ids), pa.string())))
        return dict(zip(wanted["question_id"].to_pylist(), wanted["text"].to_pylist(), strict=True))

    def holding(self, text: str) -> list[str]:
        """The ids of the questions that hold a text, in any case, in their words, their choices or their answer."""
        asked = self._asked
        found = pc.or_(holds(asked["text"], text), holds(asked["answer_text"], text))
        choices = asked["choices"].combine_chunks()
        parents = pc.list_parent_indices(choices).filter(holds(pc.list_flatten(choices), text))
        rows = pa.array(range(asked.num_rows), pa.int64())
        found = pc.or_(found, pc.is_in(rows, parents.unique()))
        ids: list[str] = asked["question_id"].filter(found).to_pylist()
        return ids

    @cached_property
    def _asked(self) -> pa.Table:
        """A row per question: every question has a first attempt."""
        parts = [_SCHEMA.empty_table()]
        for name in self._store.storage.names("plan", ".parquet"):
            table = read_columns(self._store, f"plan/{name}", _COLUMNS)
            first = table.filter(pc.equal(table["attempt"], 0))
            parts.append(pa.Table.from_struct_array(first["question"]).select(_SCHEMA.names).cast(_SCHEMA))
        return pa.concat_tables(parts)


def holds(texts: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray:
    """Which texts hold a text, in any case; an unknown one holds none."""
    return pc.fill_null(pc.match_substring(texts, wanted, ignore_case=True), False)
