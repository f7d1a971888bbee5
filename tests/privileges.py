"""Rights as an ordinary user has them, also where the tests run as root: file modes hold, and there is no account."""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

STRANGER = 54321
"""A user id without an account."""

_VERSION = 0x20080522
_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def file_modes_hold() -> Iterator[None]:
    """Take root's right to ignore file modes from this thread and from those that it starts (Linux)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = struct.pack("Ii", _VERSION, 0), ctypes.create_string_buffer(24)
    assert libc.capget(header, before) == 0
    effective, *others = struct.unpack("6I", before.raw)
    assert libc.capset(header, struct.pack("6I", effective & ~_OVERRIDES, *others)) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@cache
def without_an_account() -> tuple[str, ...]:
    """Return the words before a command that make it run as STRANGER; skips where that cannot be had."""
    return _require((shutil.which("unshare") or "unshare", "--user", f"--map-user={STRANGER}"))


def with_a_full_disk(directory: Path) -> tuple[str, ...]:
    """Return the words before a command that give it a disk of 1 MiB here, full of the file `fill`; may skip."""
    fill = 'mount -t tmpfs -o size=1m,mode=700 none "$0" && head -c 1048576 /dev/zero > "$0/fill"; exec "$@"'
    unshare = (shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount")
    return _require((*unshare, "sh", "-c", fill, str(directory)))


def _require(words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine has no user namespaces for this user")
    return words
