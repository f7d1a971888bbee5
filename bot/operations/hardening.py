"""What the process gives up before it holds a secret: core dumps, debuggers, shared files, a log of TLS keys."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_TLS_KEY_LOG: Final = "SSLKEYLOGFILE"


def harden() -> list[str]:
    """Do all of it, and return warnings for the operator.

    Call it before aiohttp is imported, which makes its TLS contexts at import: they take the name of the key log from
    the environment, and anyone with that file can read what was sent to Slack and Cloudflare.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return [*_forbid_inspection(), *_forget_key_log()]


def _forbid_inspection() -> Iterator[str]:
    """Keep everyone but root from dumping, tracing and reading this process (prctl(2), Linux only)."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        yield "prctl: the kernel does not let the bot refuse debuggers of its own user"


def _forget_key_log() -> Iterator[str]:
    if os.environ.pop(_TLS_KEY_LOG, None) is not None:
        yield f"{_TLS_KEY_LOG}: is ignored, since a file of TLS keys opens everything that was sent"
