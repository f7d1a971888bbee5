"""What the operator reads when a service gives no answer: the cause, and the fix for it."""

import errno
import socket
import ssl

import pytest

from bot.model.no_answer import (
    NoAnswer,
    explain_error,
    explain_proxy_error,
    explain_proxy_status,
    explain_status,
    explain_stranger,
)


def _certificate(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "MARKER")
    error.reason, error.verify_code, error.verify_message = "CERTIFICATE_VERIFY_FAILED", code, message
    return error


def _handshake() -> ssl.SSLError:
    error = ssl.SSLError(1, "MARKER")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


ERRORS: dict[str, tuple[BaseException, str, str, str]] = {
    "no such name": (socket.gaierror(socket.EAI_NONAME, "MARKER"), "is not resolved (EAI_NONAME)", "", "fix DNS"),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "MARKER"), "(ECONNREFUSED)", "", "set HTTPS_PROXY"),
    "no way": (OSError(errno.ENETUNREACH, "MARKER"), "(ENETUNREACH)", "", "allow outgoing HTTPS to Slack's hosts"),
    "in silence": (TimeoutError(), "no answer came in time", "", "allow outgoing HTTPS to Slack's hosts"),
    "in silence, says the system": (TimeoutError(errno.ETIMEDOUT, "MARKER"), "in time", "", "set HTTPS_PROXY"),
    "reset": (ConnectionResetError(errno.ECONNRESET, "MARKER"), "broke (ConnectionResetError", "", "if this lasts"),
    "broke": (RuntimeError("MARKER"), "the connection broke (RuntimeError)", "", "if this lasts"),
    "an inspecting proxy": (
        _certificate(20, "unable to get local issuer certificate"),
        "not trusted (unable to get local issuer certificate)",
        "SSL_CERT_FILE",
        "name a PEM file with its authority",
    ),
    "expired": (_certificate(10, "certificate has expired"), "not valid at this time", "", "check the clock"),
    "not yet valid": (_certificate(9, "certificate is not yet valid"), "not valid at this time", "", "check the clock"),
    "another host": (_certificate(62, "MARKER"), "for another host", "", "check the address"),
    "no TLS": (_handshake(), "TLS handshake failed (WRONG_VERSION_NUMBER)", "", "without TLS"),
}


@pytest.mark.parametrize(("error", "because", "setting", "fix"), ERRORS.values(), ids=ERRORS)
def test_a_failed_connection_has_its_own_fix(error: BaseException, because: str, setting: str, fix: str) -> None:
    """An operator can tell DNS, a firewall and a proxy apart; no text of the exception is quoted."""
    outer = RuntimeError("MARKER")  # a library's own error
    outer.__cause__ = error
    for said in (explain_error(error, "Slack"), explain_error(outer, "Slack")):
        assert because in said.because
        assert said.setting == setting
        assert fix in said.fix
        assert "MARKER" not in str(said)


ANSWERS: dict[str, tuple[NoAnswer, str, str, str]] = {
    "a proxy that is away": (
        explain_proxy_error(OSError(errno.ECONNREFUSED, "")),
        "ECONNREFUSED",
        "HTTPS_PROXY",
        "port",
    ),
    "a proxy with a login": (explain_proxy_status(407, "Slack"), "asks for a login (407)", "HTTPS_PROXY", "USER"),
    "a proxy that forbids": (explain_proxy_status(403, "Slack"), "HTTP 403", "HTTPS_PROXY", "allow Slack's hosts"),
    "rate limited": (explain_status(429, "Slack", "SLACK_API_URL"), "limits the rate", "", ""),
    "down": (explain_status(503, "Slack", "SLACK_API_URL"), "HTTP 503", "", ""),
    "not found": (explain_status(404, "Slack", "SLACK_API_URL"), "something else", "SLACK_API_URL", "Slack's place"),
    "a page": (explain_stranger("a page", "Slack", "SLACK_API_URL"), "(a page)", "SLACK_API_URL", "login page"),
}


@pytest.mark.parametrize(("said", "because", "setting", "fix"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_something_else_has_its_own_fix(said: NoAnswer, because: str, setting: str, fix: str) -> None:
    """Where only waiting helps, there is none."""
    assert because in said.because
    assert said.setting == setting
    assert fix in said.fix
    assert bool(fix) == bool(said.fix)
