"""Cuts in the forms of trainers: golden records, explicit schemas, true pictures, honest masks."""

import hashlib
import io
import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.cli import FORMATS as NAMES
from pipeline.shards.formats.known import FORMATS, known_format
from pipeline.shards.formats.layout import Kind, Media, placeholders
from pipeline.store import RunStore
from schemas.errors import UserError
from tests.shards.cutting import digests, made, pictures, rows_of
from tests.shards.films import FILMS
from tests.shards.published import ATTEMPTS

ENCODINGS = {"jpg": "JPEG", "png": "PNG"}
LAYOUTS = [(f.name, kind, media) for f in FORMATS if f.name not in ATTEMPTS for kind, media in f.layouts]
"""Of the formats for films and walks; for the other protocols see `test_published.py`."""


def run_for(name: str, media: Media, films: RunStore, walks: RunStore) -> RunStore:
    texts = name.startswith("trl") and media == "reference"
    return walks if name == "longvideo_r1" or texts else films


@pytest.mark.parametrize(("name", "kind", "media"), LAYOUTS)
def test_empty_and_full_files_have_one_schema_and_a_picture_for_each_mark(
    films: RunStore, walks: RunStore, name: str, kind: Kind, media: Media
) -> None:
    store, layout = run_for(name, media, films, walks), known_format(name).layouts[kind, media]
    full, empty = f"{name}-{kind}-{media}", f"{name}-{kind}-{media}-none"
    rows = made(store, full, kind, format=name, media=media)
    assert rows and made(store, empty, kind, "n_zooms > 99", format=name, media=media) == []
    for row in rows:
        assert list(row) == layout.schema.names
        marks = sum(placeholders(row[column]) for column in layout.text)
        assert marks == (len(row[layout.media]) if layout.media else 0)
        for path, data in pictures(store, full, row) if "images" in row else ():
            shown = Image.open(io.BytesIO(data))
            shown.load()
            assert (shown.format, Path(path).suffix) == (ENCODINGS[layout.picture], f".{layout.picture}")
            assert shown.width in (120, 160)
    if layout.suffix == "parquet":
        for cut_name in (full, empty):
            (path,) = Path(store.storage.path(f"cuts/{cut_name}")).glob("train-*.parquet")
            assert pq.read_schema(path).equals(layout.schema)


def test_native_embedded_pictures_are_those_of_the_references(films: RunStore, tmp_path: Path) -> None:
    made(films, "ne", "sft", format="native", media="embedded")
    (file,) = Path(films.storage.path("cuts/ne")).glob("*.parquet")
    row = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))[0]
    assert all(isinstance(image, Image.Image) for image in row["images"]) and len(row["images"]) == 7
    assert [i.size for i in row["images"]] == [(f["width"], f["height"]) for f in row["frames"]]
    assert [f["time_s"] for f in row["frames"]] == [0.0, 2.0, 1.0, 1.5, 2.0, 3.0, 4.0]


def test_llamafactory_holds_conversations_that_are_learned_whole(
    films: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made(films, "lf", "sft", format="llamafactory", test_share=0.5, seed=1)
    rows += rows_of(films, "lf", "test")
    assert len(rows) == FILMS and f"not written    {FILMS}  holds a turn not to be learned" in capsys.readouterr().out
    row = rows[0]
    assert [m["role"] for m in row["messages"]] == ["system", *(["user", "assistant"] * 3)]
    assert row["messages"][-1]["content"].endswith("<answer>C</answer>")
    assert all(set(m) == {"role", "content"} for m in row["messages"])
    info = json.loads(films.storage.read("cuts/lf/dataset_info.json"))
    assert info["lf"]["file_name"] == "train.jsonl" and info["lf_test"]["file_name"] == "test.jsonl"
    assert info["lf"]["columns"] == {"messages": "messages", "images": "images", "tools": "tools"}
    assert {r["tools"] for r in rows} == {""}
    assert info["lf"]["formatting"] == "sharegpt" and info["lf"]["tags"]["user_tag"] == "user"


def test_alpaca_has_a_record_for_each_learned_turn(films: RunStore) -> None:
    rows = made(films, "la", "sft", format="llamafactory-alpaca")
    assert len(rows) == FILMS * (3 + 2)
    first, second, third = rows[:3]
    assert [len(r["history"]) for r in rows[:5]] == [0, 1, 2, 1, 2]
    assert [len(r["images"]) for r in rows[:5]] == [2, 5, 7, 2, 5]
    assert second["history"] == [[first["instruction"], first["output"]]]
    assert third["history"] == [*second["history"], [second["instruction"], second["output"]]]
    assert first["input"] == "" and first["system"].startswith("You are a helpful assistant.")
    broken = rows[3]["history"][0][1]
    assert "< image>" in broken and all(broken not in r["output"] for r in rows)
    info = json.loads(films.storage.read("cuts/la/dataset_info.json"))["la"]
    assert info["columns"]["history"] == "history" and info["formatting"] == "alpaca"


def test_ms_swift_has_the_mask_message_by_message(films: RunStore) -> None:
    rows = made(films, "ms", "sft", format="ms-swift")
    assert len(rows) == FILMS * 2
    flags = [[m["loss"] for m in row["messages"] if m["role"] == "assistant"] for row in rows[:2]]
    assert flags == [[True, True, True], [False, True, True]]
    assert not any(m["loss"] for row in rows for m in row["messages"] if m["role"] != "assistant")
    (row, *_) = made(films, "ms-rl", "rl", format="ms-swift")
    assert (row["solution"], row["question_id"], row["clue_intervals"]) == ("C", "q0", [[2.0, 6.0]])
    assert [m["role"] for m in row["messages"]] == ["system", "user"]


def test_trl_contents_are_parts_and_steps_end_with_what_is_learned(films: RunStore) -> None:
    rows = made(films, "trl", "sft", format="trl")
    assert len(rows) == FILMS
    opening = rows[0]["messages"][1]["content"]
    assert [part["type"] for part in opening[:4]] == ["text", "image", "text", "image"]
    assert opening[0]["text"] == "<frame0_time0.00s>" and opening[1] == {"type": "image", "text": None}
    steps = made(films, "trl-steps", "sft", format="trl-steps")
    assert len(steps) == FILMS * 5
    for step in steps:
        (completion,) = step["completion"]
        assert completion["role"] == "assistant" and step["prompt"][-1]["role"] == "user"
        assert [part["type"] for part in completion["content"]] == ["text"]
    (row, *_) = made(films, "trl-rl", "rl", format="trl")
    assert row["ground_truth"] == "C" and row["prompt"][-1]["role"] == "user" and len(row["images"]) == 2


def test_verl_says_what_a_reward_needs(films: RunStore, tmp_path: Path) -> None:
    row, *_, last = made(films, "verl", "rl", format="verl")
    assert row["data_source"] == "zoomtrail_videozoomer" and row["ability"] == "long_video_qa"
    assert row["reward_model"] == {"style": "rule", "ground_truth": "C"}
    assert row["prompt"][1]["content"].count("<image>") == 2
    info = row["extra_info"]
    assert (info["split"], info["index"], info["answer"]) == ("train", 0, "青")
    assert (info["duration"], info["total_frames"]) == (pytest.approx(5.0, abs=0.1), 50)
    assert info["clue_intervals"] == [[2.0, 6.0]]
    assert info["video_path"].endswith("v0.mp4") and info["caption_width"] is None
    assert (info["n_attempts"], info["n_correct"], info["pass_rate"]) == (2, 2, 1.0)
    assert last["reward_model"]["ground_truth"] == "青" and last["extra_info"]["kind"] == "open"
    (file,) = Path(films.storage.path("cuts/verl")).glob("*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded[0]["images"][0], Image.Image)


@pytest.mark.parametrize("name", ["native", "verl"])
def test_a_step_has_the_gain_of_its_own_zoom(films: RunStore, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made(films, f"steps-{name}", "rl-steps", format=name)
    assert len(rows) == 2 * (2 + 1) and "not written    2  no gain per step" in capsys.readouterr().out
    steps = [row if name == "native" else row["extra_info"] for row in rows[:3]]
    assert [(s["turn"], s["p_before"], s["p_after"], s["evidence_gain"]) for s in steps] == [
        (0, 0.25, 0.5, 0.25),
        (1, 0.5, 0.875, 0.375),
        (1, 0.25, 0.75, 0.5),
    ]
    assert steps[1]["action"].startswith("<think>Closer at 3.0.</think><video_zoom>")
    roles = [[m["role"] for m in row["prompt"]] for row in rows[:3]]
    assert [len(r) for r in roles] == [2, 4, 4] and all(r[-1] == "user" for r in roles)
    assert [len(row["images"]) for row in rows[:3]] == [2, 5, 2]


def test_longvideo_r1_has_its_own_records(walks: RunStore) -> None:
    first, second = made(walks, "lv", "sft", format="longvideo_r1")
    assert list(first) == ["instruction", "input", "output", "history", "system"]
    assert first["output"] == "<think>closer</think>\n<tool>get_caption((1,2))</tool>" and first["history"] == []
    assert second["instruction"].startswith("Medium-level Caption from tool get_caption((1,2)). From 4.0 to 7.9:")
    assert second["history"] == [[first["instruction"], first["output"]]]
    info = json.loads(walks.storage.read("cuts/lv/dataset_info.json"))
    assert info == {
        "lv": {
            "file_name": "train.json",
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "history": "history",
                "system": "system",
            },
        }
    }
    (row,) = made(walks, "lv-rl", "rl", format="longvideo_r1")
    assert row["data_source"] == "videocaption_cgbench" and row["ability"] == "get_caption"
    assert row["reward_model"] == {"style": "rule", "ground_truth": "C"} and row["metadata"] is None
    assert [m["role"] for m in row["prompt"]] == ["system", "user"]
    assert row["extra_info"] == {
        "index": 0,
        "need_tools_kwargs": True,
        "video_uid": "v0",
        "split": "train",
        "clue_intervals": [[2.0, 6.0]],
        "width": 4,
        "duration": 64.0,
        "fps": 25.0,
        "data_source": "videocaption_cgbench",
    }


def test_videozoomer_has_its_own_records(films: RunStore) -> None:
    rows = made(films, "vz", "sft", format="videozoomer")
    assert len(rows) == FILMS and list(rows[0]) == ["messages", "images"]
    for path, data in pictures(films, "vz", rows[0]):
        assert path == f"media/{Path(path).name[:2]}/{hashlib.sha256(data).hexdigest()[:32]}.png"
    row, *_, last = made(films, "vz-rl", "rl", format="videozoomer")
    assert list(row) == ["doc_id", "videos", "problem", "solution", "data_source", "extra_info"]
    assert row["problem"].startswith("<image>\nWhich colour") and row["problem"].endswith("\nC. 青\nD. < image>")
    assert (row["solution"], row["doc_id"]) == ("C", "q0") and row["extra_info"] == {"answer_type": "multiple_choice"}
    assert row["videos"][0].endswith("v0.mp4") and last["extra_info"] == {"answer_type": "open_ended"}


def test_the_png_has_the_pixels_of_the_jpeg_that_was_shown(films: RunStore) -> None:
    png = [data for _, data in pictures(films, "p", made(films, "p", "sft", format="videozoomer")[0])]
    jpg = [data for _, data in pictures(films, "j", made(films, "j", "sft", format="llamafactory")[0])]
    assert len(png) == len(jpg) == 7
    for one, other in zip(png, jpg, strict=True):
        assert Image.open(io.BytesIO(one)).tobytes() == Image.open(io.BytesIO(other)).tobytes()


def test_captions_need_no_pictures_in_any_general_format(walks: RunStore) -> None:
    for name in ("llamafactory", "llamafactory-alpaca", "ms-swift", "trl", "trl-steps"):
        assert all(row["images"] == [] for row in made(walks, f"text-{name}", "sft", format=name))
    (row,) = made(walks, "text-verl", "rl", format="verl")
    assert row["images"] == [] and row["extra_info"]["caption_width"] == 4
    assert "media" not in {path.split("/")[0] for path in digests(walks, "text-ms-swift")}


def test_trl_has_texts_alone_for_models_without_vision(
    walks: RunStore, films: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = made(walks, "words", "sft", format="trl", media="reference")
    assert list(row) == ["messages"] and [m["role"] for m in row["messages"]] == [
        "system",
        *(["user", "assistant"] * 2),
    ]
    assert row["messages"][-1]["content"] == "<think>so it is</think>\n<answer>C</answer>"
    first, second = made(walks, "word-steps", "sft", format="trl-steps", media="reference")
    assert first["completion"] == [row["messages"][2]] and second["prompt"] == row["messages"][:4]
    (row,) = made(walks, "word-rl", "rl", format="trl", media="reference")
    assert list(row) == ["prompt", "ground_truth", "question_id", "choices", "clue_intervals"]
    assert made(films, "words", "sft", format="trl", media="reference") == []
    assert f"not written    {FILMS}  holds pictures" in capsys.readouterr().out


def test_the_command_names_the_formats_that_exist() -> None:
    assert tuple(f.name for f in FORMATS) == NAMES
    with pytest.raises(UserError, match="no such format"):
        known_format("")
