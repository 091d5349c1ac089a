"""The figures of a run for Ray's dashboard and for Prometheus, by Ray's own metrics. Ray puts `ray_` before the names.

They come from the driver, each second, and are those of the progress display: totals of this session.
"""

from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge

if TYPE_CHECKING:
    from jobs.tally import Tally
    from pipeline.leases import Spent

_TOTALS = {
    "zoomtrail_rows": ("Rows of committed shards.", ("stage", "outcome")),
    "zoomtrail_calls": ("Calls that a model's server answered.", ("role",)),
    "zoomtrail_failed_tries": ("Tries of calls that failed; each was made again or given up.", ("role", "cause")),
    "zoomtrail_tokens": ("Tokens, by kind: prompt, completion; cached ones are of the prompt.", ("role", "kind")),
    "zoomtrail_dollars": ("Cost of the calls whose price is known.", ("role",)),
    "zoomtrail_unpriced_calls": ("Calls whose cost is unknown.", ("role",)),
    "zoomtrail_lost": ("Workers that died, and nodes that died under them.", ("what",)),
}
_STATES = {
    "zoomtrail_open_calls": ("Calls in flight, waiting for their turn, or in a provider's batch.", ("role", "state")),
    "zoomtrail_workers": ("Actors of a stage that are up, or wait for room.", ("stage", "state")),
    "zoomtrail_shards": ("Shards of a stage: all, done, under way, waiting.", ("stage", "state")),
    "zoomtrail_queue_age_seconds": ("How long the oldest shard has waited for a stage.", ("stage",)),
    "zoomtrail_busy_share": ("Share of the last minute in which a stage's workers had work.", ("stage",)),
}
"""By name: what it is, and its tags beside `run`."""


class RunMetrics:
    """Exports one session of a run. Ray must be initialised. run: its URL, a tag of every figure."""

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._totals = {name: Counter(name, what, ("run", *tags)) for name, (what, tags) in _TOTALS.items()}
        self._states = {name: Gauge(name, what, ("run", *tags)) for name, (what, tags) in _STATES.items()}
        self._counted: dict[tuple[str, ...], float] = {}

    def note(self, tally: "Tally") -> None:
        """Exports a tally's figures."""
        for stage, statuses in tally.rows.items():
            for outcome, count in statuses.items():
                self._total("zoomtrail_rows", count, stage=stage, outcome=outcome)
        for role, spent in tally.roles.items():
            self._note_role(role, spent)
        self._total("zoomtrail_lost", tally.lost, what="worker")
        self._total("zoomtrail_lost", tally.nodes_lost, what="node")
        for stage, pool in tally.pools.items():
            load = pool.load
            self._state("zoomtrail_workers", load.up, stage=stage, state="up")
            self._state("zoomtrail_workers", load.pending, stage=stage, state="pending")
            shards = {"all": tally.total, "done": tally.done[stage], "under way": load.busy, "waiting": load.waiting}
            for state, count in shards.items():
                self._state("zoomtrail_shards", count, stage=stage, state=state)
            self._state("zoomtrail_queue_age_seconds", load.oldest_s, stage=stage)
            self._state("zoomtrail_busy_share", pool.busy_lately or 0.0, stage=stage)

    def _note_role(self, role: str, spent: "Spent") -> None:
        self._total("zoomtrail_calls", spent.answered, role=role)
        for cause, count in spent.failed.items():
            self._total("zoomtrail_failed_tries", count, role=role, cause=cause)
        tokens = {"prompt": spent.prompt_tokens, "completion": spent.completion_tokens, "cached": spent.cached_tokens}
        for kind, count in tokens.items():
            self._total("zoomtrail_tokens", count, role=role, kind=kind)
        self._total("zoomtrail_dollars", spent.dollars, role=role)
        self._total("zoomtrail_unpriced_calls", spent.unpriced, role=role)
        for state, count in (("in flight", spent.in_flight), ("waiting", spent.waiting), ("batched", spent.batched)):
            self._state("zoomtrail_open_calls", count, role=role, state=state)

    def _total(self, name: str, value: float, **tags: str) -> None:
        """A counter is told what came on top; a total that fell (its worker is gone) adds nothing."""
        key = (name, *tags.values())
        new = value - self._counted.get(key, 0.0)
        if new > 0:
            self._totals[name].inc(new, {**self._run, **tags})
            self._counted[key] = value

    def _state(self, name: str, value: float, **tags: str) -> None:
        self._states[name].set(value, {**self._run, **tags})
