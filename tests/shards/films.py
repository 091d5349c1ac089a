"""A run over real videos: every frame that a trajectory names is one that the decoder gives again."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.media.sandbox import SafeVideo, open_video
from pipeline.store import RunStore
from schemas.trajectory import Overview, Trajectory, Turn
from schemas.verdict import Verdict
from schemas.video import Frame, FramePlan, PixelBudget
from tests.corpus import render_video
from tests.shards.runs import answer_turn, begin, commit, question, trajectory, tree, verdict, zoom_turn

FILMS = 3
OVERVIEW = (0.0, 2.0)
FIRST, SECOND = (1.0, 1.5, 2.0), (3.0, 4.0)


def film_run(folder: Path) -> RunStore:
    """Three films of five seconds, a question and two attempts each; the last question is open.

    Attempt 0 zooms twice and answers; attempt 1 breaks the protocol first, zooms once and answers.
    """
    asked = [question(n, f"v{n}", "open" if n == FILMS - 1 else "multiple_choice") for n in range(FILMS)]
    store = begin(str(folder / "run"), asked, attempts=2)
    for shard, item in enumerate(asked):
        path = folder / f"v{shard}.mp4"
        render_video(path, 5, size=(160, 120), seed=shard)
        with open_video(str(path), f"v{shard}") as film:
            answer = answer_turn("C" if item.choices else "青")
            overview = Overview(frames=_frames(film, OVERVIEW, 120))
            first, second = (_zoom(film, times) for times in (FIRST, SECOND))
            made = [
                trajectory(item, 0, turns=(first, second, answer), final="C" if item.choices else "青"),
                trajectory(item, 1, turns=(zoom_turn("", "bad_json"), first, answer), final="C"),
            ]
            made = [t.model_copy(update={"video": film.video, "overview": overview}) for t in made]
        commit(store, "caption", shard, [tree(f"v{shard}")])
        commit(store, "teach", shard, made)
        commit(store, "replay", shard, [_verdict(t) for t in made])
    return store


def _verdict(of: Trajectory) -> Verdict:
    steps = {0: (0.25, 0.5, 0.875), 1: (0.25, 0.75)}[of.attempt]
    if of.question.kind == "open":
        return verdict(of, p_gold_steps=None, gain_per_step=None, evidence_gain=None)
    return verdict(of, p_gold_steps=steps, well_formed=of.attempt == 0)


def _frames(film: SafeVideo, times: Sequence[float], side: int) -> tuple[Frame, ...]:
    plan = FramePlan(budget=PixelBudget(max_side=side), times_s=tuple(times))
    return tuple(picture.frame for picture in film.read(plan))


def _zoom(film: SafeVideo, times: Sequence[float]) -> Turn:
    turn = zoom_turn(f"Closer at {times[0]}.")
    (observation,) = turn.observations
    seen = observation.model_copy(update={"frames": _frames(film, times, 160)})
    return turn.model_copy(update={"observations": (seen,)})
