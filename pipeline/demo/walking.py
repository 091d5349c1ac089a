"""How the demo teacher walks where a protocol shows a tree of captions: down to the leaf that should show the thing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.demo.asked import Asked, Target, Temper, answering
from pipeline.demo.sight import Sight
from prompts.protocol import Step
from schemas.timeline import LEVELS, SegmentPath, Segments
from schemas.trajectory import Action

MAX_CALLS = 14
MAX_QUESTIONS = 4
"""Clips that are asked about each thing before the teacher guesses."""

_SENTENCE = re.compile(r"[^.]+\.")


@dataclass(frozen=True)
class Call:
    """A call and what it told. query: "" for a caption; text: None where it brought an error."""

    segment: SegmentPath
    query: str
    text: str | None


@dataclass(frozen=True)
class Walk:
    """A dialogue so far. captions: of the top level; hinted: segments that a hint names, None without a hint."""

    asked: Asked
    segments: Segments
    captions: Mapping[SegmentPath, str]
    calls: tuple[Call, ...]
    hinted: tuple[SegmentPath, ...] | None


@dataclass(frozen=True)
class Walker:
    """One turn of an attempt."""

    walk: Walk
    sight: Sight
    temper: Temper

    async def decide(self) -> Step:
        """The next step. Raises what the small model raises."""
        targets = self.walk.asked.targets
        if not targets:
            return await self._answer_by_knowledge() if self.walk.calls else self._glance()
        if self._goes_on() and len(self.walk.calls) < MAX_CALLS:
            leaves = [(target, *self._best_leaf(target)) for target in targets if self._open(target)]
            if leaves:
                target, leaf, _ = max(leaves, key=lambda found: found[2]) if self._all_read() else leaves[0]
                return self._towards(leaf, target)
        return self._answer()

    def _goes_on(self) -> bool:
        """Whether something is still to be found out. After a hint it is, until another clip tells something: the
        answer to what had been told so far was wrong."""
        if self.walk.hinted is not None or not self.walk.calls:
            return True
        last = self.walk.calls[-1]
        if self.temper.careless and last.query and len(self._questions()) == len(self.walk.asked.targets):
            return False
        return not (self._all_read() and self._says(last))

    def _open(self, target: Target) -> bool:
        """Whether a target is still looked for."""
        asked = [call for call in self._questions() if call.query == target.query]
        most = min(MAX_QUESTIONS, self.walk.segments.width**LEVELS)
        return len(asked) < most and (not self._readings(target, sure=True) or self._all_read())

    def _questions(self) -> list[Call]:
        return [call for call in self.walk.calls if call.query]

    def _readings(self, target: Target, sure: bool) -> list[str]:
        """What clips told of a target, the last one first. sure: only what fits a choice."""
        told = [target.reading(call.text or "") for call in reversed(self._questions()) if call.query == target.query]
        return [reading for reading in told if reading and (self.walk.asked.fits(reading) or not sure)]

    def _all_read(self) -> bool:
        return all(self._readings(target, sure=True) for target in self.walk.asked.targets)

    def _says(self, call: Call) -> str:
        """A clip's answer as a sentence; "" for a caption, and for an answer that tells nothing sure."""
        target = next((t for t in self.walk.asked.targets if t.query == call.query), None)
        reading = target.reading(call.text or "") if target else None
        return target.statement(reading) if target and reading and self.walk.asked.fits(reading) else ""

    def _best_leaf(self, target: Target) -> tuple[SegmentPath, float]:
        """The leaf most likely to show a target of those not asked about it yet, and how likely it is."""
        rng = self.temper.rng(target.name)
        asked = {call.segment for call in self._questions() if call.query == target.query}
        beliefs = {leaf: self._belief(leaf, target) + rng.uniform(0, 0.2) for leaf in self.walk.segments.paths(LEVELS)}
        left = sorted((leaf for leaf in beliefs if leaf not in asked), key=lambda leaf: -beliefs[leaf])
        best = left[1] if self.temper.careless and not asked and len(left) > 1 else left[0]
        return best, beliefs[best]

    def _belief(self, leaf: SegmentPath, target: Target) -> float:
        """How much speaks for a leaf: the captions above it, those of its neighbours, and a hint.

        A caption that speaks of the target counts more the lower it is, and less the farther the leaf is from where in
        the segment the caption puts the target. The caption of the leaf itself decides.
        """
        belief = 10.0 * any(leaf[: len(path)] == path for path in self.walk.hinted or ())
        if not target.mention:
            return belief
        for level in range(1, LEVELS + 1):
            shares = self._shares(leaf[:level], target)
            if shares is None:
                continue
            start, end = self.walk.segments.span(leaf[:level])
            place = (sum(self.walk.segments.span(leaf)) / 2 - start) / (end - start)
            against = -4.0 if level == LEVELS else -1.0
            belief += level - min(abs(place - share) for share in shares) if shares else against
        return belief + self._neighbours(leaf, target)

    def _neighbours(self, leaf: SegmentPath, target: Target) -> float:
        """1.5 where a leaf beside this one ends, or begins, with the target."""
        segments = self.walk.segments
        number = segments.flat(leaf)
        before = self._shares(segments.path(LEVELS, number - 1), target) if number > 0 else None
        after = self._shares(segments.path(LEVELS, number + 1), target) if number + 1 < segments.width**LEVELS else None
        return 1.5 * (any(share >= 0.5 for share in before or ()) or any(share <= 0.5 for share in after or ()))

    def _shares(self, path: SegmentPath, target: Target) -> list[float] | None:
        """Where in a segment its caption speaks of a target, 0..1: sentences stand in order of time, each as long.

        Empty where it does not; None where the caption was not read yet.
        """
        caption = self._caption(path)
        if caption is None:
            return None
        told = _SENTENCE.findall(caption)
        return [(i + 0.5) / len(told) for i, text in enumerate(told) if target.mentioned(text) == 2]

    def _caption(self, path: SegmentPath) -> str | None:
        """A segment's caption, None where it was not read yet."""
        if path in self.walk.captions:
            return self.walk.captions[path]
        return next((call.text or "" for call in self.walk.calls if call.segment == path and not call.query), None)

    def _towards(self, leaf: SegmentPath, target: Target) -> Step:
        """The next call on the way to a leaf: captions first, and then the question."""
        told = f"{self._says(self.walk.calls[-1])} ".lstrip() if self.walk.calls else ""
        for level in range(2, LEVELS + 1):
            path = leaf[:level]
            if self._caption(path) is None:
                return _call(f"{told}I read the caption of {_ids(path)}{self._why(path, target)}.", path, "")
        return _call(f"{told}I ask what the clip of {_ids(leaf)} shows of {target.name}.", leaf, target.query)

    def _why(self, path: SegmentPath, target: Target) -> str:
        above = _ids(path[:-1]) if len(path) > 2 else f"segment {path[0]}"
        if not target.mention:
            return f", as any clip should show {target.name}"
        speaks = self._shares(path[:-1], target)
        return f", as that of {above} speaks of {target.name}" if speaks else f" to look for {target.name}"

    def _glance(self) -> Step:
        """A look at just any part of the video."""
        path = self.temper.rng("glance").choice(self.walk.segments.paths(2))
        reason = "The question itself does not depend on the video."
        return _call(f"{reason} To make sure, I read the caption of {_ids(path)}.", path, "")

    async def _answer_by_knowledge(self) -> Step:
        asked = self.walk.asked
        fact = await self.sight.known(asked)
        answer = self._answer_unlike_before([fact])
        return answering(f"I do not need the video for this, I think of {asked.choice(answer)}.", answer)

    def _answer(self) -> Step:
        targets = self.walk.asked.targets
        said, readings = [], []
        for target in targets:
            sure, doubtful = self._readings(target, sure=True), self._readings(target, sure=False)
            readings.append((sure or doubtful)[0] if doubtful else None)
            said += [target.statement(reading) for reading in sure[:1]]
        if len(said) < len(targets):
            said.append("I could not make out everything that I need, so I have to guess.")
        return answering(" ".join(said), self._answer_unlike_before(readings))

    def _answer_unlike_before(self, readings: Sequence[str | None]) -> str:
        """The answer; where the same state was answered before and that was wrong, another one."""
        asked = self.walk.asked
        first = asked.answer(readings, self.temper.rng("answer"))
        return first if self.walk.hinted is None else asked.answer(readings, self.temper.rng("again"), wrong=first)


def _call(think: str, segment: SegmentPath, query: str) -> Step:
    """The step that reads a segment's caption or, with a query, asks about its clip."""
    if query:
        return Step(think, (Action(call_id="", kind="video_qa", segment=segment, query=query),))
    return Step(think, (Action(call_id="", kind="caption", segment=segment),))


def _ids(path: SegmentPath) -> str:
    return f"({','.join(map(str, path))})"
