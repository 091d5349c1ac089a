"""What a page tells of an attempt: its turns with their frames and gains, and the rows that a trainer would read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.page.attempt import Attempt
from pipeline.shards.pictures import Place, place
from pipeline.shards.samples import sft_samples
from schemas.errors import ZoomtrailError
from schemas.samples import SftSample
from schemas.trajectory import Action, Hint, Observation, Reflection, Trajectory, Turn, carried_out
from schemas.verdict import Verdict
from schemas.video import Frame

_IMAGE = "<image>"


@dataclass(frozen=True)
class Seen:
    """A frame and its number among all of its trajectory, by which a page asks for it."""

    number: int
    frame: Frame


@dataclass(frozen=True)
class Gain:
    """The verifier's probability of the reference before and after a zoom."""

    before: float
    after: float


@dataclass(frozen=True)
class Look:
    """An action and what it brought. zoom: its number among those carried out, from 1; None for any other."""

    action: Action | None
    observation: Observation | None
    frames: tuple[Seen, ...]
    zoom: int | None
    gain: Gain | None


@dataclass(frozen=True)
class ToldTurn:
    """A turn. number: from 1. hints, reflection: what the teacher was shown before it."""

    number: int
    turn: Turn
    looks: tuple[Look, ...]
    hints: tuple[Hint, ...]
    reflection: Reflection | None


@dataclass(frozen=True)
class ToldMessage:
    """A message of a trainer's row. parts: texts, and frames in the place of each `<image>`."""

    role: str
    trained: bool
    origin: str
    parts: tuple[str | Seen, ...]


@dataclass(frozen=True)
class TrainerRow:
    """A row that a trainer would read. step: the turn that it teaches, from 1; None for a whole conversation."""

    step: int | None
    messages: tuple[ToldMessage, ...]

    @property
    def characters(self) -> tuple[int, int]:
        """Of text: those with loss, and all."""
        sizes = [(m.trained, sum(len(part) for part in m.parts if isinstance(part, str))) for m in self.messages]
        return sum(size for trained, size in sizes if trained), sum(size for _, size in sizes)


def looks_of(trajectory: Trajectory) -> list[tuple[Frame, ...]]:
    """The frames of the overview, then of each observation: what was shown together."""
    overview = trajectory.overview.frames if trajectory.overview else ()
    return [overview, *(o.frames for turn in trajectory.turns for o in turn.observations)]


def frame_at(trajectory: Trajectory, number: int) -> tuple[Frame, tuple[Frame, ...]] | None:
    """The frame of a number and those that it was shown with; None where there is none."""
    for frames in looks_of(trajectory):
        if 0 <= number < len(frames):
            return frames[number], frames
        number -= len(frames)
    return None


def overview_seen(trajectory: Trajectory) -> tuple[Seen, ...]:
    """The frames that were shown before the first turn."""
    return tuple(Seen(number, frame) for number, frame in enumerate(looks_of(trajectory)[0]))


def told_turns(trajectory: Trajectory, verdict: Verdict | None) -> list[ToldTurn]:
    """The turns in order, each zoom with its gain where a verifier measured it."""
    steps = (verdict and verdict.p_gold_steps) or ()
    frames, zooms = len(looks_of(trajectory)[0]), 0
    reflection = trajectory.reflection
    turns: list[ToldTurn] = []
    for number, turn in enumerate(trajectory.turns):
        looks = _looks(turn, frames, zooms, steps)
        frames += sum(len(look.frames) for look in looks)
        zooms += sum(look.zoom is not None for look in looks)
        hints = tuple(hint for hint in trajectory.hints if hint.after_turn == number)
        corrected = reflection if reflection and reflection.after_turn == number else None
        turns.append(ToldTurn(number + 1, turn, tuple(looks), hints, corrected))
    return turns


def _looks(turn: Turn, frames: int, zooms: int, steps: Sequence[float]) -> list[Look]:
    """Of one turn. frames, zooms: how many came before it; steps: p(gold) after each zoom, the overview first."""
    done = {action.call_id for action in carried_out(turn.actions, turn.observations)}
    looks: list[Look] = []
    for action, observation in _paired(turn):
        shown = observation.frames if observation else ()
        seen = tuple(Seen(frames + k, frame) for k, frame in enumerate(shown))
        frames += len(shown)
        zoomed = action is not None and action.call_id in done
        zooms += zoomed
        gain = Gain(steps[zooms - 1], steps[zooms]) if zoomed and zooms < len(steps) else None
        looks.append(Look(action, observation, seen, zooms if zoomed else None, gain))
    return looks


def trainer_rows(attempt: Attempt) -> tuple[list[TrainerRow], str]:
    """What an SFT cut would hold of an attempt, kept or not; and why there is nothing, "" where there is."""
    trajectory, verdict = attempt.trajectory, attempt.verdict
    if trajectory is None or trajectory.video is None or trajectory.overview is None:
        return [], "The attempt never began, so there is nothing to learn from it."
    names = ("verifier", "evidence_gain", "p_gold_evidence", "grounding_iou")
    facts = {name: getattr(verdict, name) if verdict else None for name in names}
    try:
        samples = sft_samples(trajectory, facts, {"run_fingerprint": "", "kept_by": ""})
    except ZoomtrailError as error:
        return [], str(error)
    numbers = {place(frame): number for number, frame in enumerate(f for look in looks_of(trajectory) for f in look)}
    return [_row(sample, numbers) for sample in samples], "" if samples else "No turn of it is to be learned."


def _paired(turn: Turn) -> Iterator[tuple[Action | None, Observation | None]]:
    """Each observation with its action, in the order of the observations, then the actions that brought none."""
    actions = {action.call_id: action for action in turn.actions}
    observed = {observation.call_id for observation in turn.observations}
    for observation in turn.observations:
        yield actions.get(observation.call_id), observation
    yield from ((action, None) for action in turn.actions if action.call_id not in observed)


def _row(sample: SftSample, numbers: dict[Place, int]) -> TrainerRow:
    images = iter(sample.images)
    step = sample.provenance.step
    messages = []
    for message in sample.messages:
        parts: list[str | Seen] = []
        for number, text in enumerate(message.content.split(_IMAGE)):
            if number:
                image = next(images)
                frame = Frame(**image.model_dump())
                parts.append(Seen(numbers[place(image)], frame))
            parts += [text] if text else []
        messages.append(ToldMessage(message.role, message.train, message.origin or "", tuple(parts)))
    return TrainerRow(None if step is None else step + 1, tuple(messages))
