"""Remembered values expire, each after its own time."""

from datetime import timedelta

import pytest

from bot.model.memory import Memory
from tests.clock import Clock

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def memory(clock: Clock) -> Memory[str, str]:
    """Start with nothing remembered."""
    return Memory(clock)


def test_an_unknown_key_has_no_value(memory: Memory[str, str]) -> None:
    """Keys are independent."""
    memory.keep("C1", "good", MINUTE)
    assert (memory.get("C1"), memory.get("C2")) == ("good", None)


def test_each_value_expires_after_its_own_time(memory: Memory[str, str], clock: Clock) -> None:
    """An error can be remembered for a shorter time than an answer."""
    memory.keep("C1", "good", MINUTE)
    memory.keep("C2", "silent", MINUTE / 2)
    clock.advance(MINUTE / 2 - MOMENT)
    assert (memory.get("C1"), memory.get("C2")) == ("good", "silent")
    clock.advance(MOMENT)
    assert (memory.get("C1"), memory.get("C2")) == ("good", None)
    clock.advance(MINUTE / 2)
    assert memory.get("C1") is None


def test_a_new_value_gets_a_new_time(memory: Memory[str, str], clock: Clock) -> None:
    """The latest value counts."""
    memory.keep("C1", "good", MINUTE)
    clock.advance(MINUTE / 2)
    memory.keep("C1", "better", MINUTE)
    clock.advance(MINUTE / 2)
    assert memory.get("C1") == "better"


def test_a_value_from_the_future_is_not_used(memory: Memory[str, str], clock: Clock) -> None:
    """The clock was set back, so its age is unknown."""
    memory.keep("C1", "good", MINUTE)
    clock.advance(-MOMENT)
    assert memory.get("C1") is None


def test_an_expired_value_takes_no_memory(memory: Memory[str, str], clock: Clock) -> None:
    """The bot may ask about any number of places in a year."""
    for number in range(100):
        memory.keep(f"C{number}", "good", MINUTE)
        clock.advance(MINUTE)
    assert len(memory._kept) == 1


def test_what_is_kept_can_be_bounded(clock: Clock) -> None:
    """The value that was kept first goes; one that is kept again was not kept first."""
    memory = Memory[str, int](clock, most=2)
    for number, key in enumerate(("C1", "C2", "C1", "C3")):
        memory.keep(key, number, MINUTE)
    assert [memory.get(key) for key in ("C1", "C2", "C3")] == [2, None, 3]
