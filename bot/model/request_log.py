"""One line at debug for each request, in and out: method, path template, status, seconds. Never a body or an id."""

import logging
import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger()


def start_request(event: str, **known: str) -> Callable[[object], None]:
    """Return what logs the request with its status once it is over; at other levels nothing is made of it."""
    if not logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
        return lambda _: None
    began = time.monotonic()
    return lambda status: _log.debug(event, **known, status=status, seconds=round(time.monotonic() - began, 3))
