"""What each pool's actors take of a node, from what a job says of its workers."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.pools import Pool, Post, pools
from schemas.config import RunConfig, stage_settings

SERVER = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}


def config(workers: dict[str, Any], **roles: Any) -> RunConfig:
    source = {"path": "q.jsonl", "videos": "v"}
    return RunConfig.model_validate({"source": source, "teacher": SERVER, "workers": workers, **roles})


def by_stage(found: list[Pool]) -> dict[str, Pool]:
    return {"+".join(pool.stages): pool for pool in found}


def test_a_number_alone_is_a_pool_of_so_many_that_take_what_the_job_says_for_all() -> None:
    found = by_stage(pools(config({"caption": 3, "cpus": 0.25, "replay_gpus": 1})))
    assert (found["caption"].size, found["caption"].post.cpus, found["caption"].post.gpus) == (3, 0.25, 0)
    assert (found["replay"].size, found["replay"].post.gpus) == (1, 1)


def test_each_pool_may_say_what_its_actors_take() -> None:
    replay = {"actors": 8, "cpus": 2, "gpus": 0.5, "memory_gb": 24, "accelerator": "H100"}
    found = by_stage(pools(config({"replay": replay, "replay_gpus": 1})))["replay"]
    assert found.size == 8
    assert found.post == Post(2, 0.5, found.post.calls, 24_000_000_000, "H100")
    assert str(found.post) == "2 CPU, 0.5 GPU (H100), 24 GB"


def test_local_models_take_gpus_in_every_pool_that_loads_them() -> None:
    local = {"backend": "local", "path": "./m"}
    found = by_stage(pools(config({"local_model_gpus": 0.5}, captioner=local)))
    assert [found[stage].post.gpus for stage in ("caption", "teach", "replay")] == [0.5, 0.5, 0.0]
    (shared,) = pools(config({"local_model_gpus": 0.5, "replay_gpus": 1, "shared": 2}, captioner=local))
    assert (shared.size, shared.post.gpus, shared.slots) == (2, 1.0, ("caption", "teach", "teach", "replay"))
    assert len(pools(config({"shared": 0}))) == 3


@pytest.mark.parametrize(
    ("workers", "complaint"),
    [
        ({"replay": {"gpus": 1.5}}, "whole number above 1"),
        ({"replay": {"gpu": 1}}, "Extra inputs"),
        ({"caption": 0}, "greater than 0"),
        ({"caption": True}, "Staff"),
    ],
)
def test_a_pool_that_ray_could_not_place_is_refused(workers: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        config(workers)


def test_workers_change_no_fingerprint() -> None:
    settings = [stage_settings(config(w), "1") for w in ({}, {"replay": {"actors": 8, "gpus": 1}}, {"shared": 4})]
    assert settings[0] == settings[1] == settings[2]


def test_the_cpus_of_all_pools_are_what_one_machine_must_have() -> None:
    assert config({"caption": 2, "teach": {"actors": 3, "cpus": 1}}).workers.all_cpus == 2 * 0.5 + 3 + 0.5
    assert config({"shared": 2, "teach": 9}).workers.all_cpus == 1.0
