"""Makes room for a stage that has work and no actor, while actors without work hold all the room there is."""

from collections.abc import Mapping, Sequence

from pipeline.actors import Actor, Nodes
from pipeline.loads import Line
from pipeline.pools import Post

_STARVED_S = 20.0
"""Seconds without an actor after which a stage is helped: a process that died has mostly come back by then."""


class Relief:
    """Without it a run might never end: Ray gives room to the actors that it starts first, whichever they are, and a
    node may leave with all actors of a stage.
    """

    def __init__(self, actors: Sequence[Actor], lines: Mapping[str, Line]) -> None:
        """actors, lines: of the run, as they are at each look. lines: by stage, the shards that wait."""
        self._actors = actors
        self._lines = lines
        self._since: dict[str, float] = {}

    async def look(self, nodes: Nodes, now: float) -> list[Actor]:
        """At most one idle actor stands aside for each stage that has starved for long; those are returned.

        They come back as soon as no stage starves, or theirs does. now: seconds that only grow.
        """
        starved = {stage for stage, line in self._lines.items() if len(line) and not self._is_up(stage)}
        self._since = {stage: self._since.get(stage, now) for stage in starved}
        for actor in self._actors:
            if actor.aside and (not starved or starved.intersection(actor.stages)):
                actor.come_back()
        stepped = list[Actor]()
        for stage, since in self._since.items():
            if now - since >= _STARVED_S and (found := await self._dispensable(stage, nodes)):
                found.stand_aside()
                stepped.append(found)
        return stepped

    def _is_up(self, stage: str) -> bool:
        return any(actor.seat for actor in self._actors if stage in actor.stages)

    async def _dispensable(self, stage: str, nodes: Nodes) -> Actor | None:
        """An idle actor on a node that could have an actor of the stage; none with a GPU where one without will do."""
        wanted = next(actor.post for actor in self._actors if stage in actor.stages)
        roomy = await nodes.with_room(wanted)
        idle = [a for a in self._actors if a.seat and a.seat.node in roomy and a.idle and not self._has_work(a)]
        return min(idle, key=lambda actor: (not _covers(actor.post, wanted), actor.post.gpus), default=None)

    def _has_work(self, actor: Actor) -> bool:
        return any(len(self._lines[stage]) for stage in actor.stages)


def _covers(post: Post, other: Post) -> bool:
    return post.cpus >= other.cpus and post.gpus >= other.gpus and post.memory >= other.memory
