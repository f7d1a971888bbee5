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
from tempfile import TemporaryDirectory

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


@contextmanager
def as_a_stranger() -> Iterator[Path]:
    """Run as STRANGER, and yield an empty directory that anyone can enter; skips without root."""
    if os.geteuid() != 0:
        pytest.skip("only root can run as another user")
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        os.seteuid(STRANGER)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def give_to_a_stranger(directory: Path) -> Path:
    """Hand a directory and all in it to STRANGER; skips without root."""
    if os.geteuid() != 0:
        pytest.skip("only root gives a file to another user")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    return directory


def states_below(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the owner, the mode and the content of a directory and of everything in it."""
    paths = (directory, *directory.rglob("*"))
    return {
        str(path): (path.stat().st_uid, path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in paths
    }


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
