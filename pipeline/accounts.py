"""What the meter of a run knows of each model at its provider, and of each worker that calls it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from pipeline.circuit import Circuit
from pipeline.leases import Lease, Report, Used
from pipeline.pace import Pace
from schemas.config import Endpoint

AHEAD_S = 2.0
"""Leases are given for calls that may begin within so many seconds, so that one report serves many calls."""

_SOON_S = 0.05
"""When a client asks again that waits for calls of others to end."""


@dataclass
class Client:
    """One model of one worker, as it last reported. lost: what calls are taken to have used that died with it."""

    role: str
    used: Used = field(default_factory=Used)
    in_flight: int = 0
    held: int = 0
    tokens: int = 0
    dollars: float = 0.0
    waiting: int = 0
    batched: int = 0
    wanted: int = 0
    probing: bool = False
    seen_at: float = 0.0
    lost_tokens: int = 0
    lost_dollars: float = 0.0

    def says(self, report: Report, now: float) -> None:
        self.used, self.in_flight, self.held = report.used, report.in_flight, report.held
        self.tokens, self.dollars = report.tokens, report.dollars
        self.waiting, self.wanted, self.probing = report.waiting, len(report.wanted), report.probing
        self.batched = report.batched
        self.seen_at, self.lost_tokens, self.lost_dollars = now, 0, 0.0

    def gets(self, leases: Sequence[Lease]) -> None:
        self.in_flight += len(leases)
        self.held += len(leases)
        self.wanted -= len(leases)
        self.tokens += sum(lease.tokens for lease in leases)
        self.dollars += sum(lease.dollars for lease in leases)
        self.probing |= any(lease.probe for lease in leases)

    def dies(self, tokens: float, dollars: float) -> None:
        """tokens, dollars: of a usual call. The server may charge for what was in flight."""
        self.lost_tokens += min(round(self.held * tokens), self.tokens)
        self.lost_dollars += min(self.held * dollars, self.dollars)
        self.in_flight = self.held = self.tokens = self.waiting = self.batched = self.wanted = 0
        self.dollars, self.probing = 0.0, False


@dataclass
class Lent:
    """What was set aside for the tries of a role, batches apart."""

    tries: int = 0
    tokens: int = 0
    dollars: float = 0.0

    def add(self, tokens: int, dollars: float) -> None:
        self.tries += 1
        self.tokens += tokens
        self.dollars += dollars

    @property
    def mean_tokens(self) -> float:
        return self.tokens / max(self.tries, 1)

    @property
    def mean_dollars(self) -> float:
        return self.dollars / max(self.tries, 1)


class Account:
    """One model at one provider, whichever roles it plays. Of several limits the lowest holds."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        limits = [endpoint.limits for endpoint in endpoints]
        requests = min((n.requests_per_minute for n in limits if n.requests_per_minute), default=None)
        tokens = min((n.tokens_per_minute for n in limits if n.tokens_per_minute), default=None)
        self.requests = Pace(requests) if requests else None
        self.tokens = Pace(tokens) if tokens else None
        self.in_flight = min((n.in_flight for n in limits if n.in_flight), default=None)
        self.circuit = Circuit(max(endpoint.outage_s for endpoint in endpoints))
        self.clients: list[Client] = []
        self.answered = 0

    @property
    def limited(self) -> bool:
        return bool(self.requests or self.tokens or self.in_flight)

    @property
    def probing(self) -> bool:
        return any(client.probing for client in self.clients)

    def next_at(self, now: float) -> float:
        return max((pace.next_at(now) for pace in (self.requests, self.tokens) if pace), default=now)

    def take(self, tokens: int, now: float) -> None:
        if self.requests:
            self.requests.take(1, now)
        if self.tokens:
            self.tokens.take(tokens, now)

    def note(self, new: Used, report: Report, now: float) -> None:
        """new: what came back since the client's last report. Tokens used take the place of those expected."""
        self.answered += new.answered
        self.circuit.note(new.answered, new.failed.total(), new.given_up, now)
        self.circuit.trouble = report.trouble or self.circuit.trouble
        self.circuit.hold(report.hold_s, now)
        if self.requests:
            self.requests.give_back(len(report.returned))
        if self.tokens:
            self.tokens.give_back(sum(report.returned) + new.charged - new.tokens - new.assumed_tokens)

    def share(self, client: Client, now: float) -> int:
        """Of the calls that may begin now, so many that every worker gets its part."""
        room = client.wanted
        if self.in_flight:
            under_way = sum(c.in_flight for c in self.clients)
            hungry = sum(c.in_flight + c.wanted for c in self.clients)
            part = ceil(self.in_flight * (client.in_flight + client.wanted) / max(hungry, 1))
            room = min(room, self.in_flight - under_way, part - client.in_flight)
        if self.requests:
            places = int((now + AHEAD_S - self.requests.next_at(now)) * self.requests.per_s) + 1
            room = min(room, ceil(places * client.wanted / max(sum(c.wanted for c in self.clients), 1)))
        return max(room, 0)

    def again_s(self, short: bool, now: float) -> float:
        """When a client is to report next. short: it did not get all that it wanted."""
        if self.circuit.open:
            wait = self.circuit.next_probe_at() - now
        elif now < self.circuit.held_until:
            wait = self.circuit.held_until - now
        else:
            wait = self.next_at(now) - now - AHEAD_S / 2 if short else 1.0
        return min(max(wait, _SOON_S), 1.0)
