"""What the process frees is overwritten, whatever started it; where that cannot be, it says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bot
from bot.operations.freed_memory import OVERWRITE, TUNABLES, overwrite_freed_memory

ROOT = Path(bot.__file__).parent.parent
LOOK = """
import ctypes, os, sys
from bot.operations.freed_memory import overwrite_freed_memory

print(os.getpid(), *overwrite_freed_memory(), sep="\\n")
for size in (100, 400, 2000, 20_000):
    text = bytes(range(65, 90)) * (size // 25)
    address = id(text) + sys.getsizeof(text) // 2
    del text
    print("left" if ctypes.string_at(address, 8).isalpha() else "overwritten")
"""
OVERWRITTEN = ["overwritten"] * 4

pytestmark = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="a C library without such a setting"
)


def run(environment: dict[str, str], *flags: str) -> list[str]:
    """Run the program with nothing else in its environment; return its lines after the process id, which stays."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *flags, "-c", LOOK],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        pid, *lines = started.stdout.read().splitlines()
    assert int(pid) == started.pid
    return lines


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PYTHONMALLOC": "malloc"},
        {TUNABLES: "glibc.malloc.arena_max=2"},
        {TUNABLES: ":".join(OVERWRITE)},
    ],
    ids=["nothing set", "the allocator set", "another tunable set", "the tunables set"],
)
def test_what_is_freed_is_overwritten(environment: dict[str, str]) -> None:
    """Objects of any size, once the process has started itself again."""
    assert run(environment) == OVERWRITTEN


@pytest.mark.parametrize(
    ("environment", "flags"), [({"PYTHONMALLOC": "pymalloc"}, ()), ({}, ("-E",))], ids=["another allocator", "-E"]
)
def test_who_forbids_it_is_warned(environment: dict[str, str], flags: tuple[str, ...]) -> None:
    """The process goes on, and starts itself again neither once nor for ever."""
    warning, *found = run(environment, *flags)
    assert warning.startswith("PYTHONMALLOC: does not let the bot overwrite freed memory")
    assert "left" in found


def test_a_program_that_cannot_be_started_again_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example where a sandbox forbids it: with a warning that names the fix."""
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    [warning] = overwrite_freed_memory()
    assert "could not start again (No such file or directory); set PYTHONMALLOC and GLIBC_TUNABLES" in warning


@pytest.mark.parametrize("file", ["Dockerfile", "deploy/r2-credential-bot.service"])
def test_the_image_and_the_unit_save_the_second_start(file: str) -> None:
    """They set what the bot would start itself again for."""
    text = (ROOT / file).read_text()
    assert "PYTHONMALLOC=malloc" in text
    assert f"{TUNABLES}={':'.join(OVERWRITE)}" in text
