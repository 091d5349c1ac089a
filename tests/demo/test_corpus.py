"""The demo's files: films rendered once, a broken copy that is refused, questions that a source reads."""

from pathlib import Path

import pytest

from pipeline.demo import corpus, world
from pipeline.demo.film import film_name
from pipeline.media.errors import VideoError
from pipeline.media.video import VideoFile
from pipeline.sources import load_questions
from schemas.config import Source
from schemas.errors import Fatal
from schemas.question import Question

SEEDS = (3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "videos"
    corpus.write_films(folder, SEEDS, lambda done, total: None)
    return folder


def test_every_film_is_there_and_whole(folder: Path) -> None:
    for seed in SEEDS:
        with VideoFile(str(folder / film_name(seed))) as opened:
            assert opened.video.duration_s == pytest.approx(world.film(seed).duration_s)


def test_the_copy_that_is_cut_short_is_refused_for_that_reason(folder: Path) -> None:
    with pytest.raises(VideoError) as refused:
        VideoFile(str(folder / corpus.cut_short_name(SEEDS[0])))
    assert refused.value.kind == "video_truncated"


def test_films_that_are_there_are_not_rendered_again(folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if "cut-short" not in path.name}
    seen: list[tuple[int, int]] = []
    corpus.write_films(folder, SEEDS, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in before}


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal, match=r"the films cannot be written to .*file/videos"):
        corpus.write_films(tmp_path / "file" / "videos", SEEDS, lambda done, total: None)


def test_the_source_reads_all_questions_and_each_names_a_file(folder: Path, tmp_path: Path) -> None:
    rows = corpus.corpus_questions(SEEDS)
    (tmp_path / "questions.jsonl").write_text(corpus.as_jsonl(rows))
    read = list(load_questions(Source(path=str(tmp_path / "questions.jsonl"), videos=str(folder))))
    assert len(read) == len(rows) == 2 * 7 + 1
    assert len({question.question_id for question in read if isinstance(question, Question)}) == len(rows)
    assert {row["video"] for row in rows} == {path.name for path in folder.iterdir()}
