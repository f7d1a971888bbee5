"""Makes inputs with hypothesis, until a time is over."""

import time
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.run import Run
from tests.fuzz.target import Check, Target

_AT_ONCE: Final = 100
"""How many inputs are made before the clock is read again."""


def run(target: Target, seconds: float) -> Run:
    """Try the seeds, then made-up inputs, until the time is over or one breaks a property; that one is made small."""
    result = Run()
    with target.open() as check:
        for data in target.seeds:
            _try(check, data, result)
        end, number = time.monotonic() + seconds, time.time_ns()
        while time.monotonic() < end and not result.broke:
            _try_many(target, check, number, result)
            number += 1
    return result


def _try(check: Check, data: bytes, result: Run) -> None:
    result.tried += 1
    try:
        check(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        result.broke[data] = repr(error)


def _try_many(target: Target, check: Check, number: int, result: Run) -> None:
    last = b""

    @seed(number)
    @settings(
        max_examples=_AT_ONCE,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=target.inputs)
    def try_one(data: bytes) -> None:
        nonlocal last
        result.tried += 1
        last = data
        check(data)

    try:
        try_one()
    except Exception as error:  # noqa: BLE001 - as above
        result.broke[last] = repr(error)  # hypothesis repeats the smallest one at the end
