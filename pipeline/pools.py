"""Which pools of actors the stages of a run get."""

from dataclasses import dataclass

from schemas.config import STAGES, Local, RunConfig
from schemas.workers import Staff


@dataclass(frozen=True)
class Post:
    """What an actor takes of a node: CPUs, GPUs, bytes of memory, a type of GPU ("": any).

    calls: that may be under way in it at once.
    """

    cpus: float
    gpus: float
    calls: int
    memory: int = 0
    accelerator: str = ""

    def __str__(self) -> str:
        """As a user reads it: `0.5 CPU, 1 GPU (H100)`."""
        kind = f" ({self.accelerator})" if self.accelerator else ""
        gpus = [f"{self.gpus:g} GPU{kind}"] if self.gpus or kind else []
        memory = [f"{self.memory / 1e9:g} GB"] if self.memory else []
        return ", ".join([f"{self.cpus:g} CPU", *gpus, *memory])


@dataclass(frozen=True)
class Pool:
    """Actors that serve the same stages. size: how many at most; slots: the stage of each shard that one may have
    under way at once.
    """

    stages: tuple[str, ...]
    size: int
    slots: tuple[str, ...]
    post: Post


def pools(config: RunConfig) -> list[Pool]:
    """A pool for each stage, or one for all of them."""
    workers = config.workers
    uses = {"caption": (config.captioner,), "teach": (config.captioner, config.teacher, config.student)}
    gpus = {stage: workers.local_model_gpus * any(isinstance(m, Local) for m in used) for stage, used in uses.items()}
    gpus["replay"] = workers.replay_gpus
    if workers.shared:
        return [_pool(config, STAGES, workers.shared, max(gpus.values()))]
    staffs = {"caption": workers.caption, "teach": workers.teach, "replay": workers.replay}
    return [_pool(config, (stage,), staff, gpus[stage]) for stage, staff in staffs.items()]


def _pool(config: RunConfig, stages: tuple[str, ...], staff: Staff, gpus: float) -> Pool:
    """gpus: of each actor, where its staff does not say it."""
    workers = config.workers
    slots = tuple(s for s in stages for _ in range(workers.shards_in_flight if s == "teach" else 1))
    post = Post(
        cpus=workers.cpus if staff.cpus is None else staff.cpus,
        gpus=gpus if staff.gpus is None else staff.gpus,
        calls=2 * len(slots) + 2,  # a shard may be asked for twice, see `StageActor.run`; and two that are short
        memory=round((staff.memory_gb or 0.0) * 1e9),
        accelerator=staff.accelerator or "",
    )
    return Pool(stages, staff.actors, slots, post)
