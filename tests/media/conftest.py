"""Encoded files, each made once per session and only where a test asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus import KINDS, Kind, encode

FRAMES = 150

KIND_NAMES = [kind.name for kind in KINDS]

Encoded = Callable[[str], Path]
"""From the name of a kind to its file of FRAMES frames."""


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    folder = tmp_path_factory.mktemp("corpus")
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            kind = next(kind for kind in KINDS if kind.name == name)
            made[name] = _encode(folder, kind)
        return made[name]

    return make


def _encode(folder: Path, kind: Kind) -> Path:
    path = folder / f"{kind.name.replace(' ', '_').replace(':', '')}{kind.suffix}"
    encode(path, FRAMES, kind)
    return path
