"""What a teacher says it saw, put to a verifier with the frames that it says it of."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from prompts.judging import claim_messages
from prompts.statements import statements
from schemas.chat import Message
from schemas.trajectory import Trajectory
from schemas.video import Frame

SUPPORTED = 0.5
"""The probability of `yes` from which a statement counts as shown."""

_FEWEST_FRAMES = 2
"""Of a look's half."""

Yes = Callable[[Sequence[tuple[Message, ...]]], Awaitable[list[float]]]
"""Gives for each chat the verifier's probability of `yes`."""


@dataclass(frozen=True)
class Claim:
    """A statement about what is seen. looks: call ids of the looks that came before it, the latest first."""

    statement: str
    looks: tuple[str, ...]


def claims(trajectory: Trajectory) -> list[Claim]:
    """The statements of all thoughts that follow a look at the video, each where it was first made.

    Those of a wrong rollout that a reflection corrects are known to be wrong, and left out.
    """
    looks: list[str] = []
    found: dict[str, Claim] = {}
    first = trajectory.reflection.after_turn if trajectory.reflection else 0
    for number, turn in enumerate(trajectory.turns):
        for statement in statements(turn.think) if looks and number >= first else ():
            found.setdefault(statement, Claim(statement, tuple(reversed(looks))))
        looks += [observation.call_id for observation in turn.observations if observation.shows]
    return list(found.values())


def decidable(made: Sequence[Claim], decoded: Collection[str]) -> list[Claim]:
    """The claims with those looks alone whose frames could be decoded; those left without any are dropped."""
    seen = [Claim(claim.statement, tuple(look for look in claim.looks if look in decoded)) for claim in made]
    return [claim for claim in seen if claim.looks]


async def support(made: Sequence[tuple[Claim, Mapping[str, Sequence[Frame]]]], yes: Yes) -> list[float]:
    """For each claim the probability, in 0..1, that its latest look shows it.

    Where that is below `SUPPORTED`, the highest over either half of that look, since what is said may be seen for a
    while only, and over all looks before it: a thought may come back to what it saw earlier. made: each with the frames
    of its looks, by call id.
    """
    best = await yes([claim_messages(claim.statement, frames[claim.looks[0]]) for claim, frames in made])
    elsewhere = [
        (number, claim_messages(claim.statement, part))
        for number, (claim, frames) in enumerate(made)
        if best[number] < SUPPORTED
        for part in (*_halves(frames[claim.looks[0]]), *(frames[look] for look in claim.looks[1:]))
    ]
    p = await yes([chat for _, chat in elsewhere])
    for (number, _), value in zip(elsewhere, p, strict=True):
        best[number] = max(best[number], value)
    return best


def _halves(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """Both halves of a look; none of one that is too short to be parted."""
    middle = len(frames) // 2
    return [frames[:middle], frames[middle:]] if middle >= _FEWEST_FRAMES else []
