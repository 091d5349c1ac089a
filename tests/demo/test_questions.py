"""Questions of a film: usable by the pipeline's own reader, and true of what is drawn."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.demo import wording, world
from pipeline.demo.questions import KINDS, Row, near_misses, questions
from pipeline.sources import load_questions
from schemas.config import Source
from schemas.question import LETTERS, Question

SEEDS = range(40)


@pytest.fixture(scope="module")
def asked() -> list[tuple[world.Film, Row]]:
    films = [world.film(seed) for seed in SEEDS]
    return [(film, row) for film in films for row in questions(film)]


def of_kind(asked: list[tuple[world.Film, Row]], kind: str) -> list[tuple[world.Film, Row]]:
    return [(film, row) for film, row in asked if row["kind"] == kind]


def test_the_source_reads_every_row_and_keeps_its_kind(asked: list[tuple[world.Film, Row]], tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for _, row in asked))
    read = list(load_questions(Source(path=str(path), videos="videos")))
    assert len(read) == len(asked)
    for question, (_, row) in zip(read, asked, strict=True):
        assert isinstance(question, Question)
        assert question.answer_text == row["answer_text"]
        assert question.question_id.startswith(row["qid"])
        assert question.clue_intervals == tuple(row["clue_intervals"])
        assert json.loads(question.extras_json)["kind"] == row["kind"]


def test_each_film_is_asked_every_kind_under_ids_of_their_own(asked: list[tuple[world.Film, Row]]) -> None:
    for seed in SEEDS:
        kinds = Counter(row["kind"] for film, row in asked if film.seed == seed)
        assert kinds == {**dict.fromkeys(KINDS, 1), "sign": 2}
    assert len({row["qid"] for _, row in asked}) == len(asked)


def test_a_seed_gives_the_same_questions_again() -> None:
    assert questions(world.film(5)) == questions(world.film(5))


def test_the_letter_names_the_answer_and_choices_differ(asked: list[tuple[world.Film, Row]]) -> None:
    for _, row in asked:
        if row["choices"]:
            assert row["choices"][LETTERS.index(row["answer"])] == row["answer_text"]
            assert len(set(row["choices"])) == 4
        else:
            assert row["answer"] == row["answer_text"]


def test_letters_say_nothing_of_the_answer(asked: list[tuple[world.Film, Row]]) -> None:
    letters = Counter(row["answer"] for _, row in asked if row["choices"])
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 0.35 * letters.total()


def test_a_sign_is_asked_among_near_misses_while_its_word_is_shown(asked: list[tuple[world.Film, Row]]) -> None:
    for film, row in [*of_kind(asked, "sign"), *of_kind(asked, "open")]:
        colour = row["qid"].rsplit("-", 1)[1]
        sign = film.sign(colour)
        assert row["question"] == wording.sign_query(colour)
        assert (row["answer_text"], row["clue_intervals"]) == (sign.word, [sign.shown])
        if row["kind"] == "sign":
            assert sorted(row["choices"]) == sorted([sign.word, *near_misses(sign.word)])


def test_a_pair_needs_both_signs(asked: list[tuple[world.Film, Row]]) -> None:
    for film, row in of_kind(asked, "pair"):
        first, second = (film.sign(colour) for colour in row["qid"].split("-")[-2:])
        assert row["answer_text"] == wording.pair_answer(first.word, second.word)
        assert row["clue_intervals"] == sorted([first.shown, second.shown])
        halves = [set(half) for half in zip(*(choice.split(" and ") for choice in row["choices"]), strict=True)]
        for half, sign in zip(halves, (first, second), strict=True):
            assert len(half) == 2 and half <= {sign.word, *near_misses(sign.word)}


def test_flashes_are_counted_from_the_first_to_the_last(asked: list[tuple[world.Film, Row]]) -> None:
    for film, row in of_kind(asked, "flash"):
        flashes = next(scene.lamp.flashes for scene in film.scenes if scene.lamp)
        assert ("zero", "one", *world.COUNTS).index(row["answer_text"]) == len(flashes)
        assert row["clue_intervals"] == [(flashes[0][0], pytest.approx(flashes[-1][1]))]
        assert sorted(row["choices"]) == sorted(world.COUNTS)


def test_questions_that_need_no_zoom_have_no_clues(asked: list[tuple[world.Film, Row]]) -> None:
    for film, row in of_kind(asked, "overview"):
        assert (row["answer_text"], row["clue_intervals"]) == (film.floor, [])
    for _, row in of_kind(asked, "blind"):
        assert row["clue_intervals"] == []
        assert (row["question"], row["answer_text"]) in [(text, answer) for text, answer, _ in wording.FACTS]


def test_no_sign_of_a_film_is_asked_about_twice(asked: list[tuple[world.Film, Row]]) -> None:
    for seed in SEEDS:
        rows = [row for film, row in asked if film.seed == seed and row["kind"] in ("sign", "pair", "open")]
        colours = [colour for row in rows for colour in row["qid"].split("-")[3:]]
        assert len(colours) == len(set(colours)) == 5
