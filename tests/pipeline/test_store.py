"""The run directory: atomic files, footers, settings that never mix, a plan that only grows."""

from pathlib import Path

import pytest

from pipeline.storage import Storage
from pipeline.store import RunStore
from schemas.captions import CaptionTree, Usage
from schemas.config import RunConfig, stage_settings
from schemas.errors import UserError
from schemas.question import Question, question_id


def config(temperature: float = 1.0) -> RunConfig:
    return RunConfig.model_validate(
        {
            "source": {"path": "q.jsonl", "videos": "v"},
            "teacher": {"model": "m", "base_url": "http://127.0.0.1:1/v1", "temperature": temperature},
        }
    )


def question(text: str, video: str = "a.mp4") -> Question:
    return Question(
        question_id=question_id("", video, text, (), "yes", ()),
        video_id=video,
        text=text,
        kind="open",
        choices=(),
        answer_letter="",
        answer_text="yes",
        clue_intervals=(),
        source="jsonl",
        source_id="",
    )


def tree(video_id: str) -> CaptionTree:
    return CaptionTree(
        video_id=video_id,
        status="ok",
        video=None,
        width=None,
        split_rule=None,
        nodes=(),
        overview=(),
        usage=Usage(),
        error=None,
    )


def test_a_write_replaces_whole_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("deep/file", b"one")
    storage.write("deep/file", b"two")
    assert storage.read("deep/file") == b"two"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file"]
    assert storage.read_or_none("none") is None


def test_a_committed_shard_reads_back_with_its_footer(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    store.commit("caption", 3, [tree("a"), tree("b")], {"fingerprint": "f", "rows": 2})
    assert store.finished("caption") == {3}
    assert [t.video_id for t in store.rows(CaptionTree, "caption", 3)] == ["a", "b"]
    assert store.footer("caption", 3)["fingerprint"] == "f"


def test_an_empty_shard_has_the_same_schema_as_a_full_one(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    store.commit("caption", 0, [], {})
    store.commit("caption", 1, [tree("a")], {})
    assert store.table("caption", 0).schema.equals(store.table("caption", 1).schema)


def test_the_same_store_works_on_an_object_store() -> None:
    store = RunStore("memory://run")
    store.commit("caption", 0, [tree("a")], {"rows": 1})
    assert store.finished("caption") == {0}
    assert store.footer("caption", 0)["rows"] == 1


def test_another_temperature_stops_with_the_difference(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    store.open_for(config(), stage_settings(config(), "1"))
    store.open_for(config(), stage_settings(config(), "1"))
    with pytest.raises(UserError, match=r"teacher\.temperature: 1\.0 -> 0\.7"):
        store.open_for(config(0.7), stage_settings(config(0.7), "1"))


def test_how_a_model_is_reached_may_change(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    store.open_for(config(), stage_settings(config(), "1"))
    moved = config().model_copy(
        update={"teacher": config().teacher.model_copy(update={"base_url": "http://127.0.0.1:2/v1", "concurrency": 3})}
    )
    store.open_for(moved, stage_settings(moved, "1"))


def test_a_folder_without_a_run_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        RunStore(str(tmp_path)).require()
