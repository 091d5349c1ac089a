"""How a sound turn is spoiled, for each kind of fault that goes through the rollout.

Each kind is a function from a state and the sound step to the step, or the text, that takes its place. It may know the
truth, which is what planting means; the sound teacher does not.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.demo import wording
from pipeline.demo.leaking import GOLD_PATTERNS, HINT_PATTERNS, leak
from pipeline.demo.plants import Plant
from pipeline.demo.truth import scenes_in, statements, truths
from pipeline.demo.world import BACKGROUNDS, COLOURS, COUNTS, DIRECTIONS, FAMILIES, KINDS, SIZES, Film
from prompts.protocol import Setting, Step, ZoomProtocol
from schemas.timeline import LEVELS, Interval, overlap_s
from schemas.trajectory import Action

GROUPS: tuple[tuple[str, ...], ...] = (*FAMILIES, COLOURS, KINDS, SIZES, DIRECTIONS, BACKGROUNDS, COUNTS)
"""Words that can stand in for one another in a statement."""

_AGAIN = "once more, to be sure"
_SPAN = re.compile(r"\d+(?:\.\d+)? s to \d+(?:\.\d+)? s")
_SEGMENT = re.compile(r"\(\d+(?:, ?\d+)+\)")
_A, _AN = re.compile(r"\ban (?=[^aeiou])"), re.compile(r"\ba (?=[aeiou])")
_ACTION = re.compile(r"<(?!think)(\w+)>(.*)</\1>\s*$", re.DOTALL)


@dataclass(frozen=True)
class Moment:
    """An attempt at one of its turns. said: the turns so far, as the teacher wrote them."""

    plant: Plant
    protocol: ZoomProtocol
    film: Film
    setting: Setting
    said: tuple[str, ...]

    @property
    def zooms(self) -> list[Action]:
        """The actions so far that were carried out, with their seconds."""
        steps = [step for text in self.said if isinstance(step := self.protocol.parse(text), Step)]
        asked = [action for step in steps for action in step.actions if action.looks]
        return [self.protocol.resolve(a, self.setting) for a in asked if not self.protocol.check(a, self.setting)]

    @property
    def seen(self) -> list[Interval]:
        """Seconds zoomed into so far."""
        return [_span(action) for action in self.zooms]


def spoiled(moment: Moment, step: Step) -> Step | str:
    """What takes the place of a sound step: the step itself where the attempt's fault leaves this turn alone."""
    spoil = _SPOILERS.get(moment.plant.kind)
    return step if spoil is None else spoil(moment, step)


def answers(step: Step) -> bool:
    """Whether a step is the final answer."""
    return step.actions[0].kind == "answer"


def _answer(moment: Moment, text: str) -> tuple[Action]:
    """The action that answers with a text: its letter where the question has choices."""
    question = moment.plant.question
    letter = question.letters[question.choices.index(text)] if question.choices else text
    return (Action(call_id="", kind="answer", answer=letter),)


def _span(action: Action) -> Interval:
    """Seconds of an action that has them."""
    return action.start_s or 0.0, action.end_s or 0.0


def _mention(action: Action) -> str:
    """How a thought names what is called: `48.0 s to 56.0 s`, or `(1,2,3)`."""
    if action.segment:
        return f"({','.join(map(str, action.segment))})"
    return f"{action.start_s:.1f} s to {action.end_s:.1f} s"


def _renamed(think: str, action: Action) -> str:
    """A thought that names this action's span or segment instead of its own; a plain one where it named none."""
    pattern = _SEGMENT if action.segment else _SPAN
    new, count = pattern.subn(_mention(action), think)
    return new if count else f"I look at {_mention(action)}."


def wrong_answer(moment: Moment, step: Step) -> Step:
    """Another choice; every other time the thought speaks for it, too."""
    if not answers(step):
        return step
    dice, gold = moment.plant.dice, moment.plant.question.answer_text
    wrong = dice.choice(moment.plant.wrong_answers)
    think = step.think.replace(gold, wrong) if dice.random() < 0.5 else step.think
    return Step(think, _answer(moment, wrong))


def hint_copied(moment: Moment, step: Step, hint: str) -> Step:
    """The turn after a hint, with a thought that betrays it."""
    where = re.search(r"\*\*(.*?)\*\*", hint)
    said = leak(moment.plant.dice, HINT_PATTERNS, where=where[1] if where else "this video")
    return replace(step, think=f"{said} {step.think}")


def _gold(moment: Moment) -> Step:
    """The right answer, with a thought that claims it, guesses it or says nothing of it."""
    question, clues = moment.plant.question, moment.plant.question.clue_intervals
    claims = sorted(s for s in truths(moment.film, clues) if question.answer_text in s)
    thoughts = ["That settles it.", f"It must be {question.answer_text}.", "This is enough to answer.", *claims]
    return Step(moment.plant.dice.choice(thoughts), _answer(moment, question.answer_text))


def _wrong_clip(moment: Moment, step: Step) -> Step:
    """Looks at clips well away from every clue's scene, and then the right answer."""
    looks, done = _looks_elsewhere(moment), len(moment.zooms)
    if done >= len(looks):
        return _gold(moment)
    return Step(f"I look at {_mention(looks[done])}.", (looks[done],))


def _looks_elsewhere(moment: Moment) -> list[Action]:
    """Segments: down to a leaf and a question about it. Spans: one of seven seconds for each clue."""
    dice, question, segments = moment.plant.dice, moment.plant.question, moment.setting.segments
    scenes = [(scene.start_s, scene.end_s) for scene in scenes_in(moment.film, question.clue_intervals)]
    if segments is not None:
        clear = [path for path in segments.paths(LEVELS - 1) if not overlap_s([segments.span(path)], scenes)]
        medium = dice.choice(clear)
        leaf = (*medium, dice.randint(1, segments.width))
        asked = Action(call_id="", kind="video_qa", segment=leaf, query=question.text)
        return [*(Action(call_id="", kind="caption", segment=path) for path in (medium, leaf)), asked]
    starts = [float(start) for start in range(int(moment.setting.video.duration_s) - 7)]
    looks: list[Action] = []
    for _ in question.clue_intervals:
        taken = [*scenes, *map(_span, looks)]
        start = dice.choice([s for s in starts if not overlap_s([(s - 1.0, s + 8.0)], taken)])
        looks.append(Action(call_id="", kind="zoom", start_s=start, end_s=start + 7.0, fps=2.0))
    return looks


def _out_of_bounds(moment: Moment, step: Step) -> Step:
    """The first zoom lies past the end of the video, or reaches past it, or names a segment that does not exist."""
    if moment.said or answers(step):
        return step
    dice, (action, *others) = moment.plant.dice, step.actions
    if action.segment and moment.setting.segments is not None:
        path = list(action.segment)
        path[dice.randrange(len(path))] = moment.setting.segments.width + dice.randint(1, 3)
        outside = action.model_copy(update={"segment": tuple(path)})
    else:
        (start, end), video_end = _span(action), moment.setting.video.duration_s
        length = end - start
        beyond = dice.uniform(2.0, 20.0) if dice.random() < 0.5 else -dice.uniform(0.3, 0.7) * length
        start = round(video_end + beyond, 1)
        outside = action.model_copy(update={"start_s": start, "end_s": round(start + length, 1)})
    return Step(_renamed(step.think, outside), (outside, *others))


def _unmentioned_zoom(moment: Moment, step: Step) -> Step:
    """The first zoom's thought names another place, or is empty, or names none where the other turns do."""
    dice, done = moment.plant.dice, moment.zooms
    way = dice.choice(["other", "empty", "silent"])
    if answers(step):
        alone = way == "silent" and len(done) == 1
        return replace(step, think=f"I looked at {_mention(done[0])}. {step.think}") if alone else step
    if moment.said:
        return step
    if way == "other":
        return replace(step, think=_renamed(step.think, _elsewhere(moment, step.actions[0])))
    return replace(step, think="" if way == "empty" else "I need a closer look before I can answer.")


def _elsewhere(moment: Moment, action: Action) -> Action:
    """An action of the same shape at another place."""
    dice, segments = moment.plant.dice, moment.setting.segments
    if action.segment and segments is not None:
        paths = [path for path in segments.paths(len(action.segment)) if path != action.segment]
        return action.model_copy(update={"segment": dice.choice(paths)})
    start, end = _span(action)
    length, other = end - start, start
    while overlap_s([(other, other + length)], [(start, end)]) > 0:
        other = dice.uniform(0.0, moment.setting.video.duration_s - length)
    return action.model_copy(update={"start_s": other, "end_s": other + length})


def _false_claim(moment: Moment, step: Step) -> Step:
    """After a look, one statement that it does not show: one of the thought's own changed in a word, or one more.

    Of a sign or the floor: the demo's model judges no descriptions of shapes (see its card).
    """
    if not moment.zooms or any(set(statements(text)) - truths(moment.film, moment.seen) for text in moment.said[1:]):
        return step
    dice, true = moment.plant.dice, truths(moment.film, moment.seen)
    own = statements(step.think)
    if own and dice.random() < 0.5:
        statement = dice.choice(own)
        return replace(step, think=step.think.replace(statement, _falsified(statement, true, dice)))
    if not answers(step):
        return step
    sign = scenes_in(moment.film, [moment.seen[-1]])[0].sign
    more = [wording.floor_statement(moment.film.floor)]
    more += [wording.sign_statement(sign.colour, sign.word)] if sign else []
    return replace(step, think=f"{step.think} {_falsified(dice.choice(more), true, dice)}")


def _falsified(statement: str, true: set[str], dice: random.Random) -> str:
    """The statement with one word exchanged for another of its kind, so that it is not among the true ones."""
    tokens = re.split(r"(\w+)", statement)
    places = [(i, group) for i, token in enumerate(tokens) for group in GROUPS if token in group]
    changed = [
        "".join([*tokens[:i], other, *tokens[i + 1 :]]) for i, group in places for other in group if other != tokens[i]
    ]
    grammatical = [_AN.sub("an ", _A.sub("a ", text)) for text in changed]
    return dice.choice([text for text in grammatical if text not in true])


def _gold_leaked(moment: Moment, step: Step) -> Step:
    """A first thought that knows the reference answer before anything was looked at."""
    if moment.said:
        return step
    gold = moment.plant.question.answer_text
    (answer,) = _answer(moment, gold)
    said = leak(moment.plant.dice, GOLD_PATTERNS, answer=answer.answer or "", text=gold)
    return replace(step, think=f"{said} {step.think}")


def _no_zoom_needed(moment: Moment, step: Step) -> Step:
    """A question that the overview or nothing answers is left as it is; any other is answered without a zoom."""
    return _gold(moment) if moment.plant.question.clue_intervals else step


def _redundant_zooms(moment: Moment, step: Step) -> Step:
    """Before the answer an earlier zoom is repeated, or a part of it."""
    done, last_turn = moment.zooms, moment.protocol.default_max_turns - 1
    if not answers(step) or not done or len(moment.said) >= last_turn or any(_AGAIN in text for text in moment.said):
        return step
    dice = moment.plant.dice
    action = dice.choice(done)
    if not action.segment and dice.random() < 0.5:
        action = action.model_copy(update={"end_s": round(sum(_span(action)) / 2, 1)})
    return Step(f"I look at {_mention(action)} {_AGAIN}.", (action,))


def _malformed_turn(moment: Moment, step: Step) -> Step | str:
    """Broken once: the first turn's tags, call or JSON, or a first answer without its tag."""
    way = moment.plant.dice.choice(["open thought", "open call", "two calls", "no answer tag"])
    text = moment.protocol.write(step)
    if way == "no answer tag":
        told = f"<think>{step.think}</think>\nThe answer is {step.actions[0].answer}."
        return told if answers(step) and told not in moment.said else step
    if moment.said or answers(step):
        return step
    if way == "open thought":
        return text.replace("</think>", "")
    inner = _ACTION.search(text)
    assert inner is not None
    broken = inner[2].rstrip()[:-1] if way == "open call" else f"{inner[2]} {inner[2]}"
    return text.replace(inner[2], broken)


_SPOILERS: dict[str, Callable[[Moment, Step], Step | str]] = {
    "wrong_answer": wrong_answer,
    "wrong_clip": _wrong_clip,
    "out_of_bounds": _out_of_bounds,
    "unmentioned_zoom": _unmentioned_zoom,
    "false_claim": _false_claim,
    "gold_leaked": _gold_leaked,
    "no_zoom_needed": _no_zoom_needed,
    "redundant_zooms": _redundant_zooms,
    "malformed_turn": _malformed_turn,
}
