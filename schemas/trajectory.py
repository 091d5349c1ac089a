"""One attempt to answer a question by zooming."""

from collections.abc import Sequence
from typing import Literal

from schemas.captions import Usage
from schemas.errors import Failure
from schemas.question import Question
from schemas.record import Record
from schemas.video import Frame, Video

Origin = Literal["teacher", "student", "reflection"]
"""Whose turn: of a rollout by the teacher or by the student, or the teacher's that corrects a wrong rollout."""

ActionKind = Literal["zoom", "caption", "video_qa", "time", "answer"]


class Action(Record):
    """What a model asked for, as parsed from its text.

    call_id: "turn.number", unique within the trajectory. kind: `zoom` (frames of a span), `caption` (a segment's
    caption), `video_qa` (a question about a leaf segment), `time` (which frame is on screen at `start_s`), `answer`.
    start_s, end_s: seconds asked for (None until resolved, for actions that name a segment or frames); start_frame,
    end_frame: indices of the first and last frame of that span, as asked for where an action names frames.
    segment: 1-based ids. fps: frames a second asked for, or, once resolved, that follow from the span.
    query: text of a `video_qa`, or what the frames of a zoom are to show; num_frames: how many of them were asked for.
    path: of the video, where a call names it. answer: the final answer's text, verbatim.
    """

    call_id: str
    kind: ActionKind
    start_s: float | None = None
    end_s: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    segment: tuple[int, ...] = ()
    fps: float | None = None
    query: str | None = None
    num_frames: int | None = None
    path: str | None = None
    answer: str | None = None

    @property
    def looks(self) -> bool:
        """Whether it asks to see something of the video, or to be told of it."""
        return self.kind not in ("time", "answer")


class Observation(Record):
    """What an action brought, matched to it by call_id.

    kind: `frames`, `caption`, `qa`, `time` or `error`. text: the caption, the answer, a frame's index in digits or the
    error, without any wrapper (the protocol adds wrappers when it renders). frames: those shown to the teacher, or, for
    `qa`, to the model that answered. start_s, end_s: seconds covered. call_key: key of the model call behind it, ""
    where there was none.
    choice: how the frames were chosen where the protocol lets an embedder choose: `searched` by it, or `uniform`
    without one; "" where the action itself says which frames.
    """

    call_id: str
    kind: Literal["frames", "caption", "qa", "time", "error"]
    text: str
    frames: tuple[Frame, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    call_key: str = ""
    choice: Literal["", "uniform", "searched"] = ""

    @property
    def shows(self) -> bool:
        """Whether it shows or tells something of the video."""
        return self.kind not in ("time", "error")


def carried_out(actions: Sequence[Action], observations: Sequence[Observation]) -> list[Action]:
    """Of the actions of one turn the looks that were carried out on the video, in order."""
    refused = {o.call_id for o in observations if o.kind == "error"}
    return [a for a in actions if a.looks and a.call_id not in refused]


class Turn(Record):
    """One model text and what came back.

    raw: the model's visible text, verbatim. reasoning: hidden reasoning that a server reports apart from it.
    error: "" or the name of what was wrong with the text or its action (then `observations` tells the model so).
    trainable: whether a trainer should learn this text (an invalid turn should not be). The turns of a wrong rollout
    that a reflection corrects are, where they are valid, as published; a cut may leave them out (`--learn`).
    """

    think: str
    actions: tuple[Action, ...]
    observations: tuple[Observation, ...]
    raw: str
    reasoning: str
    author: str
    trainable: bool
    error: str
    finish_reason: str
    call_key: str
    usage: Usage
    origin: Origin = "teacher"


class Hint(Record):
    """A hint that was shown after a wrong answer, and the answer it replaced (neither is part of the turns).

    level: step of the ladder, from 0. after_turn: how many turns were kept when it was shown.
    """

    level: int
    text: str
    after_turn: int
    wrong_answer: str
    wrong_raw: str


class Reflection(Record):
    """That a rollout answered wrongly and was corrected from there (`prompts/reflection.py`).

    after_turn: how many turns of the wrong rollout were kept; its answer is not part of the turns. max_turns: model
    turns allowed in all, those of the wrong rollout included.
    """

    after_turn: int
    max_turns: int
    wrong_answer: str
    wrong_raw: str


class CaptionLine(Record):
    """A top-level caption as shown in the overview; start_s, end_s: first and last sampled frame, seconds."""

    path: tuple[int, ...]
    start_s: float
    end_s: float
    caption: str


class Overview(Record):
    """What the teacher saw before its first turn: frames, captions, or both. width: the caption tree's, else None."""

    frames: tuple[Frame, ...] = ()
    captions: tuple[CaptionLine, ...] = ()
    width: int | None = None


class Dialogue(Record):
    """All that a protocol needs to render the messages of a state. max_turns: model turns allowed in all."""

    question: Question
    video: Video
    overview: Overview
    turns: tuple[Turn, ...]
    max_turns: int


Status = Literal["answered", "gave_up", "malformed", "failed"]


class Trajectory(Record):
    """One row of `trajectories/`: one attempt, failed ones included.

    trajectory_id: "{question_id}@{attempt}". protocol, protocol_version: which renderer the turns belong to.
    status: `answered`; `gave_up` (turns ran out); `malformed` (too many invalid turns); `failed` (see error).
    final_answer: verbatim; answer_shown, interval_shown: whether the reference was revealed to the teacher.
    hints: every hint shown, in order. reflection: None where no wrong rollout is corrected. video and overview are None
    where the video could not be used.
    tools: JSON schemas of the tools that the chat was rendered with, to the letter as its system message holds them.
    """

    trajectory_id: str
    question_id: str
    video_id: str
    attempt: int
    protocol: str
    protocol_version: str
    status: Status
    question: Question
    video: Video | None
    overview: Overview | None
    turns: tuple[Turn, ...]
    max_turns: int
    final_answer: str | None
    teacher: str
    hints: tuple[Hint, ...]
    answer_shown: bool
    interval_shown: bool
    usage: Usage
    error: Failure | None
    tools: tuple[str, ...] = ()
    reflection: Reflection | None = None

    def dialogue(self) -> Dialogue:
        """The state that the protocol renders. Raises ValueError for a trajectory that never began."""
        if self.video is None or self.overview is None:
            raise ValueError(f"{self.trajectory_id} has no dialogue: {self.error}")
        return Dialogue(
            question=self.question,
            video=self.video,
            overview=self.overview,
            turns=self.turns,
            max_turns=self.reflection.max_turns if self.reflection else self.max_turns,
        )
