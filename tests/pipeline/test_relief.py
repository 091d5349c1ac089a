"""When an idle actor leaves its room to a stage that has work and no actor."""

import asyncio
from dataclasses import dataclass
from typing import Any

from pipeline.loads import Line
from pipeline.pools import Post
from pipeline.relief import Relief
from pipeline.stage_actor import Seat

CPU = Post(cpus=1, gpus=0, calls=1)
GPU = Post(cpus=1, gpus=1, calls=1)


@dataclass(eq=False)
class Worker:
    """An actor as `Relief` sees it, with no process."""

    stages: tuple[str, ...]
    post: Post = CPU
    seat: Seat | None = None
    idle: bool = True
    aside: bool = False

    def stand_aside(self) -> None:
        self.seat, self.aside = None, True

    def come_back(self) -> None:
        self.aside = False


class AllRoomy:
    """Nodes with room for everyone, if they were empty; without `small`, for those that take a GPU."""

    async def with_room(self, post: Post) -> set[str]:
        return {"large"} if post.gpus else {"large", "small"}


def up(stage: str, post: Post = CPU, node: str = "large") -> Worker:
    return Worker((stage,), post, Seat(node, "process"))


def looks(workers: list[Worker], waiting: dict[str, int], times: list[float]) -> list[list[Worker]]:
    """Who stood aside at each look. waiting: shards by stage."""

    async def scene() -> list[list[Worker]]:
        lines = {stage: Line() for stage in ("caption", "teach", "replay")}
        for stage, count in waiting.items():
            for shard in range(count):
                lines[stage].put(shard)
        actors: Any = workers
        nodes: Any = AllRoomy()
        relief = Relief(actors, lines)
        return [list[Any](await relief.look(nodes, at)) for at in times]

    return asyncio.run(scene())


def test_an_idle_actor_stands_aside_only_after_a_stage_has_starved_for_long() -> None:
    caption, replay = Worker(("caption",)), up("replay")
    assert looks([caption, replay], {"caption": 1}, [0, 5, 19, 21]) == [[], [], [], [replay]]


def test_an_actor_with_work_stays_and_so_does_one_of_a_stage_with_shards_before_it() -> None:
    busy, wanted = up("replay"), up("teach")
    busy.idle = False
    assert looks([Worker(("caption",)), busy, wanted], {"caption": 1, "teach": 1}, [0, 30]) == [[], []]


def test_a_stage_with_one_actor_up_does_not_starve() -> None:
    assert looks([up("caption"), Worker(("caption",)), up("replay")], {"caption": 3}, [0, 30]) == [[], []]


def test_one_that_holds_a_gpu_goes_last_where_none_is_needed_and_alone_where_one_is() -> None:
    gpu, cpu = up("replay", GPU), up("teach")
    assert looks([Worker(("caption",)), gpu, cpu], {"caption": 1}, [0, 30]) == [[], [cpu]]
    gpu, cpu = up("replay", GPU), up("teach")
    assert looks([Worker(("caption",), GPU), gpu, cpu], {"caption": 1}, [0, 30]) == [[], [gpu]]


def test_a_node_that_could_not_hold_the_starved_one_is_left_alone() -> None:
    assert looks([Worker(("caption",), GPU), up("teach", node="small")], {"caption": 1}, [0, 30]) == [[], []]


def test_who_stood_aside_comes_back_when_no_stage_starves_or_its_own_does() -> None:
    caption, replay = Worker(("caption",)), up("replay")
    assert looks([caption, replay], {"caption": 1}, [0, 30, 40]) == [[], [replay], []]
    assert replay.aside
    caption.seat = Seat("large", "process")
    looks([caption, replay], {"caption": 1}, [50])
    assert not replay.aside
    hungry = Worker(("teach",), aside=True)
    looks([Worker(("caption",)), hungry], {"caption": 1, "teach": 1}, [0])
    assert not hungry.aside
