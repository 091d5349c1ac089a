"""The published systems' own records, field by field, from real rollouts; the sources stand in each format's file."""

import io
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.question import Question
from tests.shards.cutting import cut, film, published_rows
from tests.shards.published import ATTEMPTS, ZOOM, Runs, published_run
from tests.stages.scripted import question

ASKED = "Which colour is the sign?\nA. red\nB. green\nC. blue\nD. white"
OPEN = question().model_copy(update={"kind": "open", "choices": (), "answer_letter": "", "answer_text": "green"})


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def test_framethinker_has_its_rl_row(runs: Runs, tmp_path: Path) -> None:
    """Columns of the row in issue #4 of lcqysl/FrameThinker."""
    store = runs("framethinker")
    (row,) = published_rows(store, "a", "rl", format="framethinker")
    system, user = row["prompt"]
    assert system["role"] == "system" and "The number of frames is fixed, currently 8." in system["content"]
    shown = [0, 17, 34, 51, 68, 85, 102, 119]
    assert user == {"role": "user", "content": "\n".join([ASKED, *(f"frame {n}: <image>" for n in shown)])}
    assert [picture["path"] for picture in row["images"]] == [None] * 8
    assert {Image.open(io.BytesIO(picture["bytes"])).format for picture in row["images"]} == {"PNG"}
    assert {name: row[name] for name in ("data_source", "ability", "env_name", "reward_model")} == {
        "data_source": "vstar",
        "ability": "vl_video_reasoning",
        "env_name": "think_with_video",
        "reward_model": {"ground_truth": "B", "style": "rule"},
    }
    assert row["extra_info"] == {
        "fps": pytest.approx(10.05, abs=0.01),
        "height": 240,
        "width": 320,
        "total_frames": 120,
        "video_path": film(store),
        "answer": "B",
        "question": ASKED,
        "split": "train",
        "index": 0,
    }
    (file,) = Path(store.storage.path("cuts/framethinker-rl-a")).glob("*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded[0]["images"][0], Image.Image)


def test_longvt_has_its_sft_messages(runs: Runs) -> None:
    """Messages of parts with image_url and video_url: method facts of LongVT, 4; the schema is explicit (issue #14)."""
    store = runs("longvt")
    (row,) = published_rows(store, "a", "sft", format="longvt")
    assert list(row) == ["messages"]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    blank = {"text": None, "image_url": None, "video_url": None}
    system, opening, calls, results, answer = (m["content"] for m in row["messages"])
    assert "<tools>" in system[0]["text"] and len(system) == 1
    assert opening[0] == {**blank, "type": "video_url", "video_url": {"url": film(store)}}
    assert opening[1]["text"].startswith(f"{ASKED} Think first") and opening[1]["text"].endswith(": clip.mp4")
    path = '{"name":"crop_video","arguments":{"video_path":"clip.mp4",'
    assert calls[0]["text"] == (
        f'<think>Two.</think><tool_call>{path}"start_time":2.0,"end_time":5.0}}}}</tool_call>\n'
        f'<tool_call>{path}"start_time":6.0,"end_time":9.0}}}}</tool_call>'
    )
    assert answer[0]["text"] == "<think>Green.</think><answer>B</answer>"
    kinds = ["text", "image_url", "image_url", "text", "image_url", "image_url", "text"]
    assert [part["type"] for part in results] == kinds
    assert [part["text"] for part in results if part["type"] == "text"] == [
        "<tool_response>\n",
        "The tool executed successfully. Here are the processed result</tool_response>\n<tool_response>\n",
        "The tool executed successfully. Here are the processed result</tool_response>",
    ]
    for part in (part for part in results if part["type"] == "image_url"):
        assert part == {**blank, "type": "image_url", "image_url": part["image_url"]}
        data = store.storage.read(f"cuts/longvt-sft-a/{part['image_url']['url']}")
        assert Image.open(io.BytesIO(data)).format == "JPEG"


def test_longvt_has_its_rl_row(runs: Runs) -> None:
    """Columns of examples/video_tools/process_time_r1.py, and video_segment; the rollout writes the tools itself."""
    store = runs("longvt")
    (row,) = published_rows(store, "a", "rl", format="longvt")
    path = film(store)
    suffix = "<think>...</think>  <tool_call>...</tool_call> (if tools needed)  <answer>...</answer>."
    assert row["prompt"][0] == {"role": "system", "content": "You are a helpful assistant."}
    user = row["prompt"][1]["content"]
    assert user.startswith(f"<video>{ASKED} Think first, call **crop_video** if needed")
    assert user.endswith(f"{suffix} The Video path for this video is: {path}")
    limits = {"fps": 1, "min_frames": 1, "max_frames": 512, "max_pixels": 50176}
    assert row["videos"] == [{"type": "video", "video": f"file://{path}", **limits}]
    assert row["data_source"] == "longvt" and row["reward_model"] == {"style": "rule", "ground_truth": "B"}
    assert row["extra_info"] == {
        "split": "train",
        "index": 0,
        "answer": "B",
        "question": ASKED,
        "need_tools_kwargs": True,
        "tools_kwargs": {"crop_video": {"create_kwargs": {"dummy": "dummy"}}},
        "video_segment": [4.0, 6.0],
    }


def test_alpaca_leaves_out_what_a_tool_said(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """`AlpacaDatasetConverter` makes all history the user's; LLaMA-Factory's templates write a tool's otherwise."""
    store = runs("timesearch_r")
    assert published_rows(store, "tool", "sft", format="llamafactory-alpaca") == []
    assert "not written    2  tool message" in capsys.readouterr().out
    (row,) = published_rows(store, "tool", "sft", format="llamafactory")
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "tool", "assistant"]


def test_love_r1_has_a_record_for_each_step(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """What `LazySupervisedDataset` of sft_video.py reads: method facts 2.5."""
    store = runs("love_r1")
    found = published_rows(store, "a", "sft", format="love_r1")
    asked = (
        "Which colour is the sign?\nOptions:\nA. red\nB. green\nC. blue\nD. white\n\n"
        "Provide only the single option letter (e.g., A, B, C, D, etc.) as the answer."
    )
    answer = "I get the answer.\n\nGreen. \\boxed{B}"
    zooming, answering = (
        {
            "video": film(store),
            "messages": [said("user", asked), said("assistant", text)],
            "cot_data": True,
            "zoomin_intervals": intervals,
        }
        for text, intervals in ((ZOOM, []), (answer, [[2, 7]]))
    )
    # Attempt 1 broke the protocol: its zoom follows that, its answer does not.
    assert found == [zooming, answering, answering]
    assert "not written    1  follows an invalid step" in capsys.readouterr().out
    assert json.loads(store.storage.read("cuts/love_r1-sft-a/train.json")) == found


def test_love_r1_has_its_rl_record(runs: Runs) -> None:
    """What `LazySupervisedDataset` of grpo.py reads: method facts 2.6."""
    store = runs("love_r1")
    (row,) = published_rows(store, "a", "rl", format="love_r1")
    assert row == {
        "path": film(store),
        "problem": "Which colour is the sign?\n",
        "options": ["A. red", "B. green", "C. blue", "D. white"],
        "problem_type": "multiple choice",
        "solution": "<answer>B</answer>",
        "data_type": "video",
        "tgt": [[4.0, 6.0]],
        "zoomin_intervals": [],
    }
    template = "\nProvide only the single option letter (e.g., A, B, C, D, etc.) as the answer."
    upstream = row["problem"] + "Options:\n" + "".join(f"{option}\n" for option in row["options"]) + template
    (native, *_) = published_rows(store, "a", "rl")
    assert native["prompt"][1]["content"].rpartition("<image>")[2].startswith(upstream + "\nBased on the video and")


def test_a_short_zoom_is_not_said_to_a_loader_that_would_widen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("I need to zoom in on the video.\n\nThe sign. \\boxed{[4, 6]}", ATTEMPTS["love_r1"][1])
    monkeypatch.setitem(ATTEMPTS, "love_r1", short)
    found = published_rows(published_run(tmp_path, "love_r1"), "short", "sft", format="love_r1")
    assert [row["zoomin_intervals"] for row in found] == [[]]
    assert "not written    2  zoom under 5 s" in capsys.readouterr().out


def test_timesearch_r_has_its_records(runs: Runs) -> None:
    """What lazy_dataset_sft.py and lazy_dataset.py read; observations are not stored: method facts 5."""
    store = runs("timesearch_r")
    (row,) = published_rows(store, "a", "sft", format="timesearch_r")
    call = {
        "name": "seek_video_frames",
        "arguments": {"query": "sign", "start_time": 2.0, "end_time": 7.0, "num_frames": 3},
    }
    facts = {"video": film(store), "question": ASKED, "duration": 11.9, "type": "multiple_choice"}
    first = f"<think>Look.</think><tool_call>{json.dumps(call)}</tool_call>"
    assert row == {
        **facts,
        "messages": [
            said("user", ASKED),
            said("assistant", first),
            said("assistant", "<think>Green.</think><answer>B</answer>"),
        ],
    }
    again = re.search(r"<tool_call>(.*?)</tool_call>", row["messages"][1]["content"][-1]["text"], re.DOTALL)
    assert again is not None and json.loads(again[1]) == call
    (rl,) = published_rows(store, "a", "rl", format="timesearch_r")
    assert rl == {**facts, "target": {"answer": "B"}}
    (native, *_) = published_rows(store, "a", "rl")
    assert f"Question: {ASKED}\nAnswer with the option's letter" in native["prompt"][1]["content"]
    assert "\nThe video duration: 11.9 seconds.\n" in native["prompt"][1]["content"]


def test_open_questions_are_left_to_rewards_that_can_judge_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_rl(name: str, asked: Question) -> list[dict[str, Any]]:
        folder = tmp_path / f"{name}{len(asked.clue_intervals)}"
        folder.mkdir()
        return published_rows(published_run(folder, name, asked), "open", "rl", format=name)

    blind = OPEN.model_copy(update={"clue_intervals": ()})
    (row,) = cut_rl("timesearch_r", blind)
    assert (row["type"], row["target"]) == ("open_ended", {"answer": "green"})
    (row,) = cut_rl("love_r1", OPEN)
    assert (row["problem"], row["problem_type"], row["options"]) == ("Which colour is the sign?", "free-form", [])
    for name, reason in (("framethinker", "open question"), ("longvt", "not one clue interval"), ("love_r1", "open")):
        assert cut_rl(name, blind) == []
        assert f"not written    1  {reason}" in capsys.readouterr().out


def test_one_schema_for_every_file_of_a_published_parquet(runs: Runs) -> None:
    for name, kind in (("longvt", "sft"), ("longvt", "rl"), ("framethinker", "rl")):
        full = published_rows(runs(name), "schema", kind, format=name)
        cut(runs(name).url, f"none-{kind}", None, "n_zooms > 99", kind, format=name)  # type: ignore[arg-type]
        paths = [
            next(Path(runs(name).storage.path(f"cuts/{folder}")).glob("*.parquet"))
            for folder in (f"{name}-{kind}-schema", f"none-{kind}")
        ]
        assert full and pq.read_schema(paths[0]).equals(pq.read_schema(paths[1]))
