"""The interface of a zoom protocol: pure functions from records to messages and from model text to actions.

One renderer serves generation, replay, SFT rows and RL rows. A new protocol is one file with one class; add it to
`prompts/protocols.py` by import.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from schemas.chat import Message
from schemas.question import Question
from schemas.timeline import Interval, Segments
from schemas.trajectory import Action, Dialogue
from schemas.video import FramePlan, Video


@dataclass(frozen=True)
class Step:
    """One model text, understood: a thought and the actions it asks for (call ids not yet given: "")."""

    think: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a model text or an action: a short stable name, and a sentence that tells the model."""

    name: str
    message: str


@dataclass(frozen=True)
class Setting:
    """What an action is checked against.

    segments: None for a protocol without captions. calls_before: calls of the attempt before this one, refused or not.
    earlier: the spans, in seconds, of the zooms that were carried out before the action.
    """

    video: Video
    segments: Segments | None
    calls_before: int = 0
    earlier: tuple[Interval, ...] = ()

    @classmethod
    def of(cls, video: Video, width: int | None) -> "Setting":
        """The setting of a video whose caption tree has this width; None where it has none."""
        return cls(video, None if width is None else Segments(video.duration_s, width))


TYPICAL_FRAMES = 12
"""Frames of an ordinary zoom, for estimates, where a protocol says nothing else."""


class ZoomProtocol(ABC):
    """How a model zooms. Instances hold no state.

    name, version: written to every trajectory; the version changes with any byte of the rendering.
    uses_captions: whether the caption tree must exist before the first turn.
    by_frames: whether its calls name frames by their index in the video.
    has_hints: whether `hint` knows a ladder. stop: texts at which a server may stop; each is kept in the output.
    default_max_turns: model turns allowed in all, as published; typical_turns: usually taken, for estimates.
    tools: JSON schemas of its tools, to the letter as the rendered system message holds them already.
    stateless: whether `messages` renders each state anew, without the model's own earlier texts; each step is then a
    training row of its own (see `prompts.rendering.states`).
    """

    name: ClassVar[str]
    version: ClassVar[str]
    uses_captions: ClassVar[bool]
    by_frames: ClassVar[bool] = False
    has_hints: ClassVar[bool] = False
    stop: ClassVar[tuple[str, ...]] = ()
    default_max_turns: ClassVar[int]
    typical_turns: ClassVar[int]
    tools: ClassVar[tuple[str, ...]] = ()
    stateless: ClassVar[bool] = False

    @abstractmethod
    def overview_plan(self, video: Video) -> FramePlan | None:
        """The frames shown before the first turn; None where the overview has no frames."""

    @abstractmethod
    def verifier_overview_plan(self, video: Video) -> FramePlan:
        """The frames that stand for the overview when a verifier looks: of `overview_plan` where it has any."""

    @abstractmethod
    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        """The messages of a state, ending with the one the model is to answer, or with the final answer.

        hint: appended to the last user message for the teacher's eyes only.
        """

    @abstractmethod
    def parse(self, text: str) -> Step | Fault:
        """Understand one model text. Never raises; text after the first complete action is cut.

        A step has one action, or, where the protocol has several calls in a turn, any number of calls.
        """

    @abstractmethod
    def write(self, step: Step) -> str:
        """The canonical text of a step: `parse(write(step)) == step` for every step that `parse` can return."""

    @abstractmethod
    def check(self, action: Action, setting: Setting) -> Fault | None:
        """Whether an action lies in the video and within its budget."""

    @abstractmethod
    def resolve(self, action: Action, setting: Setting) -> Action:
        """The action with `start_s` and `end_s` filled in, for one that `check` lets pass.

        Seconds of frames follow from the mean frame rate; a rollout puts the timeline's in their place.
        """

    @abstractmethod
    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """The frames of a resolved action: those shown, or, for an action answered by text, those of its segment."""

    def typical_zoom(self, video: Video) -> FramePlan | None:
        """Frames of an ordinary zoom, for estimates; None where zooms bring texts."""
        plan = self.overview_plan(video)
        return None if plan is None else FramePlan(budget=plan.budget, indices=tuple(range(TYPICAL_FRAMES)))

    def candidates(self, action: Action, setting: Setting) -> FramePlan | None:
        """The frames among which an embedder may choose, by the query of a resolved zoom, as many as `zoom_plan` has;
        None where the action itself says which frames are shown."""
        return None

    def hint(self, question: Question, level: int, segments: Segments) -> str | None:
        """The hint of a level for a wrong answer; None where the ladder has ended."""
        return None
