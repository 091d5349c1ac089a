"""Planted faults: a sound teacher whose turns are spoiled in known ways, to prove what a verifier catches.

Every fault goes through the real rollout with real observations, but for `altered_observation`, which `altered` makes
on the finished record.
"""

import random
from collections.abc import Sequence

from pipeline.demo.plants import SOUND, Kind, Plant
from pipeline.demo.spoiling import GROUPS, Moment, answers, hint_copied, spoiled, wrong_answer
from pipeline.demo.truth import mistakes
from pipeline.demo.world import Film
from pipeline.models.chat import ChatMessage, ChatModel, Reply
from prompts.protocol import Setting, Step, ZoomProtocol
from prompts.rendering import question_text
from schemas.record import content_id
from schemas.timeline import LEVELS
from schemas.trajectory import Observation, Trajectory

_OWN_MISTAKES: dict[Kind, frozenset[str]] = {
    "wrong_answer": frozenset({"wrong answer", "false statement"}),
    "wrong_clip": frozenset({"evidence not seen", "false statement"}),
    "no_zoom_needed": frozenset({"evidence not seen"}),
    "false_claim": frozenset({"false statement"}),
}
"""The mistakes that a fault itself is; any other means that the rest of the attempt was not sound."""


class FaultyTeacher:
    """A `ChatModel` that lets a sound teacher write each turn at a film, and spoils it by the attempt's fault.

    setting: of the film's video, as captioned. plants: one for each attempt to spoil; others pass as they are.
    spoiled: the attempts of which a turn was spoiled, by trajectory id.
    """

    def __init__(
        self, teacher: ChatModel, protocol: ZoomProtocol, film: Film, setting: Setting, plants: Sequence[Plant]
    ) -> None:
        self.name = teacher.name
        self.counts = teacher.counts
        self.spoiled: set[str] = set()
        self._teacher = teacher
        self._protocol = protocol
        self._film = film
        self._setting = setting
        self._plants = plants
        self._misled: set[str] = set()

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`. Raises what the sound teacher raises."""
        reply = await self._teacher.complete(messages, sample=sample, stop=stop)
        plant, step = self._plant(messages, sample), self._protocol.parse(reply.text)
        if plant is None or not isinstance(step, Step):
            return reply
        said = tuple(_text(message) for message in messages if message.role == "assistant")
        moment = Moment(plant, self._protocol, self._film, self._setting, said)
        instead = self._spoiled(moment, step, _text(messages[-1]))
        if instead == step:
            return reply
        text = instead if isinstance(instead, str) else self._protocol.write(instead)
        return reply.model_copy(update={"text": text, "key": content_id([reply.key, text])})

    def _plant(self, messages: Sequence[ChatMessage], sample: int) -> Plant | None:
        """The plant of a chat, by the question it asks: the longest that it holds, since one may begin another."""
        chat = "\n".join(_text(message) for message in messages if message.role == "user")
        asked = [plant for plant in self._plants if plant.attempt == sample and question_text(plant.question) in chat]
        return max(asked, key=lambda plant: len(question_text(plant.question)), default=None)

    def _spoiled(self, moment: Moment, step: Step, last: str) -> Step | str:
        """See `spoiling.spoiled`. For the kinds with hints: the first answer is wrong, and the hint it brings leaks."""
        plant = moment.plant
        if plant.kind in ("sound_after_hint", "hint_copied"):
            if answers(step) and plant.trajectory_id not in self._misled:
                self._misled.add(plant.trajectory_id)
                return wrong_answer(moment, step)
            hint = self._hint(plant, last)
            instead: Step | str = hint_copied(moment, step, hint) if plant.kind == "hint_copied" and hint else step
        else:
            instead = spoiled(moment, step)
        if instead != step:
            self.spoiled.add(plant.trajectory_id)
        return instead

    def _hint(self, plant: Plant, last: str) -> str | None:
        """The hint of the ladder that a chat's last message holds."""
        segments = self._setting.segments
        if segments is None:
            return None
        ladder = (self._protocol.hint(plant.question, level, segments) for level in range(LEVELS + 1))
        return next((hint for hint in ladder if hint and hint in last), None)


def _text(message: ChatMessage) -> str:
    return "".join(part for part in message.parts if isinstance(part, str))


def missed(plant: Plant, trajectory: Trajectory, film: Film, written: bool) -> str:
    """Why a planted fault did not take effect, or a sound attempt is not sound, in few words; "" where all is as meant.

    written: whether a turn or the record was spoiled. The verifier has no part in this.
    """
    found = set(mistakes(trajectory, film))
    if others := found - _OWN_MISTAKES.get(plant.kind, frozenset()):
        return ", ".join(sorted(others))
    if plant.kind == "wrong_clip" and "evidence not seen" not in found:
        return "the clip showed the clue"
    if plant.kind in ("sound_after_hint", "hint_copied") and not trajectory.hints:
        return "no hint was shown"
    needs_none = plant.kind == "no_zoom_needed" and not plant.question.clue_intervals
    return "" if written or needs_none or plant.kind in SOUND else "no turn to spoil"


def altered(trajectory: Trajectory, dice: random.Random) -> Trajectory | None:
    """The record with one observation changed: a frame's time, index or hash, its number of frames, or its text.

    None where there is no observation of the video to change.
    """
    places = [(t, o) for t, turn in enumerate(trajectory.turns) for o in turn.observations if o.kind != "error"]
    if not places:
        return None
    number, observation = dice.choice(places)
    turn, changed = trajectory.turns[number], _altered_observation(observation, dice)
    observations = tuple(changed if o is observation else o for o in turn.observations)
    turns = list(trajectory.turns)
    turns[number] = turn.model_copy(update={"observations": observations})
    return trajectory.model_copy(update={"turns": tuple(turns)})


def _altered_observation(observation: Observation, dice: random.Random) -> Observation:
    frames = list(observation.frames)
    if not frames or (observation.text and dice.random() < 0.5):
        words = [word for group in GROUPS for word in group if word not in observation.text]
        return observation.model_copy(update={"text": f"{observation.text} {dice.choice(words)}"})
    at = dice.randrange(len(frames))
    frame, way = frames[at], dice.choice(["time", "index", "hash", "left out"])
    changed = {
        "time": frame.model_copy(update={"time_s": frame.time_s + 0.5}),
        "index": frame.model_copy(update={"index": frame.index + 1}),
        "hash": frame.model_copy(update={"hash": content_id(frame.hash, len(frame.hash))}),
    }
    frames[at : at + 1] = [changed[way]] if way in changed else []
    return observation.model_copy(update={"frames": tuple(frames)})
