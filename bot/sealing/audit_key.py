"""The key of the audit and of the rows' signatures, in a file that the bot makes if the operator gives no key."""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.model.errors import KeyFileUnusable
from bot.sealing.key_files import read_private_file, write_private_file

SHORTEST: Final = 32
"""Characters: of hexadecimal digits, that is 128 bits."""


def write_audit_key(path: Path) -> None:
    """Write a new key, mode 0600: 64 hexadecimal digits. Raises FileExistsError and OSError."""
    write_private_file(path, f"{secrets.token_hex(32)}\n")


def load_audit_key(path: Path) -> str:
    """Return the key in a file, and make one first if there is none. Raises KeyFileUnusable and OSError.

    Processes that share a directory, and start at once, get the same one.
    """
    if not path.exists():
        with suppress(FileExistsError):
            write_audit_key(path)
    return read_audit_key(path)


def read_audit_key(path: Path) -> str:
    """Return the key in a file. Raises KeyFileUnusable and OSError."""
    key = read_private_file(path).strip()
    if len(key) < SHORTEST or not key.isprintable():
        raise KeyFileUnusable(path, "it holds no key: put it back from a copy")
    return key
