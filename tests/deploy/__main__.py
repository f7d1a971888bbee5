"""Checks the files for deployment, and names each tool that is missing here: `make check-deploy`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.checks import CHECKS
from tests.project_checks import Check, report


def main(checks: Sequence[Check], directory: Path) -> bool:
    """Print what each check found, and return whether none found anything."""
    return not any(outcome.problems for outcome in report(checks, directory))


if __name__ == "__main__":
    sys.exit(not main(CHECKS, Path(__file__).parents[2]))
