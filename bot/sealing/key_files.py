"""The key ring that the bot generates: files that only its user can read, a new key each day, old keys destroyed.

Destroying keys, not deleting rows, is what makes an erased token unreadable in a WAL, a heap page or a backup.
"""

import os
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bot.model.errors import KeyFileUnusable
from bot.sealing.hpke import KeyRing, PrivateKey, SealingKey, generate_private_key, load_private_keys, public_pem
from bot.sealing.private_places import find_exposure

KEY_LIFETIME: Final = timedelta(days=1)
RETIREMENT: Final = timedelta(minutes=10)
"""The least time that a replaced key is kept: longer than sealing and recording a submission can take."""

_CLOCK_STEP: Final = timedelta(days=2)
"""How far a clock may be set back between two runs."""

_FROM_THE_FUTURE: Final = (
    "its name says that it is made days from now: set this machine's clock or, if that is right, move the file "
    "elsewhere and start again"
)
_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyFile:
    path: Path
    created_at: datetime
    key_id: str


class KeyFiles:
    """The directory of private keys, one PEM file (0600) each, named by creation time and key id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, now: datetime) -> KeyRing:
        """Return the ring, and create a first key if there is none.

        Raises KeyFileUnusable if a file is not a key, or if others can read it or could have planted it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_private()
        for path in self._directory.glob("*.destroyed"):
            _erase(path)  # a kill interrupted this
        for path in self._directory.glob(".*.draft"):
            path.unlink()  # not overwritten: it may be a second name of a good key
        if not self._newest_first(now):
            self._create(now)
        return self._ring(now)

    def read(self, now: datetime) -> KeyRing | None:
        """Return the ring, or None if no key was made yet; changes nothing. Raises KeyFileUnusable and OSError."""
        if not self._directory.exists():
            return None
        self._require_private()
        return self._ring(now) if self._newest_first(now) else None

    def rotate(self, ring: KeyRing, now: datetime, needed: AbstractSet[str]) -> list[str]:
        """Add the day's key to the ring, destroy replaced ones that are not `needed`, and return their ids."""
        self._directory.mkdir(mode=0o700, exist_ok=True)  # someone removed it under a running bot
        self._require_private()
        files = self._newest_first(now)
        is_on_disk = ring.sealing_key.key_id in {file.key_id for file in files}
        if not is_on_disk or now - files[0].created_at >= KEY_LIFETIME:
            ring.add(load_key_file(self._create(now))[0])
            files = self._newest_first(now)
        replaced = zip(files[1:], files, strict=False)
        gone = [old for old, newer in replaced if now - newer.created_at >= RETIREMENT and old.key_id not in needed]
        for file in gone:
            _destroy(file.path)
            ring.forget(file.key_id)
        return [file.key_id for file in gone]

    def _ring(self, now: datetime) -> KeyRing:
        return KeyRing(*(load_key_file(file.path)[0] for file in self._newest_first(now)))

    def _create(self, now: datetime) -> Path:
        pem = generate_private_key()
        key_id = SealingKey(load_private_keys(pem)[0].public_key()).key_id
        path = self._directory / f"{now.astimezone(UTC).strftime(_STAMP)}-{key_id}.pem"
        write_key_file(path, pem)
        return path

    def _require_private(self) -> None:
        exposure = find_exposure(self._directory, self._directory.parent)
        if exposure:
            raise KeyFileUnusable(self._directory, exposure)

    def _newest_first(self, now: datetime) -> list[_KeyFile]:
        """Return all files; a key dated in the future would seal until then, and no new key would be made."""
        files = [_parse(path) for path in self._directory.glob("*.pem")]
        for file in files:
            if file.created_at - now > _CLOCK_STEP:
                raise KeyFileUnusable(file.path, _FROM_THE_FUTURE)
        return sorted(files, key=lambda file: file.created_at, reverse=True)


def write_key_file(path: Path, pem: str) -> str:
    """Write a new private key, mode 0600, synced to disk; return its public half as PEM.

    Raises FileExistsError instead of replacing a key, and OSError if the path cannot be written.
    """
    write_private_file(path, pem)
    return public_pem(load_private_keys(pem)[0])


def write_private_file(path: Path, text: str) -> None:
    """Write a new file, mode 0600, synced to disk, whole or not at all; raises FileExistsError and OSError."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)  # left by a kill: a half-written key must never be used
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def load_key_file(path: Path) -> list[PrivateKey]:
    """Read the keys of a PEM file; raises KeyFileUnusable with the fix, never with its content."""
    try:
        return load_private_keys(read_private_file(path))
    except ValueError as error:
        raise KeyFileUnusable(path, str(error)) from None


def read_private_file(path: Path) -> str:
    """Read a file of keys that nobody else can read or change; raises KeyFileUnusable with the fix, and OSError."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise KeyFileUnusable(path, "it is a link, or not a file: put the key itself there")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileUnusable(path, f"others can read it: run `chmod 600 {path}`, and replace the key if they did")
    exposure = find_exposure(path)
    if exposure:
        raise KeyFileUnusable(path, exposure)
    return path.read_text(encoding="ascii", errors="replace")


def _parse(path: Path) -> _KeyFile:
    stamp, _, key_id = path.stem.partition("-")
    try:
        created_at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise KeyFileUnusable(path, "its name is not one that the bot gave: move it elsewhere") from None
    return _KeyFile(path=path, created_at=created_at, key_id=key_id)


def _destroy(path: Path) -> None:
    """Overwrite and remove. On flash and copy-on-write disks, the old block may survive (see SECURITY.md)."""
    _erase(path.rename(path.with_suffix(".destroyed")))  # after a kill from here on, the next start finishes it


def _erase(doomed: Path) -> None:
    with doomed.open("r+b") as file:
        file.write(b"\0" * doomed.stat().st_size)
        file.flush()
        os.fsync(file.fileno())
    doomed.unlink()
    _sync_directory(doomed.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
