"""Rotating many buckets: the sums, who may begin and stop it, and what is recorded of that."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from bot.model.errors import VerbNotAllowed
from bot.model.fleet import MOST_BUCKETS, PROPOSAL_LIFETIME, Count, Fleet, FleetState
from bot.model.minted import MintedState
from bot.policy.rules import People, Rule, Verb
from bot.sandbox.workspace import Message
from bot.slack.messages.fleet_count import STOP, fleet_message
from bot.slack.messages.fleet_dry_run import START, START_ALL
from bot.storage.installations import Installations
from bot.storage.minted_rows import add_token
from bot.storage.schema import AUDIT
from bot.storage.sqlite import SqliteDatabase
from tests.desk import ADA, BUCKET, GRACE, MALLORY, PARTNER, PLATFORM, Desk, ask
from tests.make import ACCOUNT, AUTHENTICITY, CHAIN, make_key, make_minted_token, make_new_submission

ROTATES = Rule(name="rotate", who=People(users=frozenset({ADA, GRACE})), verbs=frozenset(Verb))
OURS = ("team-a", "team-b", "team-c")


@pytest.fixture
async def house(desk: Desk, database: SqliteDatabase) -> Desk:
    """Return a desk whose policy lets two people rotate; three buckets hold a token of ours, and a minter counted."""
    desk.serve(ROTATES)
    await desk.know_catalogs(*OURS, "team-d")
    for bucket in OURS:
        await give(database, desk, bucket)
    await Installations(database, AUTHENTICITY, ACCOUNT, desk.clock).note_count(7, desk.clock())
    await Installations(database, AUTHENTICITY, ACCOUNT, desk.clock).note_seen()
    return desk


async def give(
    database: SqliteDatabase,
    desk: Desk,
    bucket: str,
    state: MintedState = MintedState.PROVEN,
    since: timedelta = timedelta(days=20),
) -> None:
    """Record a token of ours."""
    at, due_at = desk.clock() - since, desk.clock() + timedelta(minutes=40)
    token = make_minted_token(bucket, state=state, intended_at=at, due_at=due_at, changed_at=at)
    await database.run(lambda connection: add_token(connection, CHAIN, token))


async def press(desk: Desk, message: Message, action_id: str, user: str = ADA) -> str:
    """Press a button; return what the person reads."""
    await desk.slack.click(user, message, action_id)
    view = desk.slack.modal(user)
    text = "" if view is None else view.text
    if view is not None:
        await desk.slack.close(user)
    return text


def buttons(message: Message) -> dict[str, str]:
    """Return the buttons of a message, by action."""
    rows = [block["elements"] for block in message.blocks if block["type"] == "actions"]
    return {each["action_id"]: each["text"]["text"] for row in rows for each in row}


async def recorded(desk: Desk) -> Fleet | None:
    """Return the fleet that runs."""
    return await desk.fleets.current()


async def audited(database: SqliteDatabase) -> list[tuple[str, str | None, str, str]]:
    """Return what the audit says of fleets: the event, who, the outcome and the code."""
    rows = await database.run(lambda connection: connection.execute(select(AUDIT)).all())
    return [(row.event, row.user_id, row.outcome, row.code) for row in rows if row.event.startswith("fleet_")]


# The sums


async def test_the_sums_come_first(house: Desk) -> None:
    """Nothing is submitted; two buttons, since what somebody pasted is replaced only by the second."""
    answer = await ask(house, "rotate team-*")

    shown = answer.shown_text
    assert "Of 4 buckets that matched, 4 can be rotated now." in shown
    assert "requests: 30 (15 with the bot's credentials, 15 with the minting token)" in shown
    assert "500 (quota) - 10 (left to others) - 7 (there now) = 483 more may be made" in shown
    assert "*1 bucket* hold no token of the bot's: `team-d`" in shown
    assert buttons(answer) == {START: "Rotate 3 buckets", START_ALL: "Rotate all 4 buckets"}
    assert all(each["confirm"] for each in answer.blocks[-1]["elements"])
    assert house.dispatched == []
    assert await recorded(house) is None


@pytest.mark.parametrize(
    ("typed", "own", "everything"),
    [
        ("team-a team-b", "Rotate 2 buckets", None),
        ("team-a, team-d", "Rotate 2 buckets", None),
        ("team-* !team-b", "Rotate 2 buckets", "Rotate all 3 buckets"),
        ("--all", "Rotate 3 buckets", "Rotate all 6 buckets"),
        ("\u2014all", "Rotate 3 buckets", "Rotate all 6 buckets"),
        ("team-d?", None, None),
        ("team-[d]", None, "Rotate all 1 bucket"),
    ],
)
async def test_buckets_are_named_in_any_way(house: Desk, typed: str, own: str | None, everything: str | None) -> None:
    """By names and globs; what is named in full is meant, whatever its slot holds."""
    found = buttons(await ask(house, f"rotate {typed}"))
    assert found == {action: label for action, label in ((START, own), (START_ALL, everything)) if label}


async def test_what_is_left_out_is_named_with_its_reason(house: Desk, database: SqliteDatabase) -> None:
    """Each kind once; the names and how many more."""
    await house.know_catalogs(*OURS, "team-busy", "team-fresh", "team-open", "theirs", "asks", "reasons")
    await give(database, house, "team-busy", MintedState.DISABLED)
    await give(database, house, "team-fresh", since=timedelta(hours=3))
    await house.submissions.add(make_new_submission(id="V9", key=make_key("team-open")))
    house.serve(
        replace(ROTATES, buckets=("asks",), approvals=1, approvers=People(users=frozenset({GRACE}))),
        replace(ROTATES, buckets=("reasons",), require_reason=True),
        replace(ROTATES, buckets=("theirs",), verbs=frozenset({Verb.STATUS})),
        replace(ROTATES, buckets=("*", "!theirs", "!asks", "!reasons")),
    )
    answer = await ask(house, "rotate --all none-such")
    shown = answer.shown_text
    for words in (
        "1: you may not rotate these in this channel: `theirs`",
        "1: these need an approval: rotate each on its own: `asks`",
        "1: these need a reason: rotate each on its own: `reasons`",
        "1: their catalogs are switched off: `old-events`",
        "1: somebody is storing or rotating these now: `team-open`",
        "1: their earlier tokens are still being revoked, until <!date",
        "1: rotated within the last 24 hours; name one in full to rotate it all the same: `team-fresh`",
        "1: no catalog is known by that name: `none-such`",
    ):
        assert words in shown, words
    assert buttons(await ask(house, "rotate team-fresh team-a"))[START] == "Rotate 2 buckets"


async def test_what_a_person_may_not_see_is_not_named(house: Desk) -> None:
    """It looks like a name that no bucket has."""
    house.serve(replace(ROTATES, buckets=("team-*",)))
    shown = (await ask(house, f"rotate --all {BUCKET} no-bucket")).shown_text
    assert f"2: no catalog is known by that name: `{BUCKET}`, `no-bucket`" in shown
    assert "billing" not in shown


@pytest.mark.parametrize(
    ("tokens", "words", "has_button"),
    [
        (None, "*not known*: no process has counted the account's tokens", False),
        (488, "= 2 more may be made, so it takes *2 parts*", True),
        (490, "*not possible*: 500 (quota) - 10 (left to others) - 490 (there now) = 0", False),
    ],
)
async def test_the_quota_decides(
    house: Desk, database: SqliteDatabase, tokens: int | None, words: str, *, has_button: bool
) -> None:
    """Before anything begins, with the sum written out."""
    if tokens is None:
        house.execute("UPDATE installations SET tokens = NULL")
    else:
        await Installations(database, AUTHENTICITY, ACCOUNT, house.clock).note_count(tokens, house.clock())
    answer = await ask(house, "rotate team-a team-b team-c")
    assert words in answer.shown_text
    assert bool(buttons(answer)) is has_button
    assert ("ask Cloudflare to raise it" in answer.shown_text.replace("Ask", "ask")) is (tokens is not None)


REFUSED: dict[str, tuple[str, str, str, str]] = {
    "no glob": (ADA, PLATFORM, "Team_A team-b", "names no buckets"),
    "only exclusions": (ADA, PLATFORM, "!team-a !team-b", "names no buckets"),
    "a shared channel": (ADA, PARTNER, "team-*", "shared with another company"),
    "on no list": (MALLORY, PLATFORM, "team-*", "not on the list"),
}


@pytest.mark.parametrize(("user", "channel", "typed", "words"), REFUSED.values(), ids=REFUSED)
async def test_there_are_no_sums_for(house: Desk, user: str, channel: str, typed: str, words: str) -> None:
    """The answer says what to do."""
    answer = await ask(house, f"rotate {typed}", user=user, channel=channel)
    assert words in answer.shown_text
    assert buttons(answer) == {}


async def test_without_the_verb_nothing_is_rotated(desk: Desk) -> None:
    """Whoever may store may not rotate."""
    answer = await ask(desk, "rotate team-*")
    assert VerbNotAllowed.user_message in answer.shown_text
    assert buttons(answer) == {}


async def test_a_group_message_is_no_place_for_it(house: Desk) -> None:
    """Nobody knows who reads it; nor is a direct message, where nobody else would."""
    command = house.slack.make_command(ADA, PLATFORM, "/r2-credential rotate team-*")
    answer = await house.slack.transport.deliver("slash_commands", command | {"channel_name": "mpdm-ada--grace-1"})
    assert "in a channel only" in (answer.text or "")


async def test_too_many_are_refused(house: Desk) -> None:
    """The record of a fleet names each of its buckets."""
    await house.know_catalogs(*(f"many-{number}" for number in range(MOST_BUCKETS + 1)))
    assert f"That would be {MOST_BUCKETS + 1} buckets" in (await ask(house, "rotate many-*")).shown_text


# The press


async def test_a_press_begins_it(house: Desk, database: SqliteDatabase) -> None:
    """Signed, once, with who it was; the answer loses its buttons."""
    answer = await ask(house, "rotate team-*")
    assert await press(house, answer, START) == ""
    fleet = await recorded(house)
    assert fleet is not None
    assert (fleet.state, fleet.user_id, fleet.channel_id, fleet.asked) == (FleetState.RUNNING, ADA, PLATFORM, "team-*")
    assert (fleet.buckets, fleet.others) == (OURS, ())
    assert await audited(database) == [("fleet_started", ADA, "running", "")]
    [replaced] = [each for each in house.slack.messages(PLATFORM, ADA) if "It begins" in each.text]
    assert buttons(replaced) == {}
    assert "too old" in await press(house, answer, START_ALL)


async def test_the_other_button_takes_all(house: Desk) -> None:
    """Also what somebody pasted."""
    await press(house, await ask(house, "rotate team-*"), START_ALL)
    fleet = await recorded(house)
    assert fleet is not None
    assert fleet.buckets == (*OURS, "team-d")


async def test_sums_count_for_ten_minutes(house: Desk) -> None:
    """They are about the tokens and catalogs of that moment."""
    answer = await ask(house, "rotate team-*")
    house.clock.advance(PROPOSAL_LIFETIME + timedelta(seconds=1))
    assert "too old" in await press(house, answer, START)
    assert await recorded(house) is None


async def test_a_right_that_was_taken_away_counts(house: Desk) -> None:
    """The policy may have changed since the sums."""
    answer = await ask(house, "rotate team-*")
    house.serve(replace(ROTATES, verbs=frozenset({Verb.STATUS})))
    assert await press(house, answer, START) != ""
    assert await recorded(house) is None


async def test_one_at_a_time(house: Desk) -> None:
    """The second one reads where the first one is; so does whoever asks."""
    first, second = await ask(house, "rotate team-a team-b"), await ask(house, "rotate team-b team-c")
    await press(house, first, START)
    words = f"<@{ADA}> has begun to rotate 2 buckets"
    assert words in await press(house, second, START)
    assert words in (await ask(house, "rotate", user=GRACE)).text
    assert f"<#{PLATFORM}>" in (await ask(house, "rotate --all", user=GRACE)).text


async def test_a_forged_row_is_no_fleet(house: Desk) -> None:
    """Who writes to the database has no key."""
    answer = await ask(house, "rotate team-a team-b")
    house.execute("UPDATE fleets SET buckets = 'team-a team-b team-c'")
    assert "too old" in await press(house, answer, START)


# Stop


async def _begun(desk: Desk) -> Message:
    """Begin it, and post its message as the engine does."""
    await press(desk, await ask(desk, "rotate team-*"), START)
    fleet = await recorded(desk)
    assert fleet is not None
    await desk.web.post(PLATFORM, fleet_message(Count(fleet=fleet)), "6f3cacfe-3614-5dad-9dfa-09675d6189dd")
    return desk.slack.messages(PLATFORM)[-1]


@pytest.mark.parametrize("user", [ADA, GRACE], ids=["who began it", "who may rotate all of them"])
async def test_it_is_stopped_by(house: Desk, database: SqliteDatabase, user: str) -> None:
    """Recorded with who it was."""
    message = await _begun(house)
    assert await press(house, message, STOP, user) == ""
    fleet = await recorded(house)
    assert fleet is not None
    assert (fleet.state, fleet.stopped_by) == (FleetState.STOPPING, user)
    assert (await audited(database))[-1] == ("fleet_stopped", user, "stopping", "")
    assert "over" in await press(house, message, STOP, user)


async def test_it_is_not_stopped_by_who_may_not_rotate_all_of_it(house: Desk) -> None:
    """Nor by who is on no list."""
    message = await _begun(house)
    house.serve(
        replace(ROTATES, who=People(users=frozenset({ADA}))),
        replace(ROTATES, who=People(users=frozenset({GRACE})), buckets=("team-a",)),
    )
    assert "can stop it" in await press(house, message, STOP, GRACE)
    assert "not on the list" in await press(house, message, STOP, MALLORY)
    fleet = await recorded(house)
    assert fleet is not None
    assert fleet.state is FleetState.RUNNING
