"""Finds every event that the bot can log in its source, and every event that docs/troubleshooting.md explains."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.cloudflare.access_findings import event_of
from bot.cloudflare.errors import CloudflareTrouble, OperatorError
from bot.model.errors import leaves

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "troubleshooting.md"
SOURCES: Final = [
    each for each in sorted((ROOT / "bot").rglob("*.py")) if "sandbox" not in each.relative_to(ROOT).parts
]

LEVELS: Final = ("debug", "info", "warning", "error", "exception", "critical")
QUIET: Final = frozenset({"debug", "info"})

NAMED_BY_ARGUMENT: Final[Mapping[str, str]] = {
    "Tally": "warning",
    "Background": "error",
    "start_request": "debug",
    "Finding": "",
    "_bad_token": "error",
    "_doubt": "warning",
    "_bad_channel": "warning",
    "_bad_usergroup": "error",
}
"""What takes an event as its first argument or as `event=`, and the level of its line; "": as its arguments say."""

LOG_FOR_OTHERS: Final = frozenset(
    {
        "bot/model/tally.py",
        "bot/model/background.py",
        "bot/model/request_log.py",
        "bot/operations/conditions.py",
        "bot/model/finding.py",
        "bot/operations/network_checks.py",
        "bot/catalogs/checks.py",
        "bot/cloudflare/access_findings.py",
        "bot/slack/checks/channels.py",
        "bot/slack/memberships.py",
    }
)
"""The modules of those: they alone log an event that is not written there."""

_ROW: Final = re.compile(r"^\| `([^`]+)` \| (.*) \| (.*) \|$", re.MULTILINE)


class UnknownEvent(Exception):  # noqa: N818 - its message is the sentence
    """An event whose name cannot be read from the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event, where it is logged, and whether that is at warning or above, as far as can be told."""

    name: str
    place: str
    is_loud: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A row of the page."""

    event: str
    meaning: str
    fix: str


def find_all_events() -> list[Event]:
    """Return the events of the whole bot, without the sandbox."""
    written = [
        event
        for path in SOURCES
        for event in find_events(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    errors = (*leaves(OperatorError), *leaves(CloudflareTrouble))
    return written + [Event(name=event_of(each), place="bot/cloudflare/errors.py", is_loud=True) for each in errors]


def find_events(source: str, path: str) -> Iterator[Event]:
    """Yield the events of one module; raises UnknownEvent for one that is not a literal."""
    tree = ast.parse(source)
    loggers = set(_find_loggers(tree))
    for scope, call in _calls(tree, tree):
        place = f"{path}:{call.lineno}"
        found = _read_call(call, loggers)
        if found is None:
            continue
        argument, is_loud = found
        names = list(_literals(argument, scope)) if argument is not None else []
        if not names and path not in LOG_FOR_OTHERS:
            message = (
                f"{place}: the event must be a string literal, so that docs/troubleshooting.md can be held against the "
                "code. If this logs events that others name, add it to tests/log_events.py."
            )
            raise UnknownEvent(message)
        yield from (Event(name=name, place=place, is_loud=is_loud) for name in names)


def find_misused_loggers(source: str, path: str) -> list[str]:
    """Return where a method of a logger is used in another way than called: its events would not be found."""
    tree = ast.parse(source)
    loggers = set(_find_loggers(tree))
    called = {id(each.func) for each in ast.walk(tree) if isinstance(each, ast.Call)}
    methods = (each for each in ast.walk(tree) if isinstance(each, ast.Attribute) and _is_logger(each.value, loggers))
    return [f"{path}:{each.lineno}" for each in methods if each.attr in (*LEVELS, "log") and id(each) not in called]


def read_page(text: str) -> list[Explanation]:
    """Return the rows of all tables of the page."""
    return [
        Explanation(event=event, meaning=meaning.strip(), fix=fix.strip()) for event, meaning, fix in _ROW.findall(text)
    ]


def find_missing(events: Iterable[Event], explained: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return a sentence for each event that the page lacks: those at warning or above, and those wanted besides."""
    known, also = set(explained), set(wanted)
    missing = {each.name: each for each in events if each.name not in known and (each.is_loud or each.name in also)}
    return [
        f"docs/troubleshooting.md has no row for `{name}`, logged in {event.place}: "
        f"add | `{name}` | what it means | what to do | to the table of its part"
        for name, event in sorted(missing.items())
    ]


def find_superfluous(events: Iterable[Event], explained: Iterable[str]) -> list[str]:
    """Return a sentence for each row about an event that nothing logs."""
    known = {each.name for each in events}
    return [
        f"docs/troubleshooting.md explains `{name}`, which nothing in bot/ logs: correct its name, or remove the row"
        for name in sorted(set(explained) - known)
    ]


def _find_loggers(tree: ast.AST) -> Iterator[str]:
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign) and _makes_logger(each.value):
            yield from (target.id for target in each.targets if isinstance(target, ast.Name))


def _makes_logger(node: ast.AST) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_call and node.func.attr in ("get_logger", "getLogger")  # type: ignore[attr-defined]  # checked above


def _is_logger(node: ast.AST, loggers: set[str]) -> bool:
    return (isinstance(node, ast.Name) and node.id in loggers) or _makes_logger(node)


def _calls(node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Yield every call with the function that it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield scope, child
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield from _calls(child, child if is_function else scope)


def _read_call(call: ast.Call, loggers: set[str]) -> tuple[ast.AST | None, bool] | None:
    """Return the event's argument and whether it is loud, or None if this call logs nothing."""
    method, name = call.func, _name_of(call.func)
    if isinstance(method, ast.Attribute) and _is_logger(method.value, loggers):
        if method.attr in LEVELS:
            return _argument(call, 0), method.attr not in QUIET
        return (_argument(call, 1), _is_loud(call.args[0])) if method.attr == "log" else None
    if name == "makeLogRecord":
        return _value_of("msg", call), True
    made = _name_of(call.args[0]) if name == "partial" and call.args else name
    if made in NAMED_BY_ARGUMENT:
        level = NAMED_BY_ARGUMENT[made]
        marks = [each.value for each in call.keywords if each.arg in ("level", "mark")]
        is_loud = level not in QUIET if level else any(map(_is_loud, marks))
        return _argument(call, 0 if made == name else 1), is_loud
    return None


def _name_of(function: ast.AST) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _argument(call: ast.Call, number: int) -> ast.AST | None:
    named = (each.value for each in call.keywords if each.arg == "event")
    return call.args[number] if len(call.args) > number else next(named, None)


def _value_of(key: str, call: ast.Call) -> ast.AST | None:
    pairs = (
        pair
        for each in ast.walk(call)
        if isinstance(each, ast.Dict)
        for pair in zip(each.keys, each.values, strict=True)
    )
    return next((value for name, value in pairs if isinstance(name, ast.Constant) and name.value == key), None)


def _is_loud(level: ast.AST) -> bool:
    """Say whether a level or mark can be warning or above; one that is computed can."""
    return _name_of(level).lower() not in {*QUIET, "ok"}


def _literals(node: ast.AST, scope: ast.AST) -> Iterator[str]:
    """Yield the strings that an expression can be, as far as they are written in its function."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body, scope)
        yield from _literals(node.orelse, scope)
    elif isinstance(node, ast.Name):
        for each in ast.walk(scope):
            if isinstance(each, ast.Assign) and any(_name_of(target) == node.id for target in each.targets):
                yield from _literals(each.value, scope)
