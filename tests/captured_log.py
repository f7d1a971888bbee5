"""The log as text, for tests that search it."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from bot.operations.logs import configure_logging


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Capture every line that the program logs at level debug and above."""
    root, ours = logging.getLogger(), logging.getLogger("bot")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        structlog.reset_defaults()
