"""One attempt at one question: a model thinks, zooms over the video and answers; a wrong answer may be corrected."""

from dataclasses import dataclass, field

from pipeline.models.chat import ChatModel, Pictures, Reply, with_pixels
from pipeline.plan import Planned
from pipeline.stages.checks import setting_after
from pipeline.stages.observer import Observer
from pipeline.stages.teaching import Teaching, unstarted
from pipeline.stages.videos import OpenVideos
from prompts.judging import answers_match
from prompts.protocol import Fault, Setting, Step
from prompts.reflection import reflecting
from schemas.captions import CaptionTree, Usage
from schemas.errors import Failure, Rejected
from schemas.trajectory import (
    Action,
    CaptionLine,
    Dialogue,
    Hint,
    Observation,
    Origin,
    Overview,
    Reflection,
    Status,
    Trajectory,
    Turn,
    carried_out,
)
from schemas.video import Video

_CUT_OFF = Fault("cut_off", "Your reply was too long and was cut off. Think more briefly.")
"""A text that ended at the token limit is not an answer, even where it happens to parse as one."""


def overview_of(tree: CaptionTree) -> Overview:
    """What a teacher sees of a captioned video before its first turn."""
    lines = tuple(
        CaptionLine(
            path=node.path,
            start_s=node.shown_times_s[0] if node.shown_times_s else node.start_s,
            end_s=node.shown_times_s[-1] if node.shown_times_s else node.end_s,
            caption=node.caption,
        )
        for node in tree.nodes
        if len(node.path) == 1
    )
    return Overview(frames=tuple(p.frame for p in tree.overview), captions=lines, width=tree.width)


@dataclass
class Rollout:
    """The state of one attempt. Raises nothing for what a model or a video does wrong: `run` records it."""

    planned: Planned
    tree: CaptionTree
    video: Video
    teaching: Teaching
    videos: OpenVideos
    pictures: Pictures = field(init=False)
    setting: Setting = field(init=False)
    observer: Observer = field(init=False)
    overview: Overview = field(init=False)
    turns: list[Turn] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    n_invalid: int = 0
    final_answer: str | None = None
    reflection: Reflection | None = None
    _hint: str = ""

    def __post_init__(self) -> None:
        self.pictures = Pictures(self.tree.overview)
        self.setting = Setting.of(self.video, self.tree.width)
        self.overview = overview_of(self.tree)
        self.observer = Observer(self.tree, self.video, self.setting, self.teaching, self.videos, self.pictures)

    async def run(self) -> Trajectory:
        """Turns until an answer, the turn limit, too many invalid turns or a failure."""
        try:
            status = await self._converse()
            if status == "answered" and self._went_wrong():
                self._begin_reflection()
                status = await self._converse()
            return self._record(status, None)
        except Rejected as error:
            return self._record("failed", Failure(stage="teach", kind=error.kind, message=error.message))

    async def _converse(self) -> Status:
        while len(self.turns) < self.max_turns:
            reply = await self._ask()
            self.usage += reply.usage
            step = _CUT_OFF if reply.finish_reason == "length" else self.teaching.protocol.parse(reply.text)
            if isinstance(step, Step) and step.actions[0].kind == "answer":
                if self._take_hint(step.actions[0].answer or "", reply):
                    continue
                self._answer(step, reply)
                return "answered"
            self.turns.append(await self._turn(step, reply))
            self._hint = ""
            if self.n_invalid > self.teaching.settings.max_invalid:
                return "malformed"
        return "gave_up"

    @property
    def max_turns(self) -> int:
        return self.teaching.max_turns if self.reflection is None else self.reflection.max_turns

    @property
    def _origin(self) -> Origin:
        if self.reflection is not None:
            return "reflection"
        return "teacher" if self.teaching.student is None else "student"

    @property
    def _model(self) -> ChatModel:
        """Who has the next turn."""
        student = self.teaching.student
        return student if student is not None and self.reflection is None else self.teaching.teacher

    async def _ask(self) -> Reply:
        zoom, dialogue = self.teaching.protocol, self._dialogue()
        if self.reflection is None:
            messages = zoom.messages(dialogue, self._hint)
        else:
            messages = reflecting(zoom, dialogue, self.reflection.after_turn)
        return await self._model.complete(
            with_pixels(messages, self.pictures), sample=self.planned.attempt, stop=zoom.stop
        )

    def _went_wrong(self) -> bool:
        """Whether there is something to reflect on: zooms that led to a wrong answer."""
        looked = any(carried_out(turn.actions, turn.observations) for turn in self.turns)
        right = answers_match(self.final_answer or "", self.planned.question)
        return self.teaching.settings.reflect > 0 and looked and not right

    def _begin_reflection(self) -> None:
        wrong = self.turns.pop()
        self.reflection = Reflection(
            after_turn=len(self.turns),
            max_turns=len(self.turns) + self.teaching.settings.reflect,
            wrong_answer=self.final_answer or "",
            wrong_raw=wrong.raw,
        )
        self.final_answer, self.n_invalid = None, 0

    def _dialogue(self) -> Dialogue:
        return Dialogue(
            question=self.planned.question,
            video=self.video,
            overview=self.overview,
            turns=tuple(self.turns),
            max_turns=self.max_turns,
        )

    def _take_hint(self, answer: str, reply: Reply) -> bool:
        """After a wrong answer and with hints on: prepares the next hint. False where there is none."""
        question, segments = self.planned.question, self.setting.segments
        if self.teaching.settings.hints == "off" or segments is None or answers_match(answer, question):
            return False
        text = self.teaching.protocol.hint(question, len(self.hints), segments)
        if text is None:
            return False
        self.hints.append(
            Hint(
                level=len(self.hints),
                text=text,
                after_turn=len(self.turns),
                wrong_answer=answer,
                wrong_raw=reply.text,
            )
        )
        self._hint = text
        return True

    def _answer(self, step: Step, reply: Reply) -> None:
        actions = (step.actions[0].model_copy(update={"call_id": f"{len(self.turns)}.0"}),)
        self.final_answer = actions[0].answer
        self.turns.append(self._new_turn(step.think, actions, (), reply, ""))

    async def _turn(self, step: Step | Fault, reply: Reply) -> Turn:
        number = len(self.turns)
        if isinstance(step, Fault):
            self.n_invalid += 1
            complaint = Observation(call_id=f"{number}.0", kind="error", text=step.message)
            return self._new_turn("", (), (complaint,), reply, step.name)
        actions, observations, error = list[Action](), list[Observation](), ""
        turns = [(turn.actions, turn.observations) for turn in self.turns]
        for i, asked in enumerate(step.actions):
            action = asked.model_copy(update={"call_id": f"{number}.{i}"})
            setting = setting_after(self.setting, [*turns, (actions, observations)])
            fault = self.teaching.protocol.check(action, setting)
            if fault is None:
                action = await self.observer.locate(self.teaching.protocol.resolve(action, self.setting))
                observations.append(await self.observer.observe(action))
            else:
                error = error or fault.name
                observations.append(Observation(call_id=action.call_id, kind="error", text=fault.message))
            actions.append(action)
        self.n_invalid += bool(error)
        return self._new_turn(step.think, tuple(actions), tuple(observations), reply, error)

    def _new_turn(
        self,
        think: str,
        actions: tuple[Action, ...],
        observations: tuple[Observation, ...],
        reply: Reply,
        error: str,
    ) -> Turn:
        return Turn(
            think=think,
            actions=actions,
            observations=observations,
            raw=reply.text,
            reasoning=reply.reasoning,
            author=self._model.name,
            origin=self._origin,
            trainable=not error,
            error=error,
            finish_reason=reply.finish_reason,
            call_key=reply.key,
            usage=reply.usage,
        )

    def _record(self, status: Status, error: Failure | None) -> Trajectory:
        return unstarted(self.planned, self.teaching, error).model_copy(
            update={
                "status": status,
                "video": self.video,
                "overview": self.overview,
                "turns": tuple(self.turns),
                "reflection": self.reflection,
                "final_answer": self.final_answer,
                "hints": tuple(self.hints),
                "interval_shown": bool(self.planned.question.clue_intervals and self.hints),
                "usage": self.usage + self.observer.usage,
            }
        )
