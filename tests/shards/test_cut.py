"""Cuts: training rows that `datasets` reads, faithful to the trajectories, the same bytes each time."""

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.presets import preset
from pipeline.shards.cut import cut as make
from pipeline.shards.order import Order
from pipeline.shards.samples import sft_samples
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.arrow import arrow_schema
from schemas.errors import Failure, Fatal, UserError
from schemas.samples import RlSample, SftSample
from schemas.trajectory import Hint
from tests.shards.cutting import cut
from tests.shards.runs import (
    GOOD,
    HOSTILE,
    answer_turn,
    begin,
    caption_turn,
    commit,
    question,
    trajectory,
    tree,
    verdict,
    whole_run,
    zoom_turn,
)


def load(store: RunStore, name: str, tmp_path: Path) -> Any:
    files = sorted(store.storage.path(f"cuts/{name}/{n}") for n in store.storage.names(f"cuts/{name}", ".parquet"))
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))


def digests(store: RunStore, name: str) -> dict[str, str]:
    names = [n for suffix in ("parquet", "md") for n in store.storage.names(f"cuts/{name}", suffix)]
    return {n: hashlib.sha256(store.storage.read(f"cuts/{name}/{n}")).hexdigest() for n in names}


def many(url: str, order: list[int]) -> RunStore:
    """Seven questions on seven videos, planned in the given order, two attempts each; the second one is wrong."""
    asked = {n: question(n, f"v{n}") for n in order}
    store = begin(url, list(asked.values()), attempts=2)
    for shard, n in enumerate(order):
        made = [trajectory(asked[n], 0, turns=GOOD, final="C"), trajectory(asked[n], 1, turns=GOOD, final="A")]
        commit(store, "caption", shard, [tree(f"v{n}")])
        commit(store, "teach", shard, made)
        commit(store, "replay", shard, [verdict(t) for t in made])
    return store


def test_an_sft_cut_loads_with_one_image_per_placeholder(store: RunStore, tmp_path: Path) -> None:
    cut(store.url, "mine", "mechanical", None, "sft")
    loaded = load(store, "mine", tmp_path)
    assert [row["provenance"]["trajectory_id"] for row in loaded] == ["q0@0", "q0@1"]
    assert loaded.features.arrow_schema.names == arrow_schema(SftSample).names
    row = loaded[0]
    text = "".join(message["content"] for message in row["messages"])
    assert text.count("<image>") == len(row["images"]) == 5
    assert [image["time_s"] for image in row["images"]] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert [m["train"] for m in row["messages"]] == [False, False, True, False, True]
    assert HOSTILE in text and "ünï" in text
    assert (row["answer"], row["video"]["uri"]) == ("C", "/videos/v0")
    assert row["provenance"]["evidence_gain"] == 0.25 and row["provenance"]["verifier"] == "verifier-1"


def test_a_broken_turn_stays_visible_and_is_not_learned(tmp_path: Path) -> None:
    store = begin(str(tmp_path / "run"), [question(0, "v0")], attempts=1)
    made = trajectory(question(0, "v0"), 0, turns=[zoom_turn("", "bad_json"), *GOOD], final="C")
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, well_formed=False)])
    cut(store.url, "all", None, "status = 'answered'", "sft")
    messages = load(store, "all", tmp_path)[0]["messages"]
    assert [m["train"] for m in messages if m["role"] == "assistant"] == [False, True, True]
    assert "< image>" in messages[2]["content"]


def test_captions_need_no_images(tmp_path: Path) -> None:
    store = begin(str(tmp_path / "run"), [question(0, "v0")], attempts=1, protocol="longvideo_r1")
    hint = Hint(level=0, text="look at (1)", after_turn=1, wrong_answer="A", wrong_raw="secret")
    made = trajectory(
        question(0, "v0"),
        0,
        turns=(caption_turn(), answer_turn("C")),
        final="C",
        protocol="longvideo_r1",
        hints=[hint],
    )
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made)])
    for kind in ("sft", "rl"):
        cut(store.url, kind, "longvideo_r1", None, kind)  # type: ignore[arg-type]
        row = load(store, kind, tmp_path / kind)[0]
        text = str(row)
        assert row["images"] == [] and "<image>" not in str(row.get("messages", row.get("prompt")))
        assert "look at (1)" not in text and "secret" not in text
        assert row["provenance"]["hint_level"] == 0 and row["provenance"]["interval_shown"]
    assert load(store, "rl", tmp_path)[0]["caption_width"] == 4


def test_an_rl_cut_has_a_prompt_per_question_and_counts_all_attempts(tmp_path: Path) -> None:
    asked = [question(0, "v0"), question(1, "v0", kind="open"), question(2, "v0")]
    store = begin(str(tmp_path / "run"), asked, attempts=4)
    gone = Failure(stage="teach", kind="timeout", message="no answer")
    made = [
        trajectory(asked[0], 0, turns=(GOOD[0], answer_turn("A")), final="A"),
        trajectory(asked[0], 1, turns=GOOD, final="C"),
        trajectory(asked[0], 2, "failed", failure=gone),
        trajectory(asked[0], 3, turns=GOOD, final="C"),
        *(trajectory(asked[1], n, turns=(GOOD[0], answer_turn("青")), final="青") for n in range(4)),
        *(trajectory(asked[2], n, "gave_up", [GOOD[0]]) for n in range(4)),
    ]
    lost = Failure(stage="replay", kind="video_changed", message="")
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t, lost if t.trajectory_id == "q1@3" else None) for t in made])
    cut(store.url, "rl", None, None, "rl")
    loaded = load(store, "rl", tmp_path)
    assert loaded.features.arrow_schema.names == arrow_schema(RlSample).names
    assert [row["provenance"]["trajectory_id"] for row in loaded] == ["q0@1", "q1@0"]
    first, second = loaded
    assert [m["role"] for m in first["prompt"]] == ["system", "user"] and len(first["images"]) == 2
    assert (first["ground_truth"], first["answer_text"], first["clue_intervals"]) == ("C", "青", [[2.0, 6.0]])
    assert (first["n_attempts"], first["n_correct"], first["pass_rate"]) == (4, 2, 0.5)
    assert (second["kind"], second["ground_truth"], second["choices"]) == ("open", "青", [])
    assert (second["n_attempts"], second["n_correct"]) == (3, 3)  # the outcome of a failed replay is unknown


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        whole_run(str(tmp_path / folder))
        cut(str(tmp_path / folder), "mine", "mechanical", None, "sft", 1)
    one, other = (digests(RunStore(str(tmp_path / folder)), "mine") for folder in ("a", "b"))
    assert one == other and len(one) == 3


@pytest.mark.parametrize("rows_per_file", [1, 3, 7, 100])
def test_rows_are_ordered_by_trajectory_over_all_files(tmp_path: Path, rows_per_file: int) -> None:
    store = many(str(tmp_path / "run"), [3, 6, 0, 5, 1, 4, 2])
    cut(store.url, "mine", None, None, "sft", rows_per_file)
    names = store.storage.names("cuts/mine", ".parquet")
    n = -(-7 // rows_per_file)
    assert names == [f"train-{i:05d}-of-{n:05d}.parquet" for i in range(n)]
    tables = [pq.read_table(store.storage.path(f"cuts/mine/{name}")) for name in names]
    ids = [row["trajectory_id"] for table in tables for row in table["provenance"].to_pylist()]
    assert ids == [f"q{i}@0" for i in range(7)]
    assert all(table.num_rows <= rows_per_file for table in tables)


def test_the_order_of_shards_does_not_matter_to_the_rows(tmp_path: Path) -> None:
    tables = []
    for order in ([0, 1, 2], [2, 0, 1]):
        store = many(str(tmp_path / str(order[0])), order)
        cut(store.url, "mine", None, None, "sft")
        tables.append(pq.read_table(store.storage.path("cuts/mine/train-00000-of-00001.parquet")))
    assert tables[0].to_pylist() == tables[1].to_pylist()


@pytest.mark.parametrize(("kind", "record"), [("sft", SftSample), ("rl", RlSample)])
def test_an_empty_cut_has_its_schema_and_says_so(
    store: RunStore, capsys: pytest.CaptureFixture[str], kind: Any, record: Any
) -> None:
    cut(store.url, "none", None, "n_zooms > 99", kind)
    assert "wrote 0 rows in 1 file" in (said := capsys.readouterr().out) and "the file is empty" in said
    file = store.storage.path("cuts/none/train-00000-of-00001.parquet")
    assert pq.read_table(file).schema.equals(arrow_schema(record))
    stream = datasets.load_dataset("parquet", data_files=file, split="train", streaming=True)
    assert list(stream) == [] and list(stream.features) == arrow_schema(record).names


def test_the_card_is_read_by_datasets_and_tells_every_drop(store: RunStore, tmp_path: Path) -> None:
    cut(store.url, "mine", None, None, "sft")
    folder = store.storage.path("cuts/mine")
    loaded = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 1
    card = Path(folder, "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "train-*.parquet"}]
    assert front["zoomtrail"]["run_fingerprint"] == Rows(store).fingerprints["replay"]
    for reason in ("caption/video_truncated", "gave_up", "malformed", "wrong answer", "no evidence gain"):
        assert f"`{reason}`" in card
    for kind, record in (("sft", SftSample), ("rl", RlSample)):
        cut(store.url, kind, None, None, kind)  # type: ignore[arg-type]
        text = Path(store.storage.path(f"cuts/{kind}/README.md")).read_text()
        assert all(f"| `{column}` |" in text for column in record.model_fields)


def test_nothing_from_outside_is_html_in_the_card(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>`</pre>|[a](javascript:b) "
    store = begin(str(tmp_path), [question(0, "v0")], attempts=2)
    asked = question(0, "v0")
    failure = Failure(stage="teach", kind=evil, message=evil)
    made = [trajectory(asked, 0, turns=GOOD, final="C"), trajectory(asked, 1, "failed", failure=failure)]
    made[0] = made[0].model_copy(update={"teacher": evil})
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t) for t in made])
    cut(store.url, "mine", None, f"teacher != '</pre>{HOSTILE.replace(chr(39), chr(39) * 2)}' AND n_zooms = 1", "sft")
    _, front, body = (tmp_path / "cuts/mine/README.md").read_text().split("---\n", 2)
    assert "<img" not in body and "<script>" not in body and body.count("</pre>") == 1
    assert "<script>" in yaml.safe_load(front)["zoomtrail"]["condition"]
    assert "[a](javascript:b)" in body  # inside a code span, where it is no link
    assert all(line.count("`") % 2 == 0 for line in body.splitlines() if line.startswith("|"))


def test_a_cut_that_is_there_is_not_made_again(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    cut(store.url, "mine", None, None, "sft")
    file = Path(store.storage.path("cuts/mine/train-00000-of-00001.parquet"))
    before = file.stat().st_mtime_ns
    cut(store.url, "mine", "default", None, "sft")
    assert "there already: 1 row in 1 file" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before


def test_a_name_is_not_taken_by_another_cut(store: RunStore) -> None:
    cut(store.url, "mine", None, None, "sft")
    before = digests(store, "mine")
    with pytest.raises(UserError, match="differs in condition, preset: choose another name"):
        cut(store.url, "mine", "mechanical", None, "sft")
    with pytest.raises(UserError, match="differs in condition: choose"):
        cut(store.url, "mine", "default", "n_zooms < 5", "sft")
    with pytest.raises(UserError, match="differs in kind"):
        cut(store.url, "mine", None, None, "rl")
    commit(store, "caption", 5, [tree("v4")])
    made = [trajectory(question(4, "v4"), n, turns=GOOD, final="C") for n in range(2)]
    commit(store, "teach", 5, made)
    with pytest.raises(UserError, match="was cut before the run grew"):
        cut(store.url, "mine", None, None, "sft")
    assert digests(store, "mine") == before
    store.storage.write("cuts/own/README.md", b"my notes")
    with pytest.raises(UserError, match="no cut wrote"):
        cut(store.url, "own", None, None, "sft")


def test_what_a_crash_left_is_replaced(store: RunStore, tmp_path: Path) -> None:
    for name in ("train-00000-of-00007.parquet", "train-00000-of-00001.parquet"):
        store.storage.write(f"cuts/mine/{name}", b"half of something else")
    cut(store.url, "mine", None, None, "sft")
    assert store.storage.names("cuts/mine", ".parquet") == ["train-00000-of-00001.parquet"]
    assert len(load(store, "mine", tmp_path)) == 1


def test_preset_and_where_must_both_hold(store: RunStore, tmp_path: Path) -> None:
    cut(store.url, "both", "mechanical", "evidence_gain > 0", "sft")
    assert [row["provenance"]["trajectory_id"] for row in load(store, "both", tmp_path)] == ["q0@0"]
    assert "--where not met" in store.storage.read("cuts/both/README.md").decode()


def test_an_attempt_without_anything_to_learn_is_never_kept(store: RunStore, tmp_path: Path) -> None:
    """Neither one that never began nor one of broken turns only; what remains includes one that gave no answer."""
    cut(store.url, "all", None, "true", "sft")
    loaded = load(store, "all", tmp_path)
    assert [row["provenance"]["trajectory_id"] for row in loaded] == ["q0@0", "q0@1", "q1@0", "q3@0", "q3@1"]
    assert [row["answer"] for row in loaded] == ["C", "C", None, None, "A"]


def test_an_image_without_a_frame_stops_the_cut() -> None:
    facts = {"verifier": None, "evidence_gain": None, "p_gold_evidence": None, "grounding_iou": None}
    origin = {"run_fingerprint": "f", "kept_by": "true"}
    made = trajectory(question(0, "v0"), 0, turns=(GOOD[0], answer_turn("C <image>")), final="C")
    with pytest.raises(Fatal, match="images would be misplaced"):
        sft_samples(made, facts, origin)
    with pytest.raises(UserError, match="version 0"):
        sft_samples(made.model_copy(update={"protocol_version": "0"}), facts, origin)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "ü", "a\n"])
def test_a_name_is_one_plain_word(store: RunStore, name: str) -> None:
    with pytest.raises(UserError, match="cut name"):
        cut(store.url, name, None, None, "sft")


def test_other_mistakes_are_named(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such preset"):
        cut(store.url, "a", "best", None, "sft")
    with pytest.raises(UserError, match="rows-per-file"):
        cut(store.url, "a", None, None, "sft", 0)
    with pytest.raises(UserError, match="subquery"):
        cut(store.url, "a", None, "EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))", "sft")
    with pytest.raises(UserError, match="not a run directory"):
        cut(str(tmp_path / "nowhere"), "a", None, None, "sft")
    assert not (tmp_path / "run" / "cuts").exists()


def test_a_cut_on_an_object_store() -> None:
    store = whole_run("memory://shards-cut")
    made = make(Rows(store), Order("mine", "rl", preset("default"), 10))
    assert (made.rows, made.made) == (1, True)
    assert store.storage.read("cuts/mine/README.md")
