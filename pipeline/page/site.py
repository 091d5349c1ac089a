"""What each address of the local page answers. Nothing in an address is ever a path to a file."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from pipeline.media.errors import VideoError
from pipeline.page import films
from pipeline.page.attempt import Attempt, kept_overview, read_attempt, read_trajectory, read_video
from pipeline.page.films import Film, Films, roots_beside
from pipeline.page.frames import Frames
from pipeline.page.listing import ORDERS, PAGE_ROWS, Listing
from pipeline.page.questions import Questions
from pipeline.page.render import STATIC, html, static
from pipeline.page.shared import SharedRows
from pipeline.page.state import ListState
from pipeline.page.timeline import curve, drawn
from pipeline.page.told import frame_at, overview_seen, told_turns, trainer_rows
from pipeline.shards.columns import COLUMNS
from pipeline.shards.pictures import place
from prompts.judging import letter_of
from schemas.errors import Rejected, ZoomtrailError
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict

_NOT_FOUND = ("unknown", "video_missing", "video_elsewhere")
_PICTURE_AGE_S = 600


@dataclass(frozen=True)
class Answer:
    """status: of HTTP; mime: of the body. age_s: how long a browser may keep it."""

    status: int
    mime: str
    body: bytes
    age_s: int = 0


class Site:
    """The pages of one run. May be called from several threads. videos: further URLs to fetch videos from."""

    def __init__(self, rows: SharedRows, videos: Sequence[str] = ()) -> None:
        self._films = Films((*roots_beside(rows.store.url), *videos))
        self._frames = Frames(self._films)
        self._show(rows)

    def renewed(self) -> "Site":
        """The site of the rows that the run holds now, with the same open videos; this one where none were added."""
        rows = self._rows.renewed()
        if rows is self._rows:
            return self
        site = copy(self)
        site._show(rows)
        return site

    def _show(self, rows: SharedRows) -> None:
        self._rows = rows
        self._questions = Questions(rows.store)
        self._listing = Listing(rows, self._questions)
        self._trajectory = lru_cache(maxsize=16)(lambda name: read_trajectory(rows, name))

    def warm(self) -> None:
        """Makes ready what the first page needs; what is wrong with the run that page says itself."""
        with suppress(ZoomtrailError):
            self._listing.page(ListState())

    def answer(self, path: str, query: Mapping[str, str], human: bool) -> Answer:
        """What a path answers to a query. human: whether whoever asks reads HTML, for errors."""
        try:
            if path == "/":
                return self._list(ListState.of(query))
            if path == "/trajectory":
                return self._attempt(query.get("id", ""), ListState.of(query))
            if path == "/frame":
                return self._frame(query.get("id", ""), query.get("n", ""))
            name = path.removeprefix("/static/")
            if path != name and name in STATIC:
                return Answer(200, STATIC[name], static(name))
            return self.fault(404, "there is no such page", human)
        except Rejected as error:
            return self.fault(404 if error.kind in _NOT_FOUND else 409, error.message, human)
        except ZoomtrailError as error:
            return self.fault(400, str(error), human)

    def film(self, trajectory_id: str) -> AbstractContextManager[Film]:
        """The video of an attempt. Entering it raises Rejected where there is none to be played."""
        video = read_video(self._rows, trajectory_id)
        if video is None:
            raise Rejected("video_missing", "the run could not use this video")
        return self._films.open(video)

    def fault(self, status: int, line: str, human: bool) -> Answer:
        """An error as one line, for people or for programs."""
        if human:
            return Answer(status, "text/html", html("fault", {"run": self._run_name, "line": line, "status": status}))
        return Answer(status, "application/json", json.dumps({"error": line}).encode())

    def close(self) -> None:
        """Closes the videos."""
        self._frames.close()

    @property
    def _run_name(self) -> str:
        return self._rows.store.url.rstrip("/").rsplit("/", 1)[-1]

    def _list(self, state: ListState) -> Answer:
        listed = self._listing.page(state)
        values = {
            "run": self._run_name,
            "url": self._rows.store.url,
            "state": state,
            "listed": listed,
            "first": (state.page - 1) * PAGE_ROWS + 1,
            "presets": sorted(self._rows.conditions),
            "orders": ORDERS,
            "columns": COLUMNS,
        }
        return Answer(400 if listed.fault else 200, "text/html", html("list", values))

    def _attempt(self, trajectory_id: str, state: ListState) -> Answer:
        attempt = read_attempt(self._rows, trajectory_id, state.preset)
        around = self._listing.around(state, trajectory_id)
        values = told(attempt) | {
            "live": True,
            "pick": lambda frames: frames,
            "lost": lambda seen: "",
            "src": lambda seen: f"/frame?{urlencode({'id': trajectory_id, 'n': seen.number})}",
            "run": self._run_name,
            "question": self._questions.texts([attempt.facts["question_id"]]).get(attempt.facts["question_id"], ""),
            "state": state,
            "around": around,
            "list": state.but(page=around.page if around else 1),
            "presets": sorted(self._rows.conditions),
            "video_fault": films.fault(attempt.video) if attempt.video else "",
        }
        return Answer(200, "text/html", html("trajectory", values))

    def _frame(self, trajectory_id: str, number: str) -> Answer:
        trajectory = self._trajectory(trajectory_id)
        found = frame_at(trajectory, int(number)) if trajectory and number.isdecimal() and len(number) < 8 else None
        if trajectory is None or trajectory.video is None or found is None:
            raise Rejected("unknown", "this attempt has no such frame")
        wanted, look = found
        try:
            jpeg = self._frames.jpeg(trajectory.video, wanted, look)
        except VideoError:
            kept = {place(picture.frame): picture for picture in kept_overview(self._rows, trajectory_id)}
            picture = kept.get(place(wanted))
            if picture is None or picture.frame.hash != wanted.hash:
                raise
            jpeg = picture.jpeg
        return Answer(200, "image/jpeg", jpeg, _PICTURE_AGE_S)


def told(attempt: Attempt) -> dict[str, Any]:
    """All that a page or a report tells of an attempt, for the templates."""
    trajectory: Trajectory | None = attempt.trajectory
    turns = told_turns(trajectory, attempt.verdict) if trajectory else []
    rows, no_rows = trainer_rows(attempt)
    last = [hint for hint in trajectory.hints if hint.after_turn >= len(turns)] if trajectory else []
    return {
        "attempt": attempt,
        "answered": _letter(trajectory),
        "turns": turns,
        "late_hints": last,
        "overview": overview_seen(trajectory) if trajectory else (),
        "timeline": drawn(attempt, turns),
        "curve": curve(attempt.verdict, turns),
        "checks": checks(attempt.verdict),
        "trainer_rows": rows,
        "no_trainer_rows": no_rows,
    }


def _letter(trajectory: Trajectory | None) -> str:
    """The letter of the choice that an attempt answered, "" where it is none."""
    if trajectory is None or trajectory.final_answer is None or not trajectory.question.choices:
        return ""
    return letter_of(trajectory.final_answer, trajectory.question)


_IDENTITY = ("trajectory_id", "question_id", "video_id", "attempt", "protocol", "status", "error", "hint_level")


def checks(verdict: Verdict | None) -> list[tuple[str, Any, str]]:
    """Each check's column, its value and its meaning."""
    if verdict is None:
        return []
    return [
        (name, getattr(verdict, name), " ".join((field.description or "").split()))
        for name, field in type(verdict).model_fields.items()
        if name not in _IDENTITY
    ]
