"""How many actors work on a run, and what each of them takes of a node."""

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from schemas.record import Record


class Staff(Record):
    """The actors of a pool. A number alone stands for `actors`.

    actors: at most; those that find no room in the cluster wait for it, while the others work. What one takes: cpus and
    gpus (fractions allowed below one GPU; None: as the job's `workers` say for all), memory_gb (GB of main memory;
    None: none is set aside), accelerator (the type of GPU it must have, as Ray names it, such as `H100`).
    """

    actors: PositiveInt = 1
    cpus: NonNegativeFloat | None = None
    gpus: NonNegativeFloat | None = None
    memory_gb: PositiveFloat | None = None
    accelerator: str | None = None

    @field_validator("gpus")
    @classmethod
    def _divisible(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError("must be a whole number above 1: an actor has a share of one GPU, or whole ones")
        return gpus


def _staff(value: Any) -> Any:
    return {"actors": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _shared(value: Any) -> Any:
    return None if value == 0 and not isinstance(value, bool) else _staff(value)


class Workers(Record):
    """The pools of Ray actors, and what one actor takes. Caption and teach workers mostly wait for models.

    caption, teach, replay: each a `Staff`, or a number of actors. shared: a `Staff` or a number; where not 0, these
    actors serve all stages in place of the three pools, and each loads a local model that several roles name only once.
    cpus, replay_gpus, local_model_gpus: of each actor whose pool does not say it; the last for actors that caption or
    teach with a local model.
    """

    caption: Annotated[Staff, BeforeValidator(_staff)] = Staff()
    teach: Annotated[Staff, BeforeValidator(_staff)] = Staff()
    replay: Annotated[Staff, BeforeValidator(_staff)] = Staff()
    shared: Annotated[Staff | None, BeforeValidator(_shared)] = None
    cpus: NonNegativeFloat = 0.5
    replay_gpus: NonNegativeFloat = 0.0
    local_model_gpus: NonNegativeFloat = 0.0
    videos_per_shard: PositiveInt = 8
    shards_in_flight: PositiveInt = 2

    @property
    def pools(self) -> list[Staff]:
        """Those that are used."""
        return [self.shared] if self.shared else [self.caption, self.teach, self.replay]

    @property
    def all_cpus(self) -> float:
        """CPUs that all actors take together."""
        return sum(s.actors * (self.cpus if s.cpus is None else s.cpus) for s in self.pools)
