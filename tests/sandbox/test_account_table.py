"""The table of the account's tokens: where each is used, what follows and when, and what can be done by hand."""

from datetime import datetime, timedelta

import pytest

from bot.model.minted import PROBE_AFTER as BOTS_PROBE_AFTER
from bot.sandbox.account_table import DELETED, OTHERS, PROBE_AFTER, AccountTable
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.page_state import PanelAccountToken
from tests.clock import Clock
from tests.sandbox.account import INSTALLATION, Account

GRACE = timedelta(seconds=30)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def server(clock: Clock) -> FakeCloudflare:
    """Return a fake Cloudflare with a bucket, which knows of a change two seconds later."""
    small = FakeCloudflare(clock=clock, timer=lambda: clock().timestamp())
    small.add_bucket("lake")
    small.tokens.known_after = small.tokens.unknown_after = 2
    return small


@pytest.fixture
def table(server: FakeCloudflare) -> AccountTable:
    """Return the table of its tokens."""
    return AccountTable(cloudflare=server, grace=GRACE)


def newest(table: AccountTable) -> PanelAccountToken:
    """Return the first row."""
    return next(table.rows())


def facts(row: PanelAccountToken) -> tuple[str, tuple[str, ...], str, datetime | None]:
    """Return what a row says of the state of its token, and what follows when."""
    return row.status, row.slots, f"{row.note} {row.next}".strip(), row.until


def test_the_page_knows_how_long_the_bot_waits() -> None:
    """The sandbox knows the bot as a process only, so it repeats the number."""
    assert PROBE_AFTER == BOTS_PROBE_AFTER


async def test_a_token_is_followed_from_its_creation_to_its_end(
    server: FakeCloudflare, table: AccountTable, clock: Clock
) -> None:
    """Not known yet, in its slot, replaced, disabled, deleted: each with what follows, and when."""
    account = Account(server)
    assert await account.create("lake") is None
    row = newest(table)
    assert (row.group, row.title, row.detail) == (f"Made by this bot: {INSTALLATION} …", "lake", "9k2m4p7q1x")
    assert facts(row) == ("not known yet", (), "known", clock() + timedelta(seconds=2))
    clock.advance(timedelta(seconds=2))
    assert facts(newest(table)) == ("active", (), "", None)
    assert await account.store("lake") is None
    assert facts(newest(table)) == ("active", ("lake",), "", None)

    server.write_by_hand("lake", "of somebody else")
    assert facts(newest(table)) == ("active", (), "replaced disabled", clock() + GRACE)
    clock.advance(GRACE)
    assert await account.disable() is None
    assert facts(newest(table)) == ("disabled", (), "slot tested without it, then deleted", clock() + PROBE_AFTER)
    server.tokens.delete_by_hand(newest(table).id)
    assert (newest(table).group, *facts(newest(table))) == (DELETED, "deleted", (), "", None)
    assert newest(table).presses == ()


async def test_a_token_that_is_put_back_is_not_replaced(server: FakeCloudflare, table: AccountTable) -> None:
    """Only one that no slot holds any more is about to be disabled."""
    account = Account(server)
    assert await account.create("lake") is None
    server.tokens.known_after = 0
    token = next(iter(server.tokens.tokens.values()))
    for value in (token.value, "another", token.value, token.value):
        server.write_by_hand("lake", value)
    assert newest(table).slots == ("lake",)
    assert newest(table).until == token.changes[-1][0]


async def test_the_newest_come_first_and_the_deleted_last(
    server: FakeCloudflare, table: AccountTable, clock: Clock
) -> None:
    """Those that the bot leaves alone are between them, and cannot be changed on the page."""
    table.furnish()
    for tail in ("aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"):
        clock.advance(timedelta(seconds=5))
        assert await Account(server).create("lake", tail) is None
    table.press("delete", newest(table).id)
    clock.advance(timedelta(seconds=5))
    rows = list(table.rows())
    assert [row.detail for row in rows] == ["bbbbbbbbbb", "aaaaaaaaaa", "", "", "cccccccccc"]
    assert [row.group == OTHERS for row in rows] == [False, False, True, True, False]
    assert [len(row.presses) for row in rows] == [2, 2, 0, 0, 0]


async def test_a_token_can_be_changed_by_hand(server: FakeCloudflare, table: AccountTable) -> None:
    """Disabled, enabled again, and deleted, as its row offers."""
    assert await Account(server).create("lake") is None
    for press, status in (("disable", "disabled"), ("enable", "active"), ("delete", "deleted")):
        presses = [value for _, value in newest(table).presses]
        what, verb, token_id = next(value for value in presses if value.split()[1] == press).split()
        assert what == "token"
        table.press(verb, token_id)
        assert server.list_tokens()[0].status == status
    assert newest(table).note == "changed by hand"


async def test_a_token_that_is_never_known_has_no_end_of_waiting(server: FakeCloudflare, table: AccountTable) -> None:
    """The page promises nothing."""
    server.tokens.flaws.append("unknown")
    assert await Account(server).create("lake") is None
    assert facts(newest(table)) == ("not known yet", (), "", None)


@pytest.mark.parametrize(("verb", "token_id"), [("disable", "nothing"), ("shred", None)])
async def test_what_cannot_be_done_by_hand_is_refused(
    server: FakeCloudflare, table: AccountTable, verb: str, token_id: str | None
) -> None:
    """A token that is not there, and a verb that is not one."""
    assert await Account(server).create("lake") is None
    with pytest.raises(KeyError):
        table.press(verb, token_id or newest(table).id)
    assert server.list_tokens()[0].status == "active"
