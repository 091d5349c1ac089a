"""Runs to watch: real films, records with everything that a page shows, and one whose every text is an attack."""

import shutil
from pathlib import Path

from pipeline.media.sandbox import open_video
from pipeline.store import RunStore
from schemas.captions import CaptionNode, CaptionTree
from schemas.errors import Failure
from schemas.question import Question
from schemas.trajectory import Action, Hint, Observation, Overview, Trajectory, Turn
from schemas.verdict import Verdict
from schemas.video import Frame, FramePlan, PixelBudget, Video
from tests.corpus import render_video
from tests.shards.films import FILMS, film_run
from tests.shards.runs import answer_turn, begin, commit, question, trajectory, tree, verdict, zoom_turn

ATTACK = (
    "</title></script></style><script>globalThis.hit = 1</script><img src=/hit onerror='globalThis.hit = 1'>"
    '<svg onload="globalThis.hit = 1"><a href="javascript:globalThis.hit=1" style=\'position:fixed\'>x</a>'
    "{{ 7*7 }} ${7*7} \" ' ` &lt;b&gt; <iframe src=//example.invalid></iframe> \u202eevil\u202c <image>"
)
"""What a model, a source or a file name may hold."""


def film(store: RunStore, shard: int) -> Path:
    """The video file of a shard's trajectories."""
    (first, *_) = store.rows(Trajectory, "teach", shard)
    assert first.video
    return Path(first.video.uri)


def watch_run(folder: Path) -> RunStore:
    """`film_run` with captions that name the films and hold their overviews."""
    store = film_run(folder)
    for shard in range(FILMS):
        path = film(store, shard)
        with open_video(str(path), f"v{shard}") as opened:
            shown = opened.read(FramePlan(budget=PixelBudget(max_side=120), times_s=(0.0, 2.0)))
            nodes = tuple(node((h,), opened.video, 2) for h in (1, 2))
            made = tree(f"v{shard}").model_copy(
                update={"video": opened.video, "overview": tuple(shown), "nodes": nodes, "width": 2}
            )
        commit(store, "caption", shard, [made])
    return store


def moved_run(store: RunStore, folder: Path) -> RunStore:
    """A copy of a `watch_run` with films of its own, which a test may spoil."""
    shutil.copytree(store.url, folder / "run")
    copy = RunStore(str(folder / "run"))
    for shard in range(FILMS):
        path = Path(shutil.copy(film(store, shard), folder))
        trees, made = store.rows(CaptionTree, "caption", shard), store.rows(Trajectory, "teach", shard)
        commit(copy, "caption", shard, [tree.model_copy(update={"video": _at(tree.video, path)}) for tree in trees])
        commit(copy, "teach", shard, [one.model_copy(update={"video": _at(one.video, path)}) for one in made])
    return copy


def record_other_pictures(store: RunStore) -> None:
    """Lets the first shard's trajectories name other hashes of their zooms' frames than the film gives."""
    commit(store, "teach", 0, [_spoiled_looks(made) for made in store.rows(Trajectory, "teach", 0)])


def _spoiled_looks(made: Trajectory) -> Trajectory:
    document = made.model_dump()
    for turn in document["turns"]:
        for seen in turn["observations"]:
            for frame in seen["frames"]:
                frame["hash"] = frame["hash"][::-1]
    return Trajectory.model_validate(document)


def name_video(store: RunStore, uri: str) -> None:
    """Lets the first shard name its video by another address."""
    trees, made = store.rows(CaptionTree, "caption", 0), store.rows(Trajectory, "teach", 0)
    commit(store, "caption", 0, [tree.model_copy(update={"video": _at(tree.video, uri)}) for tree in trees])
    commit(store, "teach", 0, [one.model_copy(update={"video": _at(one.video, uri)}) for one in made])


def _at(video: Video | None, path: Path | str) -> Video:
    assert video
    return video.model_copy(update={"uri": str(path)})


def node(path: tuple[int, ...], video: Video, width: int, caption: str = "a street") -> CaptionNode:
    """One segment of the first level."""
    start_s, end_s = ((path[0] - 1) * video.duration_s / width, path[0] * video.duration_s / width)
    return CaptionNode(
        path=path,
        start_s=start_s,
        end_s=end_s,
        first_frame=round(start_s * video.fps),
        last_frame=round(end_s * video.fps) - 1,
        caption=caption,
        shown_indices=(),
        shown_times_s=(),
        width=80,
        height=60,
        model="captioner",
        prompt_hash="h",
    )


def attacked_run(folder: Path) -> RunStore:
    """Two attempts at one question about a film, one of them failed; every text is `ATTACK`, the file's name, too."""
    name = ATTACK.replace("/", "-")[:150] + ".mp4"
    path = folder / name
    render_video(folder / "plain.mp4", 4, size=(160, 120))
    (folder / "plain.mp4").rename(path)
    asked = Question.model_validate(
        question(0, name).model_dump()
        | {"question_id": ATTACK, "text": ATTACK, "choices": (ATTACK, "b", "c", ATTACK), "answer_text": ATTACK}
    )
    store = begin(str(folder / "run"), [asked], attempts=2)
    with open_video(str(path), name) as opened:
        frames = tuple(p.frame for p in opened.read(FramePlan(budget=PixelBudget(max_side=80), times_s=(1.0, 2.0))))
        video = opened.video
    failure = Failure(stage="teach", kind=ATTACK, message=ATTACK)
    made = [_attacked(asked, video, frames), trajectory(asked, 1, "failed", failure=failure)]
    nodes = (node((1,), video, 1, ATTACK),)
    found = CaptionTree.model_validate(tree(name).model_dump() | {"video": video, "nodes": nodes})
    commit(store, "caption", 0, [found])
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [_attacked_verdict(made[0]), verdict(made[1])])
    return store


def _attacked(asked: Question, video: Video, frames: tuple[Frame, ...]) -> Trajectory:
    action = Action(call_id="0.0", kind="zoom", start_s=1.0, end_s=2.0, query=ATTACK, path=ATTACK)
    observation = Observation(call_id="0.0", kind="frames", text=ATTACK, frames=frames)
    zoomed = zoom_turn(ATTACK).model_copy(update={"actions": (action,), "observations": (observation,)})
    turns = tuple(_spoiled(turn) for turn in (zoomed, zoom_turn(ATTACK, "bad_json"), answer_turn(ATTACK)))
    hint = Hint(level=0, text=ATTACK, after_turn=1, wrong_answer=ATTACK, wrong_raw=ATTACK)
    made = trajectory(asked, 0, turns=turns, final=ATTACK, hints=[hint])
    changes = {"video": video, "overview": Overview(frames=frames), "teacher": ATTACK}
    return made.model_copy(update=changes)


def _spoiled(turn: Turn) -> Turn:
    named = {"raw": ATTACK, "reasoning": ATTACK, "author": ATTACK, "finish_reason": ATTACK, "call_key": ATTACK}
    return turn.model_copy(update={**named, "error": turn.error and ATTACK})


def _attacked_verdict(of: Trajectory) -> Verdict:
    return verdict(of, mismatch=ATTACK, verifier=ATTACK, p_gold_steps=(0.5, 0.75))
