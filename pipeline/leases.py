"""What a worker and the meter of its run tell each other about calls.

A report tells states and totals, never what changed since the last one: a meter that was restarted, or a report that
came twice, does no harm.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol


@dataclass(frozen=True)
class Need:
    """What a call may use at most, in tokens: guessed for the prompt, set by the request for the completion.

    requests: more than one for a provider's batch, which has a price and limits of its own; batch: it is one.
    begun: it is under way already, so that leave cannot be refused. images: pictures in the prompt.
    """

    prompt: int
    completion: int
    requests: int = 1
    batch: bool = False
    begun: bool = False
    images: int = 0


@dataclass(frozen=True)
class Lease:
    """Leave for one try of one call, which must not begin before `after_s` seconds have passed.

    expected: tokens that it will probably use. tokens, dollars: set aside for it from the budget, the most it can use.
    probe: it tries whether a provider that was down answers again.
    """

    after_s: float = 0.0
    expected: int = 0
    tokens: int = 0
    dollars: float = 0.0
    probe: bool = False


@dataclass
class Used:
    """Totals of calls.

    sent: tries; answered: those that the server answered, refusals too; failed: the others by cause.
    given_up: calls that failed at every try. measured: calls whose tokens the server counted: prompt, completion,
    cached (of the prompt), and guessed, which is what their prompts had been taken for. pictured, pictured_guessed: the
    parts of prompt and guessed that calls with pictures have.
    dollars: of the calls with a known cost; unpriced: the calls without.
    assumed_tokens, assumed_dollars: set aside for calls whose tokens the server did not count, and taken as used.
    charged: tokens expected of the leases that are done with.
    """

    sent: int = 0
    answered: int = 0
    given_up: int = 0
    measured: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    guessed: int = 0
    dollars: float = 0.0
    unpriced: int = 0
    assumed_tokens: int = 0
    assumed_dollars: float = 0.0
    charged: int = 0
    pictured: int = 0
    pictured_guessed: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def beyond(self, other: "Used") -> "Used":
        """What a budget counts of this and the other has not."""
        names = ("answered", "prompt", "completion", "cached", "dollars", "assumed_tokens", "assumed_dollars")
        return Used(**{name: max(getattr(self, name) - getattr(other, name), 0) for name in names})

    def __add__(self, other: "Used") -> "Used":
        return Used(*(a + b for a, b in _pairs(self, other)))

    def __sub__(self, other: "Used") -> "Used":
        return Used(*(a - b for a, b in _pairs(self, other)))


def _pairs(one: Used, other: Used) -> list[tuple[Any, Any]]:
    return [(getattr(one, each.name), getattr(other, each.name)) for each in fields(Used)]


@dataclass(frozen=True)
class Report:
    """What one model of one worker tells of its calls. client: its name, which begins with the worker's.

    used: since the client was made. in_flight: calls begun and unanswered, and leases not begun. held: the same, and
    calls whose reply is not durable yet; tokens, dollars: set aside for those. waiting: calls that wait for their turn.
    batched: requests that a batch is to answer.
    wanted: those of them that could begin now if they had leave, in order. probing: whether a probe is under way.
    returned: expected tokens of each lease that came to nothing, since the last report. hold_s: seconds that the server
    asked to wait. trouble: the latest error.
    """

    client: str
    role: str
    used: Used
    in_flight: int = 0
    held: int = 0
    tokens: int = 0
    dollars: float = 0.0
    waiting: int = 0
    batched: int = 0
    wanted: tuple[Need, ...] = ()
    probing: bool = False
    returned: tuple[int, ...] = ()
    hold_s: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class Grant:
    """The meter's answer. leases: for the first of the calls that were wanted.

    free: calls may begin without a lease until the next report. again_s: when to report next at the latest.
    hold_s: no call begins before so many seconds. paused: the provider is down. answered: calls that the provider has
    answered for all workers. stop: why no call can ever begin again, "" where one can.
    """

    leases: tuple[Lease, ...] = ()
    free: bool = False
    again_s: float = 1.0
    hold_s: float = 0.0
    paused: bool = False
    answered: int = 0
    stop: str = ""


@dataclass(frozen=True)
class Spent:
    """What the calls of a role have come to in this session, all workers together, for showing.

    failed: tries that failed, by cause; each was made again or given up. dollars: of the calls with a known cost;
    unpriced: calls whose cost is unknown. waiting: calls without leave or without a free slot; batched: requests that a
    batch is to answer. paused: the provider is down. earlier_tokens, earlier_dollars: of the run's earlier sessions;
    known only where the run has a budget.
    """

    sent: int = 0
    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    dollars: float = 0.0
    unpriced: int = 0
    in_flight: int = 0
    waiting: int = 0
    batched: int = 0
    paused: bool = False
    earlier_tokens: int = 0
    earlier_dollars: float = 0.0


class Link(Protocol):
    """The way from a worker to the meter of its run. worker: its name."""

    @property
    def worker(self) -> str: ...

    async def exchange(self, report: Report) -> Grant:
        """See `Meter.exchange`."""
        ...
