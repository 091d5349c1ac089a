"""Sources: every row becomes a question or a bad row with its reason."""

import json
from pathlib import Path

import pytest

from pipeline.sources import BadRow, load_questions, video_uri
from schemas.config import Source
from schemas.errors import UserError
from schemas.question import Question

SHARED = Path(__file__).parents[3] / "shared" / "data"


def jsonl(path: Path, *rows: object) -> Source:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return Source(format="jsonl", path=str(path), videos=str(path.parent))


GOOD = {
    "qid": "q1",
    "video": "a.mp4",
    "question": "What?",
    "choices": ["x", "y"],
    "answer": "B",
    "clue_intervals": [[1, 2.5]],
}


def test_a_jsonl_row_becomes_a_question_with_letter_and_text(tmp_path: Path) -> None:
    (question,) = load_questions(jsonl(tmp_path / "q.jsonl", GOOD))
    assert isinstance(question, Question)
    assert (question.answer_letter, question.answer_text, question.kind) == ("B", "y", "multiple_choice")
    assert question.clue_intervals == ((1.0, 2.5),)
    assert question.question_id.startswith("q1-")


def test_an_answer_given_as_text_and_an_open_question(tmp_path: Path) -> None:
    by_text, open_question = load_questions(
        jsonl(tmp_path / "q.jsonl", {**GOOD, "answer": "x"}, {"video": "a.mp4", "question": "Who?", "answer": "Ann"})
    )
    assert isinstance(by_text, Question) and by_text.answer_letter == "A"
    assert isinstance(open_question, Question)
    assert (open_question.kind, open_question.answer_letter, open_question.answer_text) == ("open", "", "Ann")


def test_how_far_off_an_answer_may_be_is_kept_with_the_question_and_checked(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "question": "How long?", "answer": "90 s", "answer_tolerance": 5}
    fine, bad = load_questions(jsonl(tmp_path / "q.jsonl", row, row | {"answer_tolerance": "about 5"}))
    assert isinstance(fine, Question) and fine.tolerances == (5.0, 0.0)
    assert isinstance(bad, BadRow) and "answer_tolerance 'about 5'" in bad.message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**GOOD, "video": ""}, "'video' is missing"),
        ({**GOOD, "answer": "Z"}, "neither a letter"),
        ({**GOOD, "answer": "x", "choices": ["x", "x"]}, "neither a letter"),
        ({**GOOD, "answer_text": "x"}, "answer text is 'x'"),
        ({**GOOD, "clue_intervals": [[3, 1]]}, "not 0 <= start <= end"),
        ({**GOOD, "clue_intervals": [[1]]}, "not enough values"),
        ({**GOOD, "choices": ["only"]}, "1 choices"),
        ('{"broken": ', "Expecting value"),
        ("[1, 2]", "not a JSON object"),
    ],
)
def test_an_unusable_row_is_kept_with_its_reason_and_spoils_no_other(tmp_path: Path, row: object, reason: str) -> None:
    good, bad, again = load_questions(jsonl(tmp_path / "q.jsonl", GOOD, row, {**GOOD, "qid": "q2"}))
    assert isinstance(good, Question) and isinstance(again, Question)
    assert isinstance(bad, BadRow)
    assert reason in bad.message
    assert bad.question.question_id.startswith("bad-")


def test_the_id_follows_from_content_and_not_from_order(tmp_path: Path) -> None:
    other = {**GOOD, "qid": "q2"}
    ids = [q.question_id for q in load_questions(jsonl(tmp_path / "a.jsonl", GOOD, other)) if isinstance(q, Question)]
    back = [q.question_id for q in load_questions(jsonl(tmp_path / "b.jsonl", other, GOOD)) if isinstance(q, Question)]
    edited = next(iter(load_questions(jsonl(tmp_path / "c.jsonl", {**GOOD, "question": "Why?"}))))
    assert ids == back[::-1]
    assert isinstance(edited, Question) and edited.question_id not in ids


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        list(load_questions(Source(path=str(tmp_path / "none.jsonl"), videos=".")))


def test_cgbench_videos_get_their_suffix() -> None:
    assert video_uri(Source(format="cgbench", path="q", videos="v/"), "BV.1") == "v/BV.1.mp4"
    assert video_uri(Source(format="jsonl", path="q", videos="v"), "a/b.mkv") == "v/a/b.mkv"


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real annotation samples")
def test_real_annotations_are_read_whole() -> None:
    cgbench = SHARED / "annotations" / "cgbench_mini_sample.json"
    questions = list(load_questions(Source(format="cgbench", path=str(cgbench), videos="v")))
    raw = json.loads(cgbench.read_text())
    assert len(questions) == len(raw)
    for question, row in zip(questions, raw, strict=True):
        if isinstance(question, BadRow):
            assert row["choices"].count(row["answer"]) > 1
        else:
            assert question.answer_text == row["answer"]
            assert len(question.clue_intervals) == len(row["clue_intervals"])
    own = list(load_questions(Source(path=str(SHARED / "questions.jsonl"), videos="v")))
    assert len(own) == 16 and not any(isinstance(q, BadRow) for q in own)
