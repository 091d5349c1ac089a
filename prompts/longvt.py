"""LongVT (arXiv 2511.20785, github.com/EvolvingLMMs-Lab/LongVT): crop a window of seconds by a native tool call.

Data generation, RL and single inference differ; this is the RL variant throughout, so that SFT rows show exactly what
the student meets in RL: the tool's schema as the paper's Figure 5 prints it (no argument is required), the suffix with
`(if tools needed)` and its double spaces, the sentence after a crop, and a window that ends after the video is refused,
where single inference cuts it back. The system message holds the tool as the Qwen (Hermes) chat template writes it
where `tools` is passed, so that any server will do. A crop is written as in the paper's traces, on one line and without
spaces; several in a turn stand on a line each.

Where ours differs: the path that the model copies is an alias, and no other file can be opened; the caps of 5 calls are
kept by an error observation instead of the end of the episode, and leave a sixth turn for the answer; a call that is
not JSON gets the same. Frames carry no times, as published: up to 512 s the overview is a frame a second, beyond that
no teacher can know the scale of time but from the duration that a refusal tells.
"""

import json
from collections.abc import Iterable

from prompts.judging import answers_match
from prompts.parsing import Parts, forbidden, split_calls
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, conversation, message, plain, question_text
from prompts.sampling import last_instant, spread
from prompts.template import constant
from schemas.chat import Message
from schemas.timeline import Interval, length_s, merge, overlap_s
from schemas.trajectory import Action, Dialogue, Observation, Trajectory, Turn
from schemas.video import FramePlan, PixelBudget, Video

ACTION_TAGS = ("tool_call", "answer")
TAGS = ("think", *ACTION_TAGS, "tool_response")

MAX_CALLS = 5
"""Calls in a turn, and in all."""

BUDGET = PixelBudget(min_pixels=3136, max_pixels=50176)
OVERVIEW_FRAMES = 512
CROP_FRAMES = 128
"""Frames at most: of the overview (the SFT's; evaluation has 768), of a crop. Both are taken one a second."""

VERIFIER_FRAMES = 32
"""Frames of the overview that a verifier sees: 512 would be 32 thousand tokens, again for every probe."""

LONGEST_ANSWER = 1000
"""Characters from which on an answer earns nothing: it was written for a judge."""

_LIMIT = 1e6
"""Seconds beyond this are not meant seriously; it keeps every number finite."""

_ARGUMENTS = {
    "video_path": ("string", "Path to the video file"),
    "start_time": ("number", "Start time in seconds"),
    "end_time": ("number", "End time in seconds, must be > start_time"),
}
_TOOL = {
    "type": "function",
    "function": {
        "name": "crop_video",
        "description": "Crop a video to a specified duration.",
        "parameters": {
            "type": "object",
            "properties": {n: {"type": t, "description": d, "enum": None} for n, (t, d) in _ARGUMENTS.items()},
            "required": [],
        },
        "strict": False,
    },
}
"""As the paper's Figure 5 prints it, in that order."""

_SUFFIX = (
    "Think first, call **crop_video** if needed, then answer. Format strictly as:  <think>...</think>  "
    "<tool_call>...</tool_call> (if tools needed)  <answer>...</answer>. The Video path for this video is: "
)
_DONE = "The tool executed successfully. Here are the processed result"
_FAILED = "Tool execution failed: "


class LongVT(ZoomProtocol):
    """Seconds, a frame each, several crops in a turn. See the module's text for the variant."""

    name = "longvt"
    version = "1"
    uses_captions = False
    stop = ("</answer>", "<tool_response>")
    default_max_turns = 6
    typical_turns = 3
    tools = (json.dumps(_TOOL),)

    def overview_plan(self, video: Video) -> FramePlan:
        """A frame a second over the whole video, an even number of them, at most 512."""
        return _look(0.0, video.duration_s, video, OVERVIEW_FRAMES)

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        """32 of the overview's frames."""
        return self.overview_plan(video).limited(VERIFIER_FRAMES, None)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        asked = f"{question_text(dialogue.question)} {_SUFFIX}{alias(dialogue.video.video_id)}"
        opening = (
            message("system", (constant("longvt_system", ("tools", self.tools)),)),
            message("user", (*dialogue.overview.frames, asked)),
        )

        def observed(number: int, turn: Turn) -> Iterable[Part]:
            for i, observation in enumerate(turn.observations):
                yield from ("\n" if i else "", *_response(observation))

        return conversation(self, opening, dialogue, observed, hint)

    def parse(self, text: str) -> Step | Fault:
        found = split_calls(text, "tool_call", ACTION_TAGS, TAGS)
        if isinstance(found, Fault):
            return found
        actions = []
        for parts in found:
            action = _answer(parts) if parts.tag == "answer" else _crop(parts.content)
            if isinstance(action, Fault):
                return action
            actions.append(action)
        return Step(found[0].think, tuple(actions))

    def write(self, step: Step) -> str:
        """`<think>…</think>` and the answer, or the calls, each on a line of its own."""
        thought = f"<think>{step.think}</think>"
        if step.actions[0].kind == "answer":
            return f"{thought}<answer>{step.actions[0].answer}</answer>"
        return thought + "\n".join(f"<tool_call>{_json(action)}</tool_call>" for action in step.actions)

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """One of the first five calls, on this video, on a window inside it; upstream's own sentences."""
        if action.kind == "answer":
            return None
        path, start, end = _arguments(action)
        duration = setting.video.duration_s
        if setting.calls_before >= MAX_CALLS:
            return Fault("too_many_calls", f"crop_video can be called {MAX_CALLS} times only: answer now.")
        if start < 0:
            return Fault("outside_video", f"start_time must be non-negative, got {start}")
        if end <= start:
            return Fault("reversed_window", f"end_time ({end}) must be greater than start_time ({start})")
        if path != alias(setting.video.video_id):
            return Fault("unknown_video", f"Video file not found: {path}")
        for name, time, outside in (("start_time", start, start >= duration), ("end_time", end, end > _told(duration))):
            if outside:
                return Fault("outside_video", f"{name} ({time}s) exceeds video duration ({duration:.2f}s)")
        return None

    def resolve(self, action: Action, setting: Setting) -> Action:
        """A crop names its seconds; it gets the frames a second that it shows."""
        if action.kind == "answer":
            return action
        _, start, end = _arguments(action)
        return action.model_copy(update={"fps": _count(end - start, CROP_FRAMES) / (end - start)})

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """A frame a second from start to end, both included: an even number of them, at most 128."""
        _, start, end = _arguments(action)
        return _look(start, end, setting.video, CROP_FRAMES)


def reward(
    trajectory: Trajectory,
    accuracy: float = 1.0,
    well_formed: float = 1.0,
    time: float = 1.0,
    judged: float | None = None,
    by_recall: bool = False,
    as_published: bool = False,
) -> float:
    """accuracy * correct + well_formed * format + time * IoU of the last crop with the clues: 0 to 3.

    IoU and recall (`by_recall`) are of seconds: |crop ∩ clues| / |crop ∪ clues|, and / |clues|; 0 without a crop that
    was carried out or without clues. format is 1 where every turn but the last is a thought and calls, and the last an
    answer. An answer of 1000 characters or more is wrong and out of form. `compute_score` of
    `custom_rewards/vl_agent.py`; its default, without a reward for time, is 0.8, 0.2 and 0.

    judged: a judge's score of the answer, 0, 0.5 or 1 upstream; by default answers are compared as everywhere in
    Zoomtrail. as_published: format allows one call in a turn only, though the environment carries out five.
    """
    answer = trajectory.final_answer or ""
    too_long = len(answer) >= LONGEST_ANSWER
    score = float(answers_match(answer, trajectory.question)) if judged is None else judged
    score = score if answer and not too_long else 0.0
    formed = _kept_format(trajectory, 1 if as_published else MAX_CALLS) and not too_long
    return accuracy * score + well_formed * formed + time * _overlap(trajectory, by_recall)


def _kept_format(trajectory: Trajectory, most: int) -> bool:
    kinds = [[action.kind for action in turn.actions] for turn in trajectory.turns]
    calls = all(1 <= len(kind) <= most and set(kind) == {"zoom"} for kind in kinds[:-1])
    return bool(kinds) and kinds[-1] == ["answer"] and calls


def _overlap(trajectory: Trajectory, by_recall: bool) -> float:
    shown = {o.call_id for turn in trajectory.turns for o in turn.observations if o.kind == "frames"}
    crops = [a for turn in trajectory.turns for a in turn.actions if a.kind == "zoom" and a.call_id in shown]
    clues = merge(trajectory.question.clue_intervals)
    if not crops or not clues:
        return 0.0
    _, start, end = _arguments(crops[-1])
    crop: Interval = (start, end)
    whole = length_s(clues) if by_recall else length_s([crop, *clues])
    if whole <= 0.0:
        return 0.0
    return overlap_s([crop], clues) / whole


def alias(video_id: str) -> str:
    """The path of a video as the model sees and copies it: the last part of the source's own reference."""
    return plain(video_id.replace("\\", "/").rstrip("/").rpartition("/")[2])


def _told(duration_s: float) -> float:
    """The latest end of a window: the duration as a refusal tells it, to a hundredth of a second."""
    return max(duration_s, float(f"{duration_s:.2f}"))


def _count(length: float, most: int) -> int:
    """As qwen_vl_utils' `smart_nframes`: one a second, cut to an even number, at least 2.

    Half a millisecond is forgiven: a container's time base may round a whole number of seconds down.
    """
    return max(2, int(min(length + 5e-4, most)) // 2 * 2)


def n_frames(length_s: float, fps: float, most: int) -> int:
    """How many frames a look of so many seconds shows, at a frame a second: no more than there are."""
    return min(_count(length_s, most), max(1, int(length_s * fps + 0.5)))


def _look(start_s: float, end_s: float, video: Video, most: int) -> FramePlan:
    """None after the last frame."""
    count = n_frames(end_s - start_s, video.fps, most)
    times = spread(start_s, end_s, count)
    return FramePlan(budget=BUDGET, times_s=tuple(min(time, last_instant(video.duration_s)) for time in times))


def _response(observation: Observation) -> Iterable[Part]:
    """The answer to one call, as the RL environment writes it, but for its `Error executing tool crop_video: `."""
    yield "<tool_response>\n"
    yield from observation.frames
    yield f"{_DONE if observation.kind == 'frames' else _FAILED + plain(observation.text)}</tool_response>"


def _answer(parts: Parts) -> Action | Fault:
    if not parts.content:
        return Fault("no_answer", "The answer inside <answer> and </answer> is empty.")
    return Action(call_id="", kind="answer", answer=parts.content)


def _crop(content: str) -> Action | Fault:
    try:
        call = json.loads(content)
    except (ValueError, RecursionError):
        return Fault("bad_json", "The content of <tool_call> is not one JSON object.")
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return Fault("bad_call", 'The call must be {"name": "crop_video", "arguments": {...}}.')
    if call["name"] != "crop_video":
        return Fault("unknown_function", "The only tool is crop_video.")
    arguments = call["arguments"]
    if not isinstance(arguments, dict) or arguments.keys() != _ARGUMENTS.keys():
        return Fault("bad_arguments", "crop_video takes video_path, start_time and end_time.")
    path, start, end = (arguments[name] for name in _ARGUMENTS)
    if not isinstance(path, str) or not path.strip():
        return Fault("bad_path", "video_path must be the path of the video.")
    if not (_is_number(start) and _is_number(end)):
        return Fault("bad_number", f"start_time and end_time must be plain numbers of seconds below {_LIMIT:.0f}.")
    path = path.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    named = Action(call_id="", kind="zoom", start_s=float(start) + 0.0, end_s=float(end) + 0.0, path=path)
    return forbidden(path, TAGS) or named


def _is_number(value: object) -> bool:
    """Whether it is a finite number within the limit (a boolean is no number)."""
    return not isinstance(value, bool) and isinstance(value, int | float) and -_LIMIT <= value <= _LIMIT


def _json(action: Action) -> str:
    path, start, end = _arguments(action)
    arguments = f'"video_path":{json.dumps(path, ensure_ascii=False)},"start_time":{start!r},"end_time":{end!r}'
    return f'{{"name":"crop_video","arguments":{{{arguments}}}}}'


def _arguments(action: Action) -> tuple[str, float, float]:
    if action.path is None or action.start_s is None or action.end_s is None:
        raise ValueError(f"not a crop of this protocol: {action}")
    return action.path, action.start_s, action.end_s
