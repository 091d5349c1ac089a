"""Which pools of actors the stages of a run get."""

from dataclasses import dataclass

from schemas.config import STAGES, Local, RunConfig


@dataclass(frozen=True)
class Pool:
    """Actors that serve the same stages. gpus: of each actor."""

    stages: tuple[str, ...]
    size: int
    gpus: float


def pools(config: RunConfig) -> list[Pool]:
    """A pool for each stage, or one for all of them."""
    workers = config.workers
    uses = {"caption": (config.captioner,), "teach": (config.captioner, config.teacher, config.student)}
    gpus = {stage: workers.local_model_gpus * any(isinstance(m, Local) for m in used) for stage, used in uses.items()}
    gpus["replay"] = workers.replay_gpus
    if workers.shared:
        return [Pool(STAGES, workers.shared, max(gpus.values()))]
    return [Pool((stage,), size, gpus[stage]) for stage, size in workers.sizes.items()]
