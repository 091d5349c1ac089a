"""TimeSearch-R (arXiv 2511.05489, github.com/Time-Search/TimeSearch-R): search frames by words within some seconds.

Upstream has several prompts; ours are those that `scripts/train.sh` trains with and the README evaluates with: prompt
v4, the tool as `NousFnCallPrompt` of Qwen-Agent writes it into the system message, the response of `tool_response.py`
in role `tool`. Its preview is one video whose times its model knows by position; pictures have none, so each stands
after its time, as upstream's own option `append_time_instruction` does it.

An embedder chooses the frames of a zoom among candidates (`candidates`) where the job has one; they are spread evenly
where it has none, or the call has no query, as upstream does for an empty one. Upstream ends an episode without a word
where a text holds no call; here it gets the message that upstream has for a failed call, like every invalid turn.
"""

import json
import math
from collections.abc import Iterable

from prompts.judging import answers_match
from prompts.parsing import forbidden, parse_step
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, conversation, message, plain, question_text
from prompts.sampling import last_instant, spread
from prompts.template import constant, fill
from schemas.chat import Message
from schemas.timeline import Interval
from schemas.trajectory import Action, Dialogue, Trajectory, Turn
from schemas.video import Frame, FramePlan, PixelBudget, Video, uniform

ACTION_TAGS = ("tool_call", "answer")
TAGS = ("think", *ACTION_TAGS, "tool_response", "tools")

NAME = "seek_video_frames"
MAX_FRAMES = 8
"""Frames of one zoom at most, and where a call does not say (`MAX_NUM_KEY_FRAMES`)."""

TOKEN_PIXELS = 28 * 28
FPS = 2.0
OVERVIEW_FRAMES = 768
OVERVIEW_TOKENS = 10240
"""Visual tokens of the whole preview. As upstream's model takes two frames of a video into one token, each picture has
the pixels of twice its share, 12 to 256 tokens' worth."""

FRAME_TOKENS = (12, 256)
ZOOM = PixelBudget(max_pixels=256 * TOKEN_PIXELS)

CANDIDATES = 512
CANDIDATE = PixelBudget(max_side=384)
"""Frames that an embedder looks at for one zoom at most (upstream: 2,048 of the whole video), and their size."""

LONGEST_OPEN_ANSWER = 100
"""An open answer of so many characters is worth nothing (`llm_judge.py`)."""

TOOL = json.dumps(
    {
        "type": "function",
        "function": {
            "name": NAME,
            "description": (
                "Search and select video frames according to textual query and temporal window. Time is in seconds."
            ),
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string",
                        "description": (
                            "The query is used to describe the object, scene, or event of interest in the video "
                            "thoroughly and clearly. "
                        ),
                    },
                    "start_time": {"type": "number", "description": "Start time of the segment of interest. "},
                    "end_time": {"type": "number", "description": "End time of the segment of interest. "},
                    "num_frames": {
                        "type": "integer",
                        "description": (f"Number of frames to sample (maximum {MAX_FRAMES}). Default is {MAX_FRAMES}."),
                    },
                },
                "required": ["query"],
            },
        },
    }
)
"""The tool as JSON (`video_tools.py`)."""

_LIMIT = 1e6
_INVALID = (
    "\nThe previous response is invalid. If I want to use tools, I should output a json object with function name and "
    "arguments within <tool_call></tool_call> tags: \nIf I want to give the final answer, I should put the answer "
    "between <answer> and </answer>.\nLet me try again.\n"
)
_FOUND = (
    "Here are selected frames. They are located at {times}.\nIf the frames provided above are sufficient to answer the "
    "user's question, please put your final answer within <answer></answer>. Otherwise invoke the tool again with "
    "different parameters in JSON format.\n"
)


class TimeSearchR(ZoomProtocol):
    """Seconds and a query, observations in role `tool`. See the module's text for the variant."""

    name = "timesearch_r"
    version = "1"
    uses_captions = False
    stop = ("</tool_call>", "</answer>")
    default_max_turns = 8
    typical_turns = 3
    tools = (TOOL,)

    def overview_plan(self, video: Video) -> FramePlan:
        """2 frames a second from 0; 768 spread over the whole video where that gives more."""
        count = max(1, math.ceil(video.duration_s * FPS))
        times = tuple(i / FPS for i in range(count))
        if count > OVERVIEW_FRAMES:
            times = spread(0.0, last_instant(video.duration_s), OVERVIEW_FRAMES)
        least, most = FRAME_TOKENS
        tokens = min(most, max(least, 2 * OVERVIEW_TOKENS / len(times)))
        return FramePlan(budget=PixelBudget(max_pixels=int(tokens * TOKEN_PIXELS)), times_s=times)

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        return self.overview_plan(video)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        question = dialogue.question
        asked = {
            "question": question_text(question),
            "choices": bool(question.choices),
            "duration": f"{dialogue.video.duration_s:.1f}",
        }
        opening = (
            message("system", (constant("timesearch_r_system", ("tool", TOOL)),)),
            message("user", (*_timed(dialogue.overview.frames), fill("timesearch_r_user", asked))),
        )

        def observed(number: int, turn: Turn) -> Iterable[Part]:
            return _observation(turn)

        return conversation(self, opening, dialogue, observed, hint, role="tool")

    def parse(self, text: str) -> Step | Fault:
        return parse_step(text, ACTION_TAGS, TAGS, _call)

    def write(self, step: Step) -> str:
        """`<think>…</think>` and the call, with those arguments that it has, or the answer."""
        (action,) = step.actions
        thought = f"<think>{step.think}</think>"
        if action.kind == "answer":
            return f"{thought}<answer>{action.answer}</answer>"
        given = {"start_time": action.start_s, "end_time": action.end_s, "num_frames": action.num_frames}
        arguments = {"query": action.query} | {name: value for name, value in given.items() if value is not None}
        call = json.dumps({"name": NAME, "arguments": arguments}, ensure_ascii=False)
        return f"{thought}<tool_call>{call}</tool_call>"

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """A span must begin in the video and run forward; one that ends after the video is cut at its end."""
        if action.kind == "answer":
            return None
        start, end = _span(action, setting.video)
        duration = setting.video.duration_s
        if start >= duration:
            return Fault("outside_video", f"{start:.1f}s is outside the video, which has {duration:.1f}s.")
        if start >= end:
            return Fault("reversed_segment", f"The start time must be before the end time, got {start}s and {end}s.")
        return None

    def resolve(self, action: Action, setting: Setting) -> Action:
        """The action with its span, from 0 or to the end of the video where it does not say."""
        if action.kind == "answer":
            return action
        start, end = _span(action, setting.video)
        return action.model_copy(update={"start_s": start, "end_s": end})

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """1 to 8 of the candidates, spread evenly: what is shown without a search."""
        count = max(1, min(action.num_frames or MAX_FRAMES, MAX_FRAMES))
        return FramePlan(budget=ZOOM, times_s=uniform(_grid(action, setting.video), count))

    def typical_zoom(self, video: Video) -> FramePlan:
        return FramePlan(budget=ZOOM, indices=tuple(range(MAX_FRAMES)))

    def candidates(self, action: Action, setting: Setting) -> FramePlan | None:
        """2 frames a second within the span, at most 512."""
        return FramePlan(budget=CANDIDATE, times_s=uniform(_grid(action, setting.video), CANDIDATES))


def reward(
    trajectory: Trajectory, completeness: float, form: float = 1.0, accuracy: float = 0.5, complete: float = 0.5
) -> float:
    """form * format + accuracy * correct + complete * (correct and complete): 0 to 2.

    completeness: in 0..1, how well the searched frames alone carry the answer: 0 or 1 from answering again by them, or
    the verifier's probability (`p_gold_zooms_only`; take 0 where nothing was searched); more than 0.5 counts as 1.
    format is 1 where every turn but the last is a thought and a call, and the last an answer; a text that is neither
    counts against it (upstream ignores one without any tag). An open answer of 100 characters or more is not correct.
    From `time_r1/reward/v7.py`.
    """
    final = trajectory.final_answer
    too_long = final is not None and trajectory.question.kind == "open" and len(final) >= LONGEST_OPEN_ANSWER
    correct = final is not None and not too_long and answers_match(final, trajectory.question)
    verified = correct * (1.0 if completeness > 0.5 else completeness)
    return form * _kept_format(trajectory) + accuracy * correct + complete * verified


def _kept_format(trajectory: Trajectory) -> bool:
    kinds = [tuple(action.kind for action in turn.actions) for turn in trajectory.turns]
    return bool(kinds) and kinds[-1] == ("answer",) and all(kind == ("zoom",) for kind in kinds[:-1])


def _timed(frames: Iterable[Frame]) -> Iterable[Part]:
    for frame in frames:
        yield f"{frame.time_s:.1f}s"
        yield frame


def _observation(turn: Turn) -> Iterable[Part]:
    """The tool message after a turn; what was wrong stands before the published text for a failed call."""
    (observation,) = turn.observations
    if observation.kind == "error":
        return (plain(observation.text), _INVALID)
    times = ",".join(f"{frame.time_s:.1f}s" for frame in observation.frames)
    return (*_timed(observation.frames), _FOUND.format(times=times))


def _call(content: str) -> Action | Fault:
    try:
        call = json.loads(content)
        arguments = call["arguments"] if isinstance(call, dict) else None
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return Fault("bad_json", "The content of <tool_call> is not one JSON object.")
    except KeyError:
        return Fault("bad_call", 'The call must be {"name": <function-name>, "arguments": <args-json-object>}.')
    if not isinstance(arguments, dict) or set(call) != {"name", "arguments"}:
        return Fault("bad_call", 'The call must be {"name": <function-name>, "arguments": <args-json-object>}.')
    if call["name"] != NAME:
        return Fault("unknown_function", f"The only function is {NAME}.")
    return _zoom(arguments)


def _zoom(arguments: dict[str, object]) -> Action | Fault:
    if unknown := sorted(set(arguments) - {"query", "start_time", "end_time", "num_frames"}):
        return Fault("bad_arguments", f"{NAME} takes no argument {plain(unknown[0])[:40]!r}.")
    given = {name: value for name, value in arguments.items() if value is not None}
    query, count = given.get("query", ""), given.get("num_frames")
    if not isinstance(query, str):
        return Fault("bad_query", "The query must be a text.")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _LIMIT):
        return Fault("bad_number", f"num_frames must be a whole number from 1 to {MAX_FRAMES}.")
    times = [given[name] for name in ("start_time", "end_time") if name in given]
    if not all(_is_time(time) for time in times):
        return Fault("bad_number", f"start_time and end_time must be plain numbers from 0 to {_LIMIT:.0f}.")
    query = query.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
    if fault := forbidden(query, TAGS):
        return fault
    return Action(
        call_id="",
        kind="zoom",
        start_s=_seconds(given.get("start_time")),
        end_s=_seconds(given.get("end_time")),
        query=query or None,
        num_frames=count if isinstance(count, int) else None,
    )


def _is_time(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= _LIMIT


def _seconds(value: object) -> float | None:
    return float(value) + 0.0 if isinstance(value, int | float) else None


def _span(action: Action, video: Video) -> Interval:
    """Seconds asked for, cut at the end of the video, to a hundredth."""
    end = math.floor(video.duration_s * 100) / 100
    return action.start_s or 0.0, end if action.end_s is None else min(action.end_s, end)


def _grid(action: Action, video: Video) -> tuple[float, ...]:
    """All times of a span at 2 frames a second, those around its ends included, none after the video's last frame."""
    start, end = _span(action, video)
    last = last_instant(video.duration_s)
    return tuple(min(i / FPS, last) for i in range(math.floor(start * FPS), math.ceil(end * FPS) + 1))
