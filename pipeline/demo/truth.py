"""What is true of a rendered film, and whether an attempt at a question about it is sound. No model is asked."""

import re
from collections.abc import Sequence
from itertools import pairwise

from pipeline.demo import wording
from pipeline.demo.world import COUNTS, Film, Scene
from prompts.judging import answers_match
from schemas.timeline import Interval, overlap_s
from schemas.trajectory import Trajectory

_STATEMENT = re.compile(
    r"The \w+ sign says [A-Z]+\.|The lamp flashes \w+ times\.|The floor is \w+\."
    r"|A \w+ \w+ \w+ moves[\w ]* on a \w+ background(?:, with an? \w+ sign|, with a lamp)?\."
)


def statements(text: str) -> list[str]:
    """The sentences of a text that are statements as `wording` writes them, true or not, in order."""
    return _STATEMENT.findall(text)


def scenes_in(film: Film, spans: Sequence[Interval]) -> list[Scene]:
    """The scenes that any of the spans touches, in order of time."""
    return [scene for scene in film.scenes if overlap_s([(scene.start_s, scene.end_s)], spans) > 0]


def truths(film: Film, spans: Sequence[Interval]) -> set[str]:
    """Every statement that is true of what the spans show."""
    found = {wording.floor_statement(film.floor)}
    for scene in scenes_in(film, spans):
        found.add(wording.describe(scene))
        if scene.sign:
            found.add(wording.sign_statement(scene.sign.colour, scene.sign.word))
        if scene.lamp:
            found.add(wording.flash_statement(COUNTS[len(scene.lamp.flashes) - 2]))
    return found


def false_statements(trajectory: Trajectory, film: Film) -> list[str]:
    """The statements made after a look that are not true of anything looked at before them."""
    spans: list[Interval] = []
    found = []
    for turn in trajectory.turns:
        if spans:
            true = truths(film, spans)
            found += [statement for statement in statements(turn.think) if statement not in true]
        refused = {o.call_id for o in turn.observations if o.kind == "error"}
        done = [action for action in turn.actions if action.call_id not in refused]
        spans += [(a.start_s, a.end_s) for a in done if a.start_s is not None and a.end_s is not None]
    return found


def evidence_seen(trajectory: Trajectory, film: Film) -> bool:
    """Whether the frames zoomed into show what the clue intervals show: a sign's word, each flash of the lamp apart."""
    frames = [frame for turn in trajectory.turns for o in turn.observations for frame in o.frames]
    times = sorted({frame.time_s for frame in frames})
    return all(_clue_seen(film, clue, times) for clue in trajectory.question.clue_intervals)


def _clue_seen(film: Film, clue: Interval, times: Sequence[float]) -> bool:
    start, end = clue
    lamp = film.scene_at((start + end) / 2).lamp
    if lamp is None:
        return any(start <= time < end for time in times)
    lit = [False, *(lamp.on(time) for time in times)]
    return sum(after and not before for before, after in pairwise(lit)) == len(lamp.flashes)


def mistakes(trajectory: Trajectory, film: Film) -> list[str]:
    """What an attempt at a question about a film did wrong, in a few words each; empty for a sound one."""
    if trajectory.status != "answered":
        return [f"{trajectory.status}: {trajectory.error.kind}" if trajectory.error else trajectory.status]
    right = answers_match(trajectory.final_answer or "", trajectory.question)
    seen, honest = evidence_seen(trajectory, film), not false_statements(trajectory, film)
    named = (("wrong answer", right), ("evidence not seen", seen), ("false statement", honest))
    return [name for name, sound in named if not sound]
