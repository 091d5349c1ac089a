"""A worker of the replay stage: what a judge says is kept with the run, is asked for once, and survives a prune."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.kept_calls import KeptCalls
from pipeline.plan import Planned
from pipeline.stages.items import Care
from pipeline.store import RunStore, to_parquet
from pipeline.worker import Assignment, Worker
from schemas.config import RunConfig, fingerprint, stage_settings
from schemas.verdict import Verdict
from tests.models.test_endpoint_scorer import reply, server
from tests.stages.scripted import ScriptedModel, in_turn, planned
from tests.stages.test_answers import open_question
from tests.stages.test_teach import ANSWER, ZOOM, taught, tree_of
from tests.tiny_models import build_idefics3


def config(folder: Path, url: str, **more: Any) -> RunConfig:
    model = {"model": "m", "base_url": url}
    source = {"path": str(folder / "q.jsonl"), "videos": str(folder)}
    return RunConfig.model_validate({"source": source, "teacher": model, "judge": model, **more})


def taught_run(folder: Path, settings: RunConfig) -> tuple[RunStore, list[Planned]]:
    """A run of one attempt at an open question, which is still to be replayed."""
    store = RunStore(str(folder / "run"))
    store.open_for(settings, stage_settings(settings, "1"))
    tree = tree_of(folder, "videozoomer")
    said = ANSWER.replace("<answer>B", "<answer>a plate in green")
    attempt = taught(tree, ScriptedModel(in_turn(ZOOM, said)), asked=open_question())
    rows = [planned(open_question())]
    store.storage.write("plan/part-00000.parquet", to_parquet(Planned, rows, {"covers": {}}))
    for stage, row in (("caption", tree), ("teach", attempt)):
        store.commit(stage, 0, [row], {"stage": stage, "rows": 1})
    return store, rows


def replayed(settings: RunConfig, store: RunStore, rows: list[Planned]) -> Verdict:
    """The attempt's verdict by a new worker."""
    print_ = fingerprint(stage_settings(settings, "1")["replay"])
    asyncio.run(Worker(Assignment(settings, store.url, "replay", print_)).run(0, rows, Care()))
    (verdict,) = store.rows(Verdict, "replay", 0)
    return verdict


def test_a_judgement_is_paid_once_and_a_prune_leaves_it(tmp_path: Path) -> None:
    with server(lambda body, n: reply('{"answer": "yes"}')) as (url, seen):
        settings = config(tmp_path, url)
        store, rows = taught_run(tmp_path, settings)
        first = replayed(settings, store, rows)
        store.storage.remove(store.shard_name("replay", 0))
        again = replayed(settings, store, rows)
    assert first == again and len(seen) == 1
    assert (first.answer_correct, first.answer_judged_by, first.judge_said) == (True, "judge", '{"answer": "yes"}')
    kept = KeptCalls(store)
    assert [(file.kind, file.role, file.name) for file in kept.each()] == [
        ("call", "judge", f"{first.judge_call}.json")
    ]
    assert list(kept.unreferred()) == []
    assert "verifier_busy_s" not in store.footer("replay", 0)


def test_the_footer_tells_how_the_verifiers_time_went(tmp_path: Path) -> None:
    build_idefics3(tmp_path / "tiny")
    settings = config(tmp_path, "http://127.0.0.1:1/v1", judge=None, verifier={"path": str(tmp_path / "tiny")})
    store, rows = taught_run(tmp_path, settings)
    assert replayed(settings, store, rows).verifier == "tiny"
    footer = store.footer("replay", 0)
    assert 0 < footer["verifier_busy_s"] <= footer["seconds"] and 0 <= footer["verifier_waiting_s"] <= footer["seconds"]
    assert (footer["verifier_shared_prefixes"], footer["verifier_kept_features"]) == (1, 1)  # how it was found to read


def test_a_closed_worker_leaves_no_thread_of_its_models(tmp_path: Path) -> None:
    """Those of its verifier at an endpoint live in a loop of their own."""

    def threads() -> set[str]:
        return {t.name for t in threading.enumerate() if "endpoint-scorer" in t.name or "_serve" in t.name}

    with server(lambda body, n: reply('{"answer": "yes"}')) as (url, _):
        settings = config(tmp_path, url, verifier={"model": "m", "base_url": url})
        store, rows = taught_run(tmp_path, settings)
        before = threads()

        async def scene() -> set[str]:
            worker = Worker(Assignment(settings, store.url, "replay", "print"))
            await worker.run(0, rows, Care())
            during = threads()
            await worker.close()
            return during

        assert len(asyncio.run(scene()) - before) > 8
    deadline = time.monotonic() + 5
    while threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() <= before
