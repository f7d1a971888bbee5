"""What the operator reads about a failed call: the type of the cause, and nothing of its text."""

import asyncio
import errno
import socket
import ssl

import pytest

from bot.model.cause import name_cause
from bot.sandbox.process import find_free_port


def _chained(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


def _hiding(outer: Exception, earlier: Exception) -> Exception:
    outer.__context__, outer.__suppress_context__ = earlier, True
    return outer


def _untrusted() -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "made up")
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    return error


ERRORS: dict[str, tuple[BaseException, str]] = {
    "an unknown name": (socket.gaierror(socket.EAI_NONAME, "MARKER"), "gaierror EAI_NONAME"),
    "wrapped by a library": (
        _chained(RuntimeError("MARKER"), socket.gaierror(socket.EAI_AGAIN, "MARKER")),
        "gaierror EAI_AGAIN",
    ),
    "a certificate": (_chained(OSError("MARKER"), _untrusted()), "SSLCertVerificationError CERTIFICATE_VERIFY_FAILED"),
    "a refused connection": (
        ConnectionRefusedError(errno.ECONNREFUSED, "MARKER"),
        "ConnectionRefusedError ECONNREFUSED",
    ),
    "several attempts": (
        _chained(OSError("MARKER"), ExceptionGroup("MARKER", [ConnectionRefusedError(errno.ECONNREFUSED, "MARKER")])),
        "ConnectionRefusedError ECONNREFUSED",
    ),
    "a full disk": (OSError(errno.ENOSPC, "MARKER", "/MARKER"), "OSError ENOSPC"),
    "no right": (PermissionError(errno.EACCES, "MARKER", "/MARKER"), "PermissionError EACCES"),
    "a silence": (_chained(TimeoutError("MARKER"), asyncio.CancelledError()), "TimeoutError"),
    "one that a library hides": (_hiding(RuntimeError("MARKER"), OSError(errno.ENOSPC, "MARKER")), "OSError ENOSPC"),
    "no system error": (ValueError("MARKER"), "ValueError"),
}


@pytest.mark.parametrize(("error", "named"), ERRORS.values(), ids=ERRORS)
def test_a_cause_is_named_by_its_type(error: BaseException, named: str) -> None:
    """The innermost class and the system's word; no text, which may quote an address or a path."""
    assert name_cause(error) == named


async def test_a_closed_port_is_named_for_what_it_is() -> None:
    """The error comes from a real connection."""
    with pytest.raises(OSError, match=r".") as caught:
        await asyncio.open_connection("127.0.0.1", find_free_port())
    assert name_cause(caught.value) == "ConnectionRefusedError ECONNREFUSED"


def test_a_cycle_of_causes_ends() -> None:
    """Exceptions can be chained in a cycle by hand."""
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert name_cause(one) == "ValueError"
