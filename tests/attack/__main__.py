"""Runs every class of attack against the running bot, on loopback only, and prints what came through.

    python -m tests.attack [words of a class's name]

Exits with 1 when anything came through.
"""

import asyncio
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from bot.sandbox.process import Transport
from tests.attack import (
    answers,
    approvals,
    at_the_port,
    forged,
    forged_rows,
    line,
    meanwhile,
    minted_rows,
    ordering,
    outsiders,
    places,
    rotating,
    rows,
    texts,
)
from tests.attack.attack import Arena, Attack, Breach, Case

ATTACKS: Final[tuple[Attack, ...]] = (
    *answers.ATTACKS,
    *approvals.ATTACKS,
    *at_the_port.ATTACKS,
    *forged.ATTACKS,
    *forged_rows.ATTACKS,
    *line.ATTACKS,
    *meanwhile.ATTACKS,
    *minted_rows.ATTACKS,
    *ordering.ATTACKS,
    *outsiders.ATTACKS,
    *places.ATTACKS,
    *rotating.ATTACKS,
    *rows.ATTACKS,
    *texts.ATTACKS,
)
LONGEST: Final = timedelta(seconds=120)
"""An attack that takes longer over one transport counts as having taken the bot down."""


async def main(attacks: Sequence[Attack], longest: timedelta = LONGEST) -> bool:
    """Run all attacks, print the table, and return whether the bot held."""
    print(_line("class", "over", "cases", *Breach))
    held = True
    for attack in attacks:
        for transport in attack.over:
            cases = await try_attack(attack, transport, longest)
            counts = [sum(breach in case.breaches for case in cases) for breach in Breach]
            print(_line(attack.name, transport, len(cases), *counts), flush=True)
            for case in cases:
                if case.breaches:
                    print(f"    {case.name}: {', '.join(sorted(case.breaches))}")
            held = held and not any(counts)
    return held


async def try_attack(attack: Attack, transport: Transport, longest: timedelta) -> list[Case]:
    """Run the cases of one attack; an attack that does not finish is a case that took the bot down."""
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)  # the PostgreSQL server does not run as root
        try:
            async with asyncio.timeout(longest.total_seconds()):
                async for case in attack.run(Arena(transport=transport, directory=Path(directory))):
                    cases.append(case)
        except Exception:
            traceback.print_exc()
            cases.append(Case.of("did not come to its end", took_down=True))
    return cases or [Case.of("tried nothing", took_down=True)]


def _line(name: str, over: str, cases: int | str, *breaches: int | str) -> str:
    columns = "".join(f"{breach:>11}" for breach in breaches)
    return f"{name:<58.58} {over:<7} {cases:>6}{columns}"


if __name__ == "__main__":
    words = " ".join(sys.argv[1:])
    chosen = [attack for attack in ATTACKS if words in attack.name]
    sys.exit(not asyncio.run(main(chosen)))
