"""What a captioner is asked: a caption for a segment, and an answer to a question about a clip.

Levels, sizes and word limits are those of LongVideo-R1 (arXiv 2602.20913, `data/constant.py` and
`data/videocaption_generation.py`); the wording of the instructions is ours.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from prompts.protocol import Fault
from prompts.rendering import Part, message, plain
from prompts.template import fill
from schemas.chat import Message
from schemas.timeline import Interval
from schemas.video import Frame


@dataclass(frozen=True)
class Cue:
    """A subtitle: what is said from `start_s` to `end_s`, in seconds since the start of the video."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class CaptionLevel:
    """How a segment of a level is shown and described. max_side: longest side of a frame in pixels."""

    frames: int
    max_side: int
    words: int


CAPTION_LEVELS = {1: CaptionLevel(128, 256, 400), 2: CaptionLevel(64, 362, 400), 3: CaptionLevel(32, 512, 200)}
"""By level, 1 = high, 2 = medium, 3 = low."""

QA_FRAMES = 16
QA_MAX_SIDE = 1024
"""Frames of a `video_qa` and their longest side in pixels."""

CUT_OFF = Fault("cut_off", "The clip could not be examined: the model's reply was cut off at its token limit.")
"""Half a caption or answer is no use: a captioner that stops at the limit has mostly lost its way."""

LEAF_S = 16.0
MAX_WIDTH = 8


def caption_width(duration_s: float, minimum: int = 4) -> int:
    """Children per segment: clamp(round((duration / 16 s) ** (1/3)), minimum, 8), so that a leaf has about 16 s."""
    return max(minimum, min(MAX_WIDTH, round(float((max(0.0, duration_s) / LEAF_S) ** (1 / 3)))))


def caption_messages(level: int, frames: Sequence[Frame], span: Interval, cues: Sequence[Cue]) -> tuple[Message, ...]:
    """The request for the caption of one segment.

    frames: of the segment, in order of time, each shown after `{t}s.` and the subtitles that begin from it on.
    span: the segment in seconds; every cue that overlaps it appears exactly once (upstream loses those between two
    frames). Raises ValueError without frames.
    """
    if not frames:
        raise ValueError("a caption needs at least one frame")
    rule = CAPTION_LEVELS[level]
    values = {"n_frames": len(frames), "words": rule.words, "detailed": level == max(CAPTION_LEVELS)}
    said = _said_at(frames, span, cues)
    parts: list[Part] = []
    for frame, texts in zip(frames, said, strict=True):
        subtitle = f" Subtitle: {', '.join(texts)}" if texts else ""
        parts += [f"{frame.time_s:.1f}s.{subtitle}\n", frame, "\n"]
    return message("system", (fill("caption_system", values),)), message("user", parts)


def _said_at(frames: Sequence[Frame], span: Interval, cues: Sequence[Cue]) -> list[list[str]]:
    """For each frame the subtitles that begin from it on and before the next; the first frame also has earlier ones."""
    times = [frame.time_s for frame in frames]
    said: list[list[str]] = [[] for _ in frames]
    for cue in sorted(cues, key=lambda cue: (cue.start_s, cue.end_s)):
        if overlaps(cue, span):
            said[max(0, bisect_right(times, cue.start_s) - 1)].append(plain(cue.text))
    return said


def overlaps(cue: Cue, span: Interval) -> bool:
    """Whether a cue is on screen at some time in [start, end); one that ends as the span starts is not."""
    start, end = span
    return cue.start_s < end and (cue.end_s > start or cue.start_s >= start)


def parse_caption(text: str) -> str | Fault:
    """The caption in a captioner's reply, without tags; the whole reply where it has none. An empty one is a fault."""
    caption = _inside(_after_thinking(text), "caption")
    return caption or Fault("no_caption", "The reply holds no caption.")


def qa_messages(frames: Sequence[Frame], query: str) -> tuple[Message, ...]:
    """The request behind a `video_qa`: the query, then each frame after `Video frame at {t} seconds:`."""
    shown = [part for frame in frames for part in (f"\nVideo frame at {frame.time_s:.1f} seconds:", frame)]
    return message("system", (fill("video_qa_system", {}),)), message("user", (plain(query), *shown))


def parse_qa(text: str) -> str | Fault:
    """The answer in a reply to `qa_messages`, without tags; the whole reply where it has none of the tags.

    A reply that was cut before its answer, or whose answer is empty, is a fault.
    """
    visible = _after_thinking(text)
    if "<answer>" not in visible and "<reasoning>" in visible:
        visible = visible.partition("</reasoning>")[2]
    answer = _inside(visible, "answer")
    return answer or Fault("no_answer", "The clip could not be examined: the model gave no answer.")


def _after_thinking(text: str) -> str:
    return text.rpartition("</think>")[2]


def _inside(text: str, tag: str) -> str:
    """What stands between a tag and its end; the end may be missing, or both."""
    _, opened, rest = text.partition(f"<{tag}>")
    inner = (rest if opened else text).partition(f"</{tag}>")[0]
    return inner.replace(f"<{tag}>", "").strip()
