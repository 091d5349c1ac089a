"""Cuts in the forms of trainers: golden records, explicit schemas, true pictures, honest masks, splits by video."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.cli import FORMATS as NAMES
from jobs.cut import Export, cut
from jobs.presets import preset
from pipeline.shards.cut import Order
from pipeline.shards.cut import cut as make
from pipeline.shards.formats.known import FORMATS, known_format
from pipeline.shards.formats.layout import Kind, Media, placeholders
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from tests.shards.films import FILMS, film_run
from tests.shards.published import ATTEMPTS
from tests.shards.runs import answer_turn, begin, caption_turn, commit, question, trajectory, tree, verdict
from tests.tiny_models import build_idefics3

ALL = "status = 'answered'"
ENCODINGS = {"jpg": "JPEG", "png": "PNG"}
LAYOUTS = [(f.name, kind, media) for f in FORMATS if f.name not in ATTEMPTS for kind, media in f.layouts]
"""Of the formats for films and walks; for the other protocols see `test_published.py`."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return film_run(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of `longvideo_r1`: captions, no pictures."""
    store = begin(str(tmp_path_factory.mktemp("walks")), [question(0, "cg/v0.mp4")], 1, "longvideo_r1")
    turns = (caption_turn(), answer_turn("C"))
    made = trajectory(question(0, "cg/v0.mp4"), 0, turns=turns, final="C", protocol="longvideo_r1")
    commit(store, "caption", 0, [tree("cg/v0.mp4")])
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, p_gold_steps=(0.5, 0.75))])
    return store


def run_for(name: str, films: RunStore, walks: RunStore) -> RunStore:
    return walks if name == "longvideo_r1" else films


def made(store: RunStore, name: str, kind: Kind, where: str = ALL, **export: Any) -> list[dict[str, Any]]:
    """The training rows of a cut, as a reader without knowledge of the format finds them."""
    cut(store.url, name, None, where, kind, None, Export(**export))
    return rows_of(store, name, "train")


def rows_of(store: RunStore, name: str, split: str) -> list[dict[str, Any]]:
    folder = Path(store.storage.path(f"cuts/{name}"))
    if (listed := folder / f"{split}.json").exists():
        return json.loads(listed.read_text())
    if (lines := folder / f"{split}.jsonl").exists():
        return [json.loads(line) for line in lines.read_text().splitlines()]
    tables = [pq.read_table(path) for path in sorted(folder.glob(f"{split}-*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def pictures(store: RunStore, name: str, row: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture of a row that has its own."""
    for image in row["images"]:
        if isinstance(image, str):
            yield image, store.storage.read(f"cuts/{name}/{image}")
        elif "bytes" in image:
            yield image["path"], image["bytes"]


def digests(store: RunStore, name: str) -> dict[str, str]:
    folder = Path(store.storage.path(f"cuts/{name}"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize(("name", "kind", "media"), LAYOUTS)
def test_empty_and_full_files_have_one_schema_and_a_picture_for_each_mark(
    films: RunStore, walks: RunStore, name: str, kind: Kind, media: Media
) -> None:
    store, layout = run_for(name, films, walks), known_format(name).layouts[kind, media]
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


@pytest.mark.parametrize("name", ["native", "llamafactory", "verl"])
def test_no_video_is_in_both_splits_and_order_does_not_matter(films: RunStore, name: str, tmp_path: Path) -> None:
    kind: Kind = "rl" if name == "verl" else "sft"
    media = "embedded" if name == "verl" else None
    halves: dict[str, set[str]] = {}
    export = {"format": name, "media": media, "test_share": 0.5, "seed": 2}
    made(films, f"split-{name}", kind, **export)
    for split in ("train", "test"):
        rows = rows_of(films, f"split-{name}", split)
        halves[split] = {str(r.get("video", {}).get("video_id") or r.get("images")) for r in rows}
        assert rows
    assert not halves["train"] & halves["test"]
    card = films.storage.read(f"cuts/split-{name}/README.md").decode()
    assert "No video is in both" in card and "| test |" in card


def test_the_split_is_that_of_the_video_whatever_else_is_kept(films: RunStore) -> None:
    def videos(name: str, where: str) -> dict[str, set[str]]:
        made(films, name, "sft", where, test_share=0.5, seed=2)
        return {s: {r["video"]["video_id"] for r in rows_of(films, name, s)} for s in ("train", "test")}

    every, some = videos("every", ALL), videos("some", f"{ALL} AND attempt = 1 AND video_id != 'v0'")
    assert some["train"] == every["train"] - {"v0"} and some["test"] == every["test"] - {"v0"}


def test_datasets_finds_both_splits_by_the_card(films: RunStore, tmp_path: Path) -> None:
    made(films, "both", "sft", format="llamafactory", test_share=0.5, seed=2)
    found = datasets.load_dataset(films.storage.path("cuts/both"), cache_dir=str(tmp_path))
    assert set(found) == {"train", "test"} and sum(map(len, found.values())) == FILMS


@pytest.mark.parametrize("name", ["llamafactory", "trl-steps", "videozoomer"])
def test_the_same_command_gives_the_same_bytes(films: RunStore, name: str) -> None:
    folder = Path(films.storage.path("cuts/same"))
    found = []
    for _ in range(2):
        made(films, "same", "sft", format=name, test_share=0.3)
        found.append(digests(films, "same"))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert found[0] == found[1] and len(found[0]) > 2


def test_what_a_broken_cut_left_is_no_part_of_the_next(films: RunStore) -> None:
    for stale in ("media/ab/ab.jpg", "train.jsonl", "test-00000-of-00001.parquet"):
        films.storage.write(f"cuts/broken/{stale}", b"old")
    made(films, "broken", "sft", format="ms-swift")
    assert not {"media/ab/ab.jpg", "test-00000-of-00001.parquet"} & set(digests(films, "broken"))


def test_a_frame_that_is_not_the_recorded_one_drops_its_rows_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = film_run(tmp_path)
    (tmp_path / "v1.mp4").unlink()
    (tmp_path / "v2.mp4").write_bytes((tmp_path / "v0.mp4").read_bytes())
    rows = made(store, "true", "sft", format="native", media="embedded")
    assert [r["video"]["video_id"] for r in rows] == ["v0", "v0"]
    said = capsys.readouterr().out
    assert "not written    2  frame_mismatch" in said and "not written    2  video_missing" in said
    card = store.storage.read("cuts/true/README.md").decode()
    assert "| `frame_mismatch` | 2 |" in card
    cut(store.url, "true", None, ALL, "sft", None, Export(media="embedded"))
    assert "not written    2  video_missing" in capsys.readouterr().out  # known again from the card
    assert len(made(store, "named", "sft", format="native")) == 6  # by reference nothing is decoded


def test_tokens_are_what_the_processor_makes_of_the_row(
    films: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoProcessor

    model = str(build_idefics3(tmp_path / "model"))
    rows = made(films, "tokens", "sft", format="trl", tokenizer=model)
    processor: Any = AutoProcessor.from_pretrained(model)
    for row in rows:
        text = processor.apply_chat_template(row["messages"], tokenize=False)
        shown = [Image.open(io.BytesIO(data)) for _, data in pictures(films, "tokens", row)]
        ids = processor(text=[text], images=[shown], add_special_tokens=False)["input_ids"][0]
        assert row["n_tokens"] == len(ids)
    most = max(row["n_tokens"] for row in rows)
    (file,) = Path(films.storage.path("cuts/tokens")).glob("*.parquet")
    assert pq.read_schema(file).field("n_tokens").type == pa.int64()
    short = made(films, "short", "sft", format="trl", tokenizer=model, max_tokens=most - 1)
    assert [r["n_tokens"] for r in short] == [r["n_tokens"] for r in rows if r["n_tokens"] < most]
    left_out = len(rows) - len(short)
    assert f"not written    {left_out}  more than --max-tokens" in capsys.readouterr().out
    assert f"| `more than --max-tokens` | {left_out} |" in films.storage.read("cuts/short/README.md").decode()


def test_without_a_processor_a_mark_counts_as_its_text(films: RunStore, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    tokenizer: Any = AutoTokenizer.from_pretrained(build_idefics3(tmp_path / "model"))
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, chat_template=template)
    plain.save_pretrained(tmp_path / "plain")
    (row, *_) = made(films, "plain", "sft", format="llamafactory", tokenizer=str(tmp_path / "plain"))
    text = "".join(f"{m['role']}: {m['content']}\n" for m in row["messages"])
    assert row["n_tokens"] == len(plain(text, add_special_tokens=False)["input_ids"])
    assert "each `<image>` as text" in films.storage.read("cuts/plain/README.md").decode()


def test_a_record_whose_pictures_are_not_its_marks_stops_the_cut(films: RunStore) -> None:
    swift = known_format("ms-swift")
    layout = swift.layouts["sft", "files"]
    for record in (lambda p, i: layout.record(p, i[1:]), lambda p, i: {"messages": []}):
        layouts = {("sft", "files"): replace(layout, record=record)}
        order = Order("off", "sft", preset("mechanical"), 10, replace(swift, layouts=layouts))
        with pytest.raises(Fatal, match=r"images would be misplaced|not those of its schema"):
            make(Rows(films), order)


def test_what_a_format_cannot_do_is_said_before_anything_is_written(films: RunStore, walks: RunStore) -> None:
    wrong: list[tuple[RunStore, Kind, dict[str, Any], str]] = [
        (films, "sft", {"format": "best"}, "no such format: 'best'; there are native, llamafactory"),
        (films, "sft", {"format": "verl"}, "verl has no rows for sft: it writes rl, rl-steps"),
        (films, "sft", {"format": "trl", "media": "files"}, "cannot hold pictures as files: embedded"),
        (films, "sft", {"format": "longvideo_r1"}, "holds runs of longvideo_r1 only, this one is of videozoomer"),
        (walks, "rl", {"format": "videozoomer"}, "holds runs of videozoomer only, this one is of longvideo_r1"),
        (films, "sft", {"test_share": 1.0}, "--test-share 1.0"),
        (films, "sft", {"max_tokens": 5}, "needs --tokenizer"),
        (films, "sft", {"tokenizer": "/nowhere/at/all"}, "tokenizer /nowhere/at/all cannot be loaded"),
    ]
    for store, kind, export, message in wrong:
        with pytest.raises(UserError, match=message):
            made(store, "wrong", kind, **export)
        assert not store.storage.names("cuts/wrong", "")


def test_captions_need_no_pictures_in_any_general_format(walks: RunStore) -> None:
    for name in ("llamafactory", "llamafactory-alpaca", "ms-swift", "trl", "trl-steps"):
        assert all(row["images"] == [] for row in made(walks, f"text-{name}", "sft", format=name))
    (row,) = made(walks, "text-verl", "rl", format="verl")
    assert row["images"] == [] and row["extra_info"]["caption_width"] == 4
    assert "media" not in {path.split("/")[0] for path in digests(walks, "text-ms-swift")}


def test_the_command_names_the_formats_that_exist() -> None:
    assert tuple(f.name for f in FORMATS) == NAMES
    with pytest.raises(UserError, match="no such format"):
        known_format("")
