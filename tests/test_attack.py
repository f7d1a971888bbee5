"""The table of attacks reports what came through, and is not a success if an attack tried nothing."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.attack.__main__ import ATTACKS, main
from tests.attack.attack import Arena, Attack, Case, Run

PATIENCE = timedelta(seconds=30)


async def _holds(_: Arena) -> AsyncIterator[Case]:
    yield Case.of("held", got_in=False, leaked=False)


async def _lies(_: Arena) -> AsyncIterator[Case]:
    yield Case.of("held")
    yield Case.of("lied and leaked", lied=True, leaked=True, got_in=False)


async def _breaks(_: Arena) -> AsyncIterator[Case]:
    yield Case.of("held")
    raise OSError


async def _tries_nothing(_: Arena) -> AsyncIterator[Case]:
    none: tuple[Case, ...] = ()
    for case in none:
        yield case


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param(_holds, ["1", "0", "0", "0", "0"], id="nothing came through"),
        pytest.param(_lies, ["2", "0", "1", "1", "0"], id="two sorts of breach"),
        pytest.param(_breaks, ["2", "0", "0", "0", "1"], id="it broke off"),
        pytest.param(_tries_nothing, ["1", "0", "0", "0", "1"], id="it tried nothing"),
    ],
)
async def test_what_came_through_is_counted(run: Run, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each breach is counted in its column, and only zeros are a success."""
    held = await main([Attack(name="made up", run=run, over=("http",))], PATIENCE)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("made up"))
    assert row.split()[3:] == expected
    assert held is (expected[1:] == ["0"] * 4)


def test_class_names_are_unique() -> None:
    """A class can be run alone by its name."""
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
