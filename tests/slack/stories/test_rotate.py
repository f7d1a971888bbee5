"""Rotating: who may open the form without a token, what it says, what is recorded, and what "only look" answers."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from bot.model.catalog import CredentialStatus
from bot.model.minted import PRESENT_FOR, MintedState, MintedToken
from bot.model.move import Move
from bot.model.submission import State, Task, TokenKind
from bot.policy.rules import USUAL_VERBS, People, Rule, Verb
from bot.sandbox.modals import Modal
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Message
from bot.sealing.hpke import RESPONSE_URL, SealingContext
from bot.slack import rotate_form
from bot.slack.blocks import date
from bot.slack.messages import render
from bot.slack.messages.redacted import RedactedResult
from bot.slack.stories import rotate
from bot.slack.stories.look import ROTATE_NOW
from bot.slack.stories.table import ROTATE_ANY
from bot.storage.minted_rows import add_token
from tests.desk import (
    ADA,
    ANALYTICS,
    BUCKET,
    GRACE,
    GROUP,
    MALLORY,
    PLATFORM,
    STRANGERS,
    TOKEN_TEXT,
    TTL,
    Desk,
    Forge,
    ask,
    shown_in,
)
from tests.make import CHAIN, make_key, make_minted_token
from tests.slack.stories.test_store import bring_to

ROTATING = Rule(
    name="rotate", who=People(usergroups=frozenset({GROUP})), verbs=USUAL_VERBS | {Verb.ROTATE, Verb.ENABLE}
)
BILLING = "billing-exports"


@pytest_asyncio.fixture
async def rotating(desk: Desk) -> Desk:
    """Return the desk of a bot that rotates: a rule grants it, and a minter was just seen."""
    desk.serve(ROTATING)
    await desk.installations.note_seen(has_groups=True)
    await desk.installations.note_count(37, desk.clock())
    return desk


async def open_rotation(desk: Desk, bucket: str = BUCKET, **fields: str) -> Modal:
    """Open the form by the command, and fill it in."""
    assert await desk.command(f"rotate {bucket}".rstrip()) == ""
    for name, value in fields.items():
        await desk.slack.fill(ADA, name, value)
    return shown(desk)


def shown(desk: Desk, user: str = ADA) -> Modal:
    """Return the modal on top."""
    view = desk.slack.modal(user)
    assert view is not None
    return view


async def keep_token(desk: Desk, state: MintedState, **changes: Any) -> MintedToken:  # noqa: ANN401 - its fields
    """Record a token that the bot made for the bucket earlier."""
    due_at = desk.clock() + timedelta(hours=1)
    token = replace(make_minted_token(BUCKET, state=state, due_at=due_at, changed_at=desk.clock()), **changes)
    await desk.tokens._database.run(lambda connection: add_token(connection, CHAIN, token))
    return token


# The form.


async def test_the_command_opens_a_form_without_a_token_field(rotating: Desk) -> None:
    """It says what will happen, and carries only the nonce of an opening."""
    view = await open_rotation(rotating)

    assert view.title == "Rotate a credential"
    assert set(view.values) == {"bucket", "channel", "direct", "reason", "check"}
    assert view.values["bucket"][rotate_form.BUCKET_ACTION]["selected_option"]["value"] == BUCKET
    assert "A token for `analytics-events` alone is made, valid until" in view.text
    assert date(rotating.clock() + timedelta(days=90)) in view.text
    assert "It is stored as the catalog's credential and tested. Nobody sees it." in view.text
    assert "There is no credential at present, so nothing is replaced." in view.text
    assert len(view.private_metadata) == 32
    assert rotating.slack.problems == []


async def test_rotate_alone_opens_the_form_with_a_bucket_to_choose(rotating: Desk) -> None:
    """The choice shows what is known of that bucket; only buckets that this person may rotate are offered."""
    rotating.serve(ROTATING, replace(ROTATING, name="more", buckets=("none-*",)))
    view = await open_rotation(rotating, "")
    assert "A token for the chosen bucket alone is made" in view.text

    found = await rotating.slack.search_options(ADA, "bucket", "bill")
    assert [option.value for option in found.options] == [BILLING]
    await rotating.slack.fill(ADA, "bucket", BILLING)

    assert f"A token for `{BILLING}` alone is made" in shown(rotating).text
    assert "The present one was written by somebody else" in shown(rotating).text


async def test_only_buckets_with_the_right_to_rotate_are_offered(rotating: Desk) -> None:
    """Whatever else this person may do with the others."""
    rotating.serve(replace(ROTATING, buckets=("billing-*",)), replace(ROTATING, name="rest", verbs=USUAL_VERBS))
    await open_rotation(rotating, "")

    found = await rotating.slack.search_options(ADA, "bucket", "e")

    assert [option.value for option in found.options] == [BILLING]


async def test_a_bucket_called_like_the_subcommand_can_be_stored_and_rotated(rotating: Desk) -> None:
    """By naming the subcommand first."""
    await rotating.know_catalogs("rotate")

    view = await open_rotation(rotating, "rotate")
    assert view.values["bucket"][rotate_form.BUCKET_ACTION]["selected_option"]["value"] == "rotate"
    assert await rotating.command("store rotate") == ""
    assert shown(rotating).values["bucket"]["bucket"]["selected_option"]["value"] == "rotate"


async def test_the_form_says_that_the_present_token_is_the_bots(rotating: Desk) -> None:
    """It is revoked after the grace; one that a person pasted is not."""
    await rotating.open_form()
    await rotating.slack.submit(ADA)
    stored = await rotating.find()
    assert stored is not None
    await bring_to(rotating, State.STORED)
    await rotating.know_catalogs()
    await rotating.catalogs.save_test(make_key(BUCKET), CredentialStatus.VALID, rotating.clock())
    await rotating.slack.close(ADA, whole_stack=True)

    assert f"The present one was pasted by <@{ADA}>" in (await open_rotation(rotating)).text

    await keep_token(rotating, MintedState.PROVEN, submission_id=stored.id)
    await rotating.slack.close(ADA, whole_stack=True)
    assert "The present one, which the bot made, is revoked 1 hour after" in (await open_rotation(rotating)).text


async def test_an_approval_and_a_needed_reason_are_announced(rotating: Desk) -> None:
    """Where they are certain."""
    rotating.serve(replace(ROTATING, approvals=1, approval_channel=ANALYTICS, require_reason=True))

    view = await open_rotation(rotating)

    assert "Another person has to approve it before a token is made." in view.text
    assert "Needed here." in view.text


async def test_a_catalog_that_is_switched_off_gets_the_notice(rotating: Desk) -> None:
    """With the button that enables it, and one that opens this form, not the other one."""
    assert await rotating.command("rotate old-events") == ""
    notice = shown(rotating)
    assert not notice.has_submit

    await rotating.slack.click(ADA, notice, rotate.OPEN_ANYWAY)

    view = shown(rotating)
    assert view.title == "Rotate a credential"
    assert "the catalog of `old-events` is switched off" in view.text


async def test_without_a_list_of_catalogs_the_bucket_is_typed(rotating: Desk) -> None:
    """As in the other form."""
    rotating.execute("DELETE FROM snapshots")

    view = await open_rotation(rotating)

    assert view.values["bucket"][rotate_form.BUCKET_ACTION] == {"type": "plain_text_input", "value": BUCKET}


# Who may, and when.


async def test_without_a_rule_rotation_is_off_and_the_answer_says_so(desk: Desk) -> None:
    """Most bots: no form opens, and the way without is named."""
    answer = await desk.command(f"rotate {BUCKET}")

    assert "no rule grants the verb `rotate`" in answer
    assert "Until then, store a token with `/r2-credential`." in answer
    assert "Please ask #data-platform." in answer
    assert desk.slack.modal(ADA) is None


async def test_without_a_minter_no_form_opens(desk: Desk) -> None:
    """Nobody would make the token."""
    desk.serve(ROTATING)
    assert "no process of it has the token for that" in await desk.command(f"rotate {BUCKET}")

    await desk.installations.note_seen()
    desk.clock.advance(PRESENT_FOR)
    answer = await desk.command(f"rotate {BUCKET}")

    assert "the process that makes them was last seen 5 minutes ago" in answer
    assert "The operator has to start it again" in answer
    assert desk.slack.modal(ADA) is None


REFUSED: dict[str, tuple[str, Rule, str]] = {
    "on no list": (MALLORY, ROTATING, "You are not on the list"),
    "not for rotating": (
        GRACE,
        replace(ROTATING, who=People(users=frozenset({ADA}))),
        "You may use this bot, but not for that. Please ask #data-platform.",
    ),
    "another bucket": (ADA, replace(ROTATING, buckets=("billing-*",)), "does not store credentials for that bucket"),
    "another channel": (ADA, replace(ROTATING, channels=frozenset({ANALYTICS})), "may not be used in that channel"),
}


@pytest.mark.parametrize(("user", "rule", "words"), REFUSED.values(), ids=REFUSED)
async def test_no_form_opens_without_the_right(rotating: Desk, user: str, rule: Rule, words: str) -> None:
    """The refusal says so, and whom to ask."""
    others = Rule(name="others", who=People(usergroups=frozenset({GROUP})), verbs=frozenset({Verb.STATUS}))
    rotating.serve(rule, others)

    assert words in await rotating.command(f"rotate {BUCKET}", user=user)
    assert rotating.slack.modal(user) is None


@pytest.mark.parametrize(("forge", "words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_submit_of_a_stranger_records_nothing(rotating: Desk, forge: Forge, words: str) -> None:
    """Opening the form proves nothing."""
    await open_rotation(rotating)

    answer = await rotating.deliver(forge(rotating.slack.make_submission(ADA)))

    assert words in shown_in(answer)
    assert "No token was made" in shown_in(answer)
    assert rotating.dispatched == []


# Submit.


async def test_a_submit_records_a_rotation(rotating: Desk) -> None:
    """With no token in it, and the progress takes the form's place."""
    await open_rotation(rotating, reason="ticket 42")

    await rotating.slack.submit(ADA)

    recorded = await rotating.find()
    assert recorded is not None
    assert (recorded.task, recorded.state, recorded.user_id) == (Task.ROTATE, State.ACCEPTED, ADA)
    assert (recorded.key, recorded.channel_id, recorded.reason) == (make_key(BUCKET), PLATFORM, "ticket 42")
    assert (recorded.token_kind, recorded.last_four) == (TokenKind.ACCOUNT, "")
    assert recorded.expires_at - recorded.accepted_at == TTL
    assert rotating.dispatched == [make_key(BUCKET)]
    assert shown(rotating).title == "Rotating..."
    assert "Make a token for this bucket" in shown(rotating).text
    assert rotating.slack.problems == []


async def test_the_result_can_be_posted_by_the_response_url(rotating: Desk) -> None:
    """Sealed for this submission, as with a pasted token; no token is."""
    await open_rotation(rotating)
    await rotating.slack.submit(ADA)

    recorded, sealed = await rotating.find(), await rotating.find_sealed()

    assert recorded is not None
    assert sealed.token is None
    assert sealed.response_url is not None
    url = rotating.key_ring.open(sealed.response_url, SealingContext.of(recorded, RESPONSE_URL))
    assert url.reveal().startswith("http")


async def test_a_token_in_the_reason_is_masked_and_refused(rotating: Desk) -> None:
    """As in every field that is not for a token."""
    await open_rotation(rotating, reason=f"replaces {TOKEN_TEXT}")

    outcome = await rotating.slack.submit(ADA)

    assert "Revoke it in Cloudflare" in outcome.errors["reason"]
    assert rotating.dispatched == []


async def test_a_token_field_that_a_client_adds_is_dropped(rotating: Desk) -> None:
    """A modified client may send anything: nobody's token is stored by a rotation."""
    await open_rotation(rotating)
    payload = rotating.slack.make_submission(ADA)
    token = make_token(Behaviour.GOOD, number=992)
    payload["view"]["state"]["values"]["token"] = {"token": {"type": "plain_text_input", "value": token}}

    await rotating.deliver(payload)

    assert (await rotating.find_sealed()).token is None
    assert token[-4:] not in str(await rotating.find())


async def test_a_second_submit_of_the_same_form_makes_no_second_rotation(rotating: Desk) -> None:
    """Slack, or the person, may repeat it: the state is shown, and nothing is begun anew."""
    await open_rotation(rotating)
    payload = rotating.slack.make_submission(ADA)
    await rotating.deliver(payload | {})
    first = await rotating.find()
    assert first is not None
    await rotating.submissions.apply(first, Move(to=State.MINTING, at=rotating.clock()))
    rotating.dispatched.clear()

    answer = await rotating.deliver(rotating.slack.make_submission(ADA) | payload)

    assert "Rotating..." in shown_in(answer)
    again = await rotating.find()
    assert again is not None
    assert again.state is State.MINTING
    assert rotating.dispatched == []


FORM_ERRORS: dict[str, tuple[Rule, dict[str, str], str, str]] = {
    "a bucket without the right": (replace(ROTATING, buckets=("billing-*",)), {}, "bucket", "Choose another one."),
    "a reason is needed": (replace(ROTATING, require_reason=True), {}, "reason", "a reason is needed"),
    "another channel is allowed": (
        replace(ROTATING, channels=frozenset({ANALYTICS})),
        {},
        "channel",
        "may not post in this channel",
    ),
    "nobody could be asked": (
        replace(ROTATING, approvals=1),
        {"direct": "direct"},
        "channel",
        "who is asked in the channel of the result",
    ),
}


@pytest.mark.parametrize(("rule", "fields", "block", "words"), FORM_ERRORS.values(), ids=FORM_ERRORS)
async def test_what_is_wrong_is_said_in_the_form(
    rotating: Desk, rule: Rule, fields: dict[str, str], block: str, words: str
) -> None:
    """The rules may have changed since it was opened; the opening can be used again."""
    await open_rotation(rotating, **fields)
    rotating.serve(rule)

    outcome = await rotating.slack.submit(ADA)

    assert words in outcome.errors[block]
    assert rotating.dispatched == []


async def test_within_the_grace_a_second_rotation_is_refused_in_the_form(rotating: Desk) -> None:
    """With the time, in the reader's time zone; the form stays as it is, and works when the time has come."""
    await open_rotation(rotating, reason="ticket 42")
    token = await keep_token(rotating, MintedState.RETIRED)

    await rotating.slack.submit(ADA)

    view = shown(rotating)
    assert view.title == "Rotate a credential"
    assert f"is being revoked until {date(token.gone_at + timedelta(seconds=59))}" in view.text
    assert view.values["reason"]["reason"]["value"] == "ticket 42"
    assert rotating.dispatched == []
    await rotating.tokens.change(token, replace(token, state=MintedState.DEAD))
    await rotating.slack.submit(ADA)
    assert rotating.dispatched == [make_key(BUCKET)]


async def test_the_form_opens_with_the_time_within_the_grace(rotating: Desk) -> None:
    """So that nobody fills it in for nothing."""
    token = await keep_token(rotating, MintedState.DISABLED)

    assert (
        f"is being revoked until {date(token.gone_at + timedelta(seconds=59))}" in (await open_rotation(rotating)).text
    )


async def test_a_minter_that_stopped_meanwhile_is_said_in_the_form(rotating: Desk) -> None:
    """The same form can be submitted when it is back."""
    await open_rotation(rotating)
    rotating.clock.advance(PRESENT_FOR)

    await rotating.slack.submit(ADA)

    assert "the process that makes them was last seen 5 minutes ago" in shown(rotating).text
    assert rotating.dispatched == []
    await rotating.installations.note_seen()
    await rotating.slack.submit(ADA)
    assert rotating.dispatched == [make_key(BUCKET)]


async def test_a_rotation_that_cannot_be_recorded_stays_in_the_form(rotating: Desk) -> None:
    """The error is shown at a field that this form has."""
    await open_rotation(rotating)
    rotating.execute("CREATE TRIGGER full BEFORE INSERT ON submissions BEGIN SELECT RAISE(ABORT, 'full'); END")

    outcome = await rotating.slack.submit(ADA)

    assert "could not record this" in outcome.errors["bucket"]


# Only look.


async def look(desk: Desk, bucket: str = BUCKET) -> Modal:
    """Submit the form with "only look"."""
    await open_rotation(desk, bucket, check="check")
    await desk.slack.submit(ADA)
    return shown(desk)


async def test_a_look_answers_in_the_modal_and_records_nothing(rotating: Desk) -> None:
    """One line for each thing that matters, with its age."""
    rotating.clock.advance(timedelta(minutes=2))

    view = await look(rotating)

    assert view.title == "Looked, nothing changed"
    for line in (
        ":white_check_mark:  The process that makes tokens is running (seen 2 minutes ago).",
        ":white_check_mark:  Cloudflare lets it grant both permissions that the new token needs.",
        ":white_check_mark:  The account has 37 of 500 API tokens (counted 2 minutes ago).",
        ":white_check_mark:  The catalog is active.",
        ":grey_question:  Cloudflare has offered no test of a stored credential so far",
        ":information_source:  There is no credential at present, so nothing is replaced.",
        "As reported by Cloudflare 2 minutes ago.",
    ):
        assert line in view.text
    assert rotating.dispatched == []
    assert await rotating.find() is None
    assert rotating.slack.messages(PLATFORM) == ()
    assert rotating.slack.problems == []


async def _no_groups(desk: Desk) -> None:
    await desk.installations.note_seen("caller_lacks_permission", has_groups=False)


async def _no_room(desk: Desk) -> None:
    await desk.installations.note_count(490, desk.clock())


async def _busy(desk: Desk) -> None:
    await keep_token(desk, MintedState.RETIRED)


async def _late(desk: Desk) -> None:
    desk.clock.advance(PRESENT_FOR)


async def _tested(desk: Desk) -> None:
    await desk.catalogs.note_all_tested(desk.clock())


async def _unknown(desk: Desk) -> None:
    desk.execute("UPDATE installations SET has_groups = NULL, tokens = NULL")


async def _gone(desk: Desk) -> None:
    desk.execute("DELETE FROM installations")


LOOKS: dict[str, tuple[Callable[[Desk], Any], str]] = {
    "groups": (_no_groups, ":x:  Cloudflare does not let it grant a permission"),
    "trouble": (_no_groups, ":x:  It has trouble: The bot's own Cloudflare token lacks a permission"),
    "quota": (
        _no_room,
        ":x:  The account has 490 of 500 API tokens (counted less than a minute ago); the bot leaves",
    ),
    "busy": (_busy, ":x:  The token before the present one is being revoked until"),
    "no minter lately": (_late, ":x:  The process that makes tokens was last seen 5 minutes ago."),
    "no minter ever": (_gone, ":x:  No process that makes tokens was ever seen."),
    "a test is offered": (_tested, ":white_check_mark:  Cloudflare offers a test of the stored credential"),
    "groups not known": (_unknown, ":grey_question:  It is not known yet whether it can grant"),
    "quota not known": (_unknown, ":grey_question:  It is not known yet how many API tokens the account has."),
}


@pytest.mark.parametrize(("happen", "line"), LOOKS.values(), ids=LOOKS)
async def test_a_look_says_what_is_not_ready(rotating: Desk, happen: Callable[[Desk], Any], line: str) -> None:
    """Each with its own line; the look itself is always answered."""
    await open_rotation(rotating, check="check")
    await happen(rotating)

    await rotating.slack.submit(ADA)

    assert shown(rotating).title == "Looked, nothing changed"
    assert line in shown(rotating).text


@pytest.mark.parametrize(
    ("bucket", "line"),
    [
        ("old-events", ":x:  The catalog is switched off: enable it first."),
        ("not-listed", ":x:  Cloudflare lists no catalog on this bucket."),
    ],
)
async def test_a_look_says_what_is_wrong_with_the_catalog(rotating: Desk, bucket: str, line: str) -> None:
    """The form was opened anyway."""
    assert await rotating.command(f"rotate {bucket}") == ""
    await rotating.slack.click(ADA, shown(rotating), rotate.OPEN_ANYWAY)
    await rotating.slack.fill(ADA, "check", "check")

    await rotating.slack.submit(ADA)

    assert line in shown(rotating).text


async def test_a_look_is_refreshed_once(rotating: Desk) -> None:
    """When Cloudflare has answered; the refresh is the one that every look at the catalogs triggers."""
    rotating.clock.advance(timedelta(minutes=2))
    view = await look(rotating)
    assert "Cloudflare is being asked again" in view.text
    assert rotating.looks[-1] == "tested"

    await rotating.know_catalogs()
    await rotating.catalogs.note_all_tested(rotating.clock())

    fresh = await rotating.slack.wait_for_view(ADA, lambda view: "Cloudflare offers a test" in view.text)
    assert "As reported by Cloudflare less than a minute ago." in fresh.text
    assert "being asked" not in fresh.text


async def test_a_look_needs_no_reason_and_no_approval(rotating: Desk) -> None:
    """It changes nothing."""
    rotating.serve(replace(ROTATING, require_reason=True, approvals=1))
    await open_rotation(rotating, direct="direct", check="check")

    await rotating.slack.submit(ADA)

    assert shown(rotating).title == "Looked, nothing changed"


async def test_a_look_can_be_followed_by_the_rotation(rotating: Desk) -> None:
    """The form takes its place, and no refresh of the look takes the form's."""
    view = await look(rotating)

    open_view = rotating.slack.modals.top(ADA)
    assert open_view is not None
    open_view.acknowledged_at = None  # nobody reads it within the second in which Slack may overwrite an update
    await rotating.slack.click(ADA, view, ROTATE_NOW)

    form = shown(rotating)
    assert form.title == "Rotate a credential"
    assert form.values["channel"]["channel"]["selected_conversation"] == PLATFORM
    assert rotating.tables is not None
    assert rotating.tables._follow_ups.tasks == frozenset()
    await rotating.slack.submit(ADA)
    assert rotating.dispatched == [make_key(BUCKET)]


async def test_a_look_needs_the_right(rotating: Desk) -> None:
    """It tells what the bot could do with the account."""
    await open_rotation(rotating, check="check")
    rotating.serve(replace(ROTATING, buckets=("billing-*",)))

    outcome = await rotating.slack.submit(ADA)

    assert "Choose another one." in outcome.errors["bucket"]


# The buttons.


async def rotated(desk: Desk, state: State = State.FAILED) -> Message:
    """Have Ada's rotation end, and post its result."""
    await open_rotation(desk, reason="ticket 42")
    await desk.slack.submit(ADA)
    recorded = await desk.find()
    assert recorded is not None
    [ended] = await desk.submissions.apply(recorded, Move(to=state, at=desk.clock()))
    desk.dispatched.clear()
    await desk.slack.close(ADA, whole_stack=True)
    message = render.result_message(RedactedResult.of(ended), contact="")
    await desk.web.post(PLATFORM, message, "6f3cacfe-3614-5dad-9dfa-09675d6189dd")
    return desk.slack.messages(PLATFORM)[-1]


async def test_a_failure_offers_to_rotate_again(rotating: Desk) -> None:
    """The form is filled in as it was."""
    result = await rotated(rotating)

    await rotating.slack.click(ADA, result, render.ROTATE)

    form = shown(rotating)
    assert form.title == "Rotate a credential"
    assert form.values["bucket"][rotate_form.BUCKET_ACTION]["selected_option"]["value"] == BUCKET
    assert form.values["reason"]["reason"]["value"] == "ticket 42"


async def test_a_failure_offers_to_paste_a_token_instead(rotating: Desk) -> None:
    """The form that stores opens, filled in."""
    result = await rotated(rotating)

    await rotating.slack.click(ADA, result, render.TRY_AGAIN)

    form = shown(rotating)
    assert form.title == "Store a credential"
    assert form.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET
    assert form.values["reason"]["reason"]["value"] == "ticket 42"


@pytest.mark.parametrize("user", [MALLORY, GRACE])
async def test_the_button_is_checked_when_it_is_pressed(rotating: Desk, user: str) -> None:
    """Anyone can see it, for years."""
    result = await rotated(rotating)
    rotating.serve(replace(ROTATING, who=People(users=frozenset({ADA}))))

    await rotating.slack.click(user, result, render.ROTATE)

    assert "You are not on the list" in shown(rotating, user).text
    assert not shown(rotating, user).has_submit


async def test_status_offers_a_rotation_for_each_bucket_with_the_right(rotating: Desk, log: io.StringIO) -> None:
    """In a table one button for each row; beside it, other rows keep their button."""
    rotating.serve(replace(ROTATING, buckets=("billing-*",)), replace(ROTATING, name="rest", verbs=USUAL_VERBS))
    message = await ask(rotating, "status")

    offered = {block["text"]["text"].split("`")[1]: block["accessory"]["text"]["text"] for block in rows(message)}
    assert offered == {BILLING: "Rotate", BUCKET: "Store one"}

    await rotating.slack.click(ADA, message, render.ROTATE)
    assert shown(rotating).title == "Rotate a credential"


def rows(message: Message) -> list[dict[str, Any]]:
    """Return the rows with a button."""
    return [block for block in message.blocks if "accessory" in block]


@pytest.mark.parametrize("text", [f"status {BILLING}", f"history {BILLING}"])
async def test_one_bucket_offers_its_rotation(rotating: Desk, text: str) -> None:
    """Also where nothing was submitted yet."""
    message = await ask(rotating, text)

    await rotating.slack.click(ADA, message, render.ROTATE)

    form = shown(rotating)
    assert form.title == "Rotate a credential"
    assert form.values["bucket"][rotate_form.BUCKET_ACTION]["selected_option"]["value"] == BILLING


@pytest.mark.parametrize("text", ["status", f"status {BILLING}", f"history {BILLING}"])
async def test_no_button_is_shown_where_no_rotation_is_offered(rotating: Desk, text: str) -> None:
    """Without the right, or while nobody would make the token."""
    rotating.serve(replace(ROTATING, verbs=USUAL_VERBS))
    assert render.ROTATE not in str((await ask(rotating, text)).blocks)

    rotating.serve(ROTATING)
    rotating.clock.advance(PRESENT_FOR)
    assert render.ROTATE not in str((await ask(rotating, text)).blocks)


async def test_a_switched_off_catalog_offers_no_rotation(rotating: Desk) -> None:
    """It would fail."""
    assert render.ROTATE not in str((await ask(rotating, "status old-events")).blocks)


async def test_the_home_offers_a_rotation(rotating: Desk) -> None:
    """For any bucket, and in each row."""
    await rotating.slack.open_home(ADA)
    home = rotating.slack.home(ADA)
    assert home is not None
    assert str(home.blocks).count(render.ROTATE) == 2

    await rotating.slack.click(ADA, home, ROTATE_ANY)

    form = shown(rotating)
    assert form.title == "Rotate a credential"
    assert form.values["direct"]["direct"]["selected_options"][0]["value"] == "direct"


async def test_the_home_of_others_offers_none(rotating: Desk) -> None:
    """The button would only be refused."""
    rotating.serve(replace(ROTATING, verbs=USUAL_VERBS))
    await rotating.slack.open_home(ADA)

    home = rotating.slack.home(ADA)
    assert home is not None
    assert render.ROTATE not in str(home.blocks)
    assert ROTATE_ANY not in str(home.blocks)


async def test_a_table_is_shown_without_its_buttons_if_it_is_not_known_whether_there_is_a_minter(
    rotating: Desk, log: io.StringIO
) -> None:
    """Rather than not at all."""
    rotating.execute("DROP TABLE installations")

    message = await ask(rotating, "status")

    assert BILLING in message.text or BUCKET in message.text
    assert render.ROTATE not in str(message.blocks)
    assert "rotation_not_offered" in log.getvalue()


async def test_a_direct_result_is_a_choice_of_the_rules(rotating: Desk) -> None:
    """Where results go to channels only, the form does not offer it."""
    rotating.serve(replace(ROTATING, channels=frozenset({PLATFORM})))

    view = await open_rotation(rotating)

    assert "direct" not in view.values
