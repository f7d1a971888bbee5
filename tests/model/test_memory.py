"""What is remembered fades, each value after a time of its own."""

from datetime import timedelta

import pytest

from bot.model.memory import Memory
from tests.clock import Clock

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def memory(clock: Clock) -> Memory[str, str]:
    """Know nothing yet."""
    return Memory(clock)


def test_nothing_is_known_of_what_was_not_kept(memory: Memory[str, str]) -> None:
    """Another key is another thing."""
    memory.keep("C1", "good", MINUTE)
    assert (memory.get("C1"), memory.get("C2")) == ("good", None)


def test_each_fades_after_its_own_time(memory: Memory[str, str], clock: Clock) -> None:
    """An error can be remembered for a shorter time than an answer."""
    memory.keep("C1", "good", MINUTE)
    memory.keep("C2", "silent", MINUTE / 2)
    clock.advance(MINUTE / 2 - MOMENT)
    assert (memory.get("C1"), memory.get("C2")) == ("good", "silent")
    clock.advance(MOMENT)
    assert (memory.get("C1"), memory.get("C2")) == ("good", None)
    clock.advance(MINUTE / 2)
    assert memory.get("C1") is None


def test_what_is_kept_anew_counts_anew(memory: Memory[str, str], clock: Clock) -> None:
    """The latest is what is known."""
    memory.keep("C1", "good", MINUTE)
    clock.advance(MINUTE / 2)
    memory.keep("C1", "better", MINUTE)
    clock.advance(MINUTE / 2)
    assert memory.get("C1") == "better"


def test_what_comes_from_the_future_is_not_believed(memory: Memory[str, str], clock: Clock) -> None:
    """The clock was set back: how old it is, nobody knows."""
    memory.keep("C1", "good", MINUTE)
    clock.advance(-MOMENT)
    assert memory.get("C1") is None


def test_what_has_faded_takes_no_room(memory: Memory[str, str], clock: Clock) -> None:
    """However many places were asked about over a year."""
    for number in range(100):
        memory.keep(f"C{number}", "good", MINUTE)
        clock.advance(MINUTE)
    assert len(memory._kept) == 1
