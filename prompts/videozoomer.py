"""VideoZoomer (arXiv 2512.22315, github.com/zsgvivo/VideoZoomer): zoom into seconds at a chosen frame rate.

Where the published data generation and the published RL environment differ, this is the RL variant throughout: its
system prompt (`scripts/train_video.sh`), its `<tool_response>` wrapper and closing sentence (`vllm_async_engine.py`),
its overview of 0.5 frames a second and at most 64 frames, and an answer without `\\boxed{}`. SFT rows then show
exactly what the student meets in RL.
"""

import json
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

from prompts.judging import answers_match
from prompts.parsing import parse_step
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, conversation, message, plain, question_text
from prompts.sampling import last_instant, spread
from prompts.template import constant
from schemas.chat import Message
from schemas.trajectory import Action, Dialogue, Trajectory, Turn
from schemas.video import Frame, FramePlan, PixelBudget, Video

ACTION_TAGS = ("video_zoom", "answer")
TAGS = ("think", *ACTION_TAGS, "tool_response")

MAX_FRAMES = 16
"""Frames that one zoom may show."""

BUDGET = PixelBudget(min_pixels=25088, max_pixels=100352)
OVERVIEW_FPS = 0.5
OVERVIEW_FRAMES = 64

END_SLACK_S = 0.5
"""Seconds by which a zoom may end after the video: models round durations up. No frame after the last one is shown."""

_LIMIT = 1e6
"""Neither seconds nor frame rates beyond this are meant seriously; it keeps every product finite."""

_CONTINUE = (
    "continue your reasoning process inside <think> and </think> and then write your final answer inside <answer> and "
    "</answer>"
)
_ANALYZE = (
    "Please analyze the error information obtained from the function tool and adjust your response. "
    "Countinue your reasoning process inside <think> and </think>."
)
_LAST_ROUND = "Do not call <video_zoom> in this round, give a final answer based on information above."


class VideoZoomer(ZoomProtocol):
    """Seconds, frames a second, several turns. See the module's text for the variant."""

    name = "videozoomer"
    version = "1"
    uses_captions = False
    stop = ("</video_zoom>", "</answer>")
    default_max_turns = 5
    typical_turns = 3

    def overview_plan(self, video: Video) -> FramePlan:
        """A frame every two seconds from 0; 64 frames spread over the whole video where that gives more than 64."""
        count = max(1, math.ceil(video.duration_s * OVERVIEW_FPS))
        if count > OVERVIEW_FRAMES:
            return FramePlan(budget=BUDGET, times_s=spread(0.0, last_instant(video.duration_s), OVERVIEW_FRAMES))
        return FramePlan(budget=BUDGET, times_s=tuple(i / OVERVIEW_FPS for i in range(count)))

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        return self.overview_plan(video)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        opening = (
            message("system", (constant("videozoomer_system", ("max_frames", MAX_FRAMES)),)),
            message("user", (*_frames(dialogue.overview.frames), "\n", question_text(dialogue.question))),
        )

        def observed(number: int, turn: Turn) -> Iterable[Part]:
            yield from _observation(turn)
            if number == dialogue.max_turns - 2:
                yield _LAST_ROUND

        return conversation(self, opening, dialogue, observed, hint)

    def parse(self, text: str) -> Step | Fault:
        return parse_step(text, ACTION_TAGS, TAGS, _zoom)

    def write(self, step: Step) -> str:
        """`<think>…</think>` and the call or the answer, as the system prompt spells them."""
        (action,) = step.actions
        thought = f"<think>{step.think}</think>"
        if action.kind == "answer":
            return f"{thought}<answer>{action.answer}</answer>"
        segment = f"[{action.start_s!r}, {action.end_s!r}]"
        return f'{thought}<video_zoom> {{"segment": {segment}, "fps": {_short(action.fps or 0.0)}}} </video_zoom>'

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """A zoom must lie in the video, run forward and hold 1 to 16 frames; an answer is always in order."""
        if action.kind == "answer":
            return None
        start, end, fps = _span(action)
        duration = setting.video.duration_s
        if start >= end:
            return Fault("reversed_segment", f"The segment must start before it ends, got [{start}, {end}].")
        if start >= duration or end > duration + END_SLACK_S:
            return Fault(
                "outside_video", f"The segment [{start}, {end}] is outside the video, which has {duration:.2f} s."
            )
        count = _frame_count(action)
        if count > MAX_FRAMES:
            excess = f"Number of frames extracted ({count}) exceeds the maximum allowed ({MAX_FRAMES})."
            return Fault("too_many_frames", excess)
        if count < 1:
            return Fault("no_frames", f"The segment [{start}, {end}] at {_short(fps)} fps holds no frame: raise one.")
        return None

    def resolve(self, action: Action, setting: Setting) -> Action:
        """The action itself: it names its seconds."""
        return action

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """int(fps * length) frames from start to end, both included, none after the video's last frame."""
        start, end, _ = _span(action)
        last = last_instant(setting.video.duration_s)
        times = spread(start, end, _frame_count(action))
        return FramePlan(budget=BUDGET, times_s=tuple(min(time, last) for time in times))


def reward(trajectory: Trajectory, accuracy: float = 0.9, well_formed: float = 0.1, tool_bonus: float = 0.5) -> float:
    """accuracy * correct + well_formed * format + tool_bonus * (correct and zoomed): 0 to 1.5.

    format is 1 where every turn but the last is a thought and one zoom of at most 16 frames, and the last an answer
    (`toolcall_format.py`). The coefficients are those of the paper's Table 5; the released `train_video.sh` leaves the
    bonus out: pass `tool_bonus=0`. Here a zoom counts only where it was carried out, there also where it was refused.
    """
    correct = trajectory.final_answer is not None and answers_match(trajectory.final_answer, trajectory.question)
    zoomed = any(o.kind == "frames" for turn in trajectory.turns for o in turn.observations)
    score = accuracy * correct + well_formed * _kept_format(trajectory)
    return score + tool_bonus * (correct and zoomed)


def _kept_format(trajectory: Trajectory) -> bool:
    kinds = [tuple(action.kind for action in turn.actions) for turn in trajectory.turns]
    zooms = [action for turn in trajectory.turns for action in turn.actions if action.kind == "zoom"]
    shaped = bool(kinds) and kinds[-1] == ("answer",) and all(kind == ("zoom",) for kind in kinds[:-1])
    return shaped and all(_frame_count(zoom) <= MAX_FRAMES for zoom in zooms)


def _frames(frames: Sequence[Frame]) -> Iterable[Part]:
    """Before each frame its number in the list and its second."""
    return chain.from_iterable(zip(_marks(tuple([frame.time_s for frame in frames])), frames, strict=True))


@lru_cache(maxsize=64)
def _marks(times_s: tuple[float, ...]) -> list[str]:
    """Held for the overviews, which all attempts on a video share."""
    return [f"<frame{i}_time{time_s:.2f}s>" for i, time_s in enumerate(times_s)]


def _observation(turn: Turn) -> Iterable[Part]:
    """The user message after a turn, as the RL environment writes it.

    Upstream closes the error of a refused zoom by a second `<tool_response>`; here it is closed by `</tool_response>`.
    The spelling of `Countinue` is the environment's own.
    """
    (observation,) = turn.observations
    if observation.kind == "frames":
        yield "<tool_response>\nThe frames of the video clip are shown below:\n"
        yield from _frames(observation.frames)
        yield f"\n</tool_response>\n{_CONTINUE}"
        return
    text = plain(observation.text)
    if turn.actions:
        yield f"<tool_response>\nError: {text}\n</tool_response>\n"
    else:
        cause = f"ERROR occurs during the function tool call. Error Information: {text.removesuffix('.')}."
        yield f"<tool_response>\n{cause}\n</tool_response>\n"
    yield _ANALYZE


def _zoom(content: str) -> Action | Fault:
    try:
        call = json.loads(content)
    except (ValueError, RecursionError):
        return Fault("bad_json", "The content of <video_zoom> is not one JSON object.")
    if not isinstance(call, dict) or set(call) != {"segment", "fps"}:
        return Fault("bad_call", 'The call must be {"segment": [start_sec, end_sec], "fps": n}.')
    segment = call["segment"]
    if not isinstance(segment, list) or len(segment) != 2:
        return Fault("bad_call", '"segment" must be [start_sec, end_sec].')
    start, end, fps = (_number(value) for value in (*segment, call["fps"]))
    if start is None or end is None or fps is None:
        return Fault("bad_number", f"Seconds and fps must be plain numbers from 0 to {_LIMIT:.0f}.")
    if fps == 0:
        return Fault("bad_number", '"fps" must be greater than 0.')
    return Action(call_id="", kind="zoom", start_s=start, end_s=end, fps=fps)


def _number(value: object) -> float | None:
    """A finite number from 0 to the limit; None for anything else (a boolean is no number)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LIMIT:
        return None
    return float(value) + 0.0


def _span(action: Action) -> tuple[float, float, float]:
    if action.start_s is None or action.end_s is None or action.fps is None:
        raise ValueError(f"not a zoom of this protocol: {action}")
    return action.start_s, action.end_s, action.fps


def _frame_count(action: Action) -> int:
    """int(fps * (end - start)), as upstream counts."""
    start, end, fps = _span(action)
    return int(fps * (end - start))


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
