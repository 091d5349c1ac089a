"""Near-duplicates are found exactly: as a definition written out letter by letter finds them."""

import random

import pytest

from pipeline.shards.alike import Text, near_duplicates


def likeness(one: str, other: str) -> float:
    """2 * longest common subsequence / characters of both."""
    row = [0] * (len(other) + 1)
    for letter in one:
        before = 0
        for i, candidate in enumerate(other):
            before, row[i + 1] = row[i + 1], before + 1 if letter == candidate else max(row[i], row[i + 1])
    return 2 * row[-1] / (len(one) + len(other))


def by_definition(texts: list[Text], least: float) -> list[str]:
    staying: list[str] = []
    found = []
    for item in texts:
        if any(likeness(item.text, other) >= least for other in staying):
            found.append(item.key)
        else:
            staying.append(item.text)
    return found


@pytest.mark.parametrize("least", [0.5, 0.8, 0.9, 1.0])
def test_what_is_found_is_what_the_definition_finds(least: float) -> None:
    dice = random.Random(3)
    words = ["the", "man", "walks", "to", "a", "red", "door", "and", "opens", "it", "then", "sees", "two", "dogs"]
    texts = [Text(str(n), " ".join(dice.choices(words, k=dice.randint(2, 12)))) for n in range(60)]
    texts += [Text(f"{t.key}-again", t.text.replace("the", "a", 1)) for t in texts[:20]]
    assert near_duplicates(texts, least) == by_definition(texts, least)
    assert near_duplicates(texts, least) == near_duplicates(list(texts), least)


def test_case_and_marks_do_not_tell_texts_apart_and_scripts_and_numbers_do() -> None:
    texts = [
        Text("a", "Look at [2, 5]!"),
        Text("b", "look AT (2: 5)"),
        Text("c", "Look at [2, 9]!"),
        Text("d", "看第二个架子"),
        Text("e", "看第三个架子"),
    ]
    assert near_duplicates(texts, 1.0) == ["b"]
    assert near_duplicates(texts, 0.8) == ["b", "c", "e"]


def test_texts_without_a_word_are_alike_to_none() -> None:
    assert near_duplicates([Text("a", ""), Text("b", "…"), Text("c", "")], 0.5) == []


def test_the_first_stays_and_chains_do_not_reach_beyond_it() -> None:
    """b is near a, c near b but not near a: c stays."""
    texts = [Text("a", "abcdefgh"), Text("b", "abcdefxy"), Text("c", "abcdwvxy")]
    assert near_duplicates(texts, 0.7) == ["b"]
