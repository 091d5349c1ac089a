"""What a run has come to at a moment, reckoned from the cluster's snapshots: for the terminal and for the run's log."""

import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.leases import Spent
from pipeline.loads import Load

if TYPE_CHECKING:
    from pipeline.cluster import Snapshot
    from pipeline.plan_parts import PlannedShard

_RATE_S = 60.0
"""Seconds over which tokens per minute are counted."""

_STAGE_OF = {"captioner": "caption", "teacher": "teach", "student": "teach", "verifier": "replay", "judge": "replay"}
"""The stage whose progress tells what of a role's cost is still to come."""


@dataclass(frozen=True)
class Pool:
    """How the workers of a stage fare. load: now; busy_share: of their time in this session in which they had a shard
    each, busy_lately: of the last minute; None: they had no time yet.
    """

    load: Load
    busy_share: float | None
    busy_lately: float | None


@dataclass(frozen=True)
class Tally:
    """elapsed_s: since this session began; total: shards of the run; done: of them, by stage.

    items: of this session, by stage; rows: of its shards, by stage and status; roles: what each endpoint has been asked
    in it; reused: replies found in calls/; lost: workers that died by themselves; nodes_lost: nodes that died under
    workers; pools: by stage. tokens_per_minute: read and written.
    dollars, projected_dollars: of this session, so far and at its end. None stands for what is not known.
    """

    elapsed_s: float
    total: int
    done: dict[str, int]
    items: dict[str, int]
    rows: dict[str, dict[str, int]]
    roles: dict[str, Spent]
    reused: int
    lost: int
    nodes_lost: int
    pools: dict[str, Pool]
    tokens_per_minute: float | None
    dollars: float | None
    projected_dollars: float | None
    seconds_left: float | None

    @property
    def sent(self) -> int:
        """Tries of calls."""
        return sum(spent.sent for spent in self.roles.values())

    @property
    def failed(self) -> Counter[str]:
        """Tries that failed, by cause."""
        return sum((Counter(spent.failed) for spent in self.roles.values()), Counter[str]())


def items_to_do(shards: Mapping[int, "PlannedShard"], finished: Mapping[str, set[int]]) -> dict[str, int]:
    """By stage, the items of the shards that it has not finished: videos for `caption`, attempts elsewhere."""
    counts = {}
    for stage, done in finished.items():
        left = [planned for shard, planned in shards.items() if shard not in done]
        counts[stage] = sum(planned.videos if stage == "caption" else planned.attempts for planned in left)
    return counts


def _share(load: Load, before: Load) -> float | None:
    """Of the time that slots had since, the part in which they were busy."""
    there = load.slot_s - before.slot_s
    return (load.busy_s - before.busy_s) / there if there > 0 else None


@dataclass
class Tallier:
    """Reckons one session of a run. to_do: see `items_to_do`; priced: the roles whose price is known."""

    to_do: dict[str, int]
    priced: Collection[str]
    _began: float = field(default_factory=time.monotonic)
    _tokens: deque[tuple[float, int]] = field(default_factory=deque)
    _loads: deque[tuple[float, Mapping[str, Load]]] = field(default_factory=deque)

    def of(self, snapshot: "Snapshot") -> Tally:
        """The tally at this moment."""
        elapsed = time.monotonic() - self._began
        rows = {stage: dict(sorted(snapshot.rows.get(stage, {}).items())) for stage in snapshot.done}
        # A worker that died has taken its count along; its committed rows are known all the same.
        items = {s: max(snapshot.workers[s].items, sum(rows[s].values())) for s in snapshot.done}
        return Tally(
            elapsed_s=elapsed,
            total=snapshot.total,
            done=dict(snapshot.done),
            items=items,
            rows=rows,
            roles=dict(snapshot.spent),
            reused=sum(counts.reused for worker in snapshot.workers.values() for counts in worker.calls),
            lost=snapshot.deaths,
            nodes_lost=snapshot.nodes_lost,
            pools=self._pools(elapsed, snapshot.loads),
            tokens_per_minute=self._rate(elapsed, snapshot.spent),
            dollars=self._dollars(snapshot.spent),
            projected_dollars=self._projected(items, snapshot.spent),
            seconds_left=self._seconds_left(elapsed, items),
        )

    def _pools(self, elapsed: float, loads: Mapping[str, Load]) -> dict[str, Pool]:
        self._loads.append((elapsed, loads))
        while elapsed - self._loads[0][0] > _RATE_S:
            self._loads.popleft()
        before = self._loads[0][1]
        return {s: Pool(load, _share(load, Load()), _share(load, before[s])) for s, load in loads.items()}

    def _rate(self, elapsed: float, spent: Mapping[str, Spent]) -> float | None:
        self._tokens.append((elapsed, sum(s.prompt_tokens + s.completion_tokens for s in spent.values())))
        while elapsed - self._tokens[0][0] > _RATE_S:
            self._tokens.popleft()
        (since, before), (now, tokens) = self._tokens[0], self._tokens[-1]
        return (tokens - before) / (now - since) * 60 if spent and now > since else None

    def _projected(self, items: Mapping[str, int], spent: Mapping[str, Spent]) -> float | None:
        """What all calls will have cost: each role's cost grows with the items of its stage."""
        total = self._dollars(spent)
        for role, of_role in spent.items():
            to_do, done = self.to_do[_STAGE_OF[role]], items[_STAGE_OF[role]]
            if total is None or role not in self.priced or (to_do and not done):
                return None
            total += of_role.dollars * max(to_do / done - 1, 0.0) if to_do else 0.0
        return total

    def _dollars(self, spent: Mapping[str, Spent]) -> float | None:
        """Not known as soon as one call has gone to a model without a price, or its tokens were not counted."""
        unknown = any(s.unpriced or (s.sent and role not in self.priced) for role, s in spent.items())
        return None if unknown or not spent else sum(s.dollars for s in spent.values())

    def _seconds_left(self, elapsed: float, items: Mapping[str, int]) -> float | None:
        """The stages overlap, so the slowest one tells."""
        done = {stage: items[stage] for stage in self.to_do if items[stage]}
        if not done:
            return None
        return max(elapsed * max(self.to_do[stage] / count - 1, 0.0) for stage, count in done.items())
