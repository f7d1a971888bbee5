"""Run by the bot's interpreter before its first line: every logger logs everything, whatever level anyone sets.

Loggers of libraries get handlers of their own, as from a logging configuration. Errors are noted as an error tracker
notes them: the local variables of each frame, when an error is logged or leaves a task.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

NOTES = Path(os.environ["TALKATIVE_NOTES"])
"""A directory: the names of loggers that spoke go to one file, what the error tracker sees to another."""

LIBRARIES = (
    "aiohttp",
    "alembic",
    "asyncio",
    "httpcore",
    "httpx",
    "procrastinate",
    "psycopg",
    "pydantic",
    "slack_bolt",
    "slack_sdk",
    "sqlalchemy",
)
DEPTH = 4
"""How far the error tracker looks into containers, as Sentry's does."""

BEYOND_THE_INGRESS = ("bot.delivery.", "bot.policy.", "bot.rotation.", "bot.slack.messages.", "bot.slack.stories.")
"""The packages whose local variables, and what comes into them as an error, may hold no secret in plain text.

Below bot.storage the frames of psycopg hold the password of the database when it cannot connect.
"""

STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}

_heard = set[str]()


def _watch_loggers() -> None:
    """Make each logger, of whatever class, log everything; note who spoke, and what an error tracker sees."""
    handle = logging.Logger.handle

    def handle_watched(self: logging.Logger, record: logging.LogRecord) -> None:
        spoke = f"{record.levelname} {record.name}\n"
        if spoke not in _heard:
            _heard.add(spoke)
            _note("loggers", spoke)
        if record.levelno >= logging.ERROR or record.exc_info:
            error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
            _note("tracker", "".join([record.name, *_show_frames(sys._getframe(1)), *_show_error(error)]))
        handle(self, record)

    logging.Logger.handle = handle_watched  # type: ignore[method-assign]
    logging.Logger.isEnabledFor = lambda self, level: True  # type: ignore[method-assign]
    logging.Logger.getEffectiveLevel = lambda self: logging.DEBUG  # type: ignore[method-assign]


def _watch_tasks() -> None:
    """Note each error that leaves a task, whoever handles it."""
    create = asyncio.BaseEventLoop.create_task

    async def watch(work: Coroutine[Any, Any, Any]) -> object:
        try:
            return await work
        except Exception as error:
            _note("tracker", "".join(_show_error(error)))
            raise

    def create_watched(self: asyncio.BaseEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:  # noqa: ANN401 - as it is
        return create(self, watch(work), **how)

    asyncio.BaseEventLoop.create_task = create_watched  # type: ignore[assignment, method-assign]


def _watch_children(event: str, arguments: tuple[object, ...]) -> None:
    """Note each start of another program or process, with the environment that it inherits."""
    if event in STARTS:
        _note("children", f"{event} {arguments!r} {os.environ!r}\n")


def _watch_steps(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
    """Note each error that comes into a function beyond the ingress, before anyone handles it."""
    if event == "call" and str(frame.f_globals.get("__name__")).startswith(BEYOND_THE_INGRESS):
        frame.f_trace_lines = False
        return _watch_errors
    return None


def _watch_errors(_frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:  # noqa: ANN401 - as it is
    if event == "exception" and isinstance(argument[1], Exception):
        _note("tracker", "".join(_show_error(argument[1])))
    return _watch_errors


def _note(name: str, text: str) -> None:
    with (NOTES / name).open("a", errors="backslashreplace") as notes:
        notes.write(text)


def _show_error(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield an error, what caused it and was handled meanwhile, each with the local variables of its frames."""
    if error is None or id(error) in seen:
        return
    yield f"\n{error!r}"
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        yield from _show_locals(traceback.tb_frame)
        traceback = traceback.tb_next
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (error.__cause__, error.__context__, *parts):
        yield from _show_error(other, seen | {id(error)})


def _show_frames(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield from _show_locals(frame)
        frame = frame.f_back


def _show_locals(frame: FrameType) -> Iterator[str]:
    yield f"\n{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
    for name, value in frame.f_locals.items():
        yield f"\n  {name} = {_show(value, DEPTH)}"


def _show(value: object, depth: int) -> str:
    try:
        if depth and isinstance(value, dict):
            return str({_show(name, depth - 1): _show(part, depth - 1) for name, part in value.items()})
        if depth and isinstance(value, list | tuple | set | frozenset):
            return str([_show(part, depth - 1) for part in value])
        return repr(value)
    except Exception as error:  # noqa: BLE001 - whatever a half-made object raises
        return f"<{type(error).__name__}>"


_watch_loggers()
for each in LIBRARIES:
    logging.getLogger(each).addHandler(logging.StreamHandler())
_watch_tasks()
sys.addaudithook(_watch_children)
sys.settrace(_watch_steps)
