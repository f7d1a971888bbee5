"""The pace against model servers, for whole minutes of virtual time: never above the limit, and close to it."""

import asyncio
import itertools
import math
import random
import selectors
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from bot.cloudflare.budget import (
    DEFAULT_QUOTA,
    FOR_SINGLE_WRITES_PERCENT,
    RESERVE_PERCENT,
    Budget,
    Limits,
    Spent,
    Urgency,
    parse_limits,
)
from bot.cloudflare.pace import FEW_IN_FLIGHT, MOST_IN_FLIGHT, LocalPace, MemoryStore, Pace, SharedPace
from bot.model.errors import DatabaseUnavailable

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WRITE, BULK, CHECK, BACKGROUND = Urgency
ANNOUNCED = Limits(quota=1200, window=5 * MINUTE, remaining=1100, resets_in=4 * MINUTE)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Never waits: instead of sleeping, its time jumps."""

    def __init__(self) -> None:
        self._selector_of_jumps = _JumpingSelector()
        super().__init__(self._selector_of_jumps)

    def time(self) -> float:
        """Return the seconds that passed since the start."""
        return self._selector_of_jumps.now

    def clock(self) -> datetime:
        """Return the same as a datetime."""
        return START + timedelta(seconds=self.time())


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            message = "all wait, and for nothing"
            raise RuntimeError(message)
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


def _run(body: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(body(loop))
    finally:
        loop.close()


@dataclass(kw_only=True)
class ModelServer:
    """Counts in a way that Cloudflare may. Times are in seconds."""

    quota: int = 120
    window: int = 10
    sliding: bool = False
    phase: float = 0.0
    has_headers: bool = True
    rounds_up: bool = True
    ours: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    counted: deque[float] = field(default_factory=deque)

    def ask(self, now: float, taken: list[float]) -> tuple[bool, dict[str, str], timedelta]:
        """Return whether a request is accepted (and count it), the headers, and when to come back if not."""
        began = (now - self.phase) // self.window * self.window + self.phase
        oldest = now - self.window if self.sliding else began
        while self.counted and self.counted[0] < oldest:
            self.counted.popleft()
        rest = (self.counted[0] if self.sliding and self.counted else began) + self.window - now
        is_taken = len(self.counted) < self.quota
        if is_taken:
            self.counted.append(now)
        (taken if is_taken else self.refused).append(now)
        seconds = math.ceil(rest) if self.rounds_up else math.floor(rest)
        headers = {
            "ratelimit": f'"default";r={self.quota - len(self.counted)};t={seconds}',
            "ratelimit-policy": f'"default";q={self.quota};w={self.window}',
        }
        return is_taken, headers if self.has_headers else {}, timedelta(seconds=math.ceil(rest))


@dataclass(kw_only=True)
class Run:
    """Sends many requests to a model server, all wanted at once, by several workers on one budget."""

    server: ModelServer
    workers: int = 1
    seed: int = 0
    others_per_second: float = 0.0
    is_told: bool = True

    def send(self, count: int) -> float:
        """Return the share of what was left for us, after the first window, that was used."""
        random_number = random.Random(self.seed)  # noqa: S311 - no secret
        return _run(lambda loop: self._send(loop, count, random_number))

    async def _send(self, loop: VirtualLoop, count: int, random_number: random.Random) -> float:
        store = MemoryStore(loop.clock)
        policy = Limits(quota=self.server.quota, window=timedelta(seconds=self.server.window))
        if not self.server.has_headers:
            await store.change(lambda budget, now: (budget.corrected(policy, now, 0), None))
        paces = [SharedPace(store, loop.clock) for _ in range(self.workers)]
        others = loop.create_task(self._be_others(loop, random_number))
        await asyncio.gather(*(self._submit(loop, paces[n % self.workers], random_number) for n in range(count)))
        others.cancel()
        return self._share(loop.time())

    async def _submit(self, loop: VirtualLoop, pace: Pace, random_number: random.Random) -> None:
        is_taken = False
        while not is_taken:
            if (back := await pace.turn(WRITE)) is not None:
                await asyncio.sleep((back - loop.clock()).total_seconds())
                continue
            latency = random_number.uniform(0.001, 0.3)
            arrives_after = random_number.uniform(0, latency)
            await asyncio.sleep(arrives_after)
            is_taken, headers, retry_after = self.server.ask(loop.time(), self.server.ours)
            await asyncio.sleep(latency - arrives_after)
            pace.done(parse_limits(headers))
            if not is_taken:
                await pace.block(retry_after)

    async def _be_others(self, loop: VirtualLoop, random_number: random.Random) -> None:
        while self.others_per_second:
            await asyncio.sleep(random_number.expovariate(self.others_per_second))
            is_taken, *_ = self.server.ask(loop.time(), self.server.others)
            if not is_taken:
                self.server.refused.pop()  # theirs

    def _share(self, end: float) -> float:
        server = self.server
        allowed = server.quota * (end - server.window) / server.window
        taken_by_others = sum(at > server.window for at in server.others)
        return sum(at > server.window for at in server.ours) / (allowed - taken_by_others)


SMALL, REAL = (120, 10, 1500), (1200, 300, 2700)
FEW_RUNS = (
    # limit, seed, sliding, headers, workers
    (SMALL, 0, False, True, 1),
    (SMALL, 1, True, False, 3),
    (REAL, 0, True, True, 3),
    (REAL, 1, False, False, 1),
)
"""Each value of each of the five, and each way to count with each limit."""

ALL_RUNS = tuple(itertools.product((SMALL, REAL), range(2), (False, True), (True, False), (1, 3)))


def _thoroughly(few: Sequence[tuple[Any, ...]], runs: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return all runs; those not among the few are marked as thorough."""
    return [*few, *(pytest.param(*run, marks=pytest.mark.thorough) for run in runs if run not in few)]


@pytest.mark.parametrize(
    ("limit", "seed", "sliding", "has_headers", "workers"), _thoroughly(FEW_RUNS, ALL_RUNS), ids=str
)
def test_alone_we_never_meet_the_limit_and_use_nine_tenths_of_it(
    limit: tuple[int, int, int],
    seed: int,
    sliding: bool,  # noqa: FBT001 - a table
    has_headers: bool,  # noqa: FBT001 - a table
    workers: int,
) -> None:
    """Wherever the windows begin, however they are counted and rounded; also in the first window."""
    quota, window, count = limit
    phase = random.Random(seed).uniform(0, window)  # noqa: S311 - no secret
    server = ModelServer(
        quota=quota, window=window, sliding=sliding, has_headers=has_headers, phase=phase, rounds_up=seed != 1
    )
    used = Run(server=server, workers=workers, seed=seed).send(count)
    assert server.refused == []
    assert used >= 0.9


@pytest.mark.parametrize(
    ("seed", "workers"), _thoroughly([(0, 3), (1, 1)], itertools.product(range(3), (1, 3))), ids=str
)
def test_others_may_use_the_same_quota(seed: int, workers: int) -> None:
    """Four tenths of it, at any time: the rest is used, and no request is refused."""
    server = ModelServer(quota=1200, window=300, phase=100.0 * seed, rounds_up=seed != 1)
    used = Run(server=server, workers=workers, seed=seed, others_per_second=1.6).send(2400)
    assert server.refused == []
    assert used >= 0.9


@pytest.mark.parametrize(
    ("seed", "sliding"), _thoroughly([(0, False), (1, True)], itertools.product(range(3), (False, True))), ids=str
)
def test_where_others_leave_too_little_to_see_hardly_a_request_is_refused(seed: int, sliding: bool) -> None:  # noqa: FBT001 - a table
    """In windows so short that the headers come late, less than one request in a hundred is refused."""
    server = ModelServer(sliding=sliding, phase=3.0 * seed, rounds_up=seed != 1)
    Run(server=server, workers=3, seed=seed, others_per_second=4.8).send(1000)
    assert len(server.refused) < 10


def test_a_burst_goes_at_once() -> None:
    """Half of the quota waits only for answers, although others have used a few requests."""

    async def body(loop: VirtualLoop) -> float:
        pace = LocalPace(loop.clock)
        for _ in range(530):
            assert await pace.turn(WRITE) is None
            pace.done(ANNOUNCED)
        return loop.time()

    assert _run(body) == 0


def test_requests_are_spaced_out_as_the_remainder_shrinks() -> None:
    """Below half of the quota, the rest is spread over the window, whose even pace is four a second."""
    budget, now = Budget.fresh(START), START
    for _ in range(600):
        budget = budget.take(now)
    assert budget.pause(now) > timedelta(seconds=0.5)
    with_less = budget.corrected(Limits(remaining=100, resets_in=MINUTE), now, 0)
    assert with_less.pause(now) == timedelta(seconds=1)
    assert with_less.opens_at(now, WRITE) == now
    used_up = budget.corrected(Limits(remaining=36, resets_in=MINUTE), now, 0)
    assert used_up.opens_at(now, WRITE) == now + MINUTE + timedelta(seconds=1.3)


def test_a_new_window_is_believed() -> None:
    """A larger remainder ends the slow pace that others' use had caused."""
    budget = Budget.fresh(START).corrected(Limits(remaining=40, resets_in=timedelta(seconds=2)), START, 3)
    assert (budget.spare, budget.resets_at) == (37, START + timedelta(seconds=2))
    later = budget.corrected(Limits(remaining=1199), START + timedelta(seconds=2), 0)
    assert (later.spare, later.resets_at) == (None, START + timedelta(seconds=302))


def test_a_policy_is_adopted_at_once_with_what_was_spent_under_the_last_one() -> None:
    """Requests within the new window count in full."""
    budget = Budget.fresh(START)
    for second in range(0, 100, 5):
        budget = budget.take(START + timedelta(seconds=second))
    now = START + timedelta(seconds=99)
    budget = budget.corrected(Limits(quota=120, window=timedelta(seconds=10)), now, 0)
    assert (budget.quota, budget.window) == (120, timedelta(seconds=10))
    assert 2 <= budget.spent.total <= 4


def test_a_clock_that_is_set_back_delays_no_one() -> None:
    """Spent requests still count, but not until the clock has caught up."""
    budget = Budget.fresh(START)
    for _ in range(1164):
        budget = budget.take(START)
    assert budget.rebased(START - timedelta(seconds=1)) == budget
    before = START - 60 * MINUTE
    rebased = budget.rebased(before)
    assert rebased.spent.total == 1164
    assert before + 5 * MINUTE < rebased.opens_at(before, WRITE) < before + 5.2 * MINUTE


@pytest.mark.parametrize(
    ("limit", "policy", "expected"),
    [
        pytest.param('"default";r=50;t=30', '"default";q=1200;w=300', (1200, 300, 50, 30), id="as documented"),
        pytest.param('"default"; t=30 ;r=50', '"default";w=300; q=1200;pk=:YQ==:', (1200, 300, 50, 30), id="order"),
        pytest.param("default;R=50;T=30", "", (None, None, 50, 30), id="no policy"),
        pytest.param("", "default;q=1200;w=300", (1200, 300, None, None), id="policy alone"),
        pytest.param('"default";r=0', "", (None, None, 0, None), id="no reset"),
        pytest.param('"a";r=50;t=30, "b";r=5;t=2', '"b";q=90;w=2,"a";q=99;w=60', (99, 60, 5, 2), id="several"),
        pytest.param('"default";r=5;t=999999999', "", (None, None, 5, 3600), id="an hour at most"),
        pytest.param('"a";r=-1,"b";r=1.5,"c";r=1e3,"d";r=', '"a";q=0;w=9,"b";q=9;w=0,"c";q=9', None, id="no numbers"),
        pytest.param('"default";r=\u0665', '"default";q=12345678901;w=9', None, id="no digits, too many digits"),
        pytest.param(";;,,==;r", "limit=100, remaining=50", None, id="garbage"),
    ],
)
def test_headers_are_read_leniently(limit: str, policy: str, expected: tuple[int | None, ...] | None) -> None:
    """An invalid part is ignored."""
    limits = parse_limits({"ratelimit": limit, "ratelimit-policy": policy})
    if expected is None:
        assert limits is None
    else:
        quota, window, remaining, resets_in = expected
        assert limits == Limits(
            quota=quota, window=_seconds(window), remaining=remaining, resets_in=_seconds(resets_in)
        )


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def test_no_headers_no_limits() -> None:
    """An answer may have none."""
    assert parse_limits({"cf-ray": "1"}) is None


def test_requests_in_flight_are_few_until_something_is_known() -> None:
    """Then more, and never more than 64."""

    async def body(loop: VirtualLoop) -> tuple[int, int]:
        pace, gone = LocalPace(loop.clock), 0

        async def go() -> None:
            nonlocal gone
            assert await pace.turn(WRITE) is None
            gone += 1

        tasks = [loop.create_task(go()) for _ in range(200)]
        await asyncio.sleep(1)
        before = gone
        pace.done(ANNOUNCED)
        await asyncio.sleep(1)
        after = gone - 1
        for task in tasks:
            task.cancel()
        return before, after

    assert _run(body) == (FEW_IN_FLIGHT, MOST_IN_FLIGHT)


def test_a_failed_request_frees_its_place() -> None:
    """Also one without an answer."""

    async def body(loop: VirtualLoop) -> None:
        pace = LocalPace(loop.clock)
        for _ in range(FEW_IN_FLIGHT):
            await pace.turn(WRITE)
        waiting = loop.create_task(pace.turn(WRITE))
        await asyncio.sleep(1)
        assert not waiting.done()
        pace.done(None)
        assert await waiting is None

    _run(body)


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    """Also if one of the waiting gives up."""

    async def body(loop: VirtualLoop) -> list[int]:
        pace, order = LocalPace(loop.clock), list[int]()

        async def go(number: int) -> None:
            await pace.turn(WRITE)
            order.append(number)

        tasks = [loop.create_task(go(number)) for number in range(FEW_IN_FLIGHT + 4)]
        await asyncio.sleep(1)
        tasks[FEW_IN_FLIGHT].cancel()  # the head of the line
        tasks[FEW_IN_FLIGHT + 2].cancel()
        for _ in range(FEW_IN_FLIGHT):
            pace.done(None)
        await asyncio.sleep(1)
        return order

    assert _run(body) == [*range(FEW_IN_FLIGHT), FEW_IN_FLIGHT + 1, FEW_IN_FLIGHT + 3]


def test_the_urgent_go_first_whenever_they_come() -> None:
    """With equal urgency, the first to arrive goes first."""

    async def body(loop: VirtualLoop) -> list[str]:
        pace, order = LocalPace(loop.clock), list[str]()

        async def go(name: str, urgency: Urgency) -> None:
            await pace.turn(urgency)
            order.append(name)
            pace.done(None)

        for _ in range(FEW_IN_FLIGHT):
            await pace.turn(WRITE)
        names = {"b1": BACKGROUND, "c1": CHECK, "w1": WRITE, "c2": CHECK, "b2": BACKGROUND, "w2": WRITE}
        tasks = [loop.create_task(go(name, urgency)) for name, urgency in names.items()]
        await asyncio.sleep(1)
        for _ in range(FEW_IN_FLIGHT):
            pace.done(None)
        await asyncio.gather(*tasks)
        return order

    assert _run(body) == ["w1", "w2", "c1", "c2", "b1", "b2"]


@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize("sleeping", [CHECK, BACKGROUND])
def test_one_asleep_until_the_budget_opens_is_overtaken(sleeping: Urgency, gives_up: bool) -> None:  # noqa: FBT001 - a table
    """A write that arrives meanwhile takes the next request, the sleeper the one after; also if either gives up."""

    async def body(loop: VirtualLoop) -> list[str]:
        store, order = MemoryStore(loop.clock), list[str]()
        await store.change(lambda budget, now: (_spent_before(budget, now, 600), None))
        pace = SharedPace(store, loop.clock)

        async def go(name: str, urgency: Urgency) -> None:
            await pace.turn(urgency)
            order.append(name)

        await pace.turn(WRITE)  # the next one has to sleep
        first = loop.create_task(go("first", sleeping))
        await asyncio.sleep(0.1)
        second = loop.create_task(go("second", sleeping))
        write = loop.create_task(go("write", WRITE))
        await asyncio.sleep(0.1)
        if gives_up:
            first.cancel()
        await asyncio.gather(first, second, write, return_exceptions=True)
        return order

    assert _run(body) == (["write", "second"] if gives_up else ["write", "first", "second"])


def test_an_urgent_one_that_gives_up_leaves_the_line_as_it_was() -> None:
    """No one is forgotten, wherever the cancellation happens: in line, at the store, or asleep."""

    async def body(loop: VirtualLoop) -> int:
        store = MemoryStore(loop.clock)
        await store.change(lambda budget, now: (_spent_before(budget, now, 600), None))
        pace = SharedPace(store, loop.clock)
        checks = [loop.create_task(pace.turn(CHECK)) for _ in range(5)]
        for tenths in range(40):
            write = loop.create_task(pace.turn(WRITE))
            await asyncio.sleep(tenths % 4 / 10)
            if not write.cancel():
                pace.done(None)
            await asyncio.sleep(0.1)
        await asyncio.gather(*checks)
        return pace._in_flight

    assert _run(body) == 5


def test_checks_leave_room_in_flight() -> None:
    """While Cloudflare is slow, hanging checks do not prevent a write."""

    async def body(loop: VirtualLoop) -> tuple[int, int]:
        pace = LocalPace(loop.clock)
        await pace.turn(WRITE)
        pace.done(ANNOUNCED)
        checks = [loop.create_task(pace.turn(CHECK)) for _ in range(2 * MOST_IN_FLIGHT)]
        await asyncio.sleep(1)
        in_flight = sum(check.done() for check in checks)
        writes = [loop.create_task(pace.turn(WRITE)) for _ in range(2 * MOST_IN_FLIGHT)]
        await asyncio.sleep(1)
        for task in checks + writes:
            task.cancel()
        return in_flight, sum(write.done() and not write.cancelled() for write in writes)

    assert _run(body) == (24, 8)


@pytest.mark.parametrize("urgency", [CHECK, BACKGROUND])
def test_checks_leave_a_quarter_of_the_budget(urgency: Urgency) -> None:
    """All of them learn at once when to come back; a write goes."""

    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(loop.clock)
        await store.change(lambda budget, now: (_spent_before(budget, now, 873), None))
        pace, other = SharedPace(store, loop.clock), SharedPace(store, loop.clock)
        backs = await asyncio.gather(*(pace.turn(urgency) for _ in range(20)), other.turn(urgency))
        assert all(back is not None and back > START + 5 * MINUTE for back in backs)
        assert await pace.turn(WRITE) is None
        assert await other.turn(WRITE) is None
        await asyncio.sleep((max(back for back in backs if back) - loop.clock()).total_seconds())
        assert await pace.turn(urgency) is None

    _run(body)


@pytest.mark.parametrize(
    ("remaining", "opens"), [pytest.param(327, False, id="a quarter is left"), pytest.param(328, True, id="more is")]
)
def test_checks_leave_a_quarter_of_what_others_use_as_well(remaining: int, opens: bool) -> None:  # noqa: FBT001 - a table
    """The remainder that Cloudflare reports limits them as their own count does."""
    budget = Budget.fresh(START).corrected(Limits(remaining=remaining, resets_in=MINUTE), START, 0)
    assert budget.opens_at(START, WRITE) == START
    assert (budget.opens_at(START, CHECK) == START) is opens
    assert budget.opens_at(START, CHECK) == budget.opens_at(START, BACKGROUND)


def test_many_changes_at_once_leave_some_room_for_another() -> None:
    """A single change need not wait until 500 rotations are over."""
    most = DEFAULT_QUOTA * (100 - RESERVE_PERCENT) // 100
    kept = most * FOR_SINGLE_WRITES_PERCENT // 100
    budget = _spent_before(Budget.fresh(START), START, most - kept)
    assert kept == 34
    assert budget.opens_at(START, WRITE) == START
    assert budget.opens_at(START, BULK) > START


@pytest.mark.parametrize("quota", [1, 2, 3, 4, 5, 10, 120, 1200])
def test_every_quota_lets_something_of_everything_go(quota: int) -> None:
    """However small it is: the first request may be of any urgency."""
    budget = Budget.fresh(START).corrected(Limits(quota=quota, window=MINUTE), START, 0)
    assert [budget.opens_at(START, urgency) for urgency in Urgency] == [START] * len(Urgency)


def test_one_that_gives_up_while_waiting_has_taken_nothing() -> None:
    """The pause before a request is not taken from the budget."""

    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(loop.clock)
        pace = SharedPace(store, loop.clock)
        await store.change(lambda budget, now: (_spend(budget, now, 583), None))
        await pace.turn(WRITE)
        waiting = loop.create_task(pace.turn(WRITE))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await store.change(lambda budget, _: (budget, budget.spent.total)) == 584
        assert await pace.turn(WRITE) is None

    _run(body)


def _spent_before(budget: Budget, now: datetime, count: int) -> Budget:
    return replace(budget, spent=Spent.of(count, budget.window, now))


def _spend(budget: Budget, now: datetime, count: int) -> Budget:
    for _ in range(count):
        budget = budget.take(now)
    return budget


def test_a_block_stops_everyone_at_once() -> None:
    """Those in line, later ones and another process learn when to come back; then it goes on."""

    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(loop.clock)
        pace, other = SharedPace(store, loop.clock), SharedPace(store, loop.clock)
        for _ in range(FEW_IN_FLIGHT):
            await pace.turn(WRITE)
        in_line = [loop.create_task(pace.turn(WRITE)) for _ in range(5)]
        await asyncio.sleep(0)
        await pace.block(5 * MINUTE)
        until = START + 5 * MINUTE
        assert await asyncio.gather(*in_line, pace.turn(WRITE), other.turn(WRITE)) == [until] * 7
        assert loop.clock() == START
        await pace.block(MINUTE)  # a shorter one changes nothing
        pace.done(None)
        await asyncio.sleep(299.5)
        assert await pace.turn(WRITE) is None
        assert loop.clock() >= until

    _run(body)


def test_a_block_during_the_stores_work_is_not_missed() -> None:
    """A request that was just taken is not sent."""

    async def body(loop: VirtualLoop) -> None:
        class SlowStore(MemoryStore):
            async def change(self, change: Callable[[Budget, datetime], tuple[Budget, T]]) -> T:
                result = await super().change(change)
                await asyncio.sleep(0.1)
                return result

        pace = SharedPace(SlowStore(loop.clock), loop.clock)
        turn = loop.create_task(pace.turn(WRITE))
        await asyncio.sleep(0.05)
        await pace.block(MINUTE)
        assert await turn == START + MINUTE + timedelta(seconds=0.05)

    _run(body)


class _CountingStore(MemoryStore):
    changes = 0
    seconds = 0.0

    async def change(self, change: Callable[[Budget, datetime], tuple[Budget, T]]) -> T:
        self.changes += 1
        await asyncio.sleep(self.seconds)  # as a database does: meanwhile, others join the queue
        return await super().change(change)

    async def spent(self) -> int:
        """Return how many requests are counted."""
        return await super().change(lambda budget, _: (budget, budget.spent.total))


def test_one_change_of_the_store_is_for_all_in_the_queue() -> None:
    """Once the first one is served: for as many as may be in flight, and not for those of another urgency."""

    async def body(loop: VirtualLoop) -> None:
        store = _CountingStore(loop.clock)
        pace = SharedPace(store, loop.clock)
        in_line = [loop.create_task(pace.turn(urgency)) for urgency in (*[WRITE] * 4, *[CHECK] * 2, *[WRITE] * 4)]
        await asyncio.wait(in_line, timeout=0.01)
        assert [task.done() for task in in_line] == [*[True] * 4, False, False, *[True] * 4]
        assert (store.changes, await store.spent()) == (2, FEW_IN_FLIGHT)
        pace.done(None)  # more may be in flight from now on
        assert await asyncio.gather(*in_line) == [None] * 10
        assert (store.changes, await store.spent()) == (3, 10)

    _run(body)


@pytest.mark.parametrize(("seconds", "total"), [(0.5, 3), (1.5, 4)])
def test_what_was_taken_for_one_that_gives_up_is_for_the_next_one(seconds: float, total: int) -> None:
    """For a moment: a count that is much older than its request would leave the window before it."""

    async def body(loop: VirtualLoop) -> None:
        store = _CountingStore(loop.clock)
        pace = SharedPace(store, loop.clock)
        first, second, third = (loop.create_task(pace.turn(WRITE)) for _ in range(3))
        store.seconds = 0.1
        await asyncio.sleep(0.15)  # the first one has its turn, and the second one is asking for both
        third.cancel()
        await asyncio.wait({first, second, third})
        assert third.cancelled()
        await asyncio.sleep(seconds)
        assert await pace.turn(WRITE) is None
        assert await store.spent() == total

    _run(body)


def test_a_quota_used_up_by_others_stops_us_too() -> None:
    """Until their window is certainly over, and without waiting in line."""

    async def body(loop: VirtualLoop) -> None:
        pace = LocalPace(loop.clock)
        await pace.turn(WRITE)
        pace.done(Limits(quota=1200, window=5 * MINUTE, remaining=20, resets_in=MINUTE))
        assert await pace.turn(WRITE) == START + MINUTE + timedelta(seconds=1.3)

    _run(body)


class _BrokenStore(MemoryStore):
    is_broken = True

    async def change(self, change: Callable[[Budget, datetime], tuple[Budget, T]]) -> T:
        if self.is_broken:
            raise DatabaseUnavailable
        return await super().change(change)


def test_a_failing_store_is_reported_and_leaves_no_trace() -> None:
    """The next turn works, and limits received meanwhile are not lost."""

    async def body(loop: VirtualLoop) -> None:
        store = _BrokenStore(loop.clock)
        store.is_broken = False
        pace = SharedPace(store, loop.clock)
        await pace.turn(WRITE)
        pace.done(Limits(quota=77))
        store.is_broken = True
        with pytest.raises(DatabaseUnavailable):
            await pace.turn(WRITE)
        store.is_broken = False
        assert await pace.turn(WRITE) is None
        assert await store.change(lambda budget, _: (budget, budget.quota)) == 77

    _run(body)


def test_sleep_is_an_argument() -> None:
    """It is called with seconds."""
    slept: list[float] = []

    async def body(loop: VirtualLoop) -> None:
        def sleep(seconds: float) -> Awaitable[object]:
            slept.append(seconds)
            return asyncio.sleep(seconds)

        store = MemoryStore(loop.clock)
        await store.change(lambda budget, now: (_spend(budget, now, 582), None))
        pace = SharedPace(store, loop.clock, sleep)
        await pace.turn(WRITE)

    _run(body)
    assert [0 < seconds <= 1 for seconds in slept] == [True]
