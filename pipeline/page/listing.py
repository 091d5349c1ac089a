"""A list of a run's attempts: filtered, counted, ordered and paged by SQL over the columns that it shows."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipeline.page.questions import Questions
from pipeline.page.searching import Search, Searches
from pipeline.page.shared import SHOWN, SharedRows, quoted
from pipeline.page.state import DROPPED, KEPT, ListState
from schemas.errors import UserError

PAGE_ROWS = 50
SEARCH_WAIT_S = 1.5
"""How long a page waits for a search before it shows what was found so far."""

ORDERS = (
    ("", "as planned"),
    ("-evidence_gain", "evidence gain ↓"),
    ("evidence_gain", "evidence gain ↑"),
    ("-p_gold_evidence", "p(gold), zooms ↓"),
    ("p_gold_evidence", "p(gold), zooms ↑"),
    ("-grounding_iou", "grounding ↓"),
    ("-n_zooms", "zooms ↓"),
    ("-think_chars", "thoughts ↓"),
    ("-cost_usd", "dollars ↓"),
)
_CORRECT = {"yes": "answer_correct", "no": "NOT answer_correct", "unknown": "answer_correct IS NULL"}


@dataclass(frozen=True)
class Choice:
    """One value of a filter. rows: that the list would hold with it, the other filters as they are."""

    value: str
    rows: int
    chosen: bool


@dataclass(frozen=True)
class Listed:
    """A page of a list. rows: columns of `SharedRows.listed`, and `question`, its text.

    total: rows of all pages. choices: of each filter, most frequent first. search: None where no text is searched.
    fault: what is wrong with the filters, "" where nothing is; then there are no rows.
    """

    state: ListState
    rows: list[dict[str, Any]]
    total: int
    choices: dict[str, list[Choice]]
    search: Search | None
    fault: str = ""

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE_ROWS))


@dataclass(frozen=True)
class Around:
    """Where an attempt stands in a list: its place, from 1, of how many, and its neighbours' ids ("" at the ends)."""

    place: int
    total: int
    before: str
    after: str

    @property
    def page(self) -> int:
        return (self.place - 1) // PAGE_ROWS + 1


class Listing:
    """Lists of one run."""

    def __init__(self, rows: SharedRows, questions: Questions) -> None:
        self._rows = rows
        self._questions = questions
        self._searches = Searches(rows, questions)

    def page(self, state: ListState) -> Listed:
        """The page that a state asks for; a filter that cannot be evaluated is told as its fault."""
        search = self._search(state)
        try:
            with self._rows.steady():
                table, base = self._rows.listed(state.preset), self._base(state, search)
                cube = self._cube(table, base)
                rows = self._rows.query(
                    f"SELECT * FROM {table} WHERE {base} AND {_facets(state)} ORDER BY {_order(state.sort)} "
                    f"LIMIT {PAGE_ROWS} OFFSET {(state.page - 1) * PAGE_ROWS}"
                )
        except UserError as error:
            return Listed(state, [], 0, {}, search, str(error).split(" Columns: ")[0])
        texts = self._questions.texts({row["question_id"] for row in rows})
        total = sum(group["n"] for group in cube if _in(group, state, ""))
        choices = {name: _choices(cube, state, name) for name in ("outcome", "status", "correct", "protocol")}
        asked = [row | {"question": texts.get(row["question_id"], "")} for row in rows]
        return Listed(state, asked, total, choices, search)

    def around(self, state: ListState, trajectory_id: str) -> Around | None:
        """The place of an attempt in a state's list; None where the list does not hold it, or cannot be made."""
        search = self._search(state)
        try:
            over = f"OVER (ORDER BY {_order(state.sort)})"
            with self._rows.steady():
                table, base = self._rows.listed(state.preset), self._base(state, search)
                found = self._rows.query(
                    f"SELECT * EXCLUDE (trajectory_id) FROM (SELECT trajectory_id, row_number() {over} AS place, "
                    f"count(*) OVER () AS total, coalesce(lag(trajectory_id) {over}, '') AS before, "
                    f"coalesce(lead(trajectory_id) {over}, '') AS after FROM {table} "
                    f"WHERE {base} AND {_facets(state)}) WHERE trajectory_id = {quoted(trajectory_id)}"
                )
        except UserError:
            return None
        return Around(**found[0]) if found else None

    def _search(self, state: ListState) -> Search | None:
        return self._searches.of(state.search, SEARCH_WAIT_S) if state.search else None

    def _base(self, state: ListState, search: Search | None) -> str:
        """The filters whose values are not counted. Raises UserError."""
        parts = ["true"]
        parts += [f"trajectory_id IN (SELECT id FROM {self._rows.met(state.where)})"] if state.where else []
        parts += [f"question_id = {quoted(state.question)}"] if state.question else []
        parts += [f"video_id = {quoted(state.video)}"] if state.video else []
        parts += [search.sql] if search else []
        return " AND ".join(parts)

    def _cube(self, table: str, base: str) -> list[dict[str, Any]]:
        """How many rows there are of each combination of the counted filters' values."""
        correct = "CASE WHEN answer_correct THEN 'yes' WHEN NOT answer_correct THEN 'no' ELSE 'unknown' END"
        return self._rows.query(
            f"SELECT status, coalesce(protocol, '') AS protocol, {correct} AS correct, outcome, count(*) AS n "
            f"FROM {table} WHERE {base} GROUP BY ALL"
        )


def _facets(state: ListState) -> str:
    """The filters whose values are counted."""
    parts = ["true"]
    parts += [f"{name} = {quoted(value)}" for name in ("status", "protocol") if (value := getattr(state, name))]
    parts += [f"({_CORRECT.get(state.correct, 'false')})"] if state.correct else []
    outcome = {"": "true", DROPPED: f"outcome <> '{KEPT}'"}
    parts += [outcome.get(state.outcome, f"outcome = {quoted(state.outcome)}")]
    return " AND ".join(parts)


def _choices(cube: list[dict[str, Any]], state: ListState, name: str) -> list[Choice]:
    counts: Counter[str] = Counter()
    for group in cube:
        if _in(group, state, name):
            counts[group[name]] += group["n"]
    chosen = getattr(state, name)
    if chosen and chosen not in counts and chosen != DROPPED:
        counts[chosen] = 0
    ordered = sorted(counts.items(), key=lambda item: (item[0] != KEPT, -item[1], item[0]))
    return [Choice(value, rows, value == chosen) for value, rows in ordered if value]


def _in(group: dict[str, Any], state: ListState, without: str) -> bool:
    """Whether a group meets the counted filters, all but one."""
    for name in ("status", "protocol", "correct", "outcome"):
        wanted = getattr(state, name)
        if not wanted or name == without:
            continue
        if wanted == DROPPED and name == "outcome" and group["outcome"] != KEPT:
            continue
        if group[name] != wanted:
            return False
    return True


def _order(sort: str) -> str:
    """ORDER BY: a column, unknown values last; then as planned. Raises UserError for what is no column to order by."""
    if not sort:
        return "place"
    name = sort.removeprefix("-")
    if name not in SHOWN:
        raise UserError(f"a list cannot be ordered by {name}, but by {', '.join(SHOWN)}")
    return f"{name} {'DESC' if sort.startswith('-') else 'ASC'} NULLS LAST, place"
