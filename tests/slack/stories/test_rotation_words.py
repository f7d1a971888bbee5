"""How the table shows rotation: what fails comes first, and each row says whose token it is and what comes next."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle
from typing import Any

import pytest

from bot.model.catalog import CredentialStatus, StoredCredential
from bot.model.errors import BotError, leaves
from bot.model.origin import id_of_scheduled
from bot.model.timetable import RotationFailure, Timetable
from bot.policy.scheduled import NOT_SCHEDULED, Scheduled
from bot.sandbox.block_rules import message_problems
from bot.slack.messages.explanation import cause_of_failed_rotation
from bot.slack.stories.table import PAGE_ROWS, Table, status_message
from tests.make import NOW, make_catalog, make_key, make_stored_credential
from tests.rotation.scene import EVERY, make_scheduled
from tests.slack.messages.test_outcome import without_times
from tests.slack.stories.test_table import LOOK, all_rows, rows_of, show

DAY = timedelta(days=1)
SCHEDULED = make_scheduled()


class AlwaysNow(Timetable):
    """Has a turn at every moment."""

    def next_at(self, credential: StoredCredential, failure: RotationFailure | None, now: datetime) -> datetime:
        """Return that it is now."""
        return now


def rotated(bucket: str = "lake", age: timedelta = 10 * DAY, **fields: Any) -> StoredCredential:  # noqa: ANN401 - its fields
    """Return what a rotation stored so long ago."""
    times = {"stored_at": NOW - age, "expires_at": NOW - age + EVERY * 1.5}
    return make_stored_credential(bucket, **times | fields)


def failed(bucket: str = "lake", failures: int = 1, code: str | None = "throttled") -> RotationFailure:
    """Return that rotations failed since yesterday."""
    return RotationFailure(bucket=bucket, since=NOW - DAY, failed_at=NOW, failures=failures, code=code)


def lake(
    *stored: StoredCredential, failures: Iterable[RotationFailure] = (), scheduled: Scheduled = SCHEDULED
) -> Table:
    """Return the table of one catalog, in which the bot's own token was once proven."""
    return show([make_catalog()], stored, scheduled, ours=["lake"], failures=failures)


def test_what_rotation_needs_attention_for_comes_after_what_does_not_work() -> None:
    """Expired ones, then what is overdue, then what failed while there is time, then the rest."""
    catalogs = [make_catalog(each) for each in ("a-fine", "b-failed", "c-overdue", "d-soon", "f-pasted")]
    catalogs.append(make_catalog("e-expired", credential_status=CredentialStatus.PRESENT))
    stored = [
        rotated("a-fine", 32 * DAY),
        rotated("b-failed"),
        rotated("c-overdue", 40 * DAY),
        rotated("e-expired", 50 * DAY),
        make_stored_credential("d-soon", expires_at=NOW + DAY),
        make_stored_credential("f-pasted"),
    ]
    ours = ("a-fine", "b-failed", "c-overdue", "e-expired")
    table = show(catalogs, stored, SCHEDULED, ours=ours, failures=[failed("b-failed"), failed("f-pasted")])
    order = ["e-expired", "c-overdue", "b-failed", "f-pasted", "d-soon", "a-fine"]
    assert [row.catalog.bucket for row in all_rows(table)] == order

    message = status_message(table, LOOK)
    assert message_problems(message["blocks"]) == []
    assert "1 is overdue for rotation, 2 could not be rotated, 1 expires soon" in message["text"]
    assert "`c-overdue` (is overdue for rotation), `b-failed` (could not be rotated)" in message["text"]


ROWS: dict[str, tuple[Table, list[str], list[str]]] = {
    "by a person": (
        lake(rotated()),
        [":large_green_circle:", "Rotated last by <@U0ADA0001> on then; expires: then, in 35 days. Rotated next about"],
        ["failed", "overdue"],
    ),
    "by the schedule": (
        lake(rotated(submission_id=id_of_scheduled("lake", 7))),
        ["Rotated last by the schedule on then", "Rotated next about then."],
        ["<@"],
    ),
    "soon, and that is nobody's business": (lake(rotated(age=37 * DAY)), [":large_green_circle:", "in 8 days"], []),
    "by nobody, since a person has pasted": (
        lake(rotated(token_id="1f" * 16)),
        ["Stored last by <@U0ADA0001>"],
        ["Rotated", "rotated"],
    ),
    "by a press only": (
        lake(rotated(), scheduled=NOT_SCHEDULED),
        ["Rotated last by", "It is not rotated by itself."],
        ["next"],
    ),
    "not in time, and nothing was tried": (
        lake(rotated(age=38 * DAY)),
        [":large_orange_circle:", "*Its rotation is overdue since then.*"],
        ["failed"],
    ),
    "not in time, and it fails": (
        lake(rotated(age=38 * DAY), failures=[failed(failures=3)]),
        ["*Its rotation is overdue since then.* *The last rotation failed.* It failed 3 times since then. "],
        [],
    ),
    "not the first time": (
        lake(failures=[failed(code=None)]),
        [
            ":large_orange_circle:",
            "Nothing was stored through this bot. *The last rotation failed.* It failed once since then.",
        ],
        ["next"],
    ),
    "at this moment": (
        lake(rotated(), scheduled=replace(SCHEDULED, timetable=AlwaysNow(every=EVERY))),
        ["Rotated next now."],
        [],
    ),
}


@pytest.mark.parametrize(("table", "words", "missing"), ROWS.values(), ids=ROWS)
def test_a_row_says_how_it_is_rotated(table: Table, words: list[str], missing: list[str]) -> None:
    """Whose token it is, who or what made it, when the next one is, and since when and why that fails."""
    [row] = map(without_times, rows_of(status_message(table, LOOK)))
    assert [each for each in words if each not in row] == []
    assert [each for each in missing if each in row] == []
    alone = status_message(table, replace(LOOK, key=make_key("lake")))
    assert message_problems(alone["blocks"]) == []
    said = without_times(alone["text"])
    assert [each for each in words if not each.startswith(":") and each not in said] == []


def test_a_full_page_of_failures_fits_into_a_message() -> None:
    """With the longest names and causes that there are."""
    longest = sorted(leaves(BotError), key=lambda leaf: -len(cause_of_failed_rotation(leaf.code)))[:PAGE_ROWS]
    catalogs = [make_catalog(f"{number:02d}{'x' * 61}") for number in range(PAGE_ROWS)]
    names = [each.bucket for each in catalogs]
    failures = [failed(each, 999_999_999, leaf.code) for each, leaf in zip(names, cycle(longest), strict=False)]
    stored = [rotated(each, 40 * DAY) for each in names]
    message = status_message(show(catalogs, stored, SCHEDULED, ours=names, failures=failures), LOOK)
    assert message_problems(message["blocks"]) == []
