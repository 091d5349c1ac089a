"""One meter for all workers of a run: which calls may begin, and what all of them have come to. Knows no Ray."""

import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from pipeline.accounts import AHEAD_S, Account, Client, Lent
from pipeline.circuit import Circuit
from pipeline.leases import Grant, Lease, Need, Report, Spent, Used
from pipeline.reserve import most, prompt_of
from schemas.config import Budget, Endpoint

_SILENT_S = 30.0
"""A client that holds leases and was silent for so long is dead; it reports every second."""

_UNTRIED = 8
"""Calls of a role in flight under a budget before the first answer shows how its prompts are counted."""

_DOUBTFUL = ("timeout", "connection")
"""Causes of failed tries that a server may have charged for: it can have worked on the reply to the end."""


class Meter:
    """Lets calls begin as the limits, the budget and the state of each provider allow.

    Every call needs leave of its own: a place in the even flow of requests and tokens, one of the calls in flight, and
    the most that it can cost, set aside from the budget until its reply is durable. So only tokens that a server counts
    and nobody could foresee can exceed a budget. A try without an answer that the server may have charged for all the
    same, as nobody can tell, counts as it was set aside, for this session. Where nothing is limited, calls are free.

    endpoints: by role; earlier: reads what the run has used until now, by role, others' roles among them; clock:
    seconds that only grow.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        budget: Budget | None = None,
        earlier: Callable[[], Mapping[str, Used]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prices = {role: endpoint.price for role, endpoint in endpoints.items()}
        self._budget = budget or Budget()
        self._used_before = earlier
        self._lent = {role: Lent() for role in endpoints}
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self._totals = {role: Used() for role in endpoints}
        self._known: dict[str, Used] | None = None
        same: dict[tuple[str, str, str], list[str]] = {}
        for role, endpoint in endpoints.items():
            same.setdefault((endpoint.base_url, endpoint.model, endpoint.api_key_env), []).append(role)
        self._accounts: dict[str, Account] = {}
        for roles in same.values():
            self._accounts |= dict.fromkeys(roles, Account([endpoints[role] for role in roles]))

    def begin(self, earlier: Mapping[str, Used]) -> None:
        """What the run has used until now, by who has just read it, which takes long. A meter that is restarted, and
        nobody begins, reads it by itself."""
        if self._known is None:
            self._known = self._beyond(earlier)

    def exchange(self, report: Report) -> Grant:
        """Takes a report and gives leave for calls. Raises KeyError for a role that is no endpoint's."""
        now, account = self._clock(), self._accounts[report.role]
        client = self._noted(report, account, now)
        leases, stop = self._decided(report, client, account, now)
        client.gets(leases)
        circuit = account.circuit
        return Grant(
            leases=tuple(leases),
            free=not (account.limited or self._budgeted or circuit.open or now < circuit.held_until),
            again_s=account.again_s(len(leases) < len(report.wanted), now),
            hold_s=max(0.0, circuit.held_until - now),
            paused=circuit.open,
            answered=account.answered,
            stop=stop,
        )

    def forget(self, worker: str) -> None:
        """A worker has died: its leases come back."""
        for name, client in self._clients.items():
            if name.startswith(f"{worker}/"):
                self._bury(client)

    def spent(self) -> dict[str, Spent]:
        """By role."""
        return {role: self._spent(role) for role in self._totals}

    @property
    def _earlier(self) -> dict[str, Used]:
        if self._known is None:
            self._known = self._unreported()
        return self._known

    @property
    def _budgeted(self) -> bool:
        return self._budget != Budget()

    def _noted(self, report: Report, account: Account, now: float) -> Client:
        client = self._clients.get(report.client)
        first = client is None
        if client is None:
            client = self._clients[report.client] = Client(report.role)
            account.clients.append(client)
        new = report.used - client.used
        self._totals[report.role] += new
        account.note(new, report, now)
        client.says(report, now)
        if new.sent and first:
            self._known = self._unreported()
        for other in self._clients.values():
            if now - other.seen_at > _SILENT_S:
                self._bury(other)
        return client

    def _unreported(self) -> dict[str, Used]:
        """What the run has used and no client of this meter has reported: by earlier sessions, and by clients that were
        gone before a restart of this meter.

        It is read at the start, and again when a client is met that has called before. What such clients use between
        their report and the reading counts twice: rather that than not at all.
        """
        return self._beyond(self._used_before())

    def _beyond(self, earlier: Mapping[str, Used]) -> dict[str, Used]:
        found = {role: Used() for role in self._totals} | dict(earlier)
        return {role: used.beyond(self._totals.get(role, Used())) for role, used in found.items()}

    def _bury(self, client: Client) -> None:
        total = self._totals[client.role]
        calls = max(total.measured, 1)
        client.dies(total.tokens / calls, total.dollars / calls)

    def _decided(self, report: Report, client: Client, account: Account, now: float) -> tuple[list[Lease], str]:
        """Leases for the first of the calls that are wanted, and why there will never be one, "" where there may."""
        circuit, wanted = account.circuit, report.wanted
        if circuit.open:
            if account.probing:
                return [], ""
            if circuit.hopeless(now):
                return [], _outage(report.role, circuit, now)
            wanted = wanted[: int(now >= circuit.next_probe_at())]
        elif now < circuit.held_until:
            return [], ""
        elif account.limited or self._budgeted:
            wanted = wanted[: account.share(client, now)]
        else:
            return [], ""
        leases = self._leases(report.role, account, wanted, now)
        if leases and circuit.open:
            circuit.probe(now)
        return leases, "" if leases or not wanted else self._exhausted(report.role, wanted[0])

    def _leases(self, role: str, account: Account, wanted: Sequence[Need], now: float) -> list[Lease]:
        leases: list[Lease] = []
        tokens_left, dollars_left = self._left()
        if self._budgeted and not self._totals[role].answered:
            wanted = wanted[: max(0, _UNTRIED - sum(c.held for c in self._clients.values() if c.role == role))]
        for need in wanted:
            at = now if need.batch else account.next_at(now)
            tokens, dollars = most(need, self._totals[role], self._prices[role])
            tokens_left, dollars_left = tokens_left - tokens, dollars_left - dollars
            if at > now + AHEAD_S or (min(tokens_left, dollars_left) < 0 and not need.begun):
                break
            expected = 0 if need.batch else self._expected(role, need)
            if not need.batch:
                account.take(expected, now)
                self._lent[role].add(tokens, dollars)
            leases.append(Lease(max(0.0, at - now), expected, tokens, dollars, account.circuit.open))
        return leases

    def _left(self) -> tuple[float, float]:
        """Tokens and dollars of the budget that are neither used nor set aside."""
        totals = [*self._totals.values(), *self._earlier.values()]
        clients = self._clients.values()
        tokens: float = sum(t.tokens + t.assumed_tokens for t in totals) + sum(
            c.tokens + c.lost_tokens for c in clients
        )
        dollars = sum(t.dollars + t.assumed_dollars for t in totals) + sum(c.dollars + c.lost_dollars for c in clients)
        for role, lent in self._lent.items():
            doubtful = sum(self._totals[role].failed[cause] for cause in _DOUBTFUL)
            tokens, dollars = tokens + doubtful * lent.mean_tokens, dollars + doubtful * lent.mean_dollars
        return (self._budget.tokens or float("inf")) - tokens, (self._budget.dollars or float("inf")) - dollars

    def _expected(self, role: str, need: Need) -> int:
        """The tokens that a call will probably use: its completion is as long as others were."""
        total = self._totals[role]
        completion = ceil(total.completion / total.measured) if total.measured else need.completion
        return prompt_of(need, total) + completion

    def _exhausted(self, role: str, need: Need) -> str:
        """Why the budget lets no call begin any more; "" while it does, or others are in flight that may leave some."""
        tokens_left, dollars_left = self._left()
        tokens, dollars = most(need, self._totals[role], self._prices[role])
        if any(client.held for client in self._clients.values()) or (tokens <= tokens_left and dollars <= dollars_left):
            return ""
        calls = sum(total.answered for total in (*self._totals.values(), *self._earlier.values()))
        if dollars > dollars_left:
            name, budget = "dollars", self._budget.dollars or 0.0
            spent, next_one = f"${budget - dollars_left:.4f} of ${budget:g}", f"${dollars:.4f}"
        else:
            name, whole = "tokens", self._budget.tokens or 0
            spent, next_one = f"{whole - tokens_left:,.0f} of {whole:,} tokens", f"{tokens:,} tokens"
        return (
            f"the budget is used up: {spent} for {calls:,} calls, and the next one ({role}) may take {next_one}. "
            f"Raise budget.{name} and run the same command again to go on."
        )

    def _spent(self, role: str) -> Spent:
        total, earlier = self._totals[role], self._earlier[role]
        clients = [client for client in self._clients.values() if client.role == role]
        return Spent(
            sent=total.sent,
            answered=total.answered,
            failed=dict(total.failed),
            prompt_tokens=total.prompt,
            completion_tokens=total.completion,
            cached_tokens=total.cached,
            dollars=total.dollars,
            unpriced=total.unpriced,
            in_flight=sum(client.in_flight for client in clients),
            waiting=sum(client.waiting for client in clients),
            batched=sum(client.batched for client in clients),
            paused=self._accounts[role].circuit.open,
            earlier_tokens=earlier.tokens,
            earlier_dollars=earlier.dollars,
        )


def _outage(role: str, circuit: Circuit, now: float) -> str:
    return (
        f"{role} endpoint does not answer: {circuit.trouble} (no call for {circuit.lasted_s(now):.0f} s). "
        "Run the same command again to go on."
    )
