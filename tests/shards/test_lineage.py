"""What a cut says of where it comes from: for programs, as a picture, and the same bytes wherever it is made."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards.digests import footer_digests
from pipeline.shards.funnel import Funnel
from pipeline.shards.plot import plot
from pipeline.shards.table import Rows
from pipeline.storage import Storage
from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from tests.shards.crowded import ATTEMPTS, QUESTIONS, VIDEOS, crowded_run
from tests.shards.cutting import cut, digests
from tests.shards.runs import commit, tree, video, whole_run
from tests.shards.test_generations import grown, run_of_two_questions

SVG = "{http://www.w3.org/2000/svg}"


def test_the_lineage_names_run_shards_condition_counts_and_fingerprints(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path / "run"))
    cut(store.url, "mine", "mechanical", None, "sft", thinning={"per_video": 1})
    told = json.loads(store.storage.read("cuts/mine/lineage.json"))
    rows = Rows(store)
    assert told["fingerprints"] == rows.fingerprints and told["identity"]["preset"] == "mechanical"
    assert told["condition"][0] == {"reason": "not answered", "sql": "status = 'answered'"}
    assert told["thinning"] == {"per_video": 1}
    assert told["planned"] == 12 and told["reached"]["kept"] == 1
    assert told["planned"] == told["reached"]["kept"] + sum(loss["attempts"] for loss in told["losses"])
    assert told["written"] == {"rows": {"train": 1}, "not_written": {}}
    shards = [s for s in told["shards"] if s["stage"] == "teach"]
    assert [(s["shard"], s["rows"], s["kept"]) for s in shards] == [
        (0, 2, 1),
        (1, 2, 0),
        (2, 2, 0),
        (3, 2, 0),
        (4, 2, 0),
    ]
    for shard in told["shards"]:
        path = Path(store.storage.path(store.shard_name(shard["stage"], shard["shard"])))
        assert shard["bytes"] == path.stat().st_size
        assert shard["fingerprint"] == rows.fingerprints[shard["stage"]]
        assert shard["footer_sha256"] == footer_sha256(path)
    assert {shard["stage"] for shard in told["shards"]} == {"caption", "teach", "replay"} and told["run"] == "run"
    plan = Path(store.storage.path("plan/part-00000.parquet"))
    assert told["plan"] == [{"file": "plan/part-00000.parquet", "footer_sha256": footer_sha256(plan)}]
    assert not [text for text in (str(tmp_path), "/videos") if text in json.dumps(told)]


def footer_sha256(path: Path) -> str:
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    return hashlib.sha256(data[-8 - length : -8]).hexdigest()


def test_other_captions_make_another_cut(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path / "run"))
    cut(store.url, "mine", None, "duration_s > 1", "sft")
    longer = tree("v0").model_copy(update={"video": video("v0").model_copy(update={"duration_s": 65.0})})
    commit(store, "caption", 0, [longer])
    with pytest.raises(UserError, match="the cut mine exists and was cut before the run grew"):
        cut(store.url, "mine", None, "duration_s > 1", "sft")


def test_a_long_footer_is_read_whole_and_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    wide = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"column {n}": [n] for n in range(2_000)}), wide)
    storage = Storage(str(tmp_path))
    assert footer_digests(storage, ["wide.parquet"]) == {"wide.parquet": footer_sha256(wide)}
    for end in (-1, 3, 0):
        (tmp_path / "short.parquet").write_bytes(wide.read_bytes()[:end])
        with pytest.raises(Fatal, match=r"short\.parquet is not a whole Parquet file"):
            footer_digests(storage, ["short.parquet"])


def test_a_cut_of_an_earlier_version_is_known_again(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path / "run"))
    cut(store.url, "mine", None, "answer_correct", "sft")
    path = Path(store.storage.path("cuts/mine/README.md"))
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(True) if not line.startswith("  content:")))
    old = digests(store, "mine")
    cut(store.url, "mine", None, "answer_correct", "sft")
    assert "content:" in text and digests(store, "mine") == old
    path.write_text(re.sub("content: .*", f"content: {'0' * 64}", text))
    with pytest.raises(UserError, match="was cut before the run grew"):
        cut(store.url, "mine", None, "answer_correct", "sft")


def test_each_generation_is_told_with_its_fingerprints(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path / "run"))
    grown(store)
    cut(store.url, "mine", None, "answer_correct", "sft")
    told = json.loads(store.storage.read("cuts/mine/lineage.json"))
    rows = Rows(store)
    assert told["generations"] == {"0": rows.fingerprints_of(0), "1": rows.fingerprints_of(2)}
    assert told["generations"]["0"] != told["generations"]["1"] and len(told["plan"]) == 2


def test_the_picture_stands_in_the_card_and_tells_the_counts(tmp_path: Path) -> None:
    store = crowded_run(str(tmp_path))
    cut(store.url, "mine", None, "attempt = 0", "sft")
    assert "](cut.svg)" in store.storage.read("cuts/mine/README.md").decode()
    svg = ElementTree.fromstring(store.storage.read("cuts/mine/cut.svg"))
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts.count("36") == 4 and texts.count("12") == 2  # planned to verified; kept, and kept with one zoom


@pytest.mark.parametrize("zooms", [{}, {0: 5}, {1: 3, 4: 1, 99: 2}])
def test_a_picture_of_anything_is_well_formed(zooms: dict[int, int]) -> None:
    funnel = Funnel(0, {"captioned": 0, "answered": 0, "verified": 0, "kept": 0}, (), {})
    svg = ElementTree.fromstring(plot(funnel, zooms))
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert ("no attempt was kept" in texts) == (not zooms) and ("10+" in texts) == (99 in zooms)
    widths = [float(bar.attrib["width"]) for bar in svg.iter(f"{SVG}rect")]
    assert min(widths) >= 0


def test_the_same_command_in_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever order Python gives to sets there."""
    options = [
        "--per-question",
        "2",
        "--per-video",
        "5",
        "--distinct-thoughts",
        "0.95",
        "--test-share",
        "0.4",
        "--seed",
        "3",
    ]
    found = []
    for seed in ("0", "1234"):
        store = crowded_run(str(tmp_path / seed / "run"))
        command = [sys.executable, "-m", "jobs.cli", "cut", store.url, "mine", "--where", "answer_correct", *options]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=300)
        found.append(digests(store, "mine"))
    assert found[0] == found[1]
    assert {"README.md", "lineage.json", "cut.svg"} < set(found[0])


def test_another_seed_makes_another_cut(tmp_path: Path) -> None:
    store = crowded_run(str(tmp_path))
    for name, seed in (("a", 0), ("b", 1)):
        cut(store.url, name, None, "true", "sft", thinning={"per_question": 1}, seed=seed)
    a, b = (digests(RunStore(store.url), name)["train-00000-of-00001.parquet"] for name in "ab")
    assert a != b and VIDEOS * QUESTIONS * ATTEMPTS == 36
