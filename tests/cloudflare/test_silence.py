"""Why Cloudflare did not answer, from the errors of httpx."""

import errno
import socket

import httpx
import pytest

from bot.cloudflare.silence import explain_silence

REFUSED = OSError(errno.ECONNREFUSED, "made up")


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ERRORS: dict[str, tuple[Exception, bool, str, str]] = {
    "refused": (_caused(httpx.ConnectError("x"), REFUSED), False, "no connection is made (ECONNREFUSED)", ""),
    "the proxy refuses": (_caused(httpx.ConnectError("x"), REFUSED), True, "the proxy is not reached", "HTTPS_PROXY"),
    "the proxy is unknown": (
        _caused(httpx.ConnectError("x"), socket.gaierror(socket.EAI_NONAME, "made up")),
        True,
        "the proxy is not reached",
        "HTTPS_PROXY",
    ),
    "the proxy wants a login": (httpx.ProxyError("407 MARKED"), True, "asks for a login (407)", "HTTPS_PROXY"),
    "the proxy fails": (httpx.ProxyError("503 MARKED"), True, "opens no connection (HTTP 503)", "HTTPS_PROXY"),
    "the proxy answers nonsense": (httpx.ProxyError("MARKED"), True, "the proxy is not reached", "HTTPS_PROXY"),
    "it broke after the tunnel": (
        _caused(httpx.ReadError("x"), OSError(errno.ECONNRESET, "made up")),
        True,
        "the connection broke",
        "",
    ),
    "late": (TimeoutError(), True, "no answer came in time", ""),
}


@pytest.mark.parametrize(("error", "has_proxy", "because", "setting"), ERRORS.values(), ids=ERRORS)
def test_each_cause_is_explained(*, error: Exception, has_proxy: bool, because: str, setting: str) -> None:
    """In the words that are used for Slack too; what connects to a proxy is not Cloudflare's fault."""
    why = explain_silence(error, has_proxy=has_proxy)
    assert because in why.because
    assert why.setting == setting
    assert "MARKED" not in str(why)
