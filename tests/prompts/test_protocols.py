"""Finding a protocol by name, and filling templates."""

import numpy as np
import pytest
from jinja2 import UndefinedError

from prompts.protocols import PROTOCOLS, protocol
from prompts.sampling import spread_indices
from prompts.template import fill


def test_each_protocol_is_found_by_its_own_name() -> None:
    assert [protocol(p.name) for p in PROTOCOLS] == list(PROTOCOLS)
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    names = "videozoomer, longvideo_r1, framethinker, longvt, love_r1, timesearch_r"
    with pytest.raises(KeyError, match=f"'zoomer'; known protocols: {names}"):
        protocol("zoomer")


def test_only_a_protocol_with_captions_has_hints() -> None:
    assert {p.name: (p.uses_captions, p.has_hints, p.default_max_turns) for p in PROTOCOLS} == {
        "videozoomer": (False, False, 5),
        "longvideo_r1": (True, True, 30),
        "framethinker": (False, False, 5),
        "longvt": (False, False, 6),
        "love_r1": (False, False, 3),
        "timesearch_r": (False, False, 8),
    }


def test_a_missing_value_is_an_error_and_nothing_is_escaped() -> None:
    with pytest.raises(UndefinedError):
        fill("longvideo_r1_system", {})
    assert "**<b>&** major segments" not in fill("longvideo_r1_system", {"width": 4})
    assert "divided into <b>& major segments" in fill("longvideo_r1_system", {"width": "<b>&"})


def test_values_are_never_read_as_templates() -> None:
    text = fill("longvideo_r1_hint_segments", {"segments": ["{{ 1 + 1 }}"]})
    assert "{{ 1 + 1 }}" in text


def test_indices_are_spread_as_numpy_spreads_them_each_once() -> None:
    chance = np.random.default_rng(3)
    for _ in range(2000):
        first, count = int(chance.integers(0, 10**6)), int(chance.integers(1, 20))
        last = first + int(chance.integers(0, 30 if count % 2 else 10**5))
        assert list(spread_indices(first, last, count)) == sorted({*map(int, np.linspace(first, last, count))})
