"""Structured logging, and the last-resort scrubber that every line passes through.

Our code logs no secrets; the scrubber is for what libraries and tracebacks might contain.
"""

import atexit
import logging
import os
import re
import sys
import threading
from types import TracebackType
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.metrics import LOG_DROPPED, LOG_SCRUBBED, counter_of
from bot.model.pasted_token import mask_tokens
from bot.model.reference import FIELD, context_about
from bot.operations.log_writer import LogWriter, StrayText

_SECRET: Final = re.compile(  # without word boundaries: an escape or a colour may come right before a value
    r"(?:xox[a-z]|xapp)-[A-Za-z0-9-]+"
    r"|(?<=ticket=)[^&\s\"']+"
    r"|hooks\.slack(?:-gov)?\.com/[^\s\"'\\]+|/(?:commands|actions|response)/[^\s\"'\\]{8,}"
    r"|[0-9A-Fa-f]{37,}"
)
_OURS: Final = "bot"
"""Our loggers are below this one."""

DROPPED: Final = counter_of(LOG_DROPPED)
SCRUBBED: Final = counter_of(LOG_SCRUBBED)
"""Of the process, as the log is: `MetricsPort` shows them for each bot in it."""

_WORDY: Final = ("slack_bolt", "slack_sdk", "procrastinate", "psycopg.pool", "dotenv")
"""Libraries whose warnings and errors quote bodies and addresses, or fill pages: we log our own instead."""

_ANYWHERE: Final = ("asyncio", "py.warnings")
"""They log when the garbage collector finds something, which may be in the middle of unrelated work."""

_log = structlog.get_logger()


def configure_logging(level: str, log_format: str | None, stream: TextIO | LogWriter | None = None) -> None:
    """Send every log line to `stream`, ours from `level` up; without a `log_format`, a terminal gets the console's.

    Without a stream, take over standard error: other output is masked too, and a reader that stops blocks nothing.
    Warnings, and errors that nothing handles, become log lines as well.
    """
    stream = stream or _take_over_stderr()
    is_console = log_format == "console" or (log_format is None and stream.isatty())
    shared: list[Processor] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=("count",)),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_ScrubbingFormatter(foreign_pre_chain=shared, processors=_renderers(is_console=is_console)))
    handler.addFilter(_is_safe)
    root = logging.getLogger()
    _close_other_ways_out(root.manager)
    root.handlers[:] = [handler]
    logging.getLogger(_OURS).setLevel(level.upper())
    root.setLevel(max(logging.getLogger(_OURS).level, logging.WARNING))
    logging.raiseExceptions = False  # or a line that cannot be formatted would be printed unscrubbed
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _is_safe(record: logging.LogRecord) -> bool:
    """Return whether a record may be logged, whatever level its logger was set to, and by whom.

    Below WARNING, libraries log payloads, headers and statements.
    """
    if _is_below(record.name, _OURS):
        return True
    is_wordy = any(_is_below(record.name, name) for name in _WORDY)
    return record.levelno >= (logging.CRITICAL if is_wordy else logging.WARNING)


def _is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def _close_other_ways_out(manager: logging.Manager) -> None:
    """Remove handlers that a library or a logging configuration gave to any logger: they would not be filtered."""
    for logger in manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def scrub(line: str) -> str:
    """Mask what looks like a Cloudflare token, a Slack token or a response URL."""
    masked = _SECRET.sub("[masked]", mask_tokens(line))
    if masked != line:
        SCRUBBED.inc()
    return masked


def _take_over_stderr() -> TextIO | LogWriter:
    if sys.stderr is None:  # closed: another file may have its number by now
        return open(os.devnull, "w")  # noqa: PTH123 - open while the process lives
    if isinstance(sys.stderr, StrayText):  # taken over before
        return sys.stderr.writer
    try:
        descriptor = sys.stderr.fileno()
    except OSError:  # in memory: writing does not block
        return sys.stderr
    writer = LogWriter(descriptor, _describe_loss, note_loss=DROPPED.inc)
    atexit.register(writer.drain)
    sys.stderr = StrayText(writer, scrub)
    _log_what_nothing_handles()
    return writer


def _log_what_nothing_handles() -> None:
    """Log what Python would print: of the main thread, of other threads, of finalizers, and warnings."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_broken_thread
    sys.unraisablehook = _log_broken_finalizer


def _log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        _log.critical("crashed", exc_info=(kind, error, traceback))


def _log_broken_thread(args: threading.ExceptHookArgs) -> None:
    thread = args.thread.name if args.thread else None
    _log.critical("thread_broke", thread=thread, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def _log_broken_finalizer(args: "sys.UnraisableHookArgs") -> None:
    def log() -> None:
        _log.error("finalizer_broke", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))

    context_about().run(log)  # it runs in the middle of any work


def _describe_loss(lines: int) -> str:
    """Render the line about lost lines in the format of the others."""
    record = logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log_lines_dropped"}
        | {"count": lines}
    )
    return "".join(f"{handler.format(record)}\n" for handler in logging.getLogger().handlers[:1])


def _add_context(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add what is bound, such as the reference of the submission that is being worked on."""
    record = event.get("_record")
    is_anywhere = isinstance(record, logging.LogRecord) and record.name in _ANYWHERE
    return event if is_anywhere else structlog.contextvars.merge_contextvars(logger, method, event)


class _ScrubbingFormatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


def _renderers(*, is_console: bool) -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if is_console:
        return [
            remove,
            structlog.dev.ConsoleRenderer(
                colors=not os.environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    to_json = structlog.processors.JSONRenderer()
    return [remove, structlog.processors.format_exc_info, _scrub_values, _put_first, to_json]


def _scrub_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Mask before rendering: masking the rendered line can cut an escape in two, and it would no longer be JSON."""
    return {scrub(name): _scrubbed(value) for name, value in event.items()}


def _scrubbed(value: object) -> object:
    if isinstance(value, dict):
        return {scrub(str(name)): _scrubbed(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(part) for part in value]
    if value is None or isinstance(value, int | float):
        return value
    return scrub(value if isinstance(value, str) else repr(value))


def _put_first(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put the fields first that people read first: when, how bad, what, and about which submission."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event", FIELD) if name in event}
    return first | dict(event)
