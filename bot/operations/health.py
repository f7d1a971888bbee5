"""The health check: asks the bot on this machine whether it is alive, without a proxy."""

from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final

_PATIENCE_SECONDS: Final = 2
_LOOPBACKS: Final = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}  # noqa: S104 - a bot that listens on all addresses


def is_alive(host: str, port: int) -> bool:
    """Whether `/healthz` answers 200 where a bot with these settings listens."""
    hosts: Sequence[str] = _LOOPBACKS.get(host, (host,))
    return any(_answers(each, port) for each in hosts)


def _answers(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)  # unlike urllib, it ignores proxies
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
