"""Finds every event that the bot can log in its source, and every event that docs/troubleshooting.md explains."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
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
        "bot/model/finding.py",
        "bot/operations/conditions.py",
        "bot/operations/network_checks.py",
        "bot/catalogs/checks.py",
        "bot/cloudflare/access_findings.py",
        "bot/slack/checks/channels.py",
        "bot/slack/memberships.py",
        "bot/slack/startup.py",
    }
)
"""The modules that log what others name: they alone log an event that is not written there."""

ANYTHING: Final = "*"
"""Stands in the name of a finding for the code of an error."""

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


@cache
def find_all_events() -> Sequence[Event]:
    """Return the events of the whole bot, without the sandbox; not to be called at import, since it takes 0.4 s."""
    written = [
        event
        for path in SOURCES
        for event in find_events(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    errors = (*leaves(OperatorError), *leaves(CloudflareTrouble))
    return (*written, *(Event(name=event_of(each), place="bot/cloudflare/errors.py", is_loud=True) for each in errors))


def find_events(source: str, path: str) -> Iterator[Event]:
    """Yield the events of one module; raises UnknownEvent for one that is not a literal."""
    tree = ast.parse(source)
    loggers, module = set(_find_loggers(tree)), _Module(tree)
    for scope, call in _calls(tree, tree):
        place = f"{path}:{call.lineno}"
        found = _read_call(call, loggers)
        if found is None:
            continue
        argument, is_loud = found
        if path in LOG_FOR_OTHERS and isinstance(argument, (ast.Attribute, ast.Name, ast.Call)):
            continue
        names = sorted(set(module.strings(argument, scope)))
        if not names or (ANYTHING in "".join(names) and _name_of(call.func) != "Finding"):
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
    renamed = [each.value for each in call.keywords if each.arg == "event"]
    if name == "replace" and renamed:  # of a finding
        return renamed[0], True
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


class _Module:
    """The functions, calls and constants of one module, to find the strings that an expression can be."""

    def __init__(self, tree: ast.Module) -> None:
        self._calls = list(_calls(tree, tree))
        self._tables = {
            _name_of(target): each.value
            for each in tree.body
            if isinstance(each, (ast.Assign, ast.AnnAssign))
            for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        }

    def strings(self, node: ast.AST | None, scope: ast.AST) -> Iterator[str]:
        """Yield the strings that are written: here, in an assignment, at the calls, in a table or in an f-string."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp():
                yield from self.strings(node.body, scope)
                yield from self.strings(node.orelse, scope)
            case ast.Name():
                yield from self._of_name(node.id, scope)
            case ast.JoinedStr():
                parts = [list(self.strings(_inner(part), scope)) or [ANYTHING] for part in node.values]
                yield from ("".join(each) for each in product(*parts))
            case ast.Subscript(value=ast.Name(id=table)):
                yield from self._of_table(self._tables.get(table))
            case ast.Attribute(attr="event"):  # of a value that this module makes
                yield from (name for inner, call in self._calls for name in self._given("event", None, inner, call))

    def _of_name(self, name: str, scope: ast.AST) -> Iterator[str]:
        for target, value in _assignments(scope):
            if _name_of(target) == name:
                yield from self.strings(value, scope)
        if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        arguments = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
        names = [each.arg for each in arguments if each.arg != "self"]
        if name in names:
            for each, default in zip(scope.args.kwonlyargs, scope.args.kw_defaults, strict=True):
                yield from self.strings(default if each.arg == name else None, scope)
            for inner, call in self._calls:
                if _name_of(call.func) == scope.name:
                    yield from self._given(name, names.index(name), inner, call)

    def _given(self, name: str, number: int | None, scope: ast.AST, call: ast.Call) -> Iterator[str]:
        named = [each.value for each in call.keywords if each.arg == name]
        if named:
            yield from self.strings(named[0], scope)
        elif number is not None and number < len(call.args):
            yield from self.strings(call.args[number], scope)

    def _of_table(self, table: ast.AST | None) -> Iterator[str]:
        if isinstance(table, ast.Dict):
            for value in table.values:
                yield from self.strings(value, value)


def _assignments(scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield each assigned name with its value, also of `a, b = 1, 2`."""
    for each in ast.walk(scope):
        if not isinstance(each, ast.Assign):
            continue
        for target in each.targets:
            if isinstance(target, ast.Tuple) and isinstance(each.value, ast.Tuple):
                yield from zip(target.elts, each.value.elts, strict=True)
            else:
                yield target, each.value


def _inner(part: ast.AST) -> ast.AST:
    return part.value if isinstance(part, ast.FormattedValue) else part
