"""Frames found by words: the choice on vectors made by hand, and searched zooms on real video, taught and replayed."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.models.chat import ChatMessage, Embedder
from pipeline.models.request import request_of
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from pipeline.stages.search import greedy_map, relevant_and_unlike
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts.judging import Asking
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import AS_PUBLISHED, Endpoint, Rollout, View
from schemas.trajectory import Observation, Trajectory
from schemas.verdict import Verdict
from tests.corpus import read_barcode
from tests.stages.scripted import ScriptedModel, in_turn, planned, question
from tests.stages.test_replay import Reader
from tests.stages.test_teach import tree_of

Vectors = npt.NDArray[np.float32]

SEARCH = (
    '<think>From 4 s to 8 s.</think><tool_call>{"name": "seek_video_frames", "arguments": {"query": "the sign", '
    '"start_time": 4, "end_time": 8, "num_frames": 2}}</tool_call>'
)
ANSWER = "<think>It is green.</think><answer>B</answer>"


class Finder:
    """An embedder for which the frames of some indices are relevant; it reads the index from the pixels."""

    name = "finder"

    def __init__(self, *wanted: int) -> None:
        self._wanted = wanted

    def embed(self, texts: Sequence[str], jpegs: Sequence[bytes]) -> tuple[Vectors, Vectors]:
        axes = np.eye(len(self._wanted) + 2, dtype=np.float32)
        assert list(texts) == ["the sign"]
        return axes[:1], np.stack([self._vector(read_barcode(jpeg), axes) for jpeg in jpegs])

    def _vector(self, index: int, axes: Vectors) -> Vectors:
        if index not in self._wanted:
            return axes[1]
        return np.float32(0.8) * axes[0] + np.float32(0.6) * axes[2 + self._wanted.index(index)]


def vectors(*rows: tuple[float, ...]) -> Vectors:
    return np.array(rows, np.float32)


def test_the_most_relevant_comes_first_and_its_copy_never() -> None:
    query = vectors((1, 0, 0))
    pictures = vectors((0.8, 0.6, 0), (1, 0, 0), (1, 0, 0), (0, 0, 1))
    # Relevance 0.8, 1, 1, 0. After the second, the first gains 0.64 * (1 - 0.8 ** 2), its copy 0, the last 0.
    assert relevant_and_unlike(query, pictures, 1) == [1]
    assert relevant_and_unlike(query, pictures, 2) == [0, 1]
    assert relevant_and_unlike(query, pictures, 3) == [0, 1]


def test_an_unlike_picture_beats_a_more_relevant_one_that_is_nearly_seen() -> None:
    query = vectors((1, 0, 0))
    near, unlike, far = (0.98, 0.2, 0.0), (0.6, 0.0, 0.8), (0.0, 1.0, 0.0)
    assert relevant_and_unlike(query, vectors((1, 0, 0), near, unlike, far), 2) == [0, 2]


def test_no_more_pictures_than_asked_for_are_all_taken_and_alike_ones_count_alike() -> None:
    query, two = vectors((1, 0)), vectors((0, 1), (0, 1))
    assert relevant_and_unlike(query, two, 2) == [0, 1]
    assert relevant_and_unlike(query, vectors((0, 1), (0, 1), (0, 1)), 2) == [0]
    assert relevant_and_unlike(query, vectors((0.6, 0.8), (0.6, -0.8), (0.6, 0.8)), 2) == [0, 1]


def test_each_step_takes_what_raises_the_determinant_most() -> None:
    source = np.random.default_rng(3)
    for _ in range(20):
        factors = source.normal(size=(9, 7))
        kernel = factors @ factors.T
        chosen: list[int] = []
        for _ in range(5):
            left = [i for i in range(9) if i not in chosen]
            sets = {i: [*chosen, i] for i in left}
            chosen.append(max(left, key=lambda i: float(np.linalg.det(kernel[np.ix_(sets[i], sets[i])]))))
        assert greedy_map(kernel, 5) == chosen
    assert greedy_map(np.zeros((3, 3)), 2) == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> CaptionTree:
    return tree_of(tmp_path_factory.mktemp("searched"), "timesearch_r")


def taught(
    tree: CaptionTree,
    embedder: Embedder | None,
    *texts: str,
    name: str = "timesearch_r",
    view: View = AS_PUBLISHED,
) -> tuple[Trajectory, ScriptedModel]:
    teacher = ScriptedModel(in_turn(*texts))
    teaching = Teaching(protocol(name), teacher, None, Rollout(), view, embedder)
    (made,) = asyncio.run(TeachStage(teaching, 4).run([planned(question())], {"clip.mp4": tree}, Care()))
    return made, teacher


def judged(tree: CaptionTree, trajectory: Trajectory, embedder: Embedder | None) -> Verdict:
    stage = ReplayStage(protocol(trajectory.protocol), None, lambda key: None, embedder=embedder)
    (verdict,) = asyncio.run(stage.run([trajectory], {tree.video_id: tree}, Care()))
    assert verdict.error is None
    return verdict


def looked(trajectory: Trajectory) -> Observation:
    return trajectory.turns[0].observations[0]


def with_frames(trajectory: Trajectory, source: Trajectory, **change: object) -> Trajectory:
    """The first trajectory, with the frames of the other one's first look as its own, the first of them changed."""
    first, *rest = looked(source).frames
    frames = (first.model_copy(update=change), *rest)
    turn = trajectory.turns[0]
    observation = looked(trajectory).model_copy(update={"frames": frames})
    changed = turn.model_copy(update={"observations": (observation,)})
    return trajectory.model_copy(update={"turns": (changed, *trajectory.turns[1:])})


def test_frames_are_found_by_words_and_shown_in_order_of_time(tree: CaptionTree) -> None:
    made, teacher = taught(tree, Finder(65, 45), SEARCH, ANSWER)
    assert [frame.index for frame in looked(made).frames] == [45, 65] and looked(made).choice == "searched"
    told = teacher.asked[1][-1]
    assert told.role == "tool"
    assert [read_barcode(part) for part in told.parts if isinstance(part, bytes)] == [45, 65]
    assert [part for part in told.parts if isinstance(part, str)][:2] == ["4.5s", "6.5s"]


def test_without_an_embedder_or_a_query_they_are_spread_evenly(tree: CaptionTree) -> None:
    plain, _ = taught(tree, None, SEARCH, ANSWER)
    wordless, _ = taught(tree, Finder(65, 45), SEARCH.replace('"the sign"', "null"), ANSWER)
    for made in (plain, wordless):
        assert [frame.index for frame in looked(made).frames] == [40, 80] and looked(made).choice == "uniform"
        assert judged(tree, made, Finder(65, 45)).observations_match


def test_a_view_narrows_a_search(tree: CaptionTree) -> None:
    made, _ = taught(tree, Finder(65, 45), SEARCH, ANSWER, view=View(zoom_frames=1, zoom_side=96))
    (frame,) = looked(made).frames
    assert frame.index in (45, 65) and max(frame.width, frame.height) == 96


def test_a_search_is_proved_by_searching_again_or_by_what_it_may_have_found(tree: CaptionTree) -> None:
    made, _ = taught(tree, Finder(65, 45), SEARCH, ANSWER)
    other, _ = taught(tree, Finder(50, 70), SEARCH, ANSWER)
    assert judged(tree, made, Finder(65, 45)).observations_match and judged(tree, made, None).observations_match
    swapped = with_frames(made, other)
    assert judged(tree, swapped, None).observations_match
    found = judged(tree, swapped, Finder(65, 45))
    assert found.observations_match is False and "recorded index 50" in (found.mismatch or "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hash": "0" * 32}, "the picture differs"),
        ({"index": 46}, "2 frames recorded, 1 decoded"),
        ({"index": 30}, "2 frames recorded, 1 decoded"),
        ({"index": -5}, "2 frames recorded, 1 decoded"),
        ({"index": 65}, "recorded index 65"),
        ({"index": 10**9}, "recorded index 1000000000"),
        ({"time_s": 4.0}, "recorded index"),
    ],
)
def test_frames_that_no_search_can_have_found_are_caught_without_an_embedder(
    tree: CaptionTree, change: dict[str, object], said: str
) -> None:
    """Frame 46 is between two candidates, 30 outside of the span, -5 and 10**9 of the video; 65 is shown twice."""
    made, _ = taught(tree, Finder(65, 45), SEARCH, ANSWER)
    verdict = judged(tree, with_frames(made, made, **change), None)
    assert verdict.observations_match is False and said in (verdict.mismatch or "")


def test_an_endpoint_is_sent_a_tool_message_as_the_users() -> None:
    config = Endpoint(model="m", base_url="http://127.0.0.1:1/v1")
    request, _ = request_of(config, [ChatMessage("tool", ("4.0s", b"jpeg"))], 0, (), 0)
    (message,) = request["messages"]
    assert message["role"] == "user" and [part["type"] for part in message["content"]] == ["text", "image_url"]


LOVE = ("It turns green. \\boxed{[4, 6]}", "Again. \\boxed{[4, 6]}", "Green. \\boxed{B}")


def test_stateless_zooms_are_stamped_taught_and_replayed(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "love_r1")
    assert all(picture.frame.stamped for picture in tree.overview) and len(tree.overview) == 23
    made, teacher = taught(tree, None, LOVE[0], LOVE[0].replace("[4, 6]", "[7, 9]"), LOVE[2], name="love_r1")
    assert (made.status, made.final_answer) == ("answered", "B")
    assert [len(chat) for chat in teacher.asked] == [2, 2, 2]
    assert [sum(isinstance(p, bytes) for p in chat[1].parts) for chat in teacher.asked] == [23, 27, 31]
    assert all(frame.stamped for turn in made.turns for o in turn.observations for frame in o.frames)
    verdict = judged(tree, made, None)
    assert verdict.well_formed and verdict.in_bounds and verdict.observations_match, verdict.mismatch
    frame = looked(made).frames[0]
    bare = with_frames(made, made, stamped=False)
    assert frame.hash == looked(bare).frames[0].hash
    assert judged(tree, bare, None).observations_match is False


def test_frames_with_their_second_burnt_in_are_not_shown_in_disorder(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "love_r1")
    made, _ = taught(tree, None, LOVE[0], LOVE[2], name="love_r1")
    stage = ReplayStage(protocol("love_r1"), Reader(), lambda key: None, asking=Asking(screens=True))
    (verdict,) = asyncio.run(stage.run([made], {tree.video_id: tree}, Care()))
    assert (verdict.p_gold_four_frames, verdict.p_gold_disordered) == (0.25, None)


def test_a_zoom_that_repeats_an_earlier_one_is_refused_and_replayed_as_such(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "love_r1")
    made, teacher = taught(tree, None, *LOVE, name="love_r1")
    assert [turn.error for turn in made.turns] == ["", "seen_before", ""]
    assert str(teacher.asked[2][1].parts[-1]).endswith(
        "\nYour last reply was not valid: The interval [4, 6] has been zoomed in already.\nYou cannot zoom in again: "
        "provide your final answer within \\boxed{}."
    )
    verdict = judged(tree, made, None)
    assert verdict.observations_match and verdict.in_bounds is False and verdict.n_zooms == 1
