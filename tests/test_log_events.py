"""docs/troubleshooting.md and the code name the same events."""

import re

import pytest

from tests.log_events import (
    LOG_FOR_OTHERS,
    PAGE,
    ROOT,
    SOURCES,
    UnknownEvent,
    find_all_events,
    find_events,
    find_missing,
    find_misused_loggers,
    find_superfluous,
    read_page,
)

ROWS = read_page(PAGE.read_text(encoding="utf-8"))
EXPLAINED = [row.event for row in ROWS]

ALSO_EXPLAINED = (
    "ready",
    "recovered",
    "stopping",
    "stopped",
    "submission_received",
    "step_taken",
    "submission_postponed",
    "submission_interrupted",
    "submission_ended",
    "result_posted",
    "approval_asked",
    "decision_received",
)
"""Events below warning that an operator searches for."""


def test_every_warning_is_explained() -> None:
    """And the lines of a submission, of the start and of the stop."""
    missing = find_missing(find_all_events(), EXPLAINED, ALSO_EXPLAINED)
    assert missing == [], "\n".join(missing)


def test_every_row_explains_an_event_of_the_code() -> None:
    """A renamed event takes its row along."""
    superfluous = find_superfluous(find_all_events(), EXPLAINED)
    assert superfluous == [], "\n".join(superfluous)


def test_every_event_has_one_row() -> None:
    """With a meaning and something to do."""
    assert sorted(EXPLAINED) == sorted(set(EXPLAINED))
    assert [row.event for row in ROWS if not (row.meaning and row.fix)] == []


def test_every_row_is_read() -> None:
    """A row in another form would count as missing, and its text would be searched for in vain."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS)


def test_event_names_are_snake_case() -> None:
    """A name is one word for a search."""
    assert [event for event in find_all_events() if not re.fullmatch(r"[a-z]+(_[a-z][a-z0-9]*)*", event.name)] == []


def test_no_logger_is_used_behind_the_back_of_the_search() -> None:
    """Such as `log = _log.info`: the events logged with it would not be found."""
    misused = [
        place
        for path in SOURCES
        for place in find_misused_loggers(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    assert misused == []


HEAD = "import structlog, logging\n_log = structlog.get_logger()\n"
SEARCHED = {
    "a warning": ('_log.warning("x", a=1)', [("x", True)]),
    "an info": ('_log.info("x")', [("x", False)]),
    "a debug": ('_log.debug("x")', [("x", False)]),
    "a level that is written": ('_log.log(logging.INFO, "x")', [("x", False)]),
    "a level that is computed": ('_log.log(level, "x")', [("x", True)]),
    "another logger": ('logging.getLogger("bot").critical("x")', [("x", True)]),
    "one of two": ('def f(a):\n event = "x" if a else "y"\n _log.error(event)', [("x", True), ("y", True)]),
    "a tally": ('Tally("x")', [("x", True)]),
    "background work to be made": ('field(default_factory=partial(Background, "x"))', [("x", True)]),
    "background work": ('self.a = Background("x")', [("x", True)]),
    "a request": ('start_request("x", method="GET")', [("x", False)]),
    "a finding": ('Finding(event="x", text="y")', [("x", False)]),
    "a good finding": ('Finding(event="x", mark=Mark.OK)', [("x", False)]),
    "a bad finding": ('Finding(event="x", mark=Mark.FAILED)', [("x", True)]),
    "a finding with a level": ('Finding(event="x", level=logging.WARNING)', [("x", True)]),
    "another finding": ('replace(full, event="x", blocks=False)', [("x", True)]),
    "a record": ('logging.makeLogRecord({"a": 1} | {"msg": "x"})', [("x", True)]),
    "one of a table": ('NAMES = {1: "x", 2: "y"}\n_log.error(NAMES[a])', [("x", True), ("y", True)]),
    "at the calls": ('def f(a, event):\n _log.error(event)\nf(1, "x")\nf(2, event="y")', [("x", True), ("y", True)]),
    "by default": ('def f(*, event="x"):\n _log.error(event)', [("x", True)]),
    "beside its level": ('def f():\n level, event = 1, "x"\n _log.log(level, event)', [("x", True)]),
    "of a value": ('make(event="x")\ndef f(found):\n _log.error(found.event)', [("x", True)]),
    "put together": ('def f(what):\n Finding(event=f"x_{what}")\nf("y")\nf("z")', [("x_y", False), ("x_z", False)]),
    "with the code of an error": ('Finding(event=f"x_{error.code}", mark=Mark.FAILED)', [("x_*", True)]),
    "no logger": ('math.log("x")', []),
}


@pytest.mark.parametrize(("line", "found"), SEARCHED.values(), ids=SEARCHED)
def test_the_search_finds_every_way_to_log(line: str, found: list[tuple[str, bool]]) -> None:
    """Each event, and whether it is at warning or above."""
    events = find_events(HEAD + line, "bot/made_up.py")
    assert [(event.name, event.is_loud) for event in events] == found


@pytest.mark.parametrize("line", ["_log.error(name)", '_log.info(f"x_{name}")', "_log.log(level, self.event)"])
def test_a_computed_event_is_refused(line: str) -> None:
    """The operator could not look it up."""
    with pytest.raises(UnknownEvent, match=r"bot/made_up\.py:3"):
        list(find_events(HEAD + line, "bot/made_up.py"))


@pytest.mark.parametrize("path", sorted(LOG_FOR_OTHERS))
def test_what_is_logged_for_others_is_found_at_them(path: str) -> None:
    """These modules exist, and log a name that they got."""
    assert (ROOT / path).exists()
    assert list(find_events(HEAD + "_log.log(level, found.event)\n_log.error(event)", path)) == []


def test_a_method_of_a_logger_under_another_name_is_refused() -> None:
    """Both as a value and as an argument."""
    lines = 'log = _log.info if a else _log.warning\ncall(_log.error, "x")\n_log.info("y")'
    assert find_misused_loggers(HEAD + lines, "m.py") == ["m.py:3", "m.py:3", "m.py:4"]


def test_both_directions_can_fail() -> None:
    """The sentences name the event, its place and the file to change."""
    events = list(find_events(HEAD + '_log.error("a")\n_log.info("b")\n_log.info("c")', "bot/m.py"))
    first, second = find_missing(events, ["x"], ["b"])
    assert "troubleshooting.md has no row for `a`, logged in bot/m.py:3: add | `a` | what it means" in first
    assert "troubleshooting.md has no row for `b`, logged in bot/m.py:4: add | `b` | what it means" in second
    assert find_superfluous(events, ["a", "c", "gone"]) == [
        "docs/troubleshooting.md explains `gone`, which nothing in bot/ logs: correct its name, or remove the row"
    ]
