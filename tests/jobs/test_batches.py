"""Captions by a provider's batches in a whole run over Ray, with the driver and its workers killed on the way."""

import asyncio
from pathlib import Path

from pipeline.store import RunStore
from schemas.captions import CaptionTree
from tests.batch_server import BatchServer, serving
from tests.benchmarks.kills import await_end, descendants, start
from tests.jobfiles import write_job
from tests.jobs.conftest import Command
from tests.scripted_server import ScriptedServer


def test_a_run_killed_while_its_captions_are_in_a_batch_fetches_them_and_pays_each_once(
    tmp_path: Path, zoomtrail: Command
) -> None:
    async def scene(teacher: str) -> BatchServer:
        async with serving(BatchServer(work_s=20)) as server:
            captioner = {"model": "m", "base_url": server.base_url, "batch": True}
            job = write_job(tmp_path, teacher, "longvideo_r1", n_videos=1, captioner=captioner)
            process = start(job, tmp_path / "run")
            async with asyncio.timeout(180):
                while not list(tmp_path.glob("run/batches/*/state.json")) or not server.batches:
                    await asyncio.sleep(0.2)
            await asyncio.sleep(0.5)
            below = descendants(process.pid)
            process.kill()
            process.wait()
            await asyncio.to_thread(await_end, below)
            result = await asyncio.to_thread(zoomtrail, "generate", job, "--out", tmp_path / "run")
            assert result.returncode == 0, result.stderr
        return server

    with ScriptedServer(tmp_path / "calls.jsonl") as teacher:
        server = asyncio.run(scene(teacher.base_url))
    store = RunStore(str(tmp_path / "run"))
    trees = [tree for shard in store.finished("caption") for tree in store.rows(CaptionTree, "caption", shard)]
    assert len(server.batches) == 1 and set(server.paid.values()) == {1}
    in_batch = server.paid.keys() - set(server.live)  # what a rollout asks the captioner does not wait for a batch
    assert [len(tree.nodes) for tree in trees] == [len(in_batch)]
    assert store.finished("replay") == store.finished("caption") == {0}
