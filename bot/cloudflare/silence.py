"""Explains to the operator why a request to Cloudflare had no answer: reads the errors of httpx."""

import re
import ssl
from typing import Final

import httpx

from bot.model.cause import find_root
from bot.model.no_answer import NoAnswer, explain_error, explain_proxy_error, explain_proxy_status

_CLOUDFLARE: Final = "Cloudflare"
_STATUS: Final = re.compile(r"[1-5][0-9]{2}(?= |$)")


def explain_silence(error: BaseException, *, has_proxy: bool) -> NoAnswer:
    """Return the cause and the fix. Quotes nothing that the other side sent but its status."""
    status = read_status_of_proxy(error)
    if status is not None:
        return explain_proxy_status(status, _CLOUDFLARE)
    is_connecting = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError))
    if has_proxy and is_connecting and not isinstance(find_root(error), ssl.SSLError):
        return explain_proxy_error(error)
    return explain_error(error, _CLOUDFLARE)


def read_status_of_proxy(error: BaseException) -> int | None:
    """Return the status with which a proxy refused the tunnel, or None.

    For https, a proxy's 407 arrives as an exception whose text begins with the status.
    """
    refused = _STATUS.match(str(error)) if isinstance(error, httpx.ProxyError) else None
    return int(refused[0]) if refused else None
