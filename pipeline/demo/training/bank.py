"""Seen frames of many training scenes, as the image tokens that the finished vision tower makes of them.

The language model learns on these: a lesson picks frames out of the bank, and no picture is drawn or seen twice.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.demo import drawing, world
from pipeline.demo.training.loop import Feeder, half_precision
from pipeline.demo.training.network import TOKENS, look
from pipeline.demo.training.pictures import OVERVIEW_WIDTHS, ZOOM_WIDTHS, seen
from pipeline.demo.world import FIRST_TRAINING_SEED, Film, Scene, pick

FIRST_SEED = FIRST_TRAINING_SEED + 10_000_000
_SCENES_A_SEED = 50
_AT_ONCE = 64
"""Frames that the tower looks at in one pass."""


@dataclass(frozen=True)
class Scenery:
    """A scene, its floor, and the rows of the bank that show it.

    word, blank: zoomed, with its sign's word on and off (or its lamp); plain scenes have blank rows only.
    overview: at an overview's size, at any time.
    """

    scene: Scene
    floor: str
    word: tuple[int, ...]
    blank: tuple[int, ...]
    overview: tuple[int, ...]


@dataclass(frozen=True)
class Bank:
    """tokens: bfloat16 (rows, 16, 256). by_floor: sceneries that can be of one film."""

    tokens: torch.Tensor
    by_floor: dict[str, list[Scenery]]


def kept(path: Path, build: Callable[[], Bank]) -> Bank:
    """The bank that an earlier call saved there, or a new one, saved there. A file of another's is not to be opened."""
    if not path.exists():
        bank, part = build(), path.with_suffix(".part")
        torch.save(bank, part)
        part.replace(path)
    loaded: Bank = torch.load(path, weights_only=False)
    return loaded


def build(model: Any, n_scenes: int, seed: int, device: torch.device, say: Callable[[str], None]) -> Bank:
    """Draws the scenes in other processes and looks at them here."""
    first, n_seeds = FIRST_SEED + seed * 100_000, n_scenes // _SCENES_A_SEED
    sceneries: dict[str, list[Scenery]] = {colour: [] for colour in world.COLOURS}
    tokens, n_rows = [], 0
    with Feeder(draw, range(first, first + n_seeds)) as feeder:
        for number in range(n_seeds):
            pixels, found = feeder.take()
            for part in torch.split(torch.from_numpy(pixels), _AT_ONCE):
                with torch.inference_mode(), half_precision(device):
                    _, seen_tokens = look(model, part.to(device))
                tokens.append(seen_tokens.to("cpu", torch.bfloat16))
            for item in found:
                sceneries[item.floor].append(moved(item, n_rows))
            n_rows += len(pixels)
            if number % 20 == 19:
                say(f"bank {number + 1}/{n_seeds}: {n_rows} frames")
    return Bank(torch.cat(tokens).view(-1, TOKENS, tokens[0].shape[-1]), sceneries)


def moved(item: Scenery, by: int) -> Scenery:
    """The scenery with its rows behind `by` others."""

    def later(rows: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(row + by for row in rows)

    return replace(item, word=later(item.word), blank=later(item.blank), overview=later(item.overview))


def draw(seed: int) -> tuple[np.ndarray, list[Scenery]]:
    """Fifty scenes of a seed: frames uint8 (rows, 256, 256, 3), and which rows show what."""
    rng = np.random.default_rng(seed)
    frames: list[np.ndarray] = []
    found = []
    for _ in range(_SCENES_A_SEED):
        role = rng.random()
        word = pick(rng, world.WORDS) if role < 0.7 else ""
        length = int(rng.integers(50, 91)) / 10
        background, colour = pick(rng, world.BACKGROUNDS), pick(rng, world.COLOURS)
        scene = world.scene(rng, 0.0, length, background, word, colour, with_lamp=role > 0.85)
        found.append(_seen_scene(rng, scene, pick(rng, world.COLOURS), frames))
    return np.stack(frames), found


def _seen_scene(rng: np.random.Generator, scene: Scene, floor: str, frames: list[np.ndarray]) -> Scenery:
    film = Film(0, floor, (scene,))
    times = [float(t) for t in rng.uniform(0, scene.end_s, 60)]
    shown = [t for t in times if _active(scene, t)]
    off = [t for t in times if not _active(scene, t)]

    def rows(at: list[float], widths: tuple[int, int]) -> tuple[int, ...]:
        first = len(frames)
        frames.extend(seen(drawing.draw(film, t), int(rng.integers(*widths)), rng) for t in at)
        return tuple(range(first, len(frames)))

    return Scenery(
        scene, floor, rows(shown[:3], ZOOM_WIDTHS), rows(off[:2], ZOOM_WIDTHS), rows(times[:3], OVERVIEW_WIDTHS)
    )


def _active(scene: Scene, time_s: float) -> bool:
    """Whether the sign's word, or the lamp, is on."""
    lit = scene.sign or scene.lamp
    return lit is not None and lit.on(time_s)
