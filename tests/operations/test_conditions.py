"""The conditions of a running bot: examined, logged when they change, and the base of readiness."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from structlog.testing import capture_logs

from bot.model.errors import DatabaseUnavailable
from bot.model.finding import Check, Finding, Mark, Part
from bot.operations.checks import jobs_check
from bot.operations.conditions import Conditions, has_failed, is_ready
from bot.operations.examiner import examine

GOOD = Finding(part=Part.SLACK, event="slack_answers", text="all is well")
BAD = Finding(
    part=Part.SLACK,
    event="slack_refused",
    text="Slack refused the bot token",
    mark=Mark.FAILED,
    setting="SLACK_BOT_TOKEN",
    fix="copy it again",
    blocks=True,
    known={"slack_error": "token_revoked"},
)
DOUBTFUL = Finding(part=Part.SLACK, event="scope_unused", text="a scope is not needed", mark=Mark.WARNING)


MARK = "MARKER"


class Patient:
    """A part whose findings a test sets."""

    def __init__(self, *found: Finding) -> None:
        self.found: Sequence[Finding] = found
        self.asked = 0

    async def examine(self) -> Sequence[Finding]:
        """Return the findings."""
        self.asked += 1
        return self.found


async def test_what_is_wrong_is_logged_once_with_its_fix_and_its_end_as_well() -> None:
    """A condition that lasts for a night must not fill the log."""
    conditions, slack = Conditions(), Patient(BAD)
    conditions.add(Check(part=Part.SLACK, examine=slack.examine))
    with capture_logs() as logged:
        await conditions.begin(version="1")
        await conditions.examine()
        slack.found = [GOOD]
        await conditions.examine()

    assert logged == [
        {
            "event": "slack_refused",
            "log_level": "error",
            "part": "slack",
            "found": "Slack refused the bot token",
            "setting": "SLACK_BOT_TOKEN",
            "fix": "copy it again",
            "slack_error": "token_revoked",
        },
        {"event": "not_ready", "log_level": "warning", "parts": ["slack"], "version": "1"},
        {"event": "slack_answers", "log_level": "debug", "part": "slack", "found": "all is well"},
        {"event": "recovered", "log_level": "info", "part": "slack", "was": "slack_refused"},
        {"event": "ready", "log_level": "info", "version": "1"},
    ]


async def test_nothing_is_ready_before_it_was_examined() -> None:
    """A load balancer that asks meanwhile sends no one to a bot whose Cloudflare token may be wrong."""
    conditions, asked, answer = Conditions(), asyncio.Event(), asyncio.Event()

    async def ask_slowly() -> Sequence[Finding]:
        asked.set()
        await answer.wait()
        return [GOOD]

    conditions.add(Check(part=Part.SLACK, examine=ask_slowly))
    beginning = asyncio.create_task(conditions.begin())
    await asked.wait()

    assert not is_ready(await conditions.ask())
    answer.set()
    await beginning
    assert is_ready(await conditions.ask())


async def test_each_thing_that_a_finding_is_about_is_news() -> None:
    """A second archived channel is not hidden by the first, and each one recovers by itself."""
    conditions, channels = Conditions(), Patient(replace(DOUBTFUL, about="C1"))
    conditions.add(Check(part=Part.SLACK, examine=channels.examine))
    with capture_logs() as logged:
        await conditions.begin()
        for about in ("C1", "C2"), ("C2",):
            channels.found = [replace(DOUBTFUL, about=each) for each in about]
            await conditions.examine()

    assert [line["event"] for line in logged] == ["scope_unused", "ready", "scope_unused", "recovered"]


async def test_what_only_gets_worse_has_not_ended() -> None:
    """An outage is a warning first, and a failure when it lasts."""
    conditions, slack = Conditions(), Patient(replace(BAD, mark=Mark.WARNING, blocks=False))
    conditions.add(Check(part=Part.SLACK, examine=slack.examine))
    with capture_logs() as logged:
        await conditions.begin()
        slack.found = [BAD]
        await conditions.examine()
        slack.found = [GOOD]
        await conditions.examine()

    assert [(line["event"], line["log_level"]) for line in logged] == [
        ("slack_refused", "warning"),
        ("ready", "info"),
        ("slack_refused", "error"),
        ("not_ready", "warning"),
        ("slack_answers", "debug"),
        ("recovered", "info"),
        ("ready", "info"),
    ]


async def test_a_text_that_only_counts_on_is_no_news() -> None:
    """The free space of a disk changes every minute."""
    conditions, disk = Conditions(), Patient(DOUBTFUL)
    conditions.add(Check(part=Part.SLACK, examine=disk.examine))
    with capture_logs() as logged:
        await conditions.begin()
        disk.found = [replace(DOUBTFUL, text="two scopes are not needed")]
        await conditions.examine()

    assert [line["event"] for line in logged] == ["scope_unused", "ready"]
    assert conditions.latest() == disk.found


async def test_until_the_start_is_over_the_bot_is_not_ready_and_says_why() -> None:
    """A start can wait for hours: for a database, or for Slack."""
    conditions = Conditions()
    conditions.wait_for("the database")
    conditions.note(replace(BAD, part=Part.DATABASE))
    found = await conditions.ask()

    assert not is_ready(found)
    assert [(each.part, each.text) for each in found] == [
        (Part.START, "the start waits for the database"),
        (Part.DATABASE, "Slack refused the bot token"),
    ]


async def test_a_question_about_readiness_examines_only_what_is_quick() -> None:
    """Anyone may ask at any rate, and nobody outside must be asked for each of them."""
    conditions, quick, slow = Conditions(), Patient(GOOD), Patient(GOOD)
    conditions.add(
        Check(part=Part.DATABASE, examine=quick.examine, is_quick=True), Check(part=Part.SLACK, examine=slow.examine)
    )
    await conditions.begin()
    await conditions.ask()
    await conditions.ask()

    assert (quick.asked, slow.asked) == (3, 1)


async def test_a_check_that_breaks_is_a_finding_and_hides_no_other() -> None:
    """A fault in a check ends neither the bot nor the report; its text, which may quote anything, is not shown."""

    async def broken() -> Sequence[Finding]:
        raise KeyError(MARK)

    conditions = Conditions()
    conditions.add(Check(part=Part.CLOCK, examine=broken), Check(part=Part.SLACK, examine=Patient(DOUBTFUL).examine))
    with capture_logs() as logged:
        await conditions.begin()

    slack, clock = conditions.latest()
    assert slack == DOUBTFUL
    assert (clock.mark, clock.event, clock.text) == (
        Mark.FAILED,
        "part_not_examined",
        "could not be examined (KeyError)",
    )
    assert MARK not in str(logged)


async def test_a_check_that_hangs_is_a_finding() -> None:
    """It gets its time, and no more."""

    async def hang() -> Sequence[Finding]:
        async with asyncio.timeout(0):  # as the patience does when it is over
            await asyncio.Event().wait()
        return []

    [found] = await examine(Check(part=Part.CLOCK, examine=hang))
    assert (found.mark, found.text, found.blocks) == (Mark.FAILED, "gave no answer in time", True)


def test_warnings_leave_the_bot_ready_and_the_check_good() -> None:
    """What fails without blocking, such as a missing scope, fails the check alone."""
    assert is_ready([GOOD, DOUBTFUL])
    assert not has_failed([GOOD, DOUBTFUL])
    assert is_ready([replace(BAD, blocks=False)])
    assert has_failed([replace(BAD, blocks=False)])
    assert not is_ready([BAD])


async def test_what_is_about_to_work_gets_a_moment_at_the_start() -> None:
    """A job runner that has not beaten yet is no alarm at each start."""
    beats = iter([False, False, True])
    conditions = Conditions()
    conditions.add(jobs_check(lambda: next(beats, True)))
    with capture_logs() as logged:
        await conditions.begin()

    assert [(line["event"], line["log_level"]) for line in logged if line["log_level"] != "debug"] == [
        ("ready", "info")
    ]


async def test_what_is_hidden_by_something_worse_has_not_recovered() -> None:
    """A disk that was almost full, and is full now; a socket that is closed tells nothing of who shares the app."""
    conditions, disk = Conditions(), Patient(DOUBTFUL)
    conditions.add(Check(part=Part.SLACK, examine=disk.examine))
    with capture_logs() as logged:
        await conditions.begin()
        for found in (BAD, DOUBTFUL, GOOD):
            disk.found = [found]
            await conditions.examine()

    told = [(line["event"], line.get("was")) for line in logged if line["log_level"] != "debug"]
    assert told == [
        ("scope_unused", None),
        ("ready", None),
        ("slack_refused", None),
        ("not_ready", None),
        ("scope_unused", None),
        ("recovered", "slack_refused"),
        ("ready", None),
        ("recovered", "scope_unused"),
    ]


async def test_a_part_that_needs_the_database_names_no_bug() -> None:
    """The database's own finding says what is wrong."""

    async def ask() -> Sequence[Finding]:
        raise DatabaseUnavailable

    [found] = await examine(Check(part=Part.CATALOGS, examine=ask))
    assert (found.event, found.mark, found.blocks, found.fix) == ("part_without_database", Mark.WARNING, False, "")
