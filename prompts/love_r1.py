"""LOVE-R1 (arXiv 2509.24786, github.com/HumanMLLM/LOVE-R1): one zoom a step, each step from a prompt made anew.

No step sees an earlier text. The prompt holds the whole video, fast and small, then each clip that was zoomed, slow and
large, in order of time, then the question; every frame has its second burnt in, and no other sign of its time.

Data generation, SFT, RL and inference disagree upstream; ours is the RL trainer (`open_r1/trainer/grpo_trainer.py`,
`open_r1/grpo.py`) in the prompt, in the first box being the one that counts, in which intervals are valid, and in
showing exactly the interval that was asked for. Inference (`model_sample_frame.py`) widens it by 5 s on each side: what
the thought names, what is called and what is seen would then be three things. From SFT (`sft_video.py`) come the frames
of a clip: 32, 24 or 16 with one, two or more clips (RL: always 16); from inference, the two zooms.

Upstream's prompt names neither opening sentence: its pipeline puts them before the teacher's texts. So a text may come
without one, and is told by its box, as in inference; the canonical text has it. Ours are the two sentences that tell of
an invalid step and of the last one (upstream forces the last answer by its opening sentence, which no chat server
does). Upstream hands over videos; here their frames are pictures.
"""

import re
from collections.abc import Iterable
from itertools import chain

from prompts.judging import answers_match
from prompts.parsing import forbidden
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.rendering import Part, choice_lines, message, plain, said
from prompts.sampling import last_instant, spread
from prompts.template import constant, fill
from schemas.chat import Message
from schemas.question import Question
from schemas.timeline import Interval, length_s, overlap_s
from schemas.trajectory import Action, Dialogue, Observation, Trajectory, Turn
from schemas.video import FramePlan, PixelBudget, Video, uniform

ZOOMS = "I need to zoom in on the video."
ANSWERS = "I get the answer."
"""How a text begins, and a blank line after it."""

FPS = 2.0
FAST_FRAMES = 768
FAST_PIXELS = 32 * 28 * 28
SHORT_S = 60.0
"""A video shorter than this is shown twice as large when fast (SFT: 120 s)."""

SLOW = PixelBudget(max_pixels=256 * 28 * 28)
SLOW_FRAMES = (32, 24, 16)
"""Frames a clip with one, two, and three or more clips in the prompt."""

LONGEST_S = 60.0
MOST_OVERLAP = 0.7
"""Longest zoom in seconds (and never more than half of the video); temporal IoU with an earlier one beyond which a
zoom is refused."""

END_SLACK_S = 1.0

_BOX = "\\boxed{"
_INTERVAL = re.compile(r"\[\s*(\d{1,7})\s*,\s*(\d{1,7})\s*\]")
INSTRUCTION = (
    "\nBased on the video and the user question, determine whether the visual content is sufficient to answer the "
    "question. If you have enough information, reason using the visual content and provide your final answer within "
    "\\boxed{}. Otherwise, you may zoom in a specific interval of the video related to the question for more details "
    "based on your reasoning. Also provide the time span of the interval in seconds within "
    "\\boxed{[start_time, end_time]}."
)
"""What stands after every question; upstream's loaders put it there themselves."""

_INVALID = "\nYour last reply was not valid: "
LAST_STEP = "\nYou cannot zoom in again: provide your final answer within \\boxed{}."


class LoveR1(ZoomProtocol):
    """Whole seconds, stateless steps, frames with their second burnt in. See the module's text for the variant."""

    name = "love_r1"
    version = "1"
    uses_captions = False
    default_max_turns = 3
    typical_turns = 2
    stateless = True

    def overview_plan(self, video: Video) -> FramePlan:
        """The fast video: 2 frames a second from the first to the last, at most 768."""
        count = max(1, min(int(video.duration_s * FPS), FAST_FRAMES))
        budget = PixelBudget(max_pixels=FAST_PIXELS * (2 if video.duration_s < SHORT_S else 1))
        return FramePlan(budget=budget, times_s=spread(0.0, last_instant(video.duration_s), count), stamp=True)

    def verifier_overview_plan(self, video: Video) -> FramePlan:
        return self.overview_plan(video)

    def messages(self, dialogue: Dialogue, hint: str = "") -> tuple[Message, ...]:
        """System and one user message; the final answer after them where the dialogue has one."""
        turns = dialogue.turns
        answer = next((turn for turn in turns[-1:] if turn.actions and turn.actions[0].kind == "answer"), None)
        before = turns[:-1] if answer else turns
        shown = [*_videos(dialogue, before), _task(dialogue, before), f"\n\n{hint}" if hint else ""]
        opening = (message("system", (constant("love_r1_system"),)), message("user", shown))
        return (*opening, said(self, answer)) if answer else opening

    def parse(self, text: str) -> Step | Fault:
        """The first box counts, and what follows it is cut; the opening sentence decides what it is, else its look."""
        rest = text.strip()
        opening = next((sentence for sentence in (ZOOMS, ANSWERS) if rest.startswith(sentence)), "")
        think, boxed, tail = rest.removeprefix(opening).partition(_BOX)
        think = think.strip()
        if not boxed:
            return Fault("no_box", "There is no \\boxed{}: give your answer or the interval to zoom in within it.")
        content = _inside(tail)
        if content is None:
            return Fault("not_closed", "The \\boxed{ is not closed.")
        if not think:
            return Fault("no_reasoning", "Reason before \\boxed{}.")
        if fault := forbidden(think, ()) or forbidden(content, ()):
            return fault
        zooms = opening == ZOOMS or (not opening and content.startswith("["))
        action = _zoom(content) if zooms else _answer(content)
        return action if isinstance(action, Fault) else Step(think, (action,))

    def write(self, step: Step) -> str:
        """The opening sentence, a blank line, the reasoning, and the box."""
        (action,) = step.actions
        if action.kind == "answer":
            return f"{ANSWERS}\n\n{step.think} {_BOX}{action.answer}}}"
        start, end = _span(action)
        return f"{ZOOMS}\n\n{step.think} {_BOX}[{start:.0f}, {end:.0f}]}}"

    def check(self, action: Action, setting: Setting) -> Fault | None:
        """A zoom lies in the video, lasts 1 s to 60 s and at most half of the video, and is no repetition."""
        if action.kind == "answer":
            return None
        start, end = _span(action)
        duration = setting.video.duration_s
        shown, longest = f"[{start:.0f}, {end:.0f}]", min(duration / 2, LONGEST_S)
        if start >= duration or end > duration + END_SLACK_S:
            return Fault("outside_video", f"The interval {shown} is outside the video, which has {duration:.2f} s.")
        if end - start < 1:
            return Fault("too_short", f"The interval {shown} is shorter than one second.")
        if end - start > longest:
            return Fault("too_long", f"The interval {shown} is longer than {longest:.1f} s.")
        if any(_iou((start, end), seen) > MOST_OVERLAP for seen in setting.earlier):
            return Fault("seen_before", f"The interval {shown} has been zoomed in already.")
        return None

    def resolve(self, action: Action, setting: Setting) -> Action:
        """The action itself: it names its seconds."""
        return action

    def zoom_plan(self, action: Action, setting: Setting) -> FramePlan:
        """The slow clip: 2 frames a second from start to end, both included, at most 32; later states show fewer."""
        start, end = _span(action)
        count = min(int((end - start) * FPS), SLOW_FRAMES[0])
        last = last_instant(setting.video.duration_s)
        times = tuple(min(time, last) for time in spread(start, min(end, last), count))
        return FramePlan(budget=SLOW, times_s=times, stamp=True)

    def typical_zoom(self, video: Video) -> FramePlan:
        return FramePlan(budget=SLOW, indices=tuple(range(SLOW_FRAMES[0])))


def reward(trajectory: Trajectory, step: int) -> float | None:
    """accuracy + format of one step (its number from 0), each 0 or 1; None for a step that is left out of training.

    format: the step has a box, and the interval of a zoom is valid; without it, accuracy is 0, too. accuracy of an
    answer: it is right. Of a zoom: it overlaps a clue interval; where the question has none, the answer that follows it
    at once is right, and a zoom followed by another zoom is left out. From `_generate_and_score_completions` in
    `grpo_trainer.py`, which counts a text without its opening sentence as 0 + 1; here it is judged by its box.

    Raises IndexError where there is no such step.
    """
    turn = trajectory.turns[step]
    if not turn.actions or turn.error:
        return 0.0
    (action,) = turn.actions
    if action.kind == "answer":
        return 1.0 + _right(trajectory, action)
    clues = [(start, max(end, start + 1e-3)) for start, end in trajectory.question.clue_intervals]
    if clues:
        return 1.0 + (overlap_s([_span(action)], clues) > 0)
    following = next((a for turn in trajectory.turns[step + 1 : step + 2] for a in turn.actions), None)
    if following is not None and following.kind == "zoom":
        return None
    return 1.0 + (following is not None and _right(trajectory, following))


def _right(trajectory: Trajectory, action: Action) -> bool:
    return answers_match(action.answer or "", trajectory.question)


def _videos(dialogue: Dialogue, turns: Iterable[Turn]) -> Iterable[Part]:
    """The fast video, and the clip of each zoom that was carried out, in order of time."""
    yield f"Full video [0, {int(dialogue.video.duration_s)}]:"
    yield from dialogue.overview.frames
    clips = sorted(chain.from_iterable(_clips(turn) for turn in turns), key=lambda clip: clip[0])
    for (start, end), observation in clips:
        yield f"Subset zoom-in video clip [{start:.0f}, {end:.0f}]:"
        yield from uniform(observation.frames, SLOW_FRAMES[min(len(clips), len(SLOW_FRAMES)) - 1])


def _clips(turn: Turn) -> Iterable[tuple[Interval, Observation]]:
    actions = {action.call_id: action for action in turn.actions}
    return ((_span(actions[o.call_id]), o) for o in turn.observations if o.kind == "frames")


def _task(dialogue: Dialogue, turns: tuple[Turn, ...]) -> str:
    """The question and what to do; what was wrong with the last step, and that this one is the last."""
    told = [asked(dialogue.question), INSTRUCTION]
    told += [f"{_INVALID}{plain(o.text)}" for turn in turns[-1:] for o in turn.observations if o.kind == "error"]
    told += [LAST_STEP] * (len(turns) == dialogue.max_turns - 1)
    return "".join(told)


def asked(question: Question) -> str:
    """The question, its choices, and the form of the answer."""
    return fill("love_r1_task", {"question": plain(question.text), "choices": choice_lines(question)})


def _zoom(content: str) -> Action | Fault:
    match = _INTERVAL.fullmatch(content)
    if match is None:
        return Fault("bad_interval", "The interval must be two whole seconds, as in \\boxed{[12, 30]}.")
    start, end = sorted(float(number) for number in match.groups())
    return Action(call_id="", kind="zoom", start_s=start, end_s=end)


def _answer(content: str) -> Action | Fault:
    if not content:
        return Fault("no_answer", "The answer within \\boxed{} is empty.")
    return Action(call_id="", kind="answer", answer=content)


def _inside(tail: str) -> str | None:
    """What stands in a box, without outer whitespace, given the text after its opening brace; None if never closed."""
    depth = 1
    for i, character in enumerate(tail):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return tail[:i].strip()
    return None


def _span(action: Action) -> Interval:
    if action.start_s is None or action.end_s is None:
        raise ValueError(f"not a zoom of this protocol: {action}")
    return action.start_s, action.end_s


def _iou(one: Interval, other: Interval) -> float:
    shared = overlap_s([one], [other])
    return shared / (length_s([one]) + length_s([other]) - shared) if shared else 0.0
