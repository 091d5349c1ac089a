"""A pause that a server asks for, after which calls come back one by one."""

_EASED_S = 2.0


class Hold:
    """until: when calls may begin again, in seconds of one clock. After that slots open over as long a time as the hold
    lasted, two seconds at most: calls that all came back at the same moment would be refused again."""

    def __init__(self) -> None:
        self.until = 0.0
        self._eased_s = 0.0

    def last(self, seconds: float, now: float) -> None:
        """No call begins for so long; no-op where a hold lasts longer."""
        if seconds > 0 and now + seconds > self.until:
            self._eased_s = max(min(seconds, _EASED_S), self._eased_s if now < self.until else 0.0)
            self.until = now + seconds

    def eases(self, now: float) -> bool:
        """Whether further slots are yet to open."""
        return now < self.until + self._eased_s

    def open(self, slots: int, now: float) -> int:
        """How many of so many slots are open."""
        if not self.eases(now):
            return slots
        return min(slots, 1 + int(slots * max(now - self.until, 0.0) / self._eased_s))
