"""LongVideo-R1 (arXiv 2602.20913, github.com/qiujihao19/LongVideo-R1): walk down a tree of captions, ask about a leaf.

Where the published data generation and the published RL environment differ, this is the RL variant: its system prompt
and user turn (`longvideor1_cgbenchdata.py`) and its observations (`caption_videoqa.py`, which writes `((h,m))` where
the data generation writes `((h,m,))`). From the data generation come the sentence that asks for the letter only, the
ladder of hints and the 30 turns. Captions are shown without the `<caption>` tags that upstream keeps.
"""

import json
import re
from collections.abc import Iterable

from prompts.judging import answers_match
from prompts.parsing import forbidden, parse_step
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, conversation, message, plain, question_text
from prompts.sampling import spread_within
from prompts.template import constant, fill
from schemas.chat import Message
from schemas.question import Question
from schemas.timeline import LEVELS, Segments, length_s, merge, overlap_s
from schemas.trajectory import Action, Dialogue, Trajectory, Turn
from schemas.video import FramePlan, PixelBudget, Video

ACTION_TAGS = ("tool", "answer")
TAGS = ("think", *ACTION_TAGS, "information")

CLUE_GAP_S = 5.0
"""Clue intervals at most this many seconds apart are one (LongVideo-R1, hints and reward)."""

CAPTION_LOOK = (16, PixelBudget(max_side=448))
QA_LOOK = (16, PixelBudget(max_side=1024))
VERIFIER_LOOK = (32, PixelBudget(max_side=256))
"""Frames and their size: of a captioned segment for a verifier, of a `video_qa` (as published), of the whole video."""

_INVALID = "Your action is not valid, please check the format and try again."
_ID = "[0-9]{1,6}"
_IDS = rf"\s*(\()?\s*(?P<h>{_ID})\s*,\s*(?P<m>{_ID})\s*(?:,\s*(?P<l>{_ID})\s*)?,?\s*(?(1)\)\s*)"
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\((.*)\)", re.DOTALL)
_CAPTION_ARGUMENTS = re.compile(_IDS)
_QA_ARGUMENTS = re.compile(rf"(?=\s*\(){_IDS},\s*(?:query\s*=\s*)?(?P<query>.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class LongVideoR1(ZoomProtocol):
    """Segment ids, captions as text, questions about a leaf. See the module's text for the variant."""

    name = "longvideo_r1"
    version = "1"
    uses_captions = True
    has_hints = True
    stop = ("</tool>", "</answer>")
    default_max_turns = 30
    typical_turns = 6

    def overview_plan(self, video: Video) -> FramePlan | None:
        """No frames: the overview is the top-level captions."""
        return None

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        """32 frames over the whole video, longest side 256 pixels."""
        return _look(0.0, video.duration_s, video.fps, VERIFIER_LOOK)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        """Raises ValueError for a dialogue whose overview has no caption tree."""
        if dialogue.overview.width is None:
            raise ValueError("longvideo_r1 needs a caption tree in the overview")

        def observed(number: int, turn: Turn) -> Iterable[Part]:
            return _observation(turn)

        opening = (
            message("system", (constant("longvideo_r1_system", ("width", dialogue.overview.width)),)),
            message("user", (_first_turn(dialogue),)),
        )
        return conversation(self, opening, dialogue, observed, hint)

    def parse(self, text: str) -> Step | Fault:
        return parse_step(text, ACTION_TAGS, TAGS, _call)

    def write(self, step: Step) -> str:
        """`<think>…</think>`, a line break, and the call or the answer; a query is quoted as a JSON string."""
        (action,) = step.actions
        thought = f"<think>{step.think}</think>\n"
        if action.kind == "answer":
            return f"{thought}<answer>{action.answer}</answer>"
        if action.kind == "caption":
            return f"{thought}<tool>get_caption({_ids(action.segment)})</tool>"
        query = json.dumps(action.query, ensure_ascii=False)
        return f"{thought}<tool>video_qa({_ids(action.segment)}, {query})</tool>"

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """Every id must be in 1..width. Raises ValueError without a caption tree."""
        if action.kind == "answer":
            return None
        segments = _segments(setting)
        if segments.exists(action.segment):
            return None
        return Fault(
            "no_such_segment", f"Segment {_ids(action.segment)} does not exist: ids go from 1 to {segments.width}."
        )

    def resolve(self, action: Action, setting: Setting) -> Action:
        if action.kind == "answer":
            return action
        start, end = _segments(setting).span(action.segment)
        return action.model_copy(update={"start_s": start, "end_s": end})

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """16 frames of the segment: 448 pixels for a caption (a verifier looks at them), 1024 for a `video_qa`."""
        start, end = _segments(setting).span(action.segment)
        return _look(start, end, setting.video.fps, QA_LOOK if action.kind == "video_qa" else CAPTION_LOOK)

    def hint(self, question: Question, level: int, segments: Segments) -> str | None:
        """The ladder: 0, 1, 2 name the high, medium and low segments that show the clues; 3 says to use `video_qa`.

        A question without clue intervals has the last step only, as level 0.
        """
        steps = LEVELS if question.clue_intervals else 0
        if level < steps:
            covering = segments.covering(merge(question.clue_intervals, CLUE_GAP_S), level + 1)
            return fill("longvideo_r1_hint_segments", {"segments": [_ids(path) for path in covering]})
        return fill("longvideo_r1_hint_generic", {}) if level == steps else None


def reward(
    trajectory: Trajectory,
    answer: float = 1.0,
    grounding: float = 1.0,
    repeat: float = -0.2,
    as_published: bool = False,
) -> float:
    """answer * correct + grounding * F1 + repeat * (n - unique) / unique: at most 2.

    cov = |visits ∩ clues| / |clues|, prec = |visits ∩ clues| / |visits|, in seconds; F1 = 2 cov prec / (cov + prec).
    Visits are the n segments of the `get_caption` calls that were carried out; clues at most 5 s apart are merged.
    Without a visit, or without clues, only the answer counts. From `longvideor1_score.py`.

    as_published: upstream adds the intersection of every visit but divides by their union, so that a second visit to a
    clue gains; and it takes an answer for correct only where it is exactly the letter. By default each second counts
    once and answers are compared as everywhere in Zoomtrail.
    """
    visits = _visits(trajectory)
    score = answer * _correct(trajectory, as_published)
    clues = merge(trajectory.question.clue_intervals, CLUE_GAP_S)
    if not visits or not clues or trajectory.video is None or trajectory.overview is None:
        return score
    segments = Segments(trajectory.video.duration_s, trajectory.overview.width or 1)
    spans = [segments.span(path) for path in visits]
    shared = sum(overlap_s([span], clues) for span in spans) if as_published else overlap_s(spans, clues)
    clue_s, visit_s = length_s(clues), length_s(spans)
    coverage = shared / clue_s if clue_s > 0 else 0.0
    precision = shared / visit_s if visit_s > 0 else 0.0
    f1 = 2 * coverage * precision / (coverage + precision) if coverage + precision > 0 else 0.0
    unique = len(set(visits))
    return score + grounding * f1 + repeat * (len(visits) - unique) / unique


def _correct(trajectory: Trajectory, as_published: bool) -> bool:
    if trajectory.final_answer is None:
        return False
    if as_published:
        return trajectory.final_answer.strip() == trajectory.question.answer_letter
    return answers_match(trajectory.final_answer, trajectory.question)


def _visits(trajectory: Trajectory) -> list[tuple[int, ...]]:
    shown = {o.call_id for turn in trajectory.turns for o in turn.observations if o.kind == "caption"}
    return [a.segment for turn in trajectory.turns for a in turn.actions if a.kind == "caption" and a.call_id in shown]


def _first_turn(dialogue: Dialogue) -> str:
    captions = [
        {
            "number": line.path[0],
            "start": f"{line.start_s:.1f}",
            "end": f"{line.end_s:.1f}",
            "text": plain(line.caption),
        }
        for line in dialogue.overview.captions
    ]
    values = {
        "letters": _listed(dialogue.question.letters),
        "question": question_text(dialogue.question),
        "duration": f"{dialogue.video.duration_s:.1f}",
        "captions": captions,
    }
    return fill("longvideo_r1_user", values)


def _listed(letters: str) -> str:
    """`A, B, C, or D`; `A or B`; "" for none."""
    if len(letters) < 3:
        return " or ".join(letters)
    return f"{', '.join(letters[:-1])}, or {letters[-1]}"


def _observation(turn: Turn) -> Iterable[Part]:
    (observation,) = turn.observations
    text = plain(observation.text)
    if observation.kind == "error":
        return (f"{_INVALID} {text}" if turn.error else text,)
    if observation.kind == "qa":
        return (f"<information>{text}</information>",)
    (action,) = turn.actions
    level = "Low" if len(action.segment) == 3 else "Medium"
    span = f"From {observation.start_s or 0.0:.1f} to {observation.end_s or 0.0:.1f}"
    return (f"{level}-level Caption from tool get_caption({_ids(action.segment)}). {span}:{text}",)


def _ids(path: tuple[int, ...]) -> str:
    return f"({','.join(map(str, path))})"


def _segments(setting: Setting) -> Segments:
    if setting.segments is None:
        raise ValueError("longvideo_r1 needs a caption tree")
    return setting.segments


def _look(start_s: float, end_s: float, fps: float, look: tuple[int, PixelBudget]) -> FramePlan:
    count, budget = look
    return FramePlan(budget=budget, times_s=spread_within(start_s, end_s, count, fps))


def _call(content: str) -> Action | Fault:
    call = _CALL.fullmatch(content)
    if call is None:
        return Fault("bad_call", "Inside <tool> there must be one call, as in get_caption((1,2)).")
    name, arguments = call.groups()
    if name == "get_caption":
        match = _CAPTION_ARGUMENTS.fullmatch(arguments)
        if match is None:
            return Fault("bad_arguments", "get_caption takes two or three whole ids, as in get_caption((1,2)).")
        return Action(call_id="", kind="caption", segment=_path(match))
    if name == "video_qa":
        return _video_qa(arguments)
    return Fault("unknown_function", "The tools are get_caption and video_qa.")


def _video_qa(arguments: str) -> Action | Fault:
    match = _QA_ARGUMENTS.fullmatch(arguments)
    if match is None or match["l"] is None:
        return Fault("bad_arguments", 'video_qa takes three whole ids and a query, as in video_qa((1,2,3), "query").')
    query = _query(match["query"].strip())
    if not query:
        return Fault("bad_query", "The query of video_qa is empty or its quotes do not close.")
    if "get_caption(" in query or "video_qa(" in query:
        return Fault("two_calls", "Only one tool may be called in a turn.")
    if fault := forbidden(query, TAGS):
        return fault
    return Action(call_id="", kind="video_qa", segment=_path(match), query=query)


def _path(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(i) for i in match.group("h", "m", "l") if i is not None)


def _query(text: str) -> str:
    """The query without the quotes it may have, the escapes of JSON and Python read; "" where it is unusable."""
    if text[:1] in ('"', "'"):
        if len(text) < 2 or text[-1] != text[0]:
            return ""
        text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text[1:-1])
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
