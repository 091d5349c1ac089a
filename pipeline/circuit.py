"""Whether a provider answers at all; while it does not, one plain request at a time tries, and all calls wait."""

_FAILURES = 5
_QUIET_S = 5.0
"""A provider is taken to be down after so many failures in a row, in so many seconds without an answer."""

_FIRST_PROBE_S = 1.0
_SLOWEST_PROBE_S = 30.0
"""The wait before a first probe; each further one waits twice as long, up to this."""


class Circuit:
    """Of one model at one provider, for the calls of all workers. Times are seconds of one clock.

    outage_s: for how long calls may wait for a provider that answers none of them. held_until: when calls may begin
    again that the provider asked to come later. trouble: the latest error, in words.
    """

    def __init__(self, outage_s: float) -> None:
        self.held_until = float("-inf")
        self.trouble = ""
        self._outage_s = outage_s
        self._failures = 0
        self._quiet_since = 0.0
        self._open_since: float | None = None
        self._probes = 0
        self._next_probe_at = 0.0

    @property
    def open(self) -> bool:
        """Whether the provider is taken to be down."""
        return self._open_since is not None

    def note(self, answered: int, failed: int, given_up: int, now: float) -> None:
        """Calls that came back since the last time. given_up: those of them that failed at all their tries."""
        if answered:
            self._failures, self._open_since, self._probes = 0, None, 0
            return
        if failed and not self._failures:
            self._quiet_since = now
        self._failures += failed
        down = self._failures >= _FAILURES and now - self._quiet_since >= _QUIET_S
        if (down or given_up) and not self.open:
            self._open_since = self._quiet_since
            self._next_probe_at = now + _FIRST_PROBE_S

    def hold(self, seconds: float, now: float) -> None:
        """No call begins for so long, as the provider asks."""
        self.held_until = max(self.held_until, now + seconds)

    def next_probe_at(self) -> float:
        return max(self._next_probe_at, self.held_until)

    def probe(self, now: float) -> None:
        """A probe begins."""
        self._probes += 1
        self._next_probe_at = now + min(_FIRST_PROBE_S * 2**self._probes, _SLOWEST_PROBE_S)

    def lasted_s(self, now: float) -> float:
        """Seconds since the first error of an outage, 0 where there is none."""
        return 0.0 if self._open_since is None else now - self._open_since

    def hopeless(self, now: float) -> bool:
        """Whether the run is to stop. A probe has come to nothing by then: earlier failures may be the calls' fault."""
        return self.open and self._probes > 0 and self.lasted_s(now) >= self._outage_s
