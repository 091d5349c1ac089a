"""A run as one HTML file to send to a colleague: its statistics and a sample of its attempts, nothing to be fetched."""

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from PIL import Image

from pipeline.media.errors import VideoError
from pipeline.page.attempt import Attempt, kept_overview, read_attempt
from pipeline.page.films import Films, roots_beside
from pipeline.page.frames import Frames
from pipeline.page.questions import Questions
from pipeline.page.render import html, static
from pipeline.page.shared import SharedRows, quoted
from pipeline.page.site import told
from pipeline.page.tables import stats_tables
from pipeline.page.told import Seen, frame_at
from pipeline.shards.pictures import Place, place
from schemas.errors import Rejected
from schemas.video import uniform

FRAMES_OF_A_LOOK = 8
_WIDTH, _QUALITY = 200, 70
"""Of an embedded frame: pixels at most, and JPEG's measure."""

_SHOWN_APART = ("funnel", "run", "preset", "condition")


def report(
    rows: SharedRows,
    stats: Mapping[str, Any],
    preset: str,
    each: int,
    seed: int,
    show: Callable[[int, int], None] = lambda done, total: None,
    videos: Sequence[str] = (),
) -> bytes:
    """The file's content. stats: as `Stats.as_json` gives them; each: attempts of each outcome; seed: draws them.

    The same run, videos and seed give the same bytes. show: called with attempts done and in all. videos: URLs to
    fetch videos from, beside where the run lies. Raises UserError and Fatal.
    """
    drawn = _sample(rows, preset, each, seed)
    texts = Questions(rows.store).texts({row["question_id"] for row in drawn})
    frames = Frames(Films((*roots_beside(rows.store.url), *videos)))
    samples: list[Markup] = []
    try:
        for done, row in enumerate(drawn):
            show(done, len(drawn))
            attempt = read_attempt(rows, row["trajectory_id"], preset)
            asked = {"asked": texts.get(row["question_id"], ""), "number": done + 1}
            samples.append(_told(attempt, asked, _Pictures(rows, frames, attempt)))
        show(len(drawn), len(drawn))
        return _page(rows, stats, preset, each, seed, samples)
    finally:
        frames.close()


def _sample(rows: SharedRows, preset: str, each: int, seed: int) -> list[dict[str, Any]]:
    """Attempts of each outcome, those kept first, then by how many there are; which ones, their ids and a seed say."""
    return rows.query(
        f"SELECT trajectory_id, question_id FROM (SELECT *, count(*) OVER (PARTITION BY outcome) AS n, "
        f"row_number() OVER (PARTITION BY outcome ORDER BY md5({quoted(f'{seed} ')} || trajectory_id)) AS drawn "
        f"FROM {rows.listed(preset)}) WHERE drawn <= {each} ORDER BY level IS NOT NULL, n DESC, outcome, drawn"
    )


class _Pictures:
    """The frames of one attempt, small, as addresses that hold the picture itself."""

    def __init__(self, rows: SharedRows, frames: Frames, attempt: Attempt) -> None:
        self._rows, self._frames, self._attempt = rows, frames, attempt
        self._kept: dict[Place, bytes] | None = None
        self._lost: dict[int, str] = {}

    def src(self, seen: Seen) -> str:
        """The address of a frame, "" where it cannot be had."""
        try:
            return f"data:image/jpeg;base64,{base64.b64encode(_small(self._jpeg(seen))).decode()}"
        except Rejected as error:
            self._lost[seen.number] = error.message
            return ""

    def lost(self, seen: Seen) -> str:
        """Why it cannot."""
        return self._lost.get(seen.number, "")

    def _jpeg(self, seen: Seen) -> bytes:
        trajectory = self._attempt.trajectory
        assert trajectory and trajectory.video
        _, look = frame_at(trajectory, seen.number) or (seen.frame, (seen.frame,))
        try:
            return self._frames.jpeg(trajectory.video, seen.frame, uniform(look, FRAMES_OF_A_LOOK))
        except VideoError:
            if self._kept is None:
                pictures = kept_overview(self._rows, self._attempt.trajectory_id)
                self._kept = {place(p.frame): p.jpeg for p in pictures if p.frame.hash}
            if (jpeg := self._kept.get(place(seen.frame))) is None:
                raise
            return jpeg


def _told(attempt: Attempt, asked: dict[str, Any], pictures: _Pictures) -> Markup:
    """An attempt as HTML."""
    drawing = {
        "live": False,
        "pick": lambda frames: uniform(frames, FRAMES_OF_A_LOOK),
        "src": pictures.src,
        "lost": pictures.lost,
    }
    return Markup(html("sample", told(attempt) | asked | drawing).decode())


def _small(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.thumbnail((_WIDTH, _WIDTH), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _page(
    rows: SharedRows, stats: Mapping[str, Any], preset: str, each: int, seed: int, samples: Sequence[Markup]
) -> bytes:
    style = static("style.css").decode()
    values = {
        "run": rows.store.url.rstrip("/").rsplit("/", 1)[-1],
        "preset": preset,
        "condition": "\nAND ".join(clause.sql for clause in rows.condition(preset).clauses),
        "each": each,
        "seed": seed,
        "style": Markup(style),
        "style_hash": "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        "funnel": stats["funnel"],
        "tables": stats_tables(stats, _SHOWN_APART),
        "samples": samples,
    }
    return html("report", values)
