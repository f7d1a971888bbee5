"""The health check: asks the bot on this machine whether it is alive, without a proxy."""

from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final

SIGN_OF_LIFE: Final = "ok\n"
"""What `/healthz` answers."""

_PATIENCE_SECONDS: Final = 2
_MOST_READ: Final = 1024 * 1024
_LOOPBACKS: Final = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}  # noqa: S104 - a bot that listens on all addresses


def is_alive(host: str, port: int) -> bool:
    """Whether `/healthz` answers 200 where a bot with these settings listens."""
    return is_answered(host, port, "/healthz", "")


def is_answered(host: str, port: int, path: str, part: str) -> bool:
    """Whether this path answers 200 with this part of a text, where a bot with these settings listens."""
    hosts: Sequence[str] = _LOOPBACKS.get(host, (host,))
    return any(_answers(each, port, path, part) for each in hosts)


def _answers(host: str, port: int, path: str, part: str) -> bool:
    connection = HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)  # unlike urllib, it ignores proxies
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == HTTPStatus.OK and part.encode() in answer.read(_MOST_READ if part else 0)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
