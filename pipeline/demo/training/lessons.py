"""What the language model learns on: made-up films of the bank's scenes, asked about through the product's prompts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo import wording, world
from pipeline.demo.questions import near_misses
from pipeline.demo.training.bank import Bank, Scenery
from pipeline.demo.training.meanings import NAMES
from pipeline.demo.world import pick
from prompts.captioning import caption_messages, qa_messages
from prompts.judging import YES_NO, claim_messages, probe_messages
from schemas.chat import Message
from schemas.question import Question
from schemas.video import Frame

QUESTION, STATEMENT, USER = "Question: ", "Statement: ", "<|im_start|>user: "
"""Where the chats of a lesson begin to differ: behind frames that they share, or behind their system message."""

_SIZE = (448, 252)
"""What the frames' records say of their size; no chat shows it."""

_PICKS = 12
"""Tries for each scene of a film."""

SPACING_S = (0.22, 0.38)
"""Seconds between zoomed frames when a lamp is counted: no flash of 0.4 s, and no gap between two, is missed."""


@dataclass(frozen=True)
class Shown:
    """A frame in a lesson: a row of the bank, its scene, whether it is zoomed, and whether word or lamp is on."""

    row: int
    scenery: Scenery
    zoomed: bool
    active: bool


_DESCRIPTION = re.compile(r"A (\w+) (\w+) (\w+) moves on a (\w+) background(?:, with (an?) (\w+)(?: sign)?)?\.")

READS, HOLDS = 0, 1
"""Kinds of notes: what the sign of a colour says (a class of `word`), and whether a choice or a word is right."""


@dataclass(frozen=True)
class Note:
    """What can be known at a token of a question before it is answered. For training only: answers alone are few.

    phrase: the token is the one of its last character, where it is first found. kind: READS or HOLDS; value: the class.
    """

    phrase: str
    kind: int
    value: int


@dataclass(frozen=True)
class Lesson:
    """asked: whole chats, each with its answer. split: where they begin to differ. rows: of the bank, frame by frame,
    once for frames that are shared. notes: for each chat, on what stands behind the split."""

    asked: tuple[tuple[tuple[Message, ...], str], ...]
    split: str
    rows: tuple[int, ...]
    notes: tuple[tuple[Note, ...], ...] = ()


def film_of(rng: np.random.Generator, bank: Bank, n_scenes: int) -> list[Scenery]:
    """Scenes that can follow one another: one floor, no background twice in a row, each sign's colour once, a lamp.

    Fewer than asked for where none is found that fits.
    """
    pool = bank.by_floor[pick(rng, world.COLOURS)]
    chosen: list[Scenery] = []
    for _ in range(_PICKS * n_scenes):
        item = pick(rng, pool)
        if len(chosen) < n_scenes and _can_follow(item, chosen):
            chosen.append(item)
    return chosen


def _can_follow(item: Scenery, chosen: Sequence[Scenery]) -> bool:
    if chosen and chosen[-1].scene.background == item.scene.background:
        return False
    if item.scene.sign:
        return all(c.scene.sign is None or c.scene.sign.colour != item.scene.sign.colour for c in chosen)
    return item.scene.lamp is None or all(c.scene.lamp is None for c in chosen)


def overview(rng: np.random.Generator, film: Sequence[Scenery], n_frames: int) -> list[Shown]:
    """Small frames evenly over a film whose scenes last 5 to 9 seconds."""
    ends = np.cumsum(rng.uniform(5, 9, len(film)))
    times = np.linspace(0, ends[-1] - 1e-3, n_frames) if n_frames > 1 else rng.uniform(0, ends[-1], 1)
    items = [film[int(np.searchsorted(ends, time, side="right"))] for time in times]
    return [Shown(pick(rng, item.overview), item, zoomed=False, active=False) for item in items]


def clip(rng: np.random.Generator, film: Sequence[Scenery], at: int, n_frames: int, whole: bool = False) -> list[Shown]:
    """Zoomed frames of scene `at`, now and then with some of a neighbour; the word or the flashes fall where they may.

    whole: every flash of a lamp is inside.
    """
    item = film[at]
    states = _lamp_states(rng, item, n_frames, whole) if item.scene.lamp else _word_states(rng, item, n_frames)
    frames = [_zoomed(rng, item, active) for active in states]
    if not item.scene.lamp and n_frames > 2 and len(film) > 1 and rng.random() < 0.3:
        after = at + 1 < len(film)
        other = film[at + 1] if after else film[at - 1]
        part = int(rng.integers(1, max(2, n_frames // 2)))
        beside = [_zoomed(rng, other, bool(rng.random() < 0.6)) for _ in range(part)]
        frames = frames[:-part] + beside if after else beside + frames[part:]
    return frames


def _zoomed(rng: np.random.Generator, item: Scenery, active: bool) -> Shown:
    active = bool(active and item.word) or not item.blank
    return Shown(pick(rng, item.word if active else item.blank), item, zoomed=True, active=active)


def _word_states(rng: np.random.Generator, item: Scenery, n_frames: int) -> list[bool]:
    """The word is on for one stretch of frames; rarely for none."""
    if not item.scene.sign or rng.random() < 0.12:
        return [False] * n_frames
    length = int(rng.integers(1, n_frames + 1))
    start = int(rng.integers(0, n_frames - length + 1))
    return [start <= i < start + length for i in range(n_frames)]


def _lamp_states(rng: np.random.Generator, item: Scenery, n_frames: int, whole: bool) -> list[bool]:
    """Frames at an even spacing over a scene with its lamp's flashes; from a frame before the first where `whole`."""
    assert item.scene.lamp is not None
    flashes = item.scene.lamp.flashes
    spacing = rng.uniform(*SPACING_S)
    if whole or rng.random() < 0.8:
        slack = max(0.0, (n_frames - 1) * spacing - (flashes[-1][1] - flashes[0][0]))
        begin = flashes[0][0] - rng.uniform(0, slack)
    else:
        begin = rng.uniform(-1, item.scene.end_s)
    return [item.scene.lamp.on(begin + i * spacing) for i in range(n_frames)]


def counted(frames: Sequence[Shown]) -> str:
    """How often the lamp goes on in the frames, in words; "" where that is not two to five."""
    states = [f.active for f in frames if f.zoomed and f.scenery.scene.lamp]
    count = sum(on and not (i and states[i - 1]) for i, on in enumerate(states))
    return world.COUNTS[count - 2] if 2 <= count <= 5 else ""


def read(frames: Sequence[Shown], colour: str) -> str:
    """What the sign of a colour says as far as the frames show it: a word, UNREADABLE or NOTHING."""
    answer = wording.NOTHING
    for frame in frames:
        sign = frame.scenery.scene.sign
        if sign and sign.colour == colour:
            if frame.zoomed and frame.active:
                return sign.word
            if not frame.zoomed:
                answer = wording.UNREADABLE
    return answer


def reads(frames: Sequence[Shown], colour: str) -> Note:
    """On the first mention of a sign: what it says."""
    return Note(f"he {colour}", READS, NAMES["word"].index(read(frames, colour)))


def right_choice(asked: Question, answer: str) -> tuple[Note, ...]:
    """On each choice: whether it is the answer."""
    pairs = zip(asked.letters, asked.choices, strict=True)
    return tuple(Note(f"{letter}. {choice}", HOLDS, int(choice == answer)) for letter, choice in pairs)


def question(rng: np.random.Generator, text: str, choices: Sequence[str]) -> Question:
    mixed = tuple(choices[i] for i in rng.permutation(len(choices)))
    return Question(
        question_id="",
        video_id="",
        text=text,
        kind="multiple_choice",
        choices=mixed,
        answer_letter="A",
        answer_text="",
        clue_intervals=(),
        source="",
        source_id="",
    )


def sign_choice(rng: np.random.Generator, frames: Sequence[Shown], colour: str, word: str) -> tuple[Question, str]:
    """A choice among near misses; where the frames do not tell, any of them is the answer: so the model is unsure."""
    choices = (word, *near_misses(word)) if rng.random() < 0.8 else _others(rng, word, world.WORDS)
    found = read(frames, colour)
    return question(rng, wording.sign_query(colour), choices), found if found in choices else pick(rng, choices)


def _others(rng: np.random.Generator, value: str, values: Sequence[str]) -> tuple[str, ...]:
    rest = [v for v in values if v != value]
    return (value, *(rest[i] for i in rng.permutation(len(rest))[:3]))


def pair_choice(
    rng: np.random.Generator, frames: Sequence[Shown], first: tuple[str, str], second: tuple[str, str]
) -> tuple[Question, str]:
    """Two signs (colour, word): two words each, in their four combinations; one of those the frames allow."""
    options = []
    for _, word in (first, second):
        miss = pick(rng, near_misses(word))
        options.append((word, miss))
    choices = [wording.pair_answer(a, b) for a in options[0] for b in options[1]]
    seen = [read(frames, colour) for colour, _ in (first, second)]
    left = [[w for w in words if w == found or found not in words] for words, found in zip(options, seen, strict=True)]
    answer = wording.pair_answer(pick(rng, left[0]), pick(rng, left[1]))
    return question(rng, wording.pair_query(first[0], second[0]), choices), answer


Choice = tuple[Question, str, tuple[Note, ...]]


def _choices(rng: np.random.Generator, film: Sequence[Scenery], frames: Sequence[Shown], count: int) -> list[Choice]:
    """Questions of every kind about a film, each with an answer that the frames bear out."""
    zoomed = {f.scenery.scene.sign.colour for f in frames if f.zoomed and f.scenery.scene.sign}
    signs = [(s.scene.sign.colour, s.scene.sign.word) for s in film if s.scene.sign]
    signs.sort(key=lambda s: (s[0] not in zoomed, rng.random()))
    asked = [_sign(rng, frames, *signs[i % len(signs)]) for i in range(count // 2 if signs else 0)]
    for _ in range(count // 5 if len(signs) > 1 else 0):
        pool = signs[:3]
        first, second = (pool[i] for i in rng.permutation(len(pool))[:2])
        notes = (reads(frames, first[0]), reads(frames, second[0]))
        asked.append((*pair_choice(rng, frames, first, second), notes))
    if any(f.scenery.scene.lamp for f in frames) or rng.random() < 0.2:
        asked.append(_noted(rng, wording.FLASH_QUERY, world.COUNTS, counted(frames)))
    floor = film[0].floor
    asked.append(_noted(rng, wording.FLOOR_QUERY, _others(rng, floor, world.COLOURS), floor if frames else ""))
    text, right, wrong = pick(rng, wording.FACTS)
    asked.append(_noted(rng, text, (right, *wrong), right))
    return asked


def _sign(rng: np.random.Generator, frames: Sequence[Shown], colour: str, word: str) -> Choice:
    asked, answer = sign_choice(rng, frames, colour, word)
    known = right_choice(asked, answer) if read(frames, colour) == answer else ()
    return asked, answer, (reads(frames, colour), *known)


def _noted(rng: np.random.Generator, text: str, choices: Sequence[str], answer: str) -> Choice:
    """answer: "" where the frames do not tell: then any choice is."""
    asked = question(rng, text, choices)
    return (asked, answer, right_choice(asked, answer)) if answer else (asked, pick(rng, choices), ())


def _frames(rng: np.random.Generator, count: int, step_s: float) -> tuple[Frame, ...]:
    start = rng.uniform(0, 150)
    return tuple(
        Frame(index=i, time_s=start + i * step_s, hash="", width=_SIZE[0], height=_SIZE[1]) for i in range(count)
    )


def probes(rng: np.random.Generator, bank: Bank, n_overview: int, clips: Sequence[int], asks: int) -> Lesson:
    """Choices about a film after its overview and some zooms (frames of each)."""
    fewest = max(2, len(clips))
    film = film_of(rng, bank, int(rng.integers(fewest, max(fewest + 1, min(19, n_overview + 2)))))
    small = overview(rng, film, n_overview) if n_overview else []
    lamps = [i for i, item in enumerate(film) if item.scene.lamp]
    places = [int(p) for p in rng.permutation(len(film))[: len(clips)]]
    if lamps and clips and rng.random() < 0.5:
        places[0] = lamps[0]
    if len(places) > 1 and rng.random() < 0.15:
        places[1] = places[0]
    zooms = [clip(rng, film, at, n, whole=n > 7) for at, n in zip(places, clips, strict=False)]
    frames = [*small, *(f for zoom in zooms for f in zoom)]
    shown_small = _frames(rng, len(small), rng.uniform(3, 9))
    shown_zooms = [_frames(rng, len(zoom), rng.uniform(0.2, 1.0)) for zoom in zooms]
    choices = _choices(rng, film, frames, asks)
    asked = tuple((probe_messages(q, shown_small, shown_zooms, by="text"), answer) for q, answer, _ in choices)
    return Lesson(asked, QUESTION, tuple(f.row for f in frames), tuple(notes for _, _, notes in choices))


def readings(rng: np.random.Generator, bank: Bank, n_frames: int, count: int) -> Lesson:
    """Open questions, each about a clip of its own, or about frames too small to read."""
    asked, rows = [], []
    for _ in range(count):
        film = film_of(rng, bank, int(rng.integers(2, 4)))
        at = int(rng.integers(len(film)))
        small = rng.random() < 0.15
        frames = overview(rng, film, n_frames) if small else clip(rng, film, at, n_frames, whole=True)
        query, answer = _open_question(rng, frames)
        asked.append((qa_messages(_frames(rng, len(frames), rng.uniform(0.2, 1.0)), query), answer))
        rows += [f.row for f in frames]
    return Lesson(tuple(asked), USER, tuple(rows))


def _open_question(rng: np.random.Generator, frames: Sequence[Shown]) -> tuple[str, str]:
    draw = rng.random()
    has_lamp = any(f.scenery.scene.lamp for f in frames)
    if (has_lamp and draw < 0.8) or draw < 0.05:
        return wording.FLASH_QUERY, counted(frames) or wording.UNKNOWN
    if draw > 0.93:
        return wording.FLOOR_QUERY, frames[0].scenery.floor
    colours = [f.scenery.scene.sign.colour for f in frames if f.scenery.scene.sign]
    colour = pick(rng, colours) if colours and rng.random() < 0.9 else pick(rng, world.COLOURS)
    return wording.sign_query(colour), read(frames, colour)


def captions(rng: np.random.Generator, bank: Bank, n_frames: int, count: int) -> Lesson:
    """Captions of segments, of small frames."""
    asked, rows, level = [], [], int(rng.integers(1, 4))
    most = 1 if n_frames == 1 else max(2, min(9, n_frames // 2 + 1))
    for _ in range(count):
        film = film_of(rng, bank, int(rng.integers(1, most + 1)))
        frames = overview(rng, film, n_frames)
        shown = _frames(rng, len(frames), rng.uniform(0.3, 4.0))
        span = (shown[0].time_s, shown[-1].time_s)
        asked.append((caption_messages(level, shown, span, ()), _described(frames)))
        rows += [f.row for f in frames]
    return Lesson(tuple(asked), USER, tuple(rows))


def _described(frames: Sequence[Shown]) -> str:
    """The caption of the scenes that the frames show."""
    scenes: list[Scenery] = []
    for frame in frames:
        if not scenes or frame.scenery is not scenes[-1]:
            scenes.append(frame.scenery)
    return wording.summary([item.scene for item in scenes])


def statements(rng: np.random.Generator, bank: Bank, n_frames: int, asks: int) -> Lesson:
    """Right and wrong statements about a clip."""
    film = film_of(rng, bank, int(rng.integers(2, 4)))
    at = int(rng.integers(len(film)))
    lamps = [i for i, item in enumerate(film) if item.scene.lamp]
    if lamps and rng.random() < 0.5:
        at = lamps[0]
    frames = overview(rng, film, n_frames) if rng.random() < 0.1 else clip(rng, film, at, n_frames, whole=True)
    shown = _frames(rng, len(frames), rng.uniform(0.2, 1.0))
    made = [statement(rng, frames) for _ in range(asks)]
    asked = tuple((claim_messages(text, shown), YES_NO[0] if right else YES_NO[1]) for text, right, _ in made)
    return Lesson(asked, STATEMENT, tuple(f.row for f in frames), tuple(notes for _, _, notes in made))


def statement(rng: np.random.Generator, frames: Sequence[Shown]) -> tuple[str, bool, tuple[Note, ...]]:
    """A statement about frames, right half of the time where that can be, whether it is right, and notes on it."""
    signs = [f.scenery.scene.sign for f in frames if f.scenery.scene.sign]
    draw = rng.random()
    if any(f.scenery.scene.lamp for f in frames) and draw < 0.4:
        found = counted(frames)
        said = found if found and rng.random() < 0.5 else pick(rng, world.COUNTS)
        return wording.flash_statement(said), said == found, (Note(f"flashes {said}", HOLDS, int(said == found)),)
    if signs and draw < 0.75:
        sign = pick(rng, signs)
        colour = sign.colour if rng.random() < 0.85 else pick(rng, world.COLOURS)
        said = (
            sign.word
            if rng.random() < 0.5
            else pick(rng, near_misses(sign.word) if rng.random() < 0.7 else world.WORDS)
        )
        right = read(frames, colour) == said
        return wording.sign_statement(colour, said), right, (reads(frames, colour), Note(said, HOLDS, int(right)))
    if draw < 0.82:
        floor = frames[0].scenery.floor
        said = floor if rng.random() < 0.5 else pick(rng, world.COLOURS)
        return wording.floor_statement(said), said == floor, (Note(f"is {said}", HOLDS, int(said == floor)),)
    scene = pick(rng, frames).scenery.scene
    said = wording.describe(scene)
    if rng.random() < 0.5:
        said = _altered(rng, said)
    return said, any(wording.describe(f.scenery.scene) == said for f in frames), _attributes(frames, said)


def _attributes(frames: Sequence[Shown], said: str) -> tuple[Note, ...]:
    """On each attribute that a description names: whether a scene of the frames has it."""
    scenes = [f.scenery.scene for f in frames]
    match = _DESCRIPTION.fullmatch(said)
    assert match is not None
    size, colour, kind, background, article, extra = match.groups()
    found = [
        (size, any(s.shape.size == size for s in scenes)),
        (f"{size} {colour}", any(s.shape.colour == colour for s in scenes)),
        (f"{colour} {kind}", any(s.shape.kind == kind for s in scenes)),
        (f"on a {background}", any(s.background == background for s in scenes)),
    ]
    if extra:
        held = any(s.lamp if extra == "lamp" else s.sign and s.sign.colour == extra for s in scenes)
        found.append((f", with {article} {extra}", held))
    return tuple(Note(phrase, HOLDS, int(true)) for phrase, true in found)


def _altered(rng: np.random.Generator, sentence: str) -> str:
    """The sentence with one of its attributes changed."""
    words = sentence.replace(",", " ,").replace(".", " .").split()
    kinds = (world.SIZES, world.COLOURS, world.KINDS, world.BACKGROUNDS)
    places = [(i, values) for i, word in enumerate(words) for values in kinds if word in values]
    place, values = pick(rng, places)
    words[place] = pick(rng, [value for value in values if value != words[place]])
    return " ".join(words).replace(" ,", ",").replace(" .", ".")
