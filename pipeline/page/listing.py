"""A list of a run's attempts: filtered, counted, ordered and paged by SQL over the columns that it shows."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipeline.page.questions import Questions
from pipeline.page.searching import Search, Searches
from pipeline.page.shared import SharedRows
from pipeline.page.state import DROPPED, KEPT, ListState
from pipeline.shards.columns import COLUMNS
from pipeline.shards.funnel import text
from schemas.errors import UserError

PAGE_ROWS = 50
SEARCH_WAIT_S = 1.5
"""How long a page waits for a search before it shows what was found so far."""

_SHOWN = (
    *("trajectory_id", "question_id", "video_id", "attempt", "protocol", "status", "teacher", "final_answer"),
    *("answer_letter", "answer_correct", "n_turns", "n_zooms", "p_gold_overview", "p_gold_evidence", "evidence_gain"),
    *("grounding_recall", "hint_level", "reflected", "error_message", "cost_usd"),
)

ORDERS = (
    ("", "as planned"),
    ("-evidence_gain", "evidence gain, largest first"),
    ("evidence_gain", "evidence gain, smallest first"),
    ("-p_gold_evidence", "p(gold) with zooms, largest first"),
    ("p_gold_evidence", "p(gold) with zooms, smallest first"),
    ("-n_zooms", "zooms, most first"),
    ("-think_chars", "thoughts, longest first"),
    ("-grounding_iou", "grounding, best first"),
    ("-cost_usd", "dollars, most first"),
)
_SORTABLE = {column.name for column in COLUMNS} - {"p_gold_steps", "gain_per_step"}

_CORRECT = {"yes": "answer_correct", "no": "NOT answer_correct", "unknown": "answer_correct IS NULL"}


@dataclass(frozen=True)
class Choice:
    """One value of a filter. rows: that the list would hold with it, the other filters as they are."""

    value: str
    rows: int
    chosen: bool


@dataclass(frozen=True)
class Listed:
    """A page of a list. rows: as columns, with `question`, `loss` (None, or level, reason and message) and `kept`.

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
        search = self._searches.of(state.search, SEARCH_WAIT_S) if state.search else None
        try:
            loss, base = self._rows.loss(state.preset), self._base(state, search)
            cube = self._cube(loss, base)
            rows = self._page_rows(state, loss, f"{base} AND {self._facets(state)}")
        except UserError as error:
            return Listed(state, [], 0, {}, search, str(error))
        total = sum(group["n"] for group in cube if _in(group, state, ""))
        choices = {name: _choices(cube, state, name) for name in ("outcome", "status", "correct", "protocol")}
        return Listed(state, rows, total, choices, search)

    def around(self, state: ListState, trajectory_id: str) -> Around | None:
        """The place of an attempt in a state's list; None where the list does not hold it, or cannot be made."""
        search = self._searches.of(state.search, SEARCH_WAIT_S) if state.search else None
        try:
            condition = f"{self._base(state, search)} AND {self._facets(state)}"
            over = f"OVER (ORDER BY {_order(state.sort)})"
            found = self._rows.query(
                f"SELECT * FROM (SELECT trajectory_id, row_number() {over} AS place, count(*) OVER () AS total, "
                f"coalesce(lag(trajectory_id) {over}, '') AS before, coalesce(lead(trajectory_id) {over}, '') AS after "
                f"FROM (SELECT *, {self._rows.loss(state.preset)} AS loss FROM rows) rows WHERE {condition}) "
                f"WHERE trajectory_id = {text(trajectory_id)}"
            )
        except UserError:
            return None
        return Around(**{name: found[0][name] for name in ("place", "total", "before", "after")}) if found else None

    def _page_rows(self, state: ListState, loss: str, condition: str) -> list[dict[str, Any]]:
        rows = self._rows.query(
            f"SELECT {', '.join(_SHOWN)}, loss FROM (SELECT *, {loss} AS loss FROM rows) rows WHERE {condition} "
            f"ORDER BY {_order(state.sort)} LIMIT {PAGE_ROWS} OFFSET {(state.page - 1) * PAGE_ROWS}"
        )
        texts = self._questions.texts({row["question_id"] for row in rows})
        return [row | {"question": texts.get(row["question_id"], "")} for row in rows]

    def _base(self, state: ListState, search: Search | None) -> str:
        """The filters whose values are not counted. Raises UserError."""
        parts = ["true"]
        parts += [self._rows.check(state.where)] if state.where else []
        parts += [f"question_id = {text(state.question)}"] if state.question else []
        parts += [f"video_id = {text(state.video)}"] if state.video else []
        parts += [search.sql] if search else []
        return " AND ".join(parts)

    def _facets(self, state: ListState) -> str:
        """The filters whose values are counted, over `rows` with its `loss`."""
        parts = ["true"]
        parts += [f"{name} = {text(value)}" for name in ("status", "protocol") if (value := getattr(state, name))]
        parts += [f"({_CORRECT.get(state.correct, 'false')})"] if state.correct else []
        outcome = {"": "true", KEPT: "loss IS NULL", DROPPED: "loss IS NOT NULL"}
        parts += [outcome.get(state.outcome, f"loss[2] = {text(state.outcome)}")]
        return " AND ".join(parts)

    def _cube(self, loss: str, base: str) -> list[dict[str, Any]]:
        """How many rows there are of each combination of the counted filters' values."""
        correct = "CASE WHEN answer_correct THEN 'yes' WHEN NOT answer_correct THEN 'no' ELSE 'unknown' END"
        return self._rows.query(
            f"SELECT status, coalesce(protocol, '') AS protocol, {correct} AS correct, "
            f"coalesce({loss}[2], '{KEPT}') AS outcome, count(*) AS n FROM rows WHERE {base} GROUP BY ALL"
        )


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
    plan = "shard, question_id, attempt"
    if not sort:
        return plan
    name = sort.removeprefix("-")
    if name not in _SORTABLE:
        raise UserError(f"there is no column {name} to order by")
    direction = "DESC" if sort.startswith("-") else "ASC"
    return f'"{name}" {direction} NULLS LAST, {plan}'
