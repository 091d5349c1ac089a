"""`zoomtrail regenerate` as a user runs it: only the chosen questions get calls, and nothing that is there changes."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from jobs.generate import generate
from jobs.regenerate import Wanted, list_regenerations, regenerate
from pipeline.plan import Plan
from pipeline.shards.table import Rows
from pipeline.store import RunStore, read_parquet
from schemas.captions import CaptionTree
from schemas.errors import UserError
from tests.benchmarks.kills import await_end, descendants
from tests.jobfiles import write_job
from tests.jobs.conftest import ROOT, Command
from tests.jobs.test_generate import trajectories, verdicts
from tests.scripted_server import ScriptedServer
from tests.shards.cutting import cut

WRONG = "NOT answer_correct"


class Scene:
    """A finished run of `longvideo_r1`, where captions cost calls too, with its server. Ray is in other processes."""

    def __init__(self, folder: Path, server: ScriptedServer, zoomtrail: Command) -> None:
        self.server = server
        self.zoomtrail = zoomtrail
        self.job = write_job(folder, server.base_url, "longvideo_r1", n_videos=2, per_video=2)
        self.out = folder / "run"
        result = zoomtrail("generate", self.job, "--out", self.out)
        assert result.returncode == 0, result.stderr

    def hashes(self) -> dict[str, str]:
        return hashes(self.out)

    def regenerate(self, *more: object) -> "subprocess.CompletedProcess[str]":
        return self.zoomtrail("regenerate", self.out, "--where", WRONG, *more)

    def cut(self, name: str) -> None:
        cut(str(self.out), name, None, "true", "sft")

    def wrong(self) -> set[str]:
        found = Rows(RunStore(str(self.out))).query(f"SELECT DISTINCT question_id AS q FROM rows WHERE {WRONG}")
        return {row["q"] for row in found}

    def teachers(self) -> set[str]:
        """The models of the kept calls to teachers."""
        calls = [json.loads(path.read_text()) for path in (self.out / "calls").rglob("*.json")]
        return {call["request"]["model"] for call in calls if call["role"] == "teacher"}


def hashes(run: Path) -> dict[str, str]:
    """Every file of a run but its logs."""
    files = [path for path in run.rglob("*") if path.is_file() and path.parent.name != "logs"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def trained(run: Path, name: str) -> set[str]:
    """The attempts that are rows of a cut."""
    files = sorted((run / "cuts" / name).glob("*.parquet"))
    return {row["provenance"]["trajectory_id"] for file in files for row in read_parquet(file.read_bytes()).to_pylist()}


@pytest.fixture
def scene(tmp_path: Path, zoomtrail: Command) -> Iterator[Scene]:
    write_job(tmp_path, "http://127.0.0.1/v1", "longvideo_r1", n_videos=2, per_video=2)
    with ScriptedServer(tmp_path / "calls.jsonl", tmp_path / "questions.jsonl", careless=0.0) as server:
        yield Scene(tmp_path, server, zoomtrail)


def test_only_the_chosen_questions_get_calls_and_nothing_else_changes_by_a_byte(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.cut("before")
    wrong, old, store = scene.wrong(), trajectories(scene.out), RunStore(str(scene.out))
    assert 0 < len(wrong) < 4
    before, asked = scene.hashes(), len(scene.server.calls())
    regenerate(str(scene.out), Wanted(WRONG, 2), True, "local")
    said = capsys.readouterr().out
    assert f"{len(wrong)} of 4 questions" in said and "teacher" in said and "captioner" not in said
    assert scene.hashes() == before and len(scene.server.calls()) == asked

    result = scene.regenerate("--attempts", 2)
    assert result.returncode == 0, result.stderr
    after = scene.hashes()
    assert {name: after[name] for name in before} == before
    new = [t for t in trajectories(scene.out) if t not in old]
    assert Counter(t.question_id for t in new) == dict.fromkeys(wrong, 2)
    assert {t.attempt for t in new} == {2, 3} and len(verdicts(scene.out)) == len(old) + len(new)

    calls = scene.server.calls()[asked:]
    keys = {call["key"] for call in calls}
    assert {call["kind"] for call in calls} <= {"teacher", "answerer"}  # no caption is made again
    assert len(calls) == len(keys) == sum(name.startswith("calls/") for name in after.keys() - before.keys())
    assert {turn.call_key for t in new for turn in t.turns} <= keys  # no turn is an old reply
    trees = {tree.video_id: tree for shard in (0, 1) for tree in store.rows(CaptionTree, "caption", shard)}
    copied = [tree for s in store.finished("caption") - {0, 1} for tree in store.rows(CaptionTree, "caption", s)]
    assert copied == [trees[tree.video_id] for tree in copied] != []

    with pytest.raises(UserError, match="was cut before the run grew"):
        scene.cut("before")
    capsys.readouterr()
    scene.cut("after")
    assert f"of {len(old) + len(new)} attempts" in capsys.readouterr().out
    answered = {t.trajectory_id for t in new if t.status == "answered"}
    assert {name.split("@")[1] for name in answered} == {"2", "3"}
    assert trained(scene.out, "after") - trained(scene.out, "before") == answered
    _nothing_more_is_asked(scene, capsys)


def _nothing_more_is_asked(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """By the same commands again, until a further batch is asked for."""
    asked, there = len(scene.server.calls()), scene.hashes()
    regenerate(str(scene.out), Wanted(WRONG, 2), False, "local")
    assert "--again orders a further one" in capsys.readouterr().out
    generate(scene.job, str(scene.out), None, False, "local")
    assert "nothing to do" in capsys.readouterr().out
    regenerate(str(scene.out), Wanted(WRONG, 2, again=True, limit=1), True, "local")
    assert "2 attempts on 1 videos" in capsys.readouterr().out
    list_regenerations(str(scene.out))
    assert WRONG in capsys.readouterr().out
    assert len(scene.server.calls()) == asked and scene.hashes() == there


def test_another_teacher_makes_the_new_rows_and_each_row_tells_its_own(scene: Scene) -> None:
    before = scene.hashes()
    result = scene.regenerate("--set", "teacher.model=another", "--set", "teacher.temperature=0.5")
    assert result.returncode == 0, result.stderr
    assert "teacher.model: 'scripted' -> 'another'" in result.stdout
    after = scene.hashes()
    assert {name: after[name] for name in before} == before
    rows = trajectories(scene.out)
    assert {(t.attempt >= 2, t.teacher) for t in rows} == {(False, "scripted"), (True, "another")}
    assert scene.teachers() == {"scripted", "another"}
    store = RunStore(str(scene.out))
    (ordered,) = Plan(store).generations
    new = store.finished("teach") - {0, 1}
    for stage, mark in ordered.fingerprints().items():
        assert {store.footer(stage, shard)["fingerprint"] for shard in new} == {mark}
        own = yaml.safe_load((scene.out / "run.yaml").read_text())["fingerprints"][stage]
        assert {store.footer(stage, shard)["fingerprint"] for shard in (0, 1)} == {own}
        assert (mark == own) == (stage == "caption")
    # More attempts of the run's own are made by the teacher of the job, and numbered on.
    job = yaml.safe_load(scene.job.read_text())
    scene.job.write_text(yaml.safe_dump({**job, "attempts": 3}))
    grown = scene.zoomtrail("generate", scene.job, "--out", scene.out)
    assert grown.returncode == 0, grown.stderr
    third = [t for t in trajectories(scene.out) if t not in rows]
    assert len(third) == 4 and {t.teacher for t in third} == {"scripted"}


@pytest.mark.parametrize("goes_on_with", ["regenerate", "generate"])
def test_a_killed_regeneration_goes_on_with_its_own_settings_and_repeats_no_answered_call(
    tmp_path: Path, zoomtrail: Command, goes_on_with: str
) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl", careless=0.0, latency_s=0.6) as server:
        # Few at a time: a dead driver's workers call on for a moment, and must not come to the end.
        few = {"concurrency": 2}
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=2, per_video=2, attempts=1, teacher=few)
        out = tmp_path / "run"
        assert zoomtrail("generate", job, "--out", out).returncode == 0
        asked = len(server.calls())
        order = ["regenerate", str(out), "--where", "true", "--attempts", "3", "--set", "teacher.model=another"]
        process = subprocess.Popen([sys.executable, "-m", "jobs.cli", *order], cwd=ROOT, stdout=subprocess.DEVNULL)
        while len(server.calls()) < asked + 5 and process.poll() is None:
            time.sleep(0.05)
        below = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await_end(below)
        kept, asked = _kept(out), len(server.calls())
        planned = len(list(Plan(RunStore(str(out))).rows()))
        assert planned == 16 and len(trajectories(out)) < 16
        result = zoomtrail(*order) if goes_on_with == "regenerate" else zoomtrail("generate", job, "--out", out)
        assert result.returncode == 0, result.stderr
        assert "going on with regeneration 1" in result.stdout + result.stderr
        assert not kept & {call["key"] for call in server.calls()[asked:]}
    rows = trajectories(out)
    assert Counter(t.teacher for t in rows) == {"scripted": 4, "another": 12}
    assert len(list(Plan(RunStore(str(out))).rows())) == planned == len(rows) == len(verdicts(out))
    assert kept < {turn.call_key for t in rows for turn in t.turns} <= _kept(out)
    assert all(t.error is None for t in rows)


@pytest.mark.slow
def test_of_a_demo_only_the_chosen_question_is_asked_again_and_a_new_cut_has_its_rows(
    tmp_path: Path, zoomtrail: Command
) -> None:
    """The README's tour, on one film."""
    demo = zoomtrail("demo", "--out", tmp_path, "--films", 1, "--seed", 11, "--protocol", "videozoomer")
    assert demo.returncode == 0, demo.stderr
    run, right = tmp_path / "runs" / "videozoomer", "answer_correct AND n_zooms >= 1"
    cut(str(run), "before", None, right, "sft")
    old, before, kept = trajectories(run), hashes(run), _kept(run)
    chosen = sorted(trained(run, "before"))[0].split("@")[0]
    result = zoomtrail("regenerate", run, "--where", f"question_id = '{chosen}'", "--attempts", 2)
    assert result.returncode == 0, result.stderr

    after = hashes(run)
    assert {name: after[name] for name in before} == before
    new = [made for made in trajectories(run) if made not in old]
    assert {made.trajectory_id for made in new} == {f"{chosen}@1", f"{chosen}@2"}
    calls = [json.loads(path.read_text()) for path in (run / "calls").rglob("*.json") if path.stem not in kept]
    assert {call["role"] for call in calls} == {"teacher"}, "captions are taken over, and the verifier keeps no calls"
    assert {turn.call_key for made in new for turn in made.turns} <= {call["key"] for call in calls}
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert added == {"plan", "captions", "trajectories", "verdicts", "calls"}
    cut(str(run), "after", None, right, "sft")
    assert trained(run, "after") >= trained(run, "before")
    assert trained(run, "after") - trained(run, "before") <= {f"{chosen}@1", f"{chosen}@2"}
    assert f"{chosen}@1" in trained(run, "after")


def _kept(out: Path) -> set[str]:
    return {path.stem for path in (out / "calls").rglob("*.json")}
