"""The meter of a run, by a clock that the test turns: what it allows in every minute, and what it never lets begin."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.leases import Grant, Lease, Need, Report, Used
from pipeline.meter import Meter
from schemas.config import Budget, Endpoint

CALL = Need(1000, 500)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def endpoint(model: str = "m", **more: Any) -> Endpoint:
    return Endpoint(model=model, base_url="http://127.0.0.1:1/v1", **more)


def meter(clock: Clock, budget: Budget | None = None, **more: Any) -> Meter:
    return Meter({"teacher": endpoint(**more)}, budget, clock=clock)


@dataclass
class Worker:
    """A worker's end of the conversation, without a network: it holds leases and ends calls as it is told."""

    meter: Meter
    name: str = "w0"
    role: str = "teacher"
    used: Used = field(default_factory=Used)
    leases: list[Lease] = field(default_factory=list)

    def ask(self, *wanted: Need, **more: Any) -> Grant:
        grant = self.meter.exchange(
            Report(
                client=f"{self.name}/{self.role}/1",
                role=self.role,
                used=self.used + Used(),
                in_flight=len(self.leases),
                held=len(self.leases),
                tokens=sum(lease.tokens for lease in self.leases),
                dollars=sum(lease.dollars for lease in self.leases),
                probing=any(lease.probe for lease in self.leases),
                waiting=len(wanted),
                wanted=wanted,
                **more,
            )
        )
        self.leases += grant.leases
        return grant

    def end(self, prompt: int = 1000, completion: int = 500, dollars: float = 0.0) -> None:
        """The oldest call is answered."""
        lease = self.leases.pop(0)
        self.used += Used(sent=1, answered=1, measured=1, prompt=prompt, completion=completion, dollars=dollars)
        self.used += Used(guessed=CALL.prompt, charged=lease.expected)

    def fail(self, calls: int = 1) -> None:
        del self.leases[:calls]
        self.used += Used(sent=calls)
        self.used.failed["HTTP 500"] += calls


def most_in_a_minute(times: list[float], weights: list[float] | None = None) -> float:
    """Of all sliding minutes, the one that holds the most."""
    weights = weights or [1.0] * len(times)
    order = sorted(range(len(times)), key=times.__getitem__)
    most = total = 0.0
    first = 0
    for at in order:
        total += weights[at]
        while times[order[first]] <= times[at] - 60:
            total -= weights[order[first]]
            first += 1
        most = max(most, total)
    return most


def arrivals(one: Meter, clock: Clock, workers: int, minutes: float, lags: Iterator[float]) -> list[float]:
    """When the calls of hungry workers reach the server: each lease is used as soon as may be, plus a lag."""
    times: list[float] = []
    crew = [Worker(one, f"w{n}") for n in range(workers)]
    turns = [(clock.now, n) for n in range(workers)]
    end = clock.now + 60 * minutes
    while turns[0][0] < end:
        clock.now, n = heapq.heappop(turns)
        grant = crew[n].ask(*[CALL] * 32)
        times += [clock.now + lease.after_s + next(lags) for lease in grant.leases]
        while crew[n].leases:
            crew[n].end()
        heapq.heappush(turns, (clock.now + max(grant.again_s, 0.01), n))
    return times


@settings(max_examples=25, deadline=None)
@given(
    limit=st.sampled_from([3, 60, 600, 5000]),
    workers=st.integers(1, 5),
    seed=st.randoms(use_true_random=False),
)
def test_no_sliding_minute_is_over_the_limit_and_all_of_it_is_used(limit: int, workers: int, seed: Any) -> None:
    clock = Clock()
    one = meter(clock, limits={"requests_per_minute": limit})
    times = arrivals(one, clock, workers, 3, iter(lambda: seed.uniform(0, 0.5), None))
    assert most_in_a_minute(times) <= max(limit, limit * 1.02)
    assert len(times) >= 0.95 * 3 * limit


def test_tokens_are_counted_as_they_were_used_and_not_as_they_were_feared() -> None:
    """Each call may use 5,000 tokens and uses 300; 30,000 a minute are allowed."""
    clock = Clock()
    one, times = meter(clock, limits={"tokens_per_minute": 30_000}), list[float]()
    worker = Worker(one)
    for _ in range(4 * 60 * 5):
        clock.now += 0.2
        grant = worker.ask(*[Need(1000, 4000)] * 8)
        times += [clock.now + lease.after_s for lease in grant.leases]
        while worker.leases:
            worker.end(prompt=200, completion=100)
    settled = [time for time in times if time > 1060]
    assert most_in_a_minute(times, [300.0] * len(times)) <= 30_000
    assert len(settled) * 300 >= 0.95 * 3 * 30_000


def test_calls_in_flight_are_bounded_over_all_workers_and_shared_among_them() -> None:
    clock = Clock()
    one = meter(clock, limits={"in_flight": 6})
    first, second = Worker(one, "w0"), Worker(one, "w1")
    assert len(first.ask(*[CALL] * 10).leases) == 6
    assert second.ask(*[CALL] * 10).leases == ()
    for _ in range(6):
        for worker in (first, second):
            if worker.leases:
                worker.end()
            worker.ask(*[CALL] * 10)
            assert len(first.leases) + len(second.leases) <= 6
    assert min(len(first.leases), len(second.leases)) >= 2


def test_leases_of_a_dead_worker_come_back_when_it_is_told_and_when_it_stays_silent() -> None:
    clock = Clock()
    one = meter(clock, limits={"in_flight": 4})
    dead, other = Worker(one, "w1"), Worker(one, "w10")
    dead.ask(*[CALL] * 4)
    one.forget("w1")
    assert len(other.ask(*[CALL] * 4).leases) == 4
    third = Worker(one, "w2")
    assert third.ask(CALL).leases == ()
    clock.now += 31
    assert len(third.ask(CALL).leases) == 1


def test_roles_of_one_model_share_its_limits_and_roles_of_others_do_not() -> None:
    same, limits = endpoint(limits={"in_flight": 2}), {"in_flight": 2}
    one = Meter({"teacher": same, "captioner": same, "student": endpoint("other", limits=limits)}, clock=Clock())
    assert len(Worker(one, role="teacher").ask(*[CALL] * 2).leases) == 2
    assert Worker(one, role="captioner").ask(CALL).leases == ()
    assert len(Worker(one, role="student").ask(*[CALL] * 2).leases) == 2


def test_without_limits_and_budget_calls_are_free() -> None:
    grant = Worker(meter(Clock())).ask(CALL)
    assert grant.free and grant.leases == ()


PRICED = {"price": {"input": 1.0, "output": 2.0}}
"""1,000 tokens read and 500 written cost $0.002."""


def test_a_budget_is_never_exceeded_and_is_used_up_to_the_last_call_that_fits() -> None:
    clock = Clock()
    one = meter(clock, Budget(dollars=0.1), **PRICED)
    crew = [Worker(one, f"w{n}") for n in range(3)]
    stop, spent = "", 0.0
    for _ in range(1000):
        for worker in crew:
            clock.now += 0.01
            grant = worker.ask(*[CALL] * 16)
            stop = stop or grant.stop
            assert not (stop and grant.leases)
            if worker.leases:
                worker.end(completion=300, dollars=0.0016)
                spent += 0.0016
    assert 0.1 - 0.002 < spent <= 0.1
    assert "Raise budget.dollars" in stop and "$0.1" in stop


def test_nothing_stops_while_calls_are_in_flight_that_may_leave_room() -> None:
    one = meter(Clock(), Budget(tokens=4100))
    worker, other = Worker(one), Worker(one, "w1")
    assert len(worker.ask(*[CALL] * 3).leases) == 2
    refused = other.ask(CALL)
    assert refused.leases == () and not refused.stop
    worker.end(completion=10)
    worker.ask()
    assert len(other.ask(CALL).leases) == 1  # 1,010 used, 1,500 set aside
    worker.end(completion=500)
    other.end(completion=500)
    worker.ask()
    other.ask()
    assert "4,010 of 4,100 tokens for 3 calls" in other.ask(CALL).stop


def test_prompts_are_set_aside_as_the_server_counts_them() -> None:
    """Guessed at 1,000 tokens, counted as 9,000."""
    one = meter(Clock(), Budget(tokens=40_000))
    worker = Worker(one)
    worker.ask(CALL)
    worker.end(prompt=9000)
    grant = worker.ask(*[CALL] * 8)
    assert [lease.tokens for lease in grant.leases] == [9500] * 3


def test_what_earlier_sessions_used_counts() -> None:
    earlier = {"teacher": Used(answered=7, prompt=9000, completion=500)}
    one = Meter({"teacher": endpoint()}, Budget(tokens=10_000), lambda: earlier, Clock())
    stop = Worker(one).ask(CALL).stop
    assert "9,500 of 10,000 tokens for 7 calls" in stop
    assert one.spent()["teacher"].earlier_tokens == 9500


def test_a_meter_that_was_told_what_was_used_reads_it_only_when_it_is_restarted() -> None:
    read = list[str]()

    def made() -> Meter:
        def earlier() -> dict[str, Used]:
            read.append("again")
            return {"teacher": Used(answered=7, prompt=9400, completion=500)}

        return Meter({"teacher": endpoint()}, Budget(tokens=10_000), earlier, Clock())

    begun, restarted = made(), made()
    begun.begin({"teacher": Used(answered=7, prompt=9000, completion=500)})
    assert "9,500 of 10,000 tokens for 7 calls" in Worker(begun).ask(CALL).stop and not read
    assert "9,900 of 10,000 tokens for 7 calls" in Worker(restarted).ask(CALL).stop and read
    restarted.begin({"teacher": Used(answered=7, prompt=9000, completion=500)})  # late: it has read by itself
    assert restarted.spent()["teacher"].earlier_tokens == 9900


def test_a_meter_that_lost_its_memory_learns_all_of_it_from_the_next_reports() -> None:
    clock, budget = Clock(), Budget(tokens=10_000)
    worker = Worker(meter(clock, budget))
    worker.ask(*[CALL] * 4)
    worker.end()
    worker.ask()
    worker.meter = meter(clock, budget)
    assert len(worker.ask(*[CALL] * 5).leases) == 2  # 1,500 used and 4,500 set aside
    assert worker.meter.spent()["teacher"].prompt_tokens == 1000


def test_a_restarted_meter_counts_what_idle_and_dead_clients_have_used_and_nothing_twice() -> None:
    kept = {"teacher": Used(answered=1, prompt=1000, completion=500)}

    def made() -> Meter:
        return Meter({"teacher": endpoint()}, Budget(tokens=12_000), lambda: dict(kept), Clock())

    dead, living = Worker(made()), Worker(made(), "w1")
    living.meter = dead.meter
    for worker in (dead, living):
        worker.ask(*[CALL] * 2)
        worker.end()
        worker.end()
        worker.ask()
    kept["teacher"] += dead.used + living.used
    for crew in ([living], [Worker(made(), "w2")], [living, Worker(made(), "w2")]):
        meter = made()
        for worker in crew:
            worker.meter = meter
            worker.ask()
        assert len(crew[-1].ask(*[CALL] * 9).leases) == 3  # 7,500 are used
        assert (
            spent := meter.spent()["teacher"]
        ).earlier_tokens == 7500 - spent.prompt_tokens - spent.completion_tokens
        crew[-1].leases.clear()


def test_a_try_that_timed_out_or_was_cut_off_counts_as_it_was_set_aside() -> None:
    one = meter(Clock(), Budget(tokens=6000))
    worker = Worker(one)
    for cause in ("timeout", "connection", "HTTP 500", "HTTP 429"):
        worker.ask(CALL)
        del worker.leases[:]
        worker.used += Used(sent=1, failed=Counter({cause: 1}))
    assert len(worker.ask(*[CALL] * 4).leases) == 2


def test_pictures_are_set_aside_at_their_own_price_and_as_the_server_counts_them() -> None:
    """A thousand calls of mere text say nothing of what a picture comes to."""
    price = {"input": 1.0, "output": 2.0, "cached_input": 0.1, "image": 5.0}
    one = meter(Clock(), Budget(dollars=100), price=price)
    worker = Worker(one)
    worker.ask(CALL)
    worker.leases.clear()
    worker.used += Used(sent=1, answered=1000, measured=1000, prompt=500_000, completion=1, guessed=1_000_000)
    picture = replace(CALL, images=1)
    text, first = worker.ask(CALL, picture).leases
    assert (text.tokens, text.dollars) == (1000, pytest.approx(500 * 1e-6 + 500 * 2e-6))
    assert (first.tokens, first.dollars) == (1500, pytest.approx(1000 * 5e-6 + 500 * 2e-6))
    worker.leases.clear()
    counted = Used(prompt=7000, guessed=1000, pictured=7000, pictured_guessed=1000)
    worker.used += Used(sent=1, answered=1, measured=1) + counted
    text, later = worker.ask(CALL, picture).leases
    assert (text.tokens, later.tokens, later.dollars) == (1000, 7500, pytest.approx(7000 * 5e-6 + 500 * 2e-6))


def test_a_server_that_asks_to_wait_holds_back_all_workers() -> None:
    clock = Clock()
    one = meter(clock, limits={"requests_per_minute": 600})
    first, second = Worker(one), Worker(one, "w1")
    first.ask(CALL)
    first.fail()
    first.ask(hold_s=20.0)
    grant = second.ask(CALL)
    assert grant.leases == () and grant.hold_s == 20.0
    clock.now += 20.1
    assert len(second.ask(CALL).leases) == 1


def down(clock: Clock, *crew: Worker) -> None:
    """Each worker's calls fail, for twelve seconds."""
    for _ in range(6):
        clock.now += 2.0
        for worker in crew:
            worker.fail()
            worker.ask(trouble="HTTP 500 from the teacher endpoint")


def test_while_a_provider_is_down_one_call_at_a_time_tries_and_one_answer_frees_all() -> None:
    clock = Clock()
    one = meter(clock)
    crew = [Worker(one, f"w{n}") for n in range(3)]
    down(clock, *crew)
    assert all(worker.ask().paused for worker in crew)
    probes = list[float]()
    for _ in range(400):
        clock.now += 0.25
        for worker in crew:
            if worker.ask(CALL).leases:
                probes.append(clock.now)
                assert sum(len(w.leases) for w in crew) == 1
                assert not any(w.ask(CALL).leases for w in crew)
                worker.fail()
    waits = [later - earlier for earlier, later in pairwise(probes)]
    assert 5 <= len(probes) <= 8 and waits == sorted(waits)
    while not (prober := next((w for w in crew if w.ask(CALL).leases), None)):
        clock.now += 1
    prober.end()
    prober.ask()
    assert all(worker.ask(CALL).free for worker in crew)


def test_an_outage_ends_the_run_only_when_it_lasts() -> None:
    clock = Clock()
    worker = Worker(meter(clock, outage_s=60))
    down(clock, worker)
    while not (stop := worker.ask(CALL).stop):
        worker.fail(len(worker.leases))
        clock.now += 1
    assert clock.now >= 1060 and "teacher endpoint does not answer: HTTP 500" in stop and "same command" in stop


def test_failures_among_answers_pause_nothing() -> None:
    clock = Clock()
    worker = Worker(meter(clock))
    other = Worker(worker.meter, "w1")
    for _ in range(50):
        clock.now += 1.0
        worker.fail()
        assert not worker.ask(CALL).paused
        if clock.now % 4 == 0:
            other.leases.append(Lease())
            other.end()
            other.ask()


def test_what_is_shown_are_the_totals_of_all_workers() -> None:
    one = meter(Clock(), limits={"in_flight": 8})
    first, second = Worker(one), Worker(one, "w1")
    first.ask(CALL, CALL)
    first.end(dollars=0.002)
    first.fail()
    first.ask()
    second.ask(CALL)
    spent = one.spent()["teacher"]
    assert (spent.sent, spent.answered, spent.in_flight, spent.failed) == (2, 1, 1, {"HTTP 500": 1})
    assert (spent.prompt_tokens, spent.completion_tokens, spent.dollars) == (1000, 500, 0.002)
