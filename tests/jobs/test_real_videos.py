"""The acceptance run: sixteen questions on four real videos and one broken, two attempts each, by both protocols."""

import json
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml

from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.jobs.conftest import Command
from tests.scripted_server import ScriptedServer
from tests.tiny_models import build_idefics3

SHARED = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SHARED.exists(), reason="needs the real videos")]


def real_job(folder: Path, protocol: str, base_url: str) -> Path:
    """The job file; its videos are links to the real ones and one without a video stream."""
    videos = folder / "videos"
    videos.mkdir(exist_ok=True)
    for source in [*(SHARED / "videos").iterdir(), SHARED / "bad" / "audio_only.mp4"]:
        if not (videos / source.name).exists():
            (videos / source.name).symlink_to(source)
    rows = (SHARED / "questions.jsonl").read_text().rstrip()
    broken = {"qid": "broken", "video": "audio_only.mp4", "question": "Seen?", "choices": ["yes", "no"], "answer": "B"}
    (folder / "questions.jsonl").write_text(f"{rows}\n{json.dumps(broken)}\n")
    model = {"model": "scripted", "base_url": base_url, "max_tokens": 500, "price": {"input": 1.0, "output": 4.0}}
    job = {
        "protocol": protocol,
        "source": {"path": "questions.jsonl", "videos": "videos"},
        "teacher": model,
        "verifier": {"path": "verifier"},
        "workers": {"videos_per_shard": 2},
    }
    if protocol == "longvideo_r1":
        job |= {"captioner": model, "rollout": {"hints": "after_wrong_answer"}}
    (folder / f"{protocol}.yaml").write_text(yaml.safe_dump(job))
    return folder / f"{protocol}.yaml"


@pytest.mark.parametrize("protocol", ["videozoomer", "longvideo_r1"])
def test_real_videos_give_trajectories_verdicts_and_cuts(protocol: str, tmp_path: Path, zoomtrail: Command) -> None:
    build_idefics3(tmp_path / "verifier")
    out = tmp_path / "run"
    with ScriptedServer(tmp_path / "calls.jsonl", SHARED / "questions.jsonl") as server:
        result = zoomtrail("generate", real_job(tmp_path, protocol, server.base_url), "--out", out)
    assert result.returncode == 0, result.stderr

    store = RunStore(str(out))
    planned = Counter(row.trajectory_id for row in Plan(store).rows())
    rows = [row for shard in store.finished("teach") for row in store.rows(Trajectory, "teach", shard)]
    verdicts = [row for shard in store.finished("replay") for row in store.rows(Verdict, "replay", shard)]
    assert planned.total() == 34 == len(planned)
    assert planned == Counter(row.trajectory_id for row in rows) == Counter(v.trajectory_id for v in verdicts)
    failed = [row for row in rows if row.status == "failed"]
    assert {row.video_id for row in failed} == {"audio_only.mp4"} and len(failed) == 2
    assert all(row.error is not None and row.error.kind == "video_no_stream" for row in failed)
    judged = [v for v in verdicts if v.status != "failed"]
    assert all(v.observations_match and v.error is None for v in judged), [(v.mismatch, v.error) for v in judged]
    assert all(v.p_gold_blind is not None and v.p_gold_evidence is not None for v in judged)

    for name, kind in (("sft", "sft"), ("rl", "rl")):
        made = zoomtrail("cut", out, name, "--preset", "mechanical", "--for", kind)
        assert made.returncode == 0, made.stderr
        table = datasets.load_dataset("parquet", data_files=str(out / "cuts" / name / "*.parquet"), split="train")
        assert len(table) > 5
        first = table[0]
        messages = first["messages" if kind == "sft" else "prompt"]
        assert sum(m["content"].count("<image>") for m in messages) == len(first["images"])
    funnel = json.loads(zoomtrail("stats", out, "--json").stdout)
    assert funnel
