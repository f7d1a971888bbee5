"""Checks what comes from elsewhere, and writes the bill of materials into dist/: `make supply-chain`.

    python -m tests.supply [flags of pip-audit]

Exits with 1 if a check refuses, and with 3 if none does but one could not be made here: that is no success.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.project_checks import Check, report
from tests.supply.bom import ROOT, write_bom
from tests.supply.checks import HERE, ask_for_advisories

REFUSED: Final = 1
NOT_CHECKED: Final = 3


def main(checks: Sequence[Check], directory: Path) -> int:
    """Print what each check found, and what follows from all of them; return the exit code."""
    outcomes = report(checks, directory)
    refused = sum(bool(outcome.problems) for outcome in outcomes)
    skipped = [check.name for check, outcome in zip(checks, outcomes, strict=True) if outcome.skipped]
    print(f"{refused} of {len(checks)} refused; NOT CHECKED: {', '.join(skipped) or 'none'}")
    if refused:
        return REFUSED
    return NOT_CHECKED if skipped else 0


if __name__ == "__main__":
    code = main([*HERE, ask_for_advisories(*sys.argv[1:])], ROOT)
    if code != REFUSED:
        print(f"written: {write_bom(ROOT / 'dist').relative_to(ROOT)}")
    sys.exit(code)
