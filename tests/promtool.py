"""Prometheus's own tool, which checks rules and metrics: Debian's package `prometheus` has it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_PROMTOOL: Final = shutil.which("promtool")


def run_promtool(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool on `text`; without one, skip the test, except in CI."""
    if _PROMTOOL is None:
        message = "promtool is not installed, so rules and metrics are not checked (Debian: apt install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    command = [_PROMTOOL, *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - our files
