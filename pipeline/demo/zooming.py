"""How the demo teacher zooms where a protocol shows frames: find the scene in the overview, read it from near by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.demo.asked import Asked, Target, Temper, answering
from pipeline.demo.lenses import Lens
from pipeline.demo.sight import Shot, Sight, joined
from prompts.protocol import Step
from schemas.timeline import Interval, overlap_s

_SHORTEST_S = 1.5
"""What is left of a span after earlier zooms is looked at from this length on."""


@dataclass(frozen=True)
class Viewing:
    """A dialogue so far.

    overview: in order of time; clips: the frames of each zoom that was carried out; lens: how the protocol zooms;
    must_answer: it may not zoom again.
    """

    asked: Asked
    overview: tuple[Shot, ...]
    clips: tuple[tuple[Shot, ...], ...]
    lens: Lens
    must_answer: bool

    @property
    def end_s(self) -> float:
        """The last time that is known to be in the video."""
        return self.overview[-1].time_s

    @property
    def seen(self) -> list[Interval]:
        return [(clip[0].time_s, clip[-1].time_s) for clip in self.clips]


@dataclass(frozen=True)
class Place:
    """A scene as the overview hints at it. span: what may be part of it, in seconds; sentence: its description."""

    span: Interval
    sentence: str
    likeness: int


@dataclass(frozen=True)
class Look:
    """A zoom to make. why: a sentence that the span ends; target: what is looked for, None for nothing special."""

    why: str
    span: Interval
    target: Target | None


@dataclass(frozen=True)
class Found:
    """What zooms told about a target. sure: the reading fits a choice.

    beyond: where a lamp may have more flashes, in seconds; empty where all are seen.
    """

    target: Target
    reading: str | None
    sure: bool = False
    beyond: tuple[Interval, ...] = ()

    @property
    def settled(self) -> bool:
        return self.sure and not self.beyond

    @property
    def statement(self) -> str:
        """The reading as a sentence, "" for one that is not sure."""
        return self.target.statement(self.reading) if self.reading and self.sure else ""


@dataclass(frozen=True)
class Viewer:
    """One turn of an attempt."""

    viewing: Viewing
    sight: Sight
    temper: Temper

    async def decide(self) -> Step:
        """The next step. Raises what the small model raises."""
        targets = self.viewing.asked.targets
        found = [await self._find(target) for target in targets]
        most = max(1, len(targets)) if self.temper.careless else self.viewing.lens.zooms
        left = 0 if self.viewing.must_answer else most - len(self.viewing.clips)
        if looks := await self._looks(found, left):
            return self._zoom(looks, " ".join(one.statement for one in found if one.statement))
        return await self._answer(found)

    async def _looks(self, found: Sequence[Found], most: int) -> list[Look]:
        """The next looks: one, or one for each open target where the protocol allows several in a turn."""
        if most > 0 and not found and not self.viewing.clips:
            return [self._glance("The question itself does not depend on the video.")]
        looks: list[Look] = []
        for one in found:
            if one.settled or len(looks) >= (most if self.viewing.lens.together else min(1, most)):
                continue
            look = await self._look_for(one)
            if look and not any(overlap_s([look.span], [other.span]) for other in looks):
                looks.append(look)
        return looks

    async def _find(self, target: Target) -> Found:
        clips = joined(self.viewing.clips) if target.flashes else self.viewing.clips
        doubtful = None
        for shots in clips:
            reading = await self.sight.read(shots, target)
            if reading and self.viewing.asked.fits(reading):
                return Found(target, reading, True, await self._beyond(shots, target) if target.flashes else ())
            doubtful = doubtful or reading
        return Found(target, doubtful)

    async def _beyond(self, shots: Sequence[Shot], target: Target) -> tuple[Interval, ...]:
        before, after = await self.sight.flashes_beyond(shots, target)
        start, end = shots[0].time_s, shots[-1].time_s
        length = self.viewing.lens.counting_s[0]
        sides = [(end, end + length)] * after + [(start - length, start)] * before
        return tuple(sides)

    async def _look_for(self, one: Found) -> Look | None:
        """A look at a span that may show a target and was not looked at; None where nothing is left."""
        target, rng = one.target, self.temper.rng(one.target.name)
        if not target.mention:
            return None if self.viewing.clips else self._glance(f"{_capital(target.name)} is in all frames.")
        for place, span in await self._spans(one, rng):
            left = self._unseen(span)
            if left is not None:
                return Look(self._why(one, place), left, target)
        return None

    async def _spans(self, one: Found, rng: Random) -> list[tuple[Place | None, Interval]]:
        """Where to look, the best first: beyond what was seen of a lamp; or the middle of each place and, where the
        place is likely, what lies beside that."""
        if one.sure:
            return [(None, side) for side in one.beyond]
        lens, spans = self.viewing.lens, list[tuple[Place | None, Interval]]()
        for place in await self._places(one.target, rng):
            length = min(rng.uniform(*(lens.counting_s if one.target.flashes else lens.reading_s)), self.viewing.end_s)
            middle = sum(place.span) / 2 + rng.uniform(-0.4, 0.4)
            start = min(max(0.0, middle - length / 2), self.viewing.end_s - length)
            spans.append((place, (start, start + length)))
            if place.likeness == 2:
                spans += [(place, (start + length, start + 2 * length)), (place, (start - length, start))]
        return spans

    async def _places(self, target: Target, rng: Random) -> list[Place]:
        """All scenes of the overview, the likeliest first; equally likely ones in random order."""
        overview = self.viewing.overview
        sentences = await self.sight.descriptions(overview)
        likeness = [target.mentioned(sentence) for sentence in sentences]
        times = [shot.time_s for shot in overview]
        places = []
        for first, last in _runs(likeness):
            start = times[first] if first == 0 else (times[first - 1] + times[first]) / 2
            end = times[last] if last + 1 == len(times) else (times[last] + times[last + 1]) / 2
            places.append(Place((start, end), sentences[first], likeness[first]))
        rng.shuffle(places)
        places.sort(key=lambda place: -place.likeness)
        return places[1:] + places[:1] if self.temper.careless else places

    def _unseen(self, span: Interval) -> Interval | None:
        """The span inside the video, to a tenth of a second, without what the last zooms showed at one of its ends."""
        start, end = max(0.0, span[0]), min(self.viewing.end_s, span[1])
        for a, b in self.viewing.seen:
            if a <= start < b:
                start = b
            if a < end <= b:
                end = a
        start, end = round(start, 1), round(end, 1)
        inside = overlap_s([(start, end)], self.viewing.seen) if end > start else 0.0
        return None if end - start < _SHORTEST_S or inside > 0.2 * (end - start) else (start, end)

    def _glance(self, reason: str) -> Look:
        """A look at just any part of the video, where every part will do."""
        rng = self.temper.rng("glance")
        length = min(rng.uniform(*self.viewing.lens.reading_s), self.viewing.end_s)
        start = rng.uniform(0.0, self.viewing.end_s - length)
        return Look(f"{reason} To make sure, I look closer at", (round(start, 1), round(start + length, 1)), None)

    def _zoom(self, looks: Sequence[Look], known: str) -> Step:
        """The step that makes some looks. known: what is said before them."""
        lens = self.viewing.lens
        actions = tuple(lens.call(look.span, look.target) for look in looks)
        thoughts = (f"{look.why} {lens.named(action)}." for look, action in zip(looks, actions, strict=True))
        return Step(" ".join((known, *thoughts)).strip(), actions)

    def _why(self, one: Found, place: Place | None) -> str:
        """Why a span is looked at; the span itself comes next."""
        name = one.target.name
        if place is None:
            return f"I want to know whether {name} flashes before or after that, at"
        if place.likeness < 2:
            return f"I look for {name} at"
        if self.viewing.clips:
            return f"I still need {name}, and look closer at"
        short = "Flashes need more frames" if one.target.flashes else "The word is too small to read"
        return f"The overview shows {name}: {place.sentence} {short}, so I look closer at"

    async def _answer(self, found: Sequence[Found]) -> Step:
        asked = self.viewing.asked
        if not asked.targets:
            fact = await self.sight.known(asked)
            answer = asked.answer([fact], self.temper.rng("answer"))
            return answering(f"I do not need the video for this, I think of {asked.choice(answer)}.", answer)
        found = [one if one.sure else await self._from_afar(one) for one in found]
        said = [one.statement for one in found if one.statement]
        if len(said) < len(found):
            said.append("I could not make out everything that I need, so I have to guess.")
        return answering(" ".join(said), asked.answer([one.reading for one in found], self.temper.rng("answer")))

    async def _from_afar(self, one: Found) -> Found:
        """What the overview tells of something that is in every frame."""
        reading = None if one.target.mention else await self.sight.read(self.viewing.overview, one.target)
        return Found(one.target, reading, True) if reading else one


def _runs(likeness: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last index of neighbouring frames that speak of the thing; every other frame stands alone."""
    first = 0
    for i, value in enumerate(likeness):
        if i + 1 == len(likeness) or value != 2 or likeness[i + 1] != 2:
            yield first, i
            first = i + 1


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
