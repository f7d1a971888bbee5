"""Explains to the operator why a service gave no usable answer: firewall, proxy, certificate, something else.

The same words for every service and library. Quotes no address, and of an answer only its status.
"""

import errno
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from bot.model.cause import chain_of, find_root, name_cause

PROXY: Final = "HTTPS_PROXY"
AUTHORITIES: Final = "SSL_CERT_FILE"

_NOT_AT_THIS_TIME: Final = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_FOR_ANOTHER_HOST: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_BROKE: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why there is no answer. `because` continues a sentence; without a `fix` only waiting helps."""

    because: str
    setting: str = ""
    fix: str = ""


def explain_error(error: BaseException, service: str) -> NoAnswer:
    """Explain a connection to a service that could not be made, or broke."""
    root = find_root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return _explain_certificate(root)
    if isinstance(root, ssl.SSLError):
        because = f"the TLS handshake failed ({root.reason or 'no reason given'})"
        return NoAnswer(because=because, fix="find what answers there without TLS: a firewall, a proxy, a wrong port")
    if isinstance(root, socket.gaierror):
        because = f"the name of its host is not resolved ({name_cause(root).partition(' ')[2] or root.errno})"
        return NoAnswer(because=because, fix=f"fix DNS on this machine or in this container; {_set_proxy()}")
    if any(isinstance(each, TimeoutError) for each in chain_of(error)):
        return NoAnswer(because="no answer came in time", fix=_open_way(service))
    if isinstance(root, OSError) and root.errno and root.errno not in _BROKE:
        return NoAnswer(because=f"no connection is made ({_word_of(root)})", fix=_open_way(service))
    because = f"the connection broke ({name_cause(error)})"
    return NoAnswer(because=because, fix="if this lasts, find the firewall or proxy that ends connections")


def explain_proxy_error(error: BaseException) -> NoAnswer:
    """Explain a proxy that could not be reached."""
    because = f"the proxy is not reached ({name_cause(error)})"
    return NoAnswer(because=because, setting=PROXY, fix="check the proxy's host and port, and that it runs")


def explain_proxy_status(status: int, service: str) -> NoAnswer:
    """Explain a proxy that answered itself, instead of opening the connection."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        fix = "write it as http://USER:PASSWORD@HOST:PORT, in percent-encoding"
        return NoAnswer(because="the proxy asks for a login (407)", setting=PROXY, fix=fix)
    because = f"the proxy opens no connection (HTTP {status})"
    return NoAnswer(because=because, setting=PROXY, fix=f"allow {service}'s hosts in the proxy, or use another one")


def explain_status(status: int, service: str, address: str) -> NoAnswer:
    """Explain an answer that is not the service's; `address` is the setting with the service's address."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return NoAnswer(because="it limits the rate of requests (HTTP 429)")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NoAnswer(because=f"it has a problem (HTTP {status})")
    return explain_stranger(f"HTTP {status}", service, address)


def explain_stranger(what: str, service: str, address: str) -> NoAnswer:
    """Explain that something else answered in the service's place."""
    fix = f"check the address, and find the proxy or login page that answers in {service}'s place"
    return NoAnswer(because=f"something else answers there ({what})", setting=address, fix=fix)


def _explain_certificate(error: ssl.SSLCertVerificationError) -> NoAnswer:
    code = getattr(error, "verify_code", 0)
    if code in _NOT_AT_THIS_TIME:
        because = "the certificate there is not valid at this time"
        return NoAnswer(because=because, fix="check the clock of this machine, and any proxy that inspects TLS")
    if code in _FOR_ANOTHER_HOST:
        because = "the certificate there is for another host"
        return NoAnswer(because=because, fix="check the address, and any proxy that answers in its place")
    reason = getattr(error, "verify_message", "") or "certificate verify failed"
    fix = "if a proxy inspects TLS here, name a PEM file with its authority; else find what answers there"
    return NoAnswer(because=f"the certificate there is not trusted ({reason})", setting=AUTHORITIES, fix=fix)


def _word_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "no error number")


def _open_way(service: str) -> str:
    return f"allow outgoing HTTPS to {service}'s hosts; {_set_proxy()}"


def _set_proxy() -> str:
    return f"if this network needs a proxy, set {PROXY}"
