"""The jobs that `zoomtrail init --for` prints, and the cluster that the largest of them runs on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.generate import plan_run
from jobs.init import init
from jobs.job_file import load_job
from pipeline.pools import Post, pools
from schemas.errors import UserError

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


def printed(capsys: pytest.CaptureFixture[str], place: str) -> str:
    init(None, place)
    return capsys.readouterr().out


@pytest.mark.parametrize("place", ["laptop", "node", "cluster"])
def test_each_place_has_a_valid_job(place: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(printed(capsys, place))
    config = load_job(job)
    assert config.budget.dollars and pools(config)
    assert all(endpoint.price for role, endpoint in config.endpoints.items() if role == "teacher")


def test_a_protocol_and_a_place_cannot_both_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="prints a whole job"):
        init("love_r1", "node")


@pytest.fixture(scope="module")
def kuberay() -> dict[str, Any]:
    """What the KubeRay file orders: a job with a cluster of its own."""
    found: dict[str, Any] = yaml.safe_load((CONFIGS / "kuberay.yaml").read_text())
    assert found["kind"] == "RayJob"
    return dict(found["spec"])


def node_types(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What Ray's own autoscaler makes of the cluster."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    named = {"metadata": {"name": "zoomtrail", "namespace": "default"}, "spec": cluster}
    found: dict[str, dict[str, Any]] = _derive_autoscaling_config_from_ray_cr(named)["available_node_types"]
    return found


def how_many(node: dict[str, Any], post: Post) -> int:
    """Actors that a node of a type has room for."""
    wanted = {"CPU": post.cpus, "GPU": post.gpus, "memory": post.memory}
    if post.accelerator:
        wanted[f"accelerator_type:{post.accelerator}"] = 0.001
    return int(min(node["resources"].get(name, 0) / amount for name, amount in wanted.items() if amount))


def test_the_autoscaler_finds_room_for_every_actor_of_the_cluster_job(kuberay: dict[str, Any]) -> None:
    types = node_types(kuberay["rayClusterSpec"])
    room = {name: float(node["max_workers"]) for name, node in types.items()}
    for pool in pools(load_job(CONFIGS / "cluster.yaml")):
        home = "h100" if pool.post.gpus else "cpu"
        assert how_many(types["headgroup"], pool.post) == 0, "the head takes no work"
        room[home] -= pool.size / how_many(types[home], pool.post)
    assert room["cpu"] >= 0 and room["h100"] >= 0, room
    assert types["h100"]["min_workers"] == 0


def test_every_pod_has_the_keys_from_the_secret_and_none_from_the_file(kuberay: dict[str, Any]) -> None:
    cluster = kuberay["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "zoomtrail-keys"}}] and "env" not in container
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert "runtimeEnvYAML" not in kuberay


def test_a_session_that_fails_is_begun_again_on_a_cluster_of_its_own(kuberay: dict[str, Any]) -> None:
    """KubeRay refuses `backoffLimit` beside `clusterSelector`."""
    assert kuberay["backoffLimit"] > 0 and "clusterSelector" not in kuberay


def test_the_head_has_the_file_of_the_job(kuberay: dict[str, Any]) -> None:
    head = kuberay["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert kuberay["entrypoint"].split()[2] == f"{mount['mountPath']}/job.yaml"
    assert mount["name"] == head["volumes"][0]["name"]


def test_a_run_in_rays_copy_of_a_working_directory_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    (folder / "questions.jsonl").write_text("")
    job = {"source": {"path": "questions.jsonl", "videos": "."}}
    job |= {"teacher": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    with pytest.raises(UserError, match="Ray's copy"):
        plan_run(folder / "job.yaml")
