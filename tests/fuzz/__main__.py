"""Makes up inputs for every target, for a number of seconds in each of two ways, and prints those that break it.

    python -m tests.fuzz [seconds] [words of a target's name]

Hypothesis makes structured inputs; atheris, where it is installed, is guided by the branches that they reach. Exits
with 1 if a property did not hold. An input that broke one goes into the seeds of its target, which the tests run.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Final

from tests.fuzz import guided, structured
from tests.fuzz.run import Run
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

USUAL_SECONDS: Final = 10.0

_WAYS: Final[dict[str, Callable[[Target, float], Run]]] = {
    "hypothesis": structured.run,
    **({"atheris": guided.run} if guided.HAS_ATHERIS else {}),
}


def main(targets: Sequence[Target], seconds: float, ways: Collection[str] = tuple(_WAYS)) -> bool:
    """Try all targets, print the table, and return whether all properties held."""
    print(_line("target", "by", "inputs", "broke"))
    held = True
    for target in targets:
        for way in ways:
            result = _WAYS[way](target, seconds)
            print(_line(target.name, way, result.tried, len(result.broke)), flush=True)
            for data, what in result.broke.items():
                print(f"    {what[:6000]}\n    seed: {data!r}")
            held = held and result.tried > 0 and not result.broke
    if not guided.HAS_ATHERIS:
        print("atheris is not installed here: only hypothesis made inputs")
    return held


def _line(target: str, way: str, tried: int | str, broke: int | str) -> str:
    return f"{target:<24} {way:<12} {tried:>10} {broke:>6}"


if __name__ == "__main__":
    words = " ".join(sys.argv[2:])
    chosen = [target for target in TARGETS if words in target.name]
    sys.exit(not main(chosen, float(sys.argv[1]) if sys.argv[1:] else USUAL_SECONDS))
