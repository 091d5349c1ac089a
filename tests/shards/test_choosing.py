"""What is left out of the rows that meet a condition: near-duplicates, and what is too much; never without a reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.shards.choosing import choose
from pipeline.shards.condition import where
from pipeline.shards.formats.layout import Kind
from pipeline.shards.funnel import Funnel
from pipeline.shards.table import Rows
from pipeline.shards.thinning import Thinning, in_words
from schemas.errors import Failure, UserError
from tests.shards.crowded import ATTEMPTS, QUESTIONS, TEXTS, VIDEOS, asked, crowded_run, gain
from tests.shards.cutting import cut, rows_of
from tests.shards.runs import GOOD, answer_turn, begin, commit, question, trajectory, verdict

ALL = "status = 'answered'"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows(crowded_run(str(tmp_path_factory.mktemp("crowd") / "run")))


def kept(rows: Rows, kind: Kind = "sft", condition: str = ALL, seed: int = 0, **asked: Any) -> tuple[list[str], Funnel]:
    chosen = where(condition)
    chosen = type(chosen)(chosen.name, chosen.description, chosen.source, chosen.clauses, Thinning(**asked))
    found = choose(rows, chosen, kind, seed)
    return [row["trajectory_id"] for row in rows.query("SELECT trajectory_id FROM kept ORDER BY rank")], found


def of_question(name: str) -> str:
    return name.split("@")[0]


def of_video(name: str) -> str:
    return str(int(of_question(name)[1:]) // 10)


def test_nothing_is_left_out_unless_it_is_asked_for(crowd: Rows) -> None:
    names, found = kept(crowd)
    assert len(names) == found.kept == VIDEOS * QUESTIONS * ATTEMPTS == found.planned
    assert names == sorted(names)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_at_most_so_many_of_a_question_a_video_and_a_letter(crowd: Rows, seed: int) -> None:
    letters = {asked(v, n).question_id: asked(v, n).answer_letter for v in range(VIDEOS) for n in range(QUESTIONS)}
    names, found = kept(crowd, seed=seed, per_question=2, per_video=5, per_letter=3)
    assert max(Counter(map(of_question, names)).values()) <= 2
    assert max(Counter(map(of_video, names)).values()) <= 5
    assert Counter(letters[of_question(name)] for name in names) == {"A": 3, "C": 3}
    lost = {loss.reason: loss.rows for loss in found.losses}
    assert lost["more than 2 per question"] == VIDEOS * QUESTIONS and lost["more than 5 per video"] == 3 * VIDEOS
    assert found.kept == len(names) == found.planned - sum(lost.values())
    assert kept(crowd, seed=seed, per_question=2, per_video=5, per_letter=3)[0] == names


def test_a_bound_that_nothing_exceeds_drops_nothing(crowd: Rows) -> None:
    assert len(kept(crowd, per_question=ATTEMPTS, per_video=QUESTIONS * ATTEMPTS)[0]) == 36


def test_a_video_gives_of_as_many_questions_as_it_may(crowd: Rows) -> None:
    """Not two attempts at a question before each other one has one."""
    names, _ = kept(crowd, per_video=QUESTIONS)
    assert len({of_question(name) for name in names}) == len(names) == VIDEOS * QUESTIONS


def test_another_seed_draws_others(crowd: Rows) -> None:
    drawn = {tuple(kept(crowd, seed=seed, per_question=1)[0]) for seed in range(4)}
    assert len(drawn) == 4 and {len(names) for names in drawn} == {VIDEOS * QUESTIONS}


def test_the_best_of_a_question_are_kept_and_what_was_not_measured_is_last(crowd: Rows) -> None:
    for most, best_by, expected in ((1, "evidence_gain", "2"), (1, "-evidence_gain", "0"), (2, "evidence_gain", "12")):
        names, _ = kept(crowd, per_question=most, best_by=best_by)
        measured = [name for name in names if not name.startswith("q0@")]
        assert {name[-1] for name in measured if int(of_question(name)[1:]) % 10} == set(expected)
    assert gain("q0@2") is None and "q0@1" in kept(crowd, best_by="evidence_gain")[0]
    assert kept(crowd, best_by="evidence_gain") == kept(crowd, per_question=1, best_by="evidence_gain", seed=5)
    ties, _ = kept(crowd, best_by="n_zooms")
    assert {name[-1] for name in ties} == {"0"}


def test_only_what_meets_the_condition_competes(crowd: Rows) -> None:
    """The wrong attempt is the one with the highest gain; the best of the right ones is kept in its place."""
    names, _ = kept(crowd, condition=f"{ALL} AND answer_correct", best_by="evidence_gain")
    assert "q2@1" in names and "q2@2" not in names


def test_a_question_for_rl_counts_once_and_is_left_out_with_all_its_attempts(crowd: Rows) -> None:
    names, found = kept(crowd, "rl")
    assert names == sorted(f"q{10 * v + n}@0" for v in range(VIDEOS) for n in range(QUESTIONS))
    assert found.kept == 36
    names, found = kept(crowd, "rl", per_video=2)
    assert Counter(map(of_video, names)) == {str(v): 2 for v in range(VIDEOS)}
    assert found.kept == VIDEOS * 2 * ATTEMPTS
    assert {name[-1] for name in kept(crowd, "rl", best_by="-evidence_gain")[0]} == {"0"}
    for wrong in ({"per_question": 1}, {"distinct_thoughts": 0.9}):
        with pytest.raises(UserError, match="leave out --per-question"):
            kept(crowd, "rl", **wrong)


def test_questions_that_are_always_or_never_solved_are_left_out(crowd: Rows, tmp_path: Path) -> None:
    names, found = kept(crowd, "rl", pass_rate_above=0.0, pass_rate_below=1.0)
    assert names == ["q12@0", "q22@0", "q2@0"]
    assert {(loss.reason, loss.rows) for loss in found.losses} == {("pass rate not below 1.0", 27)}
    assert {of_question(name) for name in kept(crowd, pass_rate_below=0.7)[0]} == {"q2", "q12", "q22"}
    assert kept(crowd, pass_rate_above=0.7)[1].kept == 27
    # A failed attempt counts as wrong; one whose outcome nobody knows does not count.
    store = begin(str(tmp_path), [question(n, "v0") for n in range(3)], attempts=2)
    gone = Failure(stage="teach", kind="timeout", message="")
    lost = Failure(stage="replay", kind="video_changed", message="")
    made = [trajectory(question(n, "v0"), 0, turns=GOOD, final="C") for n in range(3)]
    made.insert(1, trajectory(question(0, "v0"), 1, "failed", failure=gone))
    made.insert(3, trajectory(question(1, "v0"), 1, turns=GOOD, final="C"))
    made.append(trajectory(question(2, "v0"), 1, turns=(GOOD[0], answer_turn("A")), final="A"))
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t, lost if t.trajectory_id == "q1@1" else None) for t in made])
    assert {of_question(name) for name in kept(Rows(store), pass_rate_below=1)[0]} == {"q0", "q2"}
    assert {of_question(name) for name in kept(Rows(store), pass_rate_above=0.5)[0]} == {"q1"}


def test_near_duplicate_questions_of_a_video_leave_one(crowd: Rows) -> None:
    names, found = kept(crowd, distinct_questions=0.9)
    assert {int(of_question(name)[1:]) % 10 for name in names} == {0, 2, 3}
    # The same text about another video is another question.
    assert {of_video(name) for name in names} == {"0", "1", "2"}
    assert {(loss.reason, loss.rows) for loss in found.losses} == {("near-duplicate question", VIDEOS * ATTEMPTS)}
    assert kept(crowd, distinct_questions=1.0)[1].kept == 27  # marks do not tell texts apart
    assert TEXTS[0] != TEXTS[1]


def test_near_duplicate_thoughts_of_a_video_leave_the_best(crowd: Rows) -> None:
    names, found = kept(crowd, distinct_thoughts=0.95)
    per_text = Counter(TEXTS[int(of_question(name)[1:]) % 10].rstrip("?") for name in names)
    assert per_text == dict.fromkeys((text.rstrip("?") for text in TEXTS), 2 * VIDEOS)
    assert {(loss.reason, loss.rows) for loss in found.losses} == {("near-duplicate reasoning", 36 - len(names))}
    best, _ = kept(crowd, distinct_thoughts=0.95, best_by="evidence_gain", per_question=2)
    assert {name for name in best if of_question(name) == "q3"} == {"q3@1", "q3@2"}


def test_a_video_of_several_shards_is_one_video(tmp_path: Path) -> None:
    """New attempts lie in new shards: they are compared with, and counted among, those before."""
    from pipeline.plan import Plan

    items = [asked(0, n) for n in range(QUESTIONS)]
    store = begin(str(tmp_path), items, attempts=1)
    Plan(store).extend(items, attempts=2, videos_per_shard=1)
    for shard in range(2):
        made = [trajectory(item, shard, turns=GOOD, final=item.answer_letter) for item in items]
        commit(store, "teach", shard, made)
        commit(store, "replay", shard, [verdict(t) for t in made])
    rows = Rows(store)
    assert len(kept(rows, distinct_thoughts=0.9)[0]) == 1
    assert len(kept(rows, distinct_questions=0.9)[0]) == 6
    assert len(kept(rows, per_video=3)[0]) == 3


def test_what_cannot_be_asked_for_is_said(crowd: Rows) -> None:
    for best_by, message in (("gain", "there is no column gain"), ("teacher", "teacher is VARCHAR, not a number")):
        with pytest.raises(UserError, match=message):
            kept(crowd, best_by=best_by)
    with pytest.raises(UserError, match="there is no column 1; DROP"):
        kept(crowd, best_by="1; DROP TABLE rows")
    with pytest.raises(UserError, match=r"--per-video 0: input should be greater than or equal to 1"):
        cut(crowd.store.url, "a", None, ALL, "sft", thinning={"per_video": 0})
    with pytest.raises(UserError, match=r"--distinct-questions 90"):
        cut(crowd.store.url, "a", None, ALL, "sft", thinning={"distinct_questions": 90})


def test_the_card_says_what_was_left_out_in_words(crowd: Rows) -> None:
    thinning = {"distinct_questions": 0.9, "per_video": 2, "best_by": "evidence_gain"}
    cut(crowd.store.url, "thin", None, ALL, "sft", thinning=thinning)
    card = crowd.store.storage.read("cuts/thin/README.md").decode()
    for sentence in (
        "1. Of questions on one video whose texts are alike to 0.9, one is kept.",
        "2. Of each question at most 1, those with the most evidence_gain.",
        "3. Of each video at most 2 attempts, of as many questions as there are, drawn by the seed 0.",
        "| before kept | `near-duplicate question` | -9 |",
        "| before kept | `more than 1 per question` | -18 |",
        "| before kept | `more than 2 per video` | -3 |",
    ):
        assert sentence in card
    assert len(rows_of(crowd.store, "thin", "train")) == 6
    with pytest.raises(UserError, match="differs in thinning"):
        cut(crowd.store.url, "thin", None, ALL, "sft", thinning=thinning | {"per_video": 1})
    assert in_words(Thinning(), "sft", "0") == []
    assert in_words(Thinning(best_by="-cost_usd", per_letter=3), "rl", "4") == [
        "A question is told by its attempt with the least cost_usd.",
        "Of each reference letter at most 3 questions, drawn by the seed 4.",
    ]
