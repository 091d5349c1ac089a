"""A Ray cluster of several nodes on this machine, each a raylet with its workers; they join and are killed."""

import os
import random
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.benchmarks.kills import descendants

NO_TOKEN = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""Ray asks for a token, or not, as files in the home folder say: here it is always the same."""

SOON = {"health_check_period_ms": 1000}
"""A dead node is found in a third of the time that Ray takes where nothing is said."""


class RayNodes:
    """`with RayNodes() as nodes: nodes.add(cpus=2)`. The head takes no work: drivers connect to it, and it stays."""

    def __init__(self, **head: Any) -> None:
        """head: further arguments of Ray's `Node`."""
        self._head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON, **head}
        self._nodes: list[Any] = []

    def __enter__(self) -> "RayNodes":
        from ray.cluster_utils import Cluster

        self._before = {name: os.environ.get(name) for name in NO_TOKEN}
        os.environ.update(NO_TOKEN)
        self._cluster = Cluster()
        _started(lambda: self._cluster.add_node(**self._head))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def __len__(self) -> int:
        """Nodes that can take work."""
        return len(self._nodes)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, cpus: float, **more: Any) -> None:
        """A node joins. more: of Ray's `Node`, such as `resources`."""
        self._nodes.append(_started(lambda: self._cluster.add_node(wait=False, num_cpus=cpus, **more)))

    def kill(self, dice: random.Random) -> None:
        """Ends one node's processes by SIGKILL, the raylet first: nothing of it can say goodbye."""
        node = self._nodes.pop(dice.randrange(len(self._nodes)))
        raylet = node.all_processes["raylet"][0].process.pid
        _kill((raylet, *descendants(raylet)))
        self._cluster.remove_node(node, allow_graceful=False)


def _started(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to come up, which on a busy machine is not always enough."""
    for _ in range(3):
        before = _children()
        try:
            return start()
        except Exception:
            _kill(_children() - before)
    return start()


def _children() -> set[int]:
    """Processes that this one has started: the nodes' own, and not their workers."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
