"""`status`: who sees what, at once, and again after Cloudflare was asked."""

import asyncio
import io
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from bot.policy.rules import Allowlist, Person, Rule, Who
from bot.slack.stories.live_table import PATIENCE
from bot.slack.stories.table import NEXT_PAGE
from tests.desk import (
    ADA,
    ANALYTICS,
    BUCKET,
    EVERYBODY,
    GRACE,
    MALLORY,
    OUTSIDER,
    PLATFORM,
    Desk,
    add_many,
    ask,
    only,
    refresh,
    wait_for_answer,
)


@dataclass
class Broken(Who):
    """Lets everything pass until it is given a fault."""

    fault: Exception | None = None

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def refuse(self, person: Person | None) -> None:
        """Raise the fault, if any."""
        if self.fault is not None:
            raise self.fault


BEING_ASKED = "Cloudflare is being asked again"
NOT_ANSWERED = "could be refreshed from Cloudflare just now"


async def test_status_answers_at_once_and_triggers_a_refresh(desk: Desk) -> None:
    """From the snapshot, with its age, to this person only."""
    desk.clock.advance(timedelta(minutes=4))

    answer = await ask(desk, "status")

    assert "3 catalogs: 1 has no credential, 1 is switched off." in answer.text
    assert "As reported by Cloudflare 4 minutes ago." in answer.text
    assert BEING_ASKED in answer.text
    assert desk.looks == ["tested"]
    assert desk.slack.problems == []


async def test_status_is_replaced_once_after_the_refresh(desk: Desk) -> None:
    """The fresh table replaces the first one, and does not announce another."""
    desk.clock.advance(timedelta(minutes=4))
    answer = await ask(desk, "status")
    await refresh(desk)

    fresh = await wait_for_answer(desk, lambda message: "less than a minute ago" in message.text)

    assert fresh.ts == answer.ts
    assert BEING_ASKED not in fresh.text
    assert "the credential works" in fresh.shown_text
    assert len(desk.slack.ephemerals(ADA, PLATFORM)) == 1


async def test_a_list_without_its_tests_is_not_fresh(desk: Desk) -> None:
    """People want to know whether the credentials work."""
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    await refresh(desk, tests=False)
    await refresh(desk)

    fresh = await wait_for_answer(desk, lambda message: "less than a minute ago" in message.text)

    assert "the credential works" in fresh.shown_text


async def test_a_fresh_table_is_not_replaced(desk: Desk) -> None:
    """A second command soon after costs no request."""
    await refresh(desk)

    answer = await ask(desk, "status")

    assert BEING_ASKED not in answer.text
    assert desk.looks == []


async def test_a_failed_refresh_is_reported(desk: Desk) -> None:
    """After a minute no one waits any longer."""
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    desk.clock.advance(PATIENCE)

    answer = await wait_for_answer(desk, lambda message: NOT_ANSWERED in message.text)

    assert "As reported by Cloudflare 5 minutes ago." in answer.text


async def test_status_of_one_bucket_shows_it_alone(desk: Desk) -> None:
    """With a button that opens the form for it."""
    answer = await ask(desk, "status billing-exports")

    assert "The catalog of `billing-exports` is active" in answer.text
    assert BUCKET not in answer.shown_text
    await desk.slack.click(ADA, answer, "try_again")
    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == "billing-exports"


async def test_before_the_first_refresh_status_says_so_and_follows(desk: Desk) -> None:
    """A bot that has just been installed still answers."""
    snapshot = await desk.catalogs.snapshot()
    assert snapshot is not None
    desk.execute("DELETE FROM snapshots")
    answer = await ask(desk, "status")
    await desk.catalogs.save_snapshot(replace(snapshot, refreshed_at=desk.clock()))
    await desk.catalogs.note_all_tested(desk.clock())

    fresh = await wait_for_answer(desk, lambda message: "3 catalogs" in message.text)

    assert "does not know yet which catalogs" in answer.text
    assert fresh.ts == answer.ts


LOOKS_REFUSED: dict[str, tuple[str, Allowlist, str, str]] = {
    "not listed": (MALLORY, EVERYBODY, "", "You are not on the list"),
    "another channel": (ADA, only(channels=frozenset({ANALYTICS})), "", "may not be used in that channel"),
    "another bucket": (ADA, only(buckets=("lake-*",)), BUCKET, "does not store credentials for that bucket"),
    "no bucket name": (ADA, EVERYBODY, "No Bucket", "A bucket name has 3 to 63 characters"),
}


@pytest.mark.parametrize("kind", ["status", "history", "STATUS"])
@pytest.mark.parametrize("lookup", LOOKS_REFUSED.values(), ids=LOOKS_REFUSED)
async def test_a_forbidden_lookup_is_refused(desk: Desk, kind: str, lookup: tuple[str, Allowlist, str, str]) -> None:
    """The names of the account's buckets are not for everyone, and Cloudflare is not asked."""
    user, allowlist, bucket, words = lookup
    desk.serve(allowlist)

    answer = await ask(desk, f"{kind} {bucket}", user=user)

    assert words in answer.shown_text
    assert "billing-exports" not in answer.shown_text
    assert desk.looks == []


async def test_a_lookup_from_another_workspace_is_refused(desk: Desk) -> None:
    """A listed id does not help: the workspace in the payload decides."""
    payload = desk.slack.make_command(ADA, PLATFORM, "/r2-credential status") | {"team_id": "T0PARTNER"}

    answer = await desk.slack.deliver("slash_commands", payload)

    assert "you belong to another one" in (answer.text or "")


async def test_status_shows_only_what_is_served(desk: Desk) -> None:
    """At once and after the refresh."""
    desk.serve(only(buckets=("billing-*",)))
    desk.clock.advance(timedelta(minutes=4))

    answer = await ask(desk, "status")
    await refresh(desk)
    fresh = await wait_for_answer(desk, lambda message: "less than a minute ago" in message.text)

    for message in (answer, fresh):
        assert "1 catalog" in message.text
        assert BUCKET not in message.shown_text


@pytest.mark.parametrize("text", ["status", "status lake", "history"])
@pytest.mark.parametrize("table", ["snapshots", "catalogs", "credentials", "submissions"])
async def test_an_unavailable_database_is_reported(desk: Desk, log: io.StringIO, table: str, text: str) -> None:
    """Nothing was to be sent, so the text says nothing about that."""
    desk.execute(f"ALTER TABLE {table} RENAME TO elsewhere")

    answer = await ask(desk, text)

    needed = ("submissions",) if text == "history" else ("snapshots", "catalogs", "credentials")
    assert ("The bot's database did not answer" in answer.shown_text) is (table in needed)
    assert "listener_broke" not in log.getvalue()


async def test_a_database_failure_during_the_refresh_breaks_nothing(desk: Desk, log: io.StringIO) -> None:
    """The first table stays, and the failure is logged."""
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    assert desk.tables is not None
    [follow_up] = desk.tables._follow_ups.tasks
    desk.execute("ALTER TABLE snapshots RENAME TO elsewhere")

    await follow_up

    assert "fresh_table_not_shown" in log.getvalue()
    assert desk.tables._follow_ups.tasks == frozenset()


async def test_a_fault_of_our_own_during_the_refresh_is_logged_by_its_type(desk: Desk, log: io.StringIO) -> None:
    """Nothing else of it is logged."""
    broken = Broken()
    desk.serve(Rule(name="broken", who=broken))
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    assert desk.tables is not None
    [follow_up] = desk.tables._follow_ups.tasks
    broken.fault = KeyError("MARKER")
    await refresh(desk)

    await asyncio.wait([follow_up])

    assert "fresh_table_broke" in log.getvalue()
    assert "MARKER" not in log.getvalue()


async def test_a_refused_response_url_is_not_logged(desk: Desk, log: io.StringIO) -> None:
    """It grants the right to post, so no log may hold it."""
    desk.clock.advance(timedelta(minutes=4))
    desk.slack.fail_next("response_url", status=500)
    await ask(desk, "status")
    assert desk.tables is not None
    [follow_up] = desk.tables._follow_ups.tasks
    await refresh(desk)

    await follow_up

    assert "lookup_not_answered" in log.getvalue()
    assert "/response/" not in log.getvalue()


async def test_a_person_who_may_no_longer_see_it_gets_no_fresh_table(desk: Desk, log: io.StringIO) -> None:
    """A minute may pass between the two."""
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    assert desk.tables is not None
    [follow_up] = desk.tables._follow_ups.tasks
    desk.change_group(GRACE)
    await refresh(desk)

    await follow_up

    [shown] = desk.slack.ephemerals(ADA, PLATFORM)
    assert BEING_ASKED in shown.text
    assert "fresh_table_not_shown" in log.getvalue()


async def test_a_stop_cancels_the_refresh(desk: Desk) -> None:
    """A process that ends leaves no task behind."""
    desk.clock.advance(timedelta(minutes=4))
    await ask(desk, "status")
    assert desk.tables is not None

    await desk.tables.stop()

    assert desk.tables._follow_ups.tasks == frozenset()


# Pages.


async def test_pages_are_turned_in_place(desk: Desk) -> None:
    """The same message shows the next page."""
    await add_many(desk.catalogs, 45)
    await refresh(desk)
    answer = await ask(desk, "status")
    assert "`lake-000`" in answer.shown_text

    await desk.slack.click(ADA, answer, NEXT_PAGE)
    second = await wait_for_answer(desk, lambda message: "Page 2 of 3" in message.shown_text)

    assert second.ts == answer.ts
    assert "`lake-020`" in second.shown_text
    assert "`lake-000`" not in second.shown_text


async def test_a_refresh_keeps_the_page_that_was_turned_to(desk: Desk) -> None:
    """A reader of the second page is not moved to the first."""
    await add_many(desk.catalogs, 45)
    desk.clock.advance(timedelta(minutes=4))
    answer = await ask(desk, "status")

    await desk.slack.click(ADA, answer, NEXT_PAGE)
    await wait_for_answer(desk, lambda message: "Page 2 of 3" in message.shown_text)
    assert desk.tables is not None
    [follow_up] = desk.tables._follow_ups.tasks
    await refresh(desk)
    await follow_up

    [shown] = desk.slack.ephemerals(ADA, PLATFORM)
    assert "Page 2 of 3" in shown.shown_text
    assert BEING_ASKED not in shown.shown_text


PAGES_REFUSED: dict[str, tuple[Allowlist, str]] = {
    "no longer listed": (replace(EVERYBODY, users=frozenset({GRACE}), usergroups=frozenset()), "not on the list"),
    "channel no longer allowed": (only(channels=frozenset({ANALYTICS})), "may not be used in that channel"),
}


@pytest.mark.parametrize(("allowlist", "words"), PAGES_REFUSED.values(), ids=PAGES_REFUSED)
async def test_a_page_is_refused_once_the_right_is_gone(desk: Desk, allowlist: Allowlist, words: str) -> None:
    """The refusal replaces the table."""
    await add_many(desk.catalogs, 45)
    answer = await ask(desk, "status")
    desk.serve(allowlist)

    await desk.slack.click(ADA, answer, NEXT_PAGE)

    refusal = await wait_for_answer(desk, lambda message: words in message.shown_text)
    assert refusal.ts == answer.ts
    assert "lake" not in refusal.shown_text


async def test_a_page_is_refused_to_an_outsider(desk: Desk) -> None:
    """Whatever the id is."""
    await add_many(desk.catalogs, 45)
    answer = await ask(desk, "status")
    action = {"action_id": NEXT_PAGE, "block_id": "x", "type": "button", "value": "1 5a4d0001"}

    await desk.deliver(desk.slack.make_message_action(ADA, answer, action, as_user=OUTSIDER))

    refusal = await wait_for_answer(desk, lambda message: "you belong to another one" in message.shown_text)
    assert refusal.ts == answer.ts


@pytest.mark.parametrize("value", ["x", "", None, "1"], ids=["letters", "empty", "none", "half"])
async def test_a_forged_page_is_not_shown(desk: Desk, log: io.StringIO, value: object) -> None:
    """Nothing happens, and no error is raised."""
    answer = await ask(desk, "status")
    action = {"action_id": NEXT_PAGE, "block_id": "x", "type": "button", "value": value}

    await desk.deliver(desk.slack.make_message_action(ADA, answer, action))

    assert [message.ts for message in desk.slack.ephemerals(ADA, PLATFORM)] == [answer.ts]
    assert "listener_broke" not in log.getvalue()
