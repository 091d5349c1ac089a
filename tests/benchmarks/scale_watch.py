"""What a run under measurement does to the machine: processor time by kind of process, memory of the driver."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Event, Thread

import psutil

KINDS = {
    "ray::StageActor": "workers",
    "ray::Meter": "meter and watch",
    "ray::Watch": "meter and watch",
    "tests.benchmarks.call_server": "server",
    "decoder_child": "",
}
"""By what a command line holds. Decoders count with the worker that waits for their end; what is left is Ray's."""


@dataclass(frozen=True)
class Sample:
    """At a moment: seconds since the beginning, the driver's memory in MB, processor seconds so far by kind of process.

    busy_s: of all processors, by all processes of the machine.
    """

    at_s: float
    driver_mb: float
    cpu_s: dict[str, float]
    busy_s: float


@dataclass
class Watcher:
    """Samples this process's children twice a second. driver: the one that is the command.

    Of a process that ended the time until its last sample counts.
    """

    driver: int
    samples: list[Sample] = field(default_factory=list)
    _cpu: dict[tuple[int, float, str], float] = field(default_factory=dict)
    _ended: Event = field(default_factory=Event)

    def __enter__(self) -> "Watcher":
        self._began = time.monotonic()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def cpu_s(self) -> dict[str, float]:
        """Processor seconds by kind."""
        return self.samples[-1].cpu_s if self.samples else {}

    @property
    def peak_mb(self) -> float:
        return max((sample.driver_mb for sample in self.samples), default=0.0)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            try:
                memory = psutil.Process(self.driver).memory_info().rss / 1e6
            except psutil.Error:
                continue
            for process in psutil.Process().children(recursive=True):
                self._note(process)
            sums: dict[str, float] = defaultdict(float)
            for (_, _, kind), seconds in self._cpu.items():
                sums[kind] += seconds
            times = psutil.cpu_times()
            busy = sum(times) - times.idle - times.iowait
            self.samples.append(Sample(time.monotonic() - self._began, memory, dict(sums), busy))

    def _note(self, process: psutil.Process) -> None:
        try:
            with process.oneshot():
                times, line, began = process.cpu_times(), " ".join(process.cmdline()), process.create_time()
        except psutil.Error:
            return
        kind = next((kind for part, kind in KINDS.items() if part in line), "ray")
        kind = "driver" if process.pid == self.driver else kind
        if kind:
            self._cpu[process.pid, began, kind] = times.user + times.system
        if kind == "workers":
            self._cpu[process.pid, began, "decoders"] = times.children_user + times.children_system
