"""An even flow: so many requests, or tokens, in every sliding minute."""

_KEPT = 0.98
"""Share of a limit that is used. The rest makes up for calls that reach the server up to a second late."""

_CATCH_UP_S = 1.0
"""Seconds of unused flow that may be made up for."""


class Pace:
    """What is taken delays what comes after, so that no burst can fall together with another at a minute's edge.

    A minute holds at most what is allowed, and the size of one call more where calls differ in size.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_s = per_minute * _KEPT / 60.0
        self._free_at: float | None = None

    def next_at(self, now: float) -> float:
        """When the next call may begin, in the clock of `now` (seconds); at most a second ago."""
        return now if self._free_at is None else max(self._free_at, now - _CATCH_UP_S)

    def take(self, amount: float, now: float) -> None:
        """Lets a call of this size begin at `next_at`."""
        self._free_at = self.next_at(now) + amount / self.per_s

    def give_back(self, amount: float) -> None:
        """What was taken and not used; a negative amount was used though it was not taken."""
        if self._free_at is not None:
            self._free_at -= amount / self.per_s
