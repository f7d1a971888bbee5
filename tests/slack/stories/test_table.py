"""The table of catalogs: the order, the words for each state, pages, and Slack's limits."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.known_catalogs import KnownCatalogs, ProvenToken
from bot.model.timetable import RotationFailure
from bot.policy.scheduled import NOT_SCHEDULED, Scheduled
from bot.sandbox.block_rules import message_problems
from bot.sandbox.blocks import texts_of
from bot.slack.ages import Freshness
from bot.slack.blocks import Json
from bot.slack.messages.render import TRY_AGAIN
from bot.slack.stories.need import Row
from bot.slack.stories.table import (
    NEXT_PAGE,
    PAGE_ROWS,
    PREVIOUS_PAGE,
    STORE,
    Look,
    Table,
    home_view,
    notice_home,
    status_message,
)
from bot.slack.stories.visible_catalogs import VisibleCatalogs
from tests.make import NOW, TOKEN, make_catalog, make_key, make_stored_credential

DAY = timedelta(days=1)
LOOK = Look(id="5a4d0001")


def make_table(
    catalogs: Iterable[Catalog],
    stored: Iterable[StoredCredential] = (),
    freshness: Freshness = Freshness.FRESH,
    age: timedelta = timedelta(minutes=4),
) -> Table:
    """Return a table of these catalogs."""
    return show(catalogs, stored, NOT_SCHEDULED, freshness=freshness, age=age)


def show(
    catalogs: Iterable[Catalog],
    stored: Iterable[StoredCredential],
    scheduled: Scheduled,
    *,
    ours: Iterable[str] = (),
    failures: Iterable[RotationFailure] = (),
    freshness: Freshness = Freshness.FRESH,
    age: timedelta = timedelta(minutes=4),
) -> Table:
    """Return the same with a schedule; the bot has made the token of each bucket in `ours` itself."""
    known = KnownCatalogs()
    known.refreshed_at = NOW - age
    known.replace_all(catalogs, stored, [ProvenToken(bucket=each, token_id=TOKEN.id) for each in ours], failures)
    seen = VisibleCatalogs(known, lambda _: True, NOW, scheduled)
    return Table(seen=seen, as_of=NOW - age, now=NOW, freshness=freshness)


def all_rows(table: Table) -> list[Row]:
    """Return the rows of all pages."""
    return table.seen.rows(0, len(table.seen))


def rows_of(message: Json) -> list[str]:
    """Return the texts of the blocks that are rows."""
    return [text for text in texts_of(message["blocks"]) if text.startswith(":")]


def action_ids(message: Json) -> list[str]:
    """Return the ids of the buttons."""
    elements = [
        element
        for block in message["blocks"]
        for element in [*block.get("elements", []), *([block["accessory"]] if "accessory" in block else [])]
    ]
    return [element["action_id"] for element in elements if "action_id" in element]


def test_what_needs_attention_comes_first() -> None:
    """Broken, expired, expiring soon, empty, inactive, unknown, then healthy; each group by name or time."""
    soon = NOW + 5 * DAY
    catalogs = [
        make_catalog("a-fine"),
        make_catalog("b-off", status=CatalogStatus.INACTIVE),
        make_catalog("c-empty", credential_status=CredentialStatus.ABSENT),
        make_catalog("d-soon", credential_status=CredentialStatus.PRESENT),
        make_catalog("e-sooner"),
        make_catalog("f-expired", credential_status=CredentialStatus.PRESENT),
        make_catalog("g-broken", credential_status=CredentialStatus.INVALID),
        make_catalog("h-unknown", credential_status=CredentialStatus.UNKNOWN),
        make_catalog("i-strange", status=CatalogStatus.UNKNOWN),
        make_catalog("j-present", credential_status=CredentialStatus.PRESENT),
    ]
    stored = [
        make_stored_credential("d-soon", expires_at=soon),
        make_stored_credential("e-sooner", expires_at=soon - DAY),
        make_stored_credential("f-expired", expires_at=NOW - DAY),
    ]

    table = make_table(catalogs, stored)

    assert [row.catalog.bucket for row in all_rows(table)] == [
        *("g-broken", "f-expired", "e-sooner", "d-soon", "c-empty", "b-off"),
        *("h-unknown", "i-strange", "a-fine", "j-present"),
    ]


ROWS = {
    "works": (make_catalog(), make_stored_credential(), [":large_green_circle:", "the credential works", "in 90 days"]),
    "never expires": (make_catalog(), make_stored_credential(expires_at=None), ["it never expires"]),
    "expiry not known": (
        make_catalog(),
        make_stored_credential(expires_at=None, token_id=None),
        ["its expiry is not known"],
    ),
    "stored elsewhere": (make_catalog(), None, ["Nothing was stored through this bot."]),
    "broken": (
        make_catalog(credential_status=CredentialStatus.INVALID),
        make_stored_credential(),
        [":rotating_light:", "does not work", "<@U0ADA0001>"],
    ),
    "present": (
        make_catalog(credential_status=CredentialStatus.PRESENT, tested_at=None),
        make_stored_credential(),
        ["it is not known whether it works"],
    ),
    "expired": (
        make_catalog(credential_status=CredentialStatus.PRESENT),
        make_stored_credential(expires_at=NOW - 3 * DAY),
        [":red_circle:", "*has expired*", "3 days ago"],
    ),
    "expired since its last test": (
        make_catalog(tested_at=NOW - DAY),
        make_stored_credential(expires_at=NOW - timedelta(hours=1)),
        [":red_circle:", "*has expired*"],
    ),
    "soon": (
        make_catalog(),
        make_stored_credential(expires_at=NOW + 12 * DAY),
        [":large_yellow_circle:", "in 12 days"],
    ),
    "replaced elsewhere": (
        make_catalog(),
        make_stored_credential(expires_at=NOW - DAY),
        [":large_green_circle:", "that one has expired, so a different one is there now"],
    ),
    "empty": (
        make_catalog(credential_status=CredentialStatus.ABSENT),
        None,
        [":white_circle:", "no credential"],
    ),
    "emptied": (
        make_catalog(credential_status=CredentialStatus.ABSENT),
        make_stored_credential(expires_at=NOW - DAY),
        [":white_circle:", "it is no longer there"],
    ),
    "off": (
        make_catalog(status=CatalogStatus.INACTIVE),
        None,
        [":black_circle:", "switched off"],
    ),
    "a state of a newer API": (
        make_catalog(status=CatalogStatus.UNKNOWN),
        None,
        [":grey_question:", "in an unknown state"],
    ),
}


@pytest.mark.parametrize(("catalog", "stored", "words"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("bucket", ["", "lake"], ids=["table", "alone"])
def test_each_state_has_its_words(
    catalog: Catalog, stored: StoredCredential | None, words: list[str], bucket: str
) -> None:
    """The table and the answer for one bucket say the same."""
    look = Look(id=LOOK.id, key=make_key(bucket) if bucket else None)

    message = status_message(make_table([catalog], [stored] if stored else []), look)

    [row] = rows_of(message)
    assert [word for word in words if word not in row] == []


NEEDY = {
    "broken": (make_catalog(credential_status=CredentialStatus.INVALID), None, True),
    "empty": (make_catalog(credential_status=CredentialStatus.ABSENT), None, True),
    "soon": (make_catalog(), make_stored_credential(expires_at=NOW + DAY), True),
    "fine": (make_catalog(), make_stored_credential(), False),
    "off": (make_catalog(status=CatalogStatus.INACTIVE), None, False),
    "not known": (make_catalog(credential_status=CredentialStatus.UNKNOWN), None, False),
}


@pytest.mark.parametrize(("catalog", "stored", "has_button"), NEEDY.values(), ids=NEEDY)
def test_a_slot_that_needs_a_new_credential_has_a_button(
    catalog: Catalog, stored: StoredCredential | None, *, has_button: bool
) -> None:
    """An inactive catalog accepts none, and a healthy one needs none."""
    message = status_message(make_table([catalog], [stored] if stored else []), LOOK)

    assert (TRY_AGAIN in action_ids(message)) is has_button


def test_the_summary_reports_everything_that_needs_attention() -> None:
    """A person who uses a screen reader hears the counts, the names and the age."""
    broken = [make_catalog(f"broken-{n}", credential_status=CredentialStatus.INVALID) for n in range(5)]
    empty = [make_catalog("empty", credential_status=CredentialStatus.ABSENT)]

    message = status_message(make_table([*broken, *empty, make_catalog("fine")]), LOOK)

    assert message["text"] == (
        "7 catalogs: 5 do not work, 1 has no credential. Check `broken-0` (does not work), `broken-1` (does not "
        "work), `broken-2` (does not work), `broken-3` (does not work), `broken-4` (does not work), and 1 more. "
        "As reported by Cloudflare 4 minutes ago."
    )


def test_a_table_without_problems_says_so() -> None:
    """The good news is said explicitly."""
    text = status_message(make_table([make_catalog()]), LOOK)["text"]

    assert text == "1 catalog, and nothing needs attention. As reported by Cloudflare 4 minutes ago."


AGES = {
    "a moment": (timedelta(seconds=9), "less than a minute ago"),
    "a minute": (timedelta(seconds=60), "1 minute ago"),
    "hours": (timedelta(hours=5, minutes=59), "5 hours ago"),
    "days": (timedelta(days=3), "3 days ago"),
    "a clock set back": (timedelta(seconds=-5), "less than a minute ago"),
}


@pytest.mark.parametrize(("age", "words"), AGES.values(), ids=AGES)
def test_the_age_is_shown(age: timedelta, words: str) -> None:
    """A table without its age would be taken for the current state."""
    assert words in status_message(make_table([make_catalog()], age=age), LOOK)["text"]


FRESHNESS = {
    Freshness.FRESH: "ago.",
    Freshness.BEING_ASKED: "Cloudflare is being asked again",
    Freshness.NOT_ANSWERED: "could be refreshed from Cloudflare just now.",
}


@pytest.mark.parametrize("bucket", ["", "lake", "not-listed"])
@pytest.mark.parametrize(("freshness", "words"), FRESHNESS.items())
def test_the_table_says_whether_a_fresh_one_follows(freshness: Freshness, words: str, bucket: str) -> None:
    """No one should wait for a table that does not come."""
    message = status_message(
        make_table([make_catalog()], freshness=freshness), Look(id=LOOK.id, key=make_key(bucket) if bucket else None)
    )

    assert words in message["text"]
    assert words in list(texts_of(message["blocks"]))[-1 if bucket != "lake" else -2]


def test_before_the_first_refresh_the_table_says_so() -> None:
    """An empty table would say that there are no catalogs."""
    table = replace(make_table([], freshness=Freshness.BEING_ASKED), as_of=None)

    for look in (LOOK, Look(id=LOOK.id, key=make_key("lake"))):
        message = status_message(table, look)
        assert message["text"].startswith("The bot does not know yet which catalogs there are.")
        assert message_problems(message["blocks"]) == []


def test_without_a_catalog_the_fix_is_shown() -> None:
    """The dashboard has both names of the product."""
    assert "Enable R2 Data Catalog (Basin Catalog)" in status_message(make_table([]), LOOK)["text"]


def test_a_bucket_that_is_not_listed_is_reported() -> None:
    """It may be misspelled, or have no catalog."""
    message = status_message(make_table([make_catalog()]), Look(id=LOOK.id, key=make_key("<lakes>")))

    assert "Cloudflare lists no catalog of `&lt;lakes&gt;`." in message["text"]


def test_two_hundred_catalogs_are_read_page_by_page() -> None:
    """Each is on one page, in order, and the buttons lead from the first to the last and back."""
    table = make_table([make_catalog(f"lake-{n:03d}") for n in range(200)])
    shown: list[str] = []
    look: Look | None = LOOK
    while look is not None:
        message = status_message(table, look)
        assert message_problems(message["blocks"]) == []
        assert len(rows_of(message)) == PAGE_ROWS
        shown += [row.split("`")[1] for row in rows_of(message)]
        turns = {element["action_id"]: element["value"] for element in message["blocks"][-2]["elements"]}
        assert (PREVIOUS_PAGE in turns) is (look.page > 0)
        assert f"Page {look.page + 1} of 10" in list(texts_of(message["blocks"]))
        look = Look.of_value(turns[NEXT_PAGE]) if NEXT_PAGE in turns else None

    assert shown == [f"lake-{n:03d}" for n in range(200)]


def test_a_page_beyond_the_end_is_the_last_one() -> None:
    """The table may have become shorter since the button was shown."""
    table = make_table([make_catalog(f"lake-{n:03d}") for n in range(30)])

    message = status_message(table, Look(id=LOOK.id, page=99999))

    assert len(rows_of(message)) == 10


@pytest.mark.parametrize(
    "value", ["", "1", "-1 5a4d0001", "1 5A4D0001", "1 5a4d0001 x", "999999 5a4d0001", "x 5a4d0001"]
)
def test_a_forged_page_is_rejected(value: str) -> None:
    """A button's value from a client is checked like any other input."""
    assert Look.of_value(value) is None


def test_the_app_home_has_a_button_for_the_form() -> None:
    """An entry that no other app's command can shadow, above all pages."""
    home = home_view(make_table([make_catalog(f"lake-{n:03d}") for n in range(30)]), LOOK)

    assert home["type"] == "home"
    assert action_ids(home)[0] == STORE
    assert NEXT_PAGE in action_ids(home)
    assert any("1 catalog" in text or "30 catalogs" in text for text in texts_of(home["blocks"]))


def test_a_notice_is_an_app_home_too() -> None:
    """A person who may not use the bot reads why."""
    assert list(texts_of(notice_home("Not for you.")["blocks"])) == ["Not for you."]


_statuses = st.sampled_from(CatalogStatus), st.sampled_from(CredentialStatus)
_times = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    st.lists(
        st.tuples(st.integers(0, 400), *_statuses, st.none() | _times, st.none() | _times),
        max_size=120,
        unique_by=lambda row: row[0],
    ),
    st.integers(0, 10),
)
def test_every_page_of_every_table_is_within_slacks_limits(
    rows: list[tuple[int, CatalogStatus, CredentialStatus, datetime | None, datetime | None]], page: int
) -> None:
    """Whatever Cloudflare says, with the longest names; and no catalog is lost."""
    names = {number: f"{'x' * 59}-{number:03d}" for number, *_ in rows}
    catalogs = [
        Catalog(key=make_key(names[number]), status=status, credential_status=credential, tested_at=tested_at)
        for number, status, credential, _, tested_at in rows
    ]
    stored = [make_stored_credential(names[number], expires_at=expires_at) for number, _, _, expires_at, _ in rows]

    table = make_table(catalogs, stored)
    message = status_message(table, Look(id=LOOK.id, page=page))

    assert message_problems(message["blocks"]) == []
    assert len(home_view(table, LOOK)["blocks"]) <= 100
    assert len(message["text"]) < 3000
    assert sorted(row.catalog.bucket for row in all_rows(table)) == sorted(names.values())
    assert [row.need for row in all_rows(table)] == sorted(row.need for row in all_rows(table))
