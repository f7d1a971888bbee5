"""Logs each request, in and out, at debug level: method, path template, status, seconds. Never a body or an id."""

import logging
import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger()


def start_request(event: str, **known: str) -> Callable[[object], None]:
    """Return a function that logs the finished request with its status; it does nothing above level DEBUG."""
    if not logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
        return lambda _: None
    began = time.monotonic()
    return lambda status: _log.debug(event, **known, status=status, seconds=round(time.monotonic() - began, 3))
