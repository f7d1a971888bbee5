"""Checks the files for deployment, and names each tool that is missing here: `make check-deploy`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.checks import CHECKS, Check


def main(checks: Sequence[Check], directory: Path) -> bool:
    """Print a line for each check and what it found, and return whether none found anything."""
    holds = True
    for check in checks:
        outcome = check.check(directory)
        verdict = f"skipped: {outcome.skipped}" if outcome.skipped else "refused" if outcome.problems else "ok"
        print(f"{check.name:26}{verdict}", *filter(None, [outcome.problems]), sep="\n", flush=True)
        holds = holds and not outcome.problems
    return holds


if __name__ == "__main__":
    sys.exit(not main(CHECKS, Path(__file__).parents[2]))
