"""Text search in questions, answers and thoughts: shard by shard in a thread of its own, finds told as they come."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.page.columns import read_columns
from pipeline.page.questions import Questions, holds
from pipeline.page.shared import SharedRows, quoted
from schemas.errors import ZoomtrailError

_COLUMNS = ("trajectory_id", "final_answer", "turns.list.element.think")

_KEPT_SEARCHES = 6
_AHEAD = 4
"""Shards read at a time."""
_BATCH = 5_000
"""Ids that one statement holds."""


class Search:
    """One text's finds, as a table of ids beside the rows. fault: what ended it early, "" where nothing did.

    The table lasts as long as someone holds the search: a page may still ask it when others have taken its place.
    """

    def __init__(self, rows: SharedRows, questions: Questions, text: str) -> None:
        self.fault = ""
        self.shards, self.of_shards = 0, len(rows.shards("teach"))
        self._rows, self._questions, self._text = rows, questions, text
        self._table = f"found_{rows.fresh()}"
        self._stopped, self._ended = threading.Event(), threading.Event()
        rows.query(f"CREATE TABLE {self._table} (id VARCHAR)")
        weakref.finalize(self, rows.forget, self._table)
        threading.Thread(target=self._run, name="search", daemon=True).start()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    @property
    def sql(self) -> str:
        """The condition that a row was found."""
        found = f"(SELECT id FROM {self._table})"
        named = quoted(self._text.lower())
        ids = " OR ".join(f"contains(lower({name}), {named})" for name in ("trajectory_id", "video_id"))
        return f"({ids} OR trajectory_id IN {found} OR question_id IN {found})"

    def wait(self, seconds: float) -> None:
        """Until the end, at most so long."""
        self._ended.wait(seconds)

    def stop(self) -> None:
        """Ends the search early: it looks at no further shard."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._add(self._questions.holding(self._text))
            with ThreadPoolExecutor(_AHEAD) as pool:
                for ids in pool.map(self._in_shard, self._rows.shards("teach")):
                    if self._stopped.is_set():
                        self.fault = "others have taken its place; search again"
                        break
                    self._add(ids)
                    self.shards += 1
        except ZoomtrailError as error:
            self.fault = str(error)
        finally:
            self._ended.set()

    def _in_shard(self, shard: int) -> list[str]:
        if self._stopped.is_set():
            return []
        store = self._rows.store
        return _holding(read_columns(store, store.shard_name("teach", shard), _COLUMNS), self._text)

    def _add(self, ids: Sequence[str]) -> None:
        for first in range(0, len(ids), _BATCH):
            values = ", ".join(f"({quoted(one)})" for one in ids[first : first + _BATCH])
            self._rows.query(f"INSERT INTO {self._table} VALUES {values}")


class Searches:
    """The latest searches: a page that is turned, or an order that is changed, searches nothing again."""

    def __init__(self, rows: SharedRows, questions: Questions) -> None:
        self._rows, self._questions = rows, questions
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, Search] = OrderedDict()

    def of(self, text: str, wait_s: float) -> Search:
        """The search for a text, which may not have come to its end: it is waited for at most so long."""
        with self._lock:
            if text not in self._latest:
                self._latest[text] = Search(self._rows, self._questions, text)
            self._latest.move_to_end(text)
            if len(self._latest) > _KEPT_SEARCHES:
                self._latest.popitem(last=False)[1].stop()
            search = self._latest[text]
        search.wait(wait_s)
        return search


def _holding(table: pa.Table, text: str) -> list[str]:
    """The ids of the attempts whose final answer or a thought holds a text."""
    turns = table["turns"].combine_chunks()
    thinks = pc.struct_field(pc.list_flatten(turns), "think")
    thought = pc.list_parent_indices(turns).filter(holds(thinks, text)).unique()
    numbers = pa.array(range(table.num_rows), thought.type)
    found = pc.or_(holds(table["final_answer"].combine_chunks(), text), pc.is_in(numbers, thought))
    ids: list[str] = table["trajectory_id"].filter(found).to_pylist()
    return ids
