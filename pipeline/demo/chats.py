"""Reading a protocol's chat back: what a teacher was asked, shown and told, from the messages alone."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, takewhile

from pipeline.demo import lenses
from pipeline.demo.asked import asked
from pipeline.demo.sight import Shot
from pipeline.demo.walking import Call, Walk
from pipeline.demo.world import FPS
from pipeline.demo.zooming import Viewing
from pipeline.models.chat import ChatMessage
from prompts.protocol import Step, ZoomProtocol
from prompts.sampling import spread
from schemas.timeline import SegmentPath, Segments
from schemas.video import uniform

DESCRIBED = 24
"""Frames of an overview that the small model describes, where a protocol shows more."""

_FRAME = re.compile(r"<frame\d+_time(\d+(?:\.\d+)?)s>$")
_TIMED_FRAME = re.compile(r"(?<![\w.])(\d+\.\d)s$")
_VIDEO = re.compile(r"(?:Full video|Subset zoom-in video clip) \[(\d+), (\d+)\]:")
_TASK = re.compile(r"(.*?)\n+(?:Provide only the single option letter|Provide your text answer)", re.DOTALL)
_ZOOMED_ENOUGH = "You cannot zoom in again"
_SEARCH_TASK = re.compile(
    r"</answer>Question: (.*?)(?:\nAnswer with the option's letter[^\n]*)?\nThe video duration: ", re.DOTALL
)
_NO_MORE = "Do not call <video_zoom> in this round"
_INDEXED_FRAME = re.compile(r"frame (\d+): $")
_LONGVT_SUFFIX = re.compile(r" Think first, call \*\*crop_video\*\* .* The Video path for this video is: (?P<path>.*)")
_RESPONSE = "<tool_response>\n"
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


def read_videozoomer(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Viewing:
    """A dialogue of the protocol `videozoomer`, which says itself when to answer."""
    opening = next(message for message in chat if message.role == "user")
    replies = [m for m in chat if m.role == "user"][1:]
    return Viewing(
        asked=asked(_text_after_frames(opening)),
        overview=tuple(_shots(opening)),
        clips=tuple(shots for m in replies if (shots := tuple(_shots(m)))),
        lens=lenses.VIDEOZOOMER,
        must_answer=_NO_MORE in _text_after_frames(chat[-1]),
    )


def _shots(message: ChatMessage, mark: re.Pattern[str] = _FRAME, rate: float = 1.0) -> Iterator[Shot]:
    """The frames of a message, each with its time in the text before it. rate: of what stands there, to a second."""
    before = ""
    for part in message.parts:
        if isinstance(part, bytes):
            match = mark.search(before)
            if match is None:
                raise ValueError("a frame without its time")
            yield Shot(float(match[1]) / rate, part)
        else:
            before = part


def _text_after_frames(message: ChatMessage) -> str:
    last = message.parts[-1]
    return last if isinstance(last, str) else ""


def read_framethinker(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Viewing:
    """A dialogue of the protocol `framethinker`; frame numbers are seconds by the rate that rendered films have."""
    opening, *replies = (message for message in chat if message.role == "user")
    question = next(part for part in opening.parts if isinstance(part, str))
    return Viewing(
        asked=asked(_INDEXED_FRAME.sub("", question)),
        overview=tuple(_shots(opening, _INDEXED_FRAME, FPS)),
        clips=tuple(shots for m in replies if (shots := tuple(_shots(m, _INDEXED_FRAME, FPS)))),
        lens=lenses.FRAMETHINKER,
        must_answer=_is_last_turn(chat, protocol),
    )


def _is_last_turn(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> bool:
    return sum(message.role == "assistant" for message in chat) >= protocol.default_max_turns - 1


def read_longvt(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Viewing:
    """A dialogue of the protocol `longvt`. The overview tells no times: it is a frame a second, in an even number."""
    opening = next(message for message in chat if message.role == "user")
    frames = [part for part in opening.parts if isinstance(part, bytes)]
    suffix = _LONGVT_SUFFIX.search(text := _text_after_frames(opening))
    if suffix is None:
        raise ValueError("not a first turn of longvt")
    shots = [Shot(time_s, jpeg) for time_s, jpeg in zip(spread(0.0, len(frames), len(frames)), frames, strict=True)]
    calls, clips = _crops(chat, protocol)
    return Viewing(
        asked=asked(text[: suffix.start()]),
        overview=uniform(shots, DESCRIBED),
        clips=clips,
        lens=(lens := lenses.longvt(suffix["path"])),
        must_answer=calls >= lens.zooms or _is_last_turn(chat, protocol),
    )


def _crops(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> tuple[int, tuple[tuple[Shot, ...], ...]]:
    """How many calls there were, and the frames of those that were carried out, spread over the seconds called."""
    calls, clips = 0, []
    for message, reply in pairwise(chat):
        step = protocol.parse(_text_after_frames(message)) if message.role == "assistant" else None
        if not isinstance(step, Step):
            continue
        calls += len(step.actions)
        blocks: list[list[bytes]] = []
        for part in reply.parts:
            if isinstance(part, bytes):
                blocks[-1].append(part)
            else:
                blocks += [[] for _ in range(part.count(_RESPONSE))]
        for action, frames in zip(step.actions, blocks, strict=True):
            times = spread(action.start_s or 0.0, action.end_s or 0.0, len(frames)) if frames else ()
            clips += [tuple(Shot(time_s, jpeg) for time_s, jpeg in zip(times, frames, strict=True))] * bool(frames)
    return calls, tuple(clips)


def read_love_r1(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Viewing:
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
        lens=lenses.LOVE_R1,
        must_answer=_ZOOMED_ENOUGH in str(parts[-1]),
    )


def read_timesearch_r(chat: Sequence[ChatMessage], protocol: ZoomProtocol) -> Viewing:
    """A dialogue of the protocol `timesearch_r`."""
    opening = next(message for message in chat if message.role == "user")
    match = _SEARCH_TASK.search(_text_after_frames(opening))
    if match is None:
        raise ValueError("not a first turn of timesearch_r")
    found = (tuple(_shots(m, _TIMED_FRAME)) for m in chat if m.role == "tool")
    return Viewing(
        asked=asked(match[1]),
        overview=tuple(_shots(opening, _TIMED_FRAME)),
        clips=tuple(shots for shots in found if shots),
        lens=lenses.TIMESEARCH_R,
        must_answer=_is_last_turn(chat, protocol),
    )


VIEWINGS: dict[str, Callable[[Sequence[ChatMessage], ZoomProtocol], Viewing]] = {
    "videozoomer": read_videozoomer,
    "framethinker": read_framethinker,
    "longvt": read_longvt,
    "love_r1": read_love_r1,
    "timesearch_r": read_timesearch_r,
}
"""How the chat of a protocol that shows frames is read, by its name."""


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
