"""Hardens the process before it holds a secret: no core dumps, debuggers, shared files or TLS key log.

Once the settings are read, it forgets the variables that held secrets.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_TLS_KEY_LOG: Final = "SSLKEYLOGFILE"


def harden() -> list[str]:
    """Harden the process, and return warnings for the operator.

    Call this before aiohttp is imported: it creates TLS contexts at import, which take the key log's name from the
    environment, and anyone with that file can decrypt the traffic with Slack and Cloudflare.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _provide_home()
    return [*_forbid_inspection(), *_forget_key_log()]


def forget_variables(names: Iterable[str]) -> None:
    """Remove variables from the environment, so that no child process and no report of a crash gets them.

    On Linux also overwrite their values where the kernel put them: `/proc/PID/environ` shows that place to root.
    """
    for name in names:
        if sys.platform == "linux":
            _overwrite(name.encode())
        for variables in (os.environ, *_list_copies()):
            variables.pop(name, None)


def _list_copies() -> Iterator[MutableMapping[str, str]]:
    """Yield the copy that a module of the standard library makes of all variables when it is imported.

    The client for Prometheus imports it, for a server that the bot does not use.
    """
    handlers = sys.modules.get("wsgiref.handlers")
    if handlers is not None:
        yield handlers.BaseHandler.os_environ


def _overwrite(name: bytes) -> None:
    libc = ctypes.CDLL(None)
    libc.getenv.restype, libc.strlen.restype = ctypes.c_void_p, ctypes.c_size_t
    address = libc.getenv(name)
    if address is not None:
        ctypes.memset(address, 0, libc.strlen(ctypes.c_void_p(address)))


def _provide_home() -> None:
    """Name a home that does not exist if there is none: slack_sdk asks at import, and ends the start without one.

    A random uid, as OpenShift gives out, has no account that could say.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


def _forbid_inspection() -> Iterator[str]:
    """Keep everyone but root from dumping, tracing and reading this process (prctl(2), Linux only)."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        yield "prctl: the kernel does not let the bot forbid debugging by processes of the same user"


def _forget_key_log() -> Iterator[str]:
    if os.environ.pop(_TLS_KEY_LOG, None) is not None:
        yield f"{_TLS_KEY_LOG}: is ignored, since a file of TLS keys decrypts all traffic"
