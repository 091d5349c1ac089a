"""Small records that the tests of this floor share."""

from collections.abc import Sequence

from schemas.captions import Usage
from schemas.question import Question
from schemas.trajectory import Action, CaptionLine, Dialogue, Hint, Observation, Overview, Trajectory, Turn
from schemas.video import Frame, Video

VIDEO = Video(
    video_id="v",
    uri="v.mp4",
    content_hash="00",
    duration_s=64.0,
    fps=25.0,
    n_frames=1600,
    width=640,
    height=360,
    codec="h264",
    pixel_format="yuv420p",
    container="mp4",
    rotation=0,
)


def question(
    choices: Sequence[str] = ("a red car", "a blue car", "a bicycle", "nothing"),
    letter: str = "B",
    answer: str = "a blue car",
    clues: Sequence[tuple[float, float]] = (),
) -> Question:
    return Question(
        question_id="q",
        video_id="v",
        text="What passes the house?",
        kind="multiple_choice" if choices else "open",
        choices=tuple(choices),
        answer_letter=letter if choices else "",
        answer_text=answer,
        clue_intervals=tuple(clues),
        source="jsonl",
        source_id="",
    )


def frame(time_s: float, side: int = 100) -> Frame:
    return Frame(index=round(time_s * 25), time_s=time_s, hash=f"{time_s}", width=side, height=side)


def turn(
    think: str = "",
    action: Action | None = None,
    observation: Observation | None = None,
    raw: str = "",
    error: str = "",
) -> Turn:
    return Turn(
        think=think,
        actions=(action,) if action else (),
        observations=(observation,) if observation else (),
        raw=raw,
        reasoning="",
        author="teacher",
        trainable=not error,
        error=error,
        finish_reason="stop",
        call_key="",
        usage=Usage(),
    )


def zoom(start: float, end: float, fps: float = 2.0, call: str = "0.0") -> Action:
    return Action(call_id=call, kind="zoom", start_s=start, end_s=end, fps=fps)


def caption(*segment: int, call: str = "0.0") -> Action:
    return Action(call_id=call, kind="caption", segment=segment)


def video_qa(*segment: int, query: str = "which colour?", call: str = "0.0") -> Action:
    return Action(call_id=call, kind="video_qa", segment=segment, query=query)


def answer(text: str, call: str = "9.0") -> Action:
    return Action(call_id=call, kind="answer", answer=text)


def seen(times: Sequence[float], call: str = "0.0") -> Observation:
    return Observation(call_id=call, kind="frames", text="", frames=tuple(frame(t) for t in times))


def told(kind: str, text: str, span: tuple[float, float] | None = None, call: str = "0.0") -> Observation:
    start, end = span or (None, None)
    return Observation.model_validate(
        {"call_id": call, "kind": kind, "text": text, "start_s": start, "end_s": end, "frames": ()}
    )


HIGH_CAPTIONS = tuple(
    CaptionLine(path=(i + 1,), start_s=16.0 * i, end_s=16.0 * i + 15.96, caption=f"caption {i + 1}") for i in range(4)
)
CAPTION_OVERVIEW = Overview(captions=HIGH_CAPTIONS, width=4)
FRAME_OVERVIEW = Overview(frames=(frame(0.0), frame(2.0)))


def dialogue(turns: Sequence[Turn], overview: Overview, asked: Question | None = None, max_turns: int = 5) -> Dialogue:
    return Dialogue(
        question=asked or question(), video=VIDEO, overview=overview, turns=tuple(turns), max_turns=max_turns
    )


def trajectory(
    turns: Sequence[Turn],
    final: str | None,
    asked: Question | None = None,
    overview: Overview | None = CAPTION_OVERVIEW,
    hints: Sequence[Hint] = (),
) -> Trajectory:
    asked = asked or question()
    return Trajectory(
        trajectory_id="q@0",
        question_id="q",
        video_id="v",
        attempt=0,
        protocol="p",
        protocol_version="1",
        status="answered" if final is not None else "gave_up",
        question=asked,
        video=VIDEO,
        overview=overview,
        turns=tuple(turns),
        max_turns=5,
        final_answer=final,
        teacher="teacher",
        hints=tuple(hints),
        answer_shown=False,
        interval_shown=False,
        usage=Usage(),
        error=None,
    )
