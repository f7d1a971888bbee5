"""Acknowledgements come first, and deliveries still go on."""

import asyncio

import pytest

from bot.model.right_of_way import LONGEST_WAIT, QUIET, RightOfWay
from tests.virtual_time import run_in_virtual_time

PASS_EVERY = LONGEST_WAIT.total_seconds()


class Road:
    """Notes when each delivery passes."""

    def __init__(self) -> None:
        self.time = asyncio.get_running_loop().time
        self.right_of_way = RightOfWay(self.time)
        self.passed: list[float] = []

    def send(self, deliveries: int) -> list[asyncio.Task[None]]:
        """Start so many at once."""
        return [asyncio.create_task(self._pass()) for _ in range(deliveries)]

    async def be_busy(self, seconds: float) -> None:
        """Acknowledge one after the other, without a pause."""
        until = self.time() + seconds
        while self.time() < until:
            with self.right_of_way.acknowledging():
                await asyncio.sleep(min(QUIET.total_seconds(), until - self.time()))

    async def _pass(self) -> None:
        await self.right_of_way.give_way()
        self.passed.append(self.time())


def test_deliveries_pass_at_once_while_there_is_no_acknowledgement() -> None:
    """An idle bot delays nothing."""

    async def run() -> None:
        road = Road()
        await asyncio.gather(*road.send(100))
        assert road.passed == [0.0] * 100

    run_in_virtual_time(run())


def test_deliveries_pass_one_at_a_time_while_there_are_acknowledgements() -> None:
    """However many wait, an acknowledgement meets one; and however busy the bot is, they go on."""

    async def run() -> None:
        road = Road()
        deliveries = road.send(5)
        await road.be_busy(4.5 * PASS_EVERY)
        await asyncio.gather(*deliveries)
        assert road.passed == pytest.approx([PASS_EVERY * number for number in range(5)])

    run_in_virtual_time(run())


def test_the_most_urgent_passes_first_however_late_it_comes() -> None:
    """Many checks in line do not hold up a write."""

    async def run() -> None:
        road = Road()
        passed: list[int] = []

        async def give_way(urgency: int) -> None:
            await road.right_of_way.give_way(urgency)
            passed.append(urgency)

        deliveries = [asyncio.create_task(give_way(urgency)) for urgency in (2, 2, 9, 1)]
        await road.be_busy(PASS_EVERY / 2)
        deliveries.append(asyncio.create_task(give_way(0)))
        await road.be_busy(4 * PASS_EVERY)
        await asyncio.gather(*deliveries)
        assert passed == [2, 0, 1, 2, 9]

    run_in_virtual_time(run())


def test_the_pause_between_two_acknowledgements_belongs_to_them() -> None:
    """A client that sends one request after the other leaves a pause, which is too short for a delivery."""

    async def run() -> None:
        road = Road()
        await asyncio.gather(*road.send(1))
        with road.right_of_way.acknowledging():
            deliveries = road.send(3)
            await asyncio.sleep(QUIET.total_seconds())
        await asyncio.sleep(QUIET.total_seconds() / 2)
        with road.right_of_way.acknowledging():
            await asyncio.sleep(QUIET.total_seconds())
            assert road.passed[1:] == [0.0]  # the first in line, since none had passed lately
        ended_at = road.time()
        await asyncio.gather(*deliveries)
        assert road.passed[2:] == pytest.approx([ended_at + QUIET.total_seconds()] * 2)

    run_in_virtual_time(run())


def test_a_cancelled_delivery_leaves_the_line() -> None:
    """The next one passes in its place."""

    async def run() -> None:
        road = Road()
        _, second, third = road.send(3)
        await road.be_busy(PASS_EVERY / 2)
        second.cancel()
        await road.be_busy(PASS_EVERY)
        await third
        assert road.passed == pytest.approx([0.0, PASS_EVERY])

    run_in_virtual_time(run())
