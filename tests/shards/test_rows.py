"""What the rows of every protocol share: tools once, pictures as they were shown, steps with the state before them."""

import json

import pytest

from pipeline.media.sandbox import open_video
from pipeline.shards.formats.tools import apart
from prompts.longvt import LongVT
from prompts.timesearch_r import TimeSearchR
from schemas.samples import SampleMessage
from schemas.video import ExactSize, FramePlan
from tests.shards.cutting import film, published_rows
from tests.shards.published import ATTEMPTS, Runs


def test_tools_stand_in_every_row_once(runs: Runs) -> None:
    for name, tools in (("longvt", LongVT.tools), ("timesearch_r", TimeSearchR.tools), ("love_r1", ())):
        for kind in ("sft", "rl", "rl-steps"):
            (row, *_) = published_rows(runs(name), "tools", kind)
            system = row["messages" if kind == "sft" else "prompt"][0]["content"]
            assert tuple(row["tools"]) == tools and system.count("<tools>") == 2 * len(tools)
            assert all(tool in system for tool in tools)


def test_llamafactory_gets_tools_in_their_place_where_it_writes_the_same_bytes(runs: Runs) -> None:
    (native, *_) = published_rows(runs("longvt"), "place", "sft")
    for name in ("llamafactory", "llamafactory-alpaca"):
        (row, *_) = published_rows(runs("longvt"), "place", "sft", format=name)
        system = row["messages"][0]["content"] if name == "llamafactory" else row["system"]
        assert system == "You are a helpful assistant."
        # As `QwenToolUtils.tool_formatter` of data/tool_utils.py (0.9.5) writes them after the system text.
        listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in json.loads(row["tools"]))
        written = native["messages"][0]["content"].partition("<tools></tools> XML tags:\n<tools>")
        assert written[2].startswith(f"{listed}\n</tools>\n\nFor each function call") and written[0].startswith(system)
        info = json.loads(runs("longvt").storage.read(f"cuts/{name}-sft-place/dataset_info.json"))
        assert info[f"{name}-sft-place"]["columns"]["tools"] == "tools"
    (row,) = published_rows(runs("timesearch_r"), "place", "sft", format="llamafactory")
    assert row["tools"] == "" and "\n# Tools\n" in row["messages"][0]["content"]


def test_tools_stay_where_they_stand_but_for_the_very_form_of_the_template() -> None:
    def message(text: str) -> SampleMessage:
        return SampleMessage(role="system", content=text, train=False)

    (tool,) = LongVT.tools
    plain = [message("You are a helpful assistant.")]
    assert apart(plain, ()) == (plain, "") and apart(plain, [tool]) == (plain, "")
    assert apart(plain, [json.dumps(json.loads(tool), indent=1)]) == (plain, "")


def test_stamped_pictures_are_drawn_again_and_are_not_the_bare_ones(runs: Runs) -> None:
    store = runs("love_r1")
    row = published_rows(store, "stamp", "sft", media="embedded")[1]
    assert len(row["frames"]) == 33 and all(frame["stamped"] for frame in row["frames"])
    with open_video(film(store), "clip.mp4") as opened:
        for picture, frame in zip(row["images"], row["frames"], strict=True):
            size = ExactSize(width=frame["width"], height=frame["height"])
            drawn, bare = (
                opened.read(FramePlan(budget=size, indices=(frame["index"],), stamp=stamp))[0]
                for stamp in (True, False)
            )
            assert drawn.frame.hash == bare.frame.hash == frame["hash"]
            assert picture["bytes"] == drawn.jpeg != bare.jpeg


@pytest.mark.parametrize("name", sorted(ATTEMPTS))
def test_a_step_is_asked_with_the_state_before_it_in_every_protocol(runs: Runs, name: str) -> None:
    first, second = published_rows(runs(name), "steps", "rl-steps")
    gain = 0.25
    assert [(row["turn"], row["provenance"]["step"], row["evidence_gain"]) for row in (first, second)] == [
        (0, 0, gain),
        (1, 1, gain),
    ]
    assert first["action"] == second["action"] and len(first["images"]) == len(second["images"])
    assert first["prompt"][-1]["role"] == "user" and second["prompt"][-1]["role"] in ("user", "tool")
    extra = len(second["prompt"]) - len(first["prompt"])
    assert extra == (0 if name == "love_r1" else 2)
    if name == "love_r1":
        assert "Your last reply was not valid" in second["prompt"][-1]["content"]
