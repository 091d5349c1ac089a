"""FrameThinker (arXiv 2509.24304, github.com/lcqysl/FrameThinker-RL): choose frames by index, ask for a time's frame.

Where the published inference script and the published RL environment differ, this is the RL variant
(`think_with_video.py`): `frame N: <image>` a line, an end beyond the video that is cut back to it, and each frame once.
The system prompt, which the RL code leaves to its data, is that of `examples/agent/infer.py`; the line break between
thought and action is ours, since no published trace shows one. Not taken over: the eight spaces of indentation that the
environment leaks into every turn, and its silent end after an invalid action: here it is told, and there is one more
turn. A frame number is that of the frame on screen at the time, upstream int(seconds * fps): the same at a constant
frame rate. Nothing tells the duration but the last frame of the overview and the frame number of a time.
"""

import re
from collections.abc import Iterable, Sequence

from prompts.judging import answers_match
from prompts.parsing import split_text
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, conversation, message, plain, question_text
from prompts.sampling import spread_indices
from prompts.template import constant
from schemas.chat import Message
from schemas.trajectory import Action, Dialogue, Trajectory, Turn
from schemas.video import Frame, FramePlan, PixelBudget, Video

TAGS = ("think", "action")

LONG_S = 300.0
"""Seconds from beyond which a video counts as long."""

SHORT_LOOK = (8, PixelBudget(max_width=640, max_height=360))
LONG_LOOK = (12, PixelBudget(max_width=448, max_height=252))
"""Frames and their size, of the overview and of every choice of frames alike: of short videos, of long ones."""

PUBLISHED_REWARD_FRAMES = 8
"""What the published reward takes for the number of frames, of long videos, too."""

_CHOOSE = re.compile(r"choose frames between\s+([0-9]{1,9})\s+and\s+([0-9]{1,9})")
_TIME = re.compile(r"get frame number at time\s+([0-9]{1,4}):([0-5][0-9])")
_ANSWER = re.compile(r"output answer:(.*)", re.DOTALL)
_PLAIN_INTEGER = re.compile(r"(?<!:)\b(\d+)\b(?!:)")
_CLOCK = re.compile(r"\d+:\d+(:\d+)?")


class FrameThinker(ZoomProtocol):
    """Frame indices, a fixed number of frames, a question about the clock. See the module's text for the variant."""

    name = "framethinker"
    version = "1"
    uses_captions = False
    by_frames = True
    stop = ("</action>",)
    default_max_turns = 5
    typical_turns = 3

    def overview_plan(self, video: Video) -> FramePlan:
        """8 frames of at most 640x360 pixels from the first to the last; of a video over 300 s 12 of 448x252."""
        count, budget = _look(video)
        return FramePlan(budget=budget, indices=spread_indices(0, video.n_frames - 1, count))

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        return self.overview_plan(video)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        count, _ = _look(dialogue.video)
        opening = (
            message("system", (constant("framethinker_system", ("n_frames", count)),)),
            message("user", (question_text(dialogue.question), "\n", *_frames(dialogue.overview.frames))),
        )

        def observed(number: int, turn: Turn) -> Iterable[Part]:
            return _observation(turn)

        return conversation(self, opening, dialogue, observed, hint)

    def parse(self, text: str) -> Step | Fault:
        parts = split_text(text, ("action",), TAGS)
        if isinstance(parts, Fault):
            return parts
        action = _action(parts.content)
        return action if isinstance(action, Fault) else Step(parts.think, (action,))

    def write(self, step: Step) -> str:
        """`<think>…</think>`, a line break, and the action's sentence in `<action>…</action>`."""
        (action,) = step.actions
        return f"<think>{step.think}</think>\n<action>{_sentence(action)}</action>"

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """Frames: start < end - n, the end cut back to the video's. A time: not a second or more after the end."""
        video = setting.video
        if action.kind == "time":
            if _start_s(action) < video.duration_s + 1.0:
                return None
            return Fault("outside_video", f"The video ends at {_clock(video.duration_s)}.")
        if action.kind == "answer":
            return None
        start, end = _span(action)
        count, _ = _look(video)
        if start >= video.n_frames:
            return Fault("outside_video", f"The video has {video.n_frames} frames, so frame {start} is not in it.")
        if start >= min(end, video.n_frames) - count:
            least = f"END_FRAME, at most {video.n_frames}, must be more than {count} frames after START_FRAME."
            return Fault("span_too_short", least)
        return None

    def resolve(self, action: Action, setting: Setting) -> Action:
        """Frames get the seconds from the start of the first to the start of the last, and their frames a second."""
        if action.kind != "zoom":
            return action
        video = setting.video
        start, end = _span(action)
        start_s, end_s = start / video.fps, min(min(end, video.n_frames) / video.fps, video.duration_s)
        return action.model_copy(
            update={"start_s": start_s, "end_s": end_s, "fps": _look(video)[0] / (end_s - start_s)}
        )

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """8 frames, or 12 of a long video, from the one after the first to the one before the last."""
        start, end = _span(action)
        count, budget = _look(setting.video)
        last = min(end, setting.video.n_frames) - 1
        return FramePlan(budget=budget, indices=spread_indices(start + 1, last, count))


def reward(
    trajectory: Trajectory, time_query: float = 0.5, frames_chosen: float = 0.02, as_published: bool = False
) -> float:
    """correct + time_query * (correct, asked for a time, the question names one) + frames_chosen * (correct, chose
    frames): at most 1.52; 0 for an attempt whose thoughts and actions do not fit together (CCV).

    They fit where every turn is a thought and a valid action, the last one the answer; no frames are chosen twice, nor
    those from one frame further inside than before, nor all frames; start < end - n; the last two integers of a thought
    that chooses frames (those of a time like 1:05 left out) are the frames that it chooses; no time is asked for twice;
    a frame that was told lies within the frames chosen next, and some are chosen before the answer. From `v11` of
    `think_with_video_reward.py`, with its coefficients; the paper reports 0.2 and 0 as best.

    as_published: upstream takes n = 8 for long videos, too, where its environment has 12, and an answer for correct
    only where its first word is exactly the letter. By default n is the environment's.
    """
    if trajectory.final_answer is None or not trajectory.turns or not _fits(trajectory, as_published):
        return 0.0
    question = trajectory.question
    words = trajectory.final_answer.split()
    exact = bool(words) and words[0] == question.answer_letter != ""
    if not (exact if as_published else answers_match(trajectory.final_answer, question)):
        return 0.0
    told = any(o.kind == "time" and int(o.text) > 0 for turn in trajectory.turns for o in turn.observations)
    named = _CLOCK.search(question_text(question)) is not None
    chose = any(action.kind == "zoom" for turn in trajectory.turns for action in turn.actions)
    return 1.0 + time_query * (told and named) + frames_chosen * chose


def _fits(trajectory: Trajectory, as_published: bool) -> bool:
    """Whether thoughts, actions and observations are consistent (CCV)."""
    assert trajectory.video is not None
    count = PUBLISHED_REWARD_FRAMES if as_published else _look(trajectory.video)[0]
    if any(turn.error or not turn.actions for turn in trajectory.turns):
        return False
    if trajectory.turns[-1].actions[0].kind != "answer":
        return False
    chosen, asked, told = {(0, trajectory.video.n_frames - 1)}, set[float](), None
    for turn in trajectory.turns[:-1]:
        (action,) = turn.actions
        if action.kind == "time":
            if _start_s(action) in asked:
                return False
            asked.add(_start_s(action))
            told = int(turn.observations[0].text)
            continue
        start, end = _span(action)
        outside = told is not None and not start <= told <= end
        if outside or (start, end) in chosen or start >= end - count or _last_integers(turn.think) != (start, end):
            return False
        chosen |= {(start, end), (start + 1, end - 1)}
        told = None
    return told is None


def _last_integers(think: str) -> Sequence[int]:
    return tuple(int(number) for number in _PLAIN_INTEGER.findall(think)[-2:])


def _look(video: Video) -> tuple[int, PixelBudget]:
    return LONG_LOOK if video.duration_s > LONG_S else SHORT_LOOK


def _frames(frames: Iterable[Frame]) -> Iterable[Part]:
    """`frame N: <image>` a line, without a line break after the last."""
    for i, frame in enumerate(frames):
        yield f"{chr(10) if i else ''}frame {frame.index}: "
        yield frame


def _observation(turn: Turn) -> Iterable[Part]:
    """The user message after a turn. Upstream has none for an invalid action."""
    (observation,) = turn.observations
    if observation.kind == "frames":
        return _frames(observation.frames)
    text = plain(observation.text)
    if observation.kind == "time":
        return (f"Frame number at time {_clock(_start_s(turn.actions[0]))} is: {text}.",)
    return (f"Invalid action: {text}",)


def _action(content: str) -> Action | Fault:
    if match := _CHOOSE.fullmatch(content):
        return Action(call_id="", kind="zoom", start_frame=int(match[1]), end_frame=int(match[2]))
    if match := _TIME.fullmatch(content):
        return Action(call_id="", kind="time", start_s=60.0 * int(match[1]) + int(match[2]))
    if match := _ANSWER.fullmatch(content):
        answer = match[1].strip()
        return (
            Action(call_id="", kind="answer", answer=answer) if answer else Fault("no_answer", "The answer is empty.")
        )
    if content.startswith("choose frames"):
        return Fault("bad_frames", "Name two whole frame numbers, as in `choose frames between 120 and 360`.")
    if content.startswith("get frame number"):
        return Fault("bad_time", "Name minutes and seconds, as in `get frame number at time 62:30`.")
    return Fault("unknown_action", "Inside <action> there must be one of the possible actions, spelt as they are.")


def _sentence(action: Action) -> str:
    if action.kind == "answer":
        return f"output answer: {action.answer}"
    if action.kind == "time":
        return f"get frame number at time {_clock(_start_s(action))}"
    start, end = _span(action)
    return f"choose frames between {start} and {end}"


def _clock(seconds: float) -> str:
    """MM:SS, hours folded into the minutes; a second counts from half a millisecond before it on."""
    minutes, rest = divmod(int(seconds + 5e-4), 60)
    return f"{minutes:02d}:{rest:02d}"


def _start_s(action: Action) -> float:
    if action.start_s is None:
        raise ValueError(f"not a time of this protocol: {action}")
    return action.start_s


def _span(action: Action) -> tuple[int, int]:
    if action.start_frame is None or action.end_frame is None:
        raise ValueError(f"not a choice of frames of this protocol: {action}")
    return action.start_frame, action.end_frame
