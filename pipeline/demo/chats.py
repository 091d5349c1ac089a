"""Reading a protocol's chat back: what a teacher was asked, shown and told, from the messages alone."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from pipeline.demo.asked import asked
from pipeline.demo.sight import Shot
from pipeline.demo.walking import Call, Walk
from pipeline.demo.zooming import Viewing
from pipeline.models.chat import ChatMessage
from prompts.protocol import Step, ZoomProtocol
from prompts.sampling import spread
from schemas.timeline import SegmentPath, Segments

_FRAME = re.compile(r"(?:<frame\d+_time(\d+(?:\.\d+)?)s>|(?<![\w.])(\d+\.\d)s)$")
_VIDEO = re.compile(r"(?:Full video|Subset zoom-in video clip) \[(\d+), (\d+)\]:")
_TASK = re.compile(r"(.*?)\n+(?:Provide only the single option letter|Provide your text answer)", re.DOTALL)
_ZOOMED_ENOUGH = "You cannot zoom in again"
_SEARCH_TASK = re.compile(
    r"</answer>Question: (.*?)(?:\nAnswer with the option's letter[^\n]*)?\nThe video duration: ", re.DOTALL
)
_NO_MORE = "Do not call <video_zoom> in this round"
_FIRST_TURN = re.compile(
    r"(?P<head>.*?)\n\n\nThe total duration of the video is (?P<duration>[\d.]+) seconds\.\n\n(?P<captions>.*)",
    re.DOTALL,
)
_ASK_FOR_LETTER = re.compile(r"\ASelect the best answer to the following [^\n]*\n")
_TOP_CAPTION = re.compile(r"^High-level Caption \d+ from [\d.]+ to [\d.]+:", re.MULTILINE)
_CAPTION = re.compile(
    r"(?:Medium|Low)-level Caption from tool get_caption\([^)]*\)\)\. From [\d.]+ to [\d.]+:(.*)", re.DOTALL
)
_INFORMATION = re.compile(r"<information>(.*)</information>", re.DOTALL)
_HINT = re.compile(r"\n\n(?:The previous attempt at this question|The attempts at this question so far)\b")
_HINTED = re.compile(r"\*\*(.*?)\*\*")
_IDS = re.compile(r"\(([\d,]+)\)")


def read_videozoomer(chat: Sequence[ChatMessage]) -> Viewing:
    """A dialogue of the protocol `videozoomer`."""
    opening = next(message for message in chat if message.role == "user")
    replies = [m for m in chat if m.role == "user"][1:]
    return Viewing(
        asked=asked(_text_after_frames(opening)),
        overview=tuple(_shots(opening)),
        clips=tuple(shots for m in replies if (shots := tuple(_shots(m)))),
        must_answer=_NO_MORE in _text_after_frames(chat[-1]),
    )


def read_love_r1(chat: Sequence[ChatMessage]) -> Viewing:
    """A state of the protocol `love_r1`. The times of frames stand in their pixels alone; they are reckoned from how a
    video's frames are spread."""
    parts = next(message for message in chat if message.role == "user").parts
    videos: list[list[Shot]] = []
    for i, part in enumerate(parts):
        match = _VIDEO.fullmatch(part) if isinstance(part, str) else None
        if match is not None:
            frames = [p for p in takewhile(lambda p: isinstance(p, bytes), parts[i + 1 :]) if isinstance(p, bytes)]
            times = spread(float(match[1]), float(match[2]), len(frames))
            videos.append([Shot(time, jpeg) for time, jpeg in zip(times, frames, strict=True)])
    task = _TASK.match(str(parts[-1]))
    if task is None or not videos:
        raise ValueError("not a state of love_r1")
    fast, *clips = videos
    return Viewing(
        asked=asked(task[1].replace("\nOptions:\n", "\n").strip()),
        overview=tuple(fast),
        clips=tuple(map(tuple, clips)),
        must_answer=_ZOOMED_ENOUGH in str(parts[-1]),
    )


def read_timesearch_r(chat: Sequence[ChatMessage]) -> Viewing:
    """A dialogue of the protocol `timesearch_r`."""
    opening = next(message for message in chat if message.role == "user")
    match = _SEARCH_TASK.search(_text_after_frames(opening))
    if match is None:
        raise ValueError("not a first turn of timesearch_r")
    found = (tuple(_shots(m)) for m in chat if m.role == "tool")
    return Viewing(
        asked=asked(match[1]), overview=tuple(_shots(opening)), clips=tuple(s for s in found if s), must_answer=False
    )


VIEWINGS: dict[str, Callable[[Sequence[ChatMessage]], Viewing]] = {
    "videozoomer": read_videozoomer,
    "love_r1": read_love_r1,
    "timesearch_r": read_timesearch_r,
}
"""By protocol, for those that show frames."""


def _shots(message: ChatMessage) -> Iterator[Shot]:
    """The frames of a message, each with the time that stands before it."""
    before = ""
    for part in message.parts:
        if isinstance(part, bytes):
            match = _FRAME.search(before)
            if match is None:
                raise ValueError("a frame without its time")
            yield Shot(float(match[1] or match[2]), part)
        else:
            before = part


def _text_after_frames(message: ChatMessage) -> str:
    last = message.parts[-1]
    return last if isinstance(last, str) else ""


def read_longvideo_r1(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Walk:
    """A dialogue of the protocol `longvideo_r1`; a hint at its end is understood, and not part of any text."""
    texts = ["".join(part for part in m.parts if isinstance(part, str)) for m in chat]
    texts[-1], hint = _without_hint(texts[-1])
    opening = next(text for m, text in zip(chat, texts, strict=True) if m.role == "user")
    match = _FIRST_TURN.match(opening)
    if match is None:
        raise ValueError("not a first turn of longvideo_r1")
    captions = [text.strip() for text in _TOP_CAPTION.split(match["captions"])[1:]]
    return Walk(
        asked=asked(_ASK_FOR_LETTER.sub("", match["head"])),
        segments=Segments(float(match["duration"]), len(captions)),
        captions={(i + 1,): text for i, text in enumerate(captions)},
        calls=tuple(_calls(chat, texts, protocol)),
        hinted=None if hint is None else _hinted_segments(hint),
    )


def _without_hint(text: str) -> tuple[str, str | None]:
    match = _HINT.search(text)
    return (text, None) if match is None else (text[: match.start()], text[match.start() :])


def _hinted_segments(hint: str) -> tuple[SegmentPath, ...]:
    named = _HINTED.search(hint)
    return tuple(tuple(map(int, ids.split(","))) for ids in _IDS.findall(named[1])) if named else ()


def _calls(chat: Sequence[ChatMessage], texts: Sequence[str], protocol: ZoomProtocol) -> Iterator[Call]:
    """Each call with what came back; a text that was no call is left out."""
    for number, message in enumerate(chat[:-1]):
        if message.role != "assistant":
            continue
        step = protocol.parse(texts[number])
        if not isinstance(step, Step) or step.actions[0].kind == "answer":
            continue
        action, told = step.actions[0], texts[number + 1]
        match = (_CAPTION if action.kind == "caption" else _INFORMATION).search(told)
        yield Call(action.segment, action.query or "", match[1].strip() if match else None)
