"""One attempt at one question: the teacher thinks, zooms over the video and answers."""

from dataclasses import dataclass, field

from pipeline.models.chat import ChatModel, Embedder, Pictures, Reply, with_pixels
from pipeline.plan import Planned
from pipeline.stages.checks import setting_after
from pipeline.stages.search import Search
from pipeline.stages.videos import OpenVideos
from prompts.captioning import parse_qa, qa_messages
from prompts.judging import answers_match
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from schemas.captions import CaptionNode, CaptionTree, Usage
from schemas.config import AS_PUBLISHED, View
from schemas.config import Rollout as RolloutSettings
from schemas.errors import Failure, Rejected
from schemas.trajectory import Action, CaptionLine, Dialogue, Hint, Observation, Overview, Status, Trajectory, Turn
from schemas.video import Frame, Video

_CUT_OFF = Fault("cut_off", "Your reply was too long and was cut off. Think more briefly.")
"""A text that ended at the token limit is not an answer, even where it happens to parse as one."""


@dataclass(frozen=True)
class Teaching:
    """What all attempts of a run have in common. answerer: answers `video_qa`; None where there is no such action.

    embedder: chooses frames by a query where the protocol lets it; None: they are spread evenly.
    """

    protocol: ZoomProtocol
    teacher: ChatModel
    answerer: ChatModel | None
    settings: RolloutSettings
    view: View = AS_PUBLISHED
    embedder: Embedder | None = None

    @property
    def max_turns(self) -> int:
        return self.settings.max_turns or self.protocol.default_max_turns


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


def unstarted(planned: Planned, teaching: Teaching, failure: Failure | None) -> Trajectory:
    """The row of an attempt that could not begin, with the reason; the blank row of one that does."""
    return Trajectory(
        trajectory_id=planned.trajectory_id,
        question_id=planned.question.question_id,
        video_id=planned.question.video_id,
        attempt=planned.attempt,
        protocol=teaching.protocol.name,
        protocol_version=teaching.protocol.version,
        status="failed",
        question=planned.question,
        video=None,
        overview=None,
        turns=(),
        max_turns=teaching.max_turns,
        final_answer=None,
        teacher=teaching.teacher.name,
        hints=(),
        answer_shown=False,
        interval_shown=False,
        usage=Usage(),
        error=failure,
        tools=teaching.protocol.tools,
    )


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
    overview: Overview = field(init=False)
    turns: list[Turn] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    n_invalid: int = 0
    final_answer: str | None = None
    _hint: str = ""

    def __post_init__(self) -> None:
        self.pictures = Pictures(self.tree.overview)
        self.setting = Setting.of(self.video, self.tree.width)
        self.overview = overview_of(self.tree)

    async def run(self) -> Trajectory:
        """Turns until an answer, the turn limit, too many invalid turns or a failure."""
        try:
            return self._record(await self._converse(), None)
        except Rejected as error:
            return self._record("failed", Failure(stage="teach", kind=error.kind, message=error.message))

    async def _converse(self) -> Status:
        while len(self.turns) < self.teaching.max_turns:
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

    async def _ask(self) -> Reply:
        messages = self.teaching.protocol.messages(self._dialogue(), self._hint)
        return await self.teaching.teacher.complete(
            with_pixels(messages, self.pictures), sample=self.planned.attempt, stop=self.teaching.protocol.stop
        )

    def _dialogue(self) -> Dialogue:
        return Dialogue(
            question=self.planned.question,
            video=self.video,
            overview=self.overview,
            turns=tuple(self.turns),
            max_turns=self.teaching.max_turns,
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
                action = await self._locate(self.teaching.protocol.resolve(action, self.setting))
                observations.append(await self._observe(action))
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
            author=self.teaching.teacher.name,
            trainable=not error,
            error=error,
            finish_reason=reply.finish_reason,
            call_key=reply.key,
            usage=reply.usage,
        )

    async def _locate(self, action: Action) -> Action:
        """The action with the frame indices of its span, or the seconds of the frames that it names.

        A captioned segment knows its own.
        """
        if action.start_frame is not None and action.end_frame is not None:
            start_s, end_s = await self.videos.seconds(self.video, (action.start_frame, action.end_frame))
            return action.model_copy(update={"start_s": start_s, "end_s": end_s})
        if action.start_s is None or action.end_s is None:
            return action
        node = self._node(action)
        if node is not None:
            first, last = node.first_frame, node.last_frame
        else:
            first, last = await self.videos.span(self.video, (action.start_s, action.end_s))
        return action.model_copy(update={"start_frame": first, "end_frame": last})

    def _node(self, action: Action) -> CaptionNode | None:
        return next((node for node in self.tree.nodes if node.path == action.segment), None)

    async def _observe(self, action: Action) -> Observation:
        if action.kind == "caption":
            return self._caption(action)
        if action.kind == "time":
            index = await self.videos.index_at(self.video, action.start_s or 0.0)
            return Observation(call_id=action.call_id, kind="time", text=str(index))
        search = Search(self.teaching.protocol, self.teaching.view, self.teaching.embedder)
        plan, choice = await search.plan(action, self.setting, self.videos)
        shown = await self.videos.read(self.video, plan)
        self.pictures.add(shown)
        frames = tuple(picture.frame for picture in shown)
        if action.kind == "video_qa":
            return await self._video_qa(action, frames)
        return Observation(
            call_id=action.call_id,
            kind="frames",
            text="",
            frames=frames,
            start_s=action.start_s,
            end_s=action.end_s,
            choice=choice,
        )

    def _caption(self, action: Action) -> Observation:
        """The caption of a segment, its span as the first and last frame that the captioner saw."""
        node = self._node(action)
        if node is None or node.error:
            return Observation(call_id=action.call_id, kind="error", text="This segment has no caption.")
        times = node.shown_times_s
        return Observation(call_id=action.call_id, kind="caption", text=node.caption, start_s=times[0], end_s=times[-1])

    async def _video_qa(self, action: Action, frames: tuple[Frame, ...]) -> Observation:
        """The answer of a second model that sees the segment's frames. An unusable reply is an error observation."""
        if self.teaching.answerer is None:
            raise Rejected("no_answerer", "video_qa needs a captioner in the config")
        messages = qa_messages(frames, action.query or "")
        reply = await self.teaching.answerer.complete(with_pixels(messages, self.pictures))
        self.usage += reply.usage
        answer = parse_qa(reply.text)
        if isinstance(answer, Fault):
            return Observation(call_id=action.call_id, kind="error", text=answer.message, call_key=reply.key)
        return Observation(
            call_id=action.call_id,
            kind="qa",
            text=answer,
            frames=frames,
            start_s=action.start_s,
            end_s=action.end_s,
            call_key=reply.key,
        )

    def _record(self, status: Status, error: Failure | None) -> Trajectory:
        return unstarted(self.planned, self.teaching, error).model_copy(
            update={
                "status": status,
                "video": self.video,
                "overview": self.overview,
                "turns": tuple(self.turns),
                "final_answer": self.final_answer,
                "hints": tuple(self.hints),
                "interval_shown": bool(self.planned.question.clue_intervals and self.hints),
                "usage": self.usage,
            }
        )
