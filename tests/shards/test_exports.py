"""Cuts in any form: splits by video, the same bytes again, reasons for what is left out, tokens, refusals."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.presets import preset
from pipeline.shards.cut import cut as make
from pipeline.shards.formats.known import known_format
from pipeline.shards.formats.layout import Kind
from pipeline.shards.order import Order
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from tests.shards.cutting import ALL, cut, digests, made, pictures, rows_of
from tests.shards.films import FILMS, film_run
from tests.tiny_models import build_idefics3


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
    cut(store.url, "true", None, ALL, "sft", media="embedded")
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
        order = Order("off", "sft", preset("mechanical"), 10, format=replace(swift, layouts=layouts))
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
