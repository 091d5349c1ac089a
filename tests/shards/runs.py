"""A small run directory with real records, without any model or video."""

from collections.abc import Sequence

from pipeline.plan import Plan
from pipeline.sources import BadRow
from pipeline.store import RunStore
from schemas.captions import CaptionTree, Usage
from schemas.config import RunConfig, fingerprint, stage_settings
from schemas.errors import Failure
from schemas.question import Question
from schemas.trajectory import Action, CaptionLine, Hint, Observation, Overview, Status, Trajectory, Turn
from schemas.verdict import Verdict
from schemas.video import Frame, Video
from tests.prompts.examples import VIDEO

HOSTILE = "<script>alert(1)</script> | `x` {{ 7*7 }} \x1b[31m [red]ünï'cödé[/red] 龍\n\n# heading"
"""What a model or a file name may hold."""


def video(video_id: str) -> Video:
    return VIDEO.model_copy(update={"video_id": video_id, "uri": f"/videos/{video_id}", "content_hash": "ab" * 32})


def question(number: int, video_id: str, kind: str = "multiple_choice") -> Question:
    choices = ("rot", "grün", "青", "<image>") if kind == "multiple_choice" else ()
    return Question.model_validate(
        {
            "question_id": f"q{number}",
            "video_id": video_id,
            "text": f"Which colour, {HOSTILE}?",
            "kind": kind,
            "choices": choices,
            "answer_letter": "C" if choices else "",
            "answer_text": "青",
            "clue_intervals": ((2.0, 6.0),),
            "source": "jsonl",
            "source_id": "",
        }
    )


def frames(count: int, start_s: float = 0.0) -> tuple[Frame, ...]:
    times = [start_s + i for i in range(count)]
    return tuple(Frame(index=round(t * 25), time_s=t, hash=f"h{t}", width=320, height=180) for t in times)


def tree(video_id: str, failure: Failure | None = None, usage: Usage | None = None) -> CaptionTree:
    return CaptionTree(
        video_id=video_id,
        status="failed" if failure else "ok",
        video=None if failure else video(video_id),
        width=None,
        split_rule=None,
        nodes=(),
        overview=(),
        usage=usage or Usage(),
        error=failure,
    )


def zoom_turn(think: str, error: str = "") -> Turn:
    action = Action(call_id="0.0", kind="zoom", start_s=2.0, end_s=5.0, fps=1.0)
    observation = Observation(call_id="0.0", kind="frames", text="", frames=frames(3, 2.0), start_s=2.0, end_s=5.0)
    if error:
        observation = Observation(call_id="0.0", kind="error", text="That is not JSON.")
    return _turn(think, () if error else (action,), (observation,), error)


def caption_turn() -> Turn:
    action = Action(call_id="0.0", kind="caption", segment=(1, 2), start_s=4.0, end_s=8.0)
    observation = Observation(call_id="0.0", kind="caption", text="a street", start_s=4.0, end_s=7.9)
    return _turn("closer", (action,), (observation,), "")


def answer_turn(answer: str) -> Turn:
    return _turn("so it is", (Action(call_id="1.0", kind="answer", answer=answer),), (), "")


def _turn(think: str, actions: tuple[Action, ...], observations: tuple[Observation, ...], error: str) -> Turn:
    return Turn(
        think=think,
        actions=actions,
        observations=observations,
        raw=f"<think>{think}</think> {HOSTILE} <image>",
        reasoning="",
        author="teacher",
        trainable=not error,
        error=error,
        finish_reason="stop",
        call_key="k",
        usage=Usage(),
    )


def trajectory(
    asked: Question,
    attempt: int,
    status: Status = "answered",
    turns: Sequence[Turn] = (),
    final: str | None = None,
    failure: Failure | None = None,
    cost_usd: float | None = 0.25,
    protocol: str = "videozoomer",
    hints: Sequence[Hint] = (),
) -> Trajectory:
    shown = Overview(frames=frames(2))
    if protocol == "longvideo_r1":
        line = CaptionLine(path=(1,), start_s=0.0, end_s=15.9, caption=f"<image> {HOSTILE}")
        shown = Overview(captions=(line,), width=4)
    started = failure is None or failure.stage == "teach"
    return Trajectory(
        trajectory_id=f"{asked.question_id}@{attempt}",
        question_id=asked.question_id,
        video_id=asked.video_id,
        attempt=attempt,
        protocol=protocol,
        protocol_version="1",
        status=status,
        question=asked,
        video=video(asked.video_id) if started else None,
        overview=shown if started else None,
        turns=tuple(turns),
        max_turns=5,
        final_answer=final,
        teacher="teacher-1",
        hints=tuple(hints),
        answer_shown=False,
        interval_shown=bool(hints),
        usage=Usage(calls=2, prompt_tokens=100, completion_tokens=20, cost_usd=cost_usd) if started else Usage(),
        error=failure,
    )


def verdict(of: Trajectory, failure: Failure | None = None, **found: object) -> Verdict:
    """A verdict of a trajectory; a good one where it answered and nothing else is said."""
    judged = of.status != "failed" and failure is None
    answered = of.status == "answered" and judged
    base = {
        "trajectory_id": of.trajectory_id,
        "question_id": of.question_id,
        "video_id": of.video_id,
        "attempt": of.attempt,
        "protocol": of.protocol,
        "status": of.status,
        "hint_level": len(of.hints) - 1,
        "well_formed": answered if judged else None,
        "in_bounds": True if judged else None,
        "consistent": None,
        "zooms_mentioned": None,
        "observations_match": True if judged else None,
        "mismatch": None,
        "hint_leak": None,
        "gold_leak": False if judged else None,
        "answer_correct": of.final_answer in ("C", "青") if answered else None,
        "p_gold_blind": 0.25 if answered else None,
        "p_gold_overview": 0.5 if answered else None,
        "p_gold_evidence": 0.75 if answered else None,
        "p_gold_zooms_only": None,
        "p_gold_steps": (0.5, 0.75) if answered else None,
        "gain_per_step": (0.25,) if answered else None,
        "evidence_gain": 0.25 if answered else None,
        "n_claims": 1 if answered else 0,
        "claims_supported": 1.0 if answered else None,
        "claim_min": 0.75 if answered else None,
        "grounding_iou": 0.75 if judged else None,
        "grounding_recall": 0.75 if judged else None,
        "grounding_precision": 1.0 if judged else None,
        "n_turns": len(of.turns),
        "n_zooms": sum(a.looks for t in of.turns for a in t.actions),
        "n_frames": 3,
        "redundant_zooms": 0,
        "verifier": "verifier-1" if answered else None,
        "verifier_tokens": 10,
        "error": failure,
    }
    return Verdict.model_validate(base | found)


def begin(url: str, items: Sequence[Question | BadRow], attempts: int, protocol: str = "videozoomer") -> RunStore:
    """A run directory with its settings and its plan, one video to a shard."""
    model = {"model": "teacher-1", "base_url": "http://127.0.0.1:1/v1"}
    settings = {
        "protocol": protocol,
        "source": {"path": "q.jsonl", "videos": "v"},
        "teacher": model,
        "captioner": model,
    }
    config = RunConfig.model_validate(settings)
    store = RunStore(url)
    store.open_for(config, stage_settings(config, "1"))
    Plan(store).extend(items, attempts, 1)
    return store


def commit(store: RunStore, stage: str, shard: int, rows: Sequence[CaptionTree | Trajectory | Verdict]) -> None:
    """A shard with the footer that a worker would write, in place of one that is there."""
    mark = fingerprint((store.recorded_settings() or {})[stage])
    footer = {"stage": stage, "fingerprint": mark, "rows": len(rows), "seconds": 1.5}
    footer |= {"verifier_busy_s": 0.9, "verifier_waiting_s": 0.1} if stage == "replay" else {}
    store.storage.remove(store.shard_name(stage, shard))
    store.commit(stage, shard, rows, footer)


GOOD = (zoom_turn("Look at [2, 5], ünï."), answer_turn("C"))


def walk_run(url: str) -> RunStore:
    """A run of `longvideo_r1`: captions, no pictures."""
    asked = question(0, "cg/v0.mp4")
    store = begin(url, [asked], 1, "longvideo_r1")
    made = trajectory(asked, 0, turns=(caption_turn(), answer_turn("C")), final="C", protocol="longvideo_r1")
    commit(store, "caption", 0, [tree("cg/v0.mp4")])
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, p_gold_steps=(0.5, 0.75))])
    return store


def whole_run(url: str) -> RunStore:
    """Five videos, ten attempts: every way to be kept or lost once, and one shard that no stage has seen."""
    asked = [question(n, f"v{n}") for n in range(5)]
    store = begin(url, [*asked[:4], BadRow("row 9: no video", question(8, "")), asked[4]], attempts=2)
    gone = Failure(stage="caption", kind="video_truncated", message=f"v2 ends early {HOSTILE}")
    refused = Failure(stage="teach", kind="content_filter", message=f"withheld {HOSTILE}")
    source = Failure(stage="source", kind="bad_row", message="row 9: no video")
    rolled = {
        0: [trajectory(asked[0], 0, turns=GOOD, final="C"), trajectory(asked[0], 1, turns=GOOD, final="C")],
        1: [
            trajectory(asked[1], 0, "gave_up", [zoom_turn("hm")], cost_usd=None),
            trajectory(asked[1], 1, "malformed", [zoom_turn("", "bad_json")] * 3),
        ],
        2: [trajectory(asked[2], n, "failed", failure=gone) for n in range(2)],
        3: [
            trajectory(asked[3], 0, "failed", [zoom_turn("hm")], failure=refused),
            trajectory(asked[3], 1, turns=(GOOD[0], answer_turn("A")), final="A"),
        ],
        4: [trajectory(question(8, ""), n, "failed", failure=source) for n in range(2)],
    }
    for shard, rows in rolled.items():
        trees = [tree(f"v{shard}", gone if shard == 2 else None)] if shard != 4 else []
        commit(store, "caption", shard, trees)
        commit(store, "teach", shard, rows)
    judged = {shard: [verdict(t) for t in rows] for shard, rows in rolled.items() if shard != 4}
    judged[0][1] = verdict(rolled[0][1], p_gold_evidence=0.5, evidence_gain=0.0)
    for shard, verdicts in judged.items():
        commit(store, "replay", shard, verdicts)
    return store
