"""Storing: who may open the form and submit it, what is checked again, and what is recorded."""

import io
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.move import Changes, Move
from bot.model.pasted_token import CONFIRMED
from bot.model.place import DIRECT
from bot.model.submission import State, Task
from bot.model.submission import TokenKind as PastedKind
from bot.policy.rules import Allowlist, People, Rule, Verb
from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Channel, dm_id
from bot.sealing.hpke import RESPONSE_URL, TOKEN, SealingContext
from bot.slack.api import CHANNEL_LIFETIME
from bot.slack.memberships import MEMBERSHIP_LIFETIME, SILENCE_LIFETIME
from bot.storage.accepting import MOST_OPEN_CHECKS
from tests.desk import (
    ADA,
    ANALYTICS,
    ARCHIVED,
    BUCKET,
    EVERYBODY,
    GRACE,
    GROUP,
    MALLORY,
    OUTSIDER,
    PARTNER,
    PLATFORM,
    PRIVATE,
    STRANGERS,
    TOKEN_TEXT,
    TTL,
    Desk,
    Forge,
    only,
    shown_in,
)
from tests.make import ACCOUNT, BAD_BUCKETS

# The command.


async def test_the_command_opens_the_form(desk: Desk) -> None:
    """The form carries only the nonce of an opening, and a refresh of the catalogs is triggered."""
    assert await desk.command() == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit
    assert re.fullmatch("[0-9a-f]{32}", view.private_metadata)
    assert view.values["channel"]["channel"]["selected_conversation"] == PLATFORM
    assert view.values["bucket"]["bucket"]["type"] == "external_select"
    assert desk.looks == ["listed"]
    assert desk.slack.problems == []


async def test_the_command_with_a_bucket_opens_the_form_filled_in(desk: Desk) -> None:
    """The bucket can be submitted as it is, and its state is shown."""
    assert await desk.command("billing-exports") == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == "billing-exports"
    assert "Cloudflare said of `billing-exports`: there is a credential" in view.text
    assert "*It will be replaced.* Nothing was stored through this bot." in view.text


@pytest.mark.parametrize("bucket", ["status", "history", "help", "store", BUCKET])
async def test_the_form_can_be_opened_for_any_bucket(desk: Desk, bucket: str) -> None:
    """Even for one that is named like a subcommand."""
    await desk.know_catalogs(bucket)

    assert await desk.command(f"store {bucket}") == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == bucket


ASKED_BACK = {
    "staus": "Did you mean `/r2-credential status`? For a bucket of that name, type `/r2-credential store staus`.",
    "staus lake": "Did you mean `/r2-credential status lake`?",
    "/help": "Did you mean `/r2-credential help`?",
    "hlep": "Did you mean `/r2-credential help`?",
}


@pytest.mark.parametrize(("text", "question"), ASKED_BACK.items(), ids=ASKED_BACK)
async def test_a_misspelt_subcommand_is_asked_about(desk: Desk, text: str, question: str) -> None:
    """No one means to store a credential for a bucket called "staus"; no form opens."""
    assert question in await desk.command(text)
    assert desk.slack.modal(ADA) is None


@pytest.mark.parametrize("text", ["staus", "store staus"])
async def test_an_existing_bucket_with_such_a_name_is_meant(desk: Desk, text: str) -> None:
    """If there is such a catalog."""
    await desk.know_catalogs("staus")

    assert await desk.command(text) == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == "staus"


async def test_a_bucket_that_the_person_may_not_see_does_not_count(desk: Desk) -> None:
    """The answer is the same as if it did not exist."""
    await desk.know_catalogs("staus")
    desk.serve(only(buckets=("billing-*",)))

    assert "no catalog of that name is known" in await desk.command("staus")


async def test_store_alone_opens_the_empty_form(desk: Desk) -> None:
    """As the command alone does."""
    assert await desk.command("store") == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"]["selected_option"] is None


async def test_without_a_list_of_catalogs_the_bucket_is_typed(desk: Desk) -> None:
    """A bot that never reached Cloudflare shows a plain field, not a dead type-ahead."""
    desk.execute("DELETE FROM snapshots")

    assert await desk.command(BUCKET) == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["bucket"]["bucket"] == {"type": "plain_text_input", "value": BUCKET}


async def test_each_form_has_its_own_opening(desk: Desk) -> None:
    """No nonce is used twice."""
    nonces = set()
    for _ in range(3):
        await desk.command()
        view = desk.slack.modal(ADA)
        assert view is not None
        nonces.add(view.private_metadata)

    assert len(nonces) == 3


@pytest.mark.parametrize("view_id", ["", "V", "v0madeup", "V0MADEUP\n", "V0MADEUP\0", None, ["V0MADEUP"]], ids=repr)
async def test_a_form_without_an_id_is_not_taken(desk: Desk, view_id: object) -> None:
    """The id becomes the submission's, and all empty ones would be the same."""
    await desk.open_form()
    payload = desk.slack.make_submission(ADA)
    payload["view"]["id"] = view_id

    answer = await desk.deliver(payload)

    assert answer["response_action"] == "errors"
    assert "open a new one" in shown_in(answer)
    assert desk.dispatched == []


async def test_a_reason_is_one_line(desk: Desk) -> None:
    """In the database, and so in every message and list: it cannot forge a line of the bot."""
    await desk.open_form(reason="ticket\u2800 \u2800 7\n\n \n:white_check_mark: *stored*\0\u202e by <@U0GRACE01>\u2028")

    await desk.slack.submit(ADA)

    recorded = await desk.find()
    assert recorded is not None
    assert recorded.reason == "ticket 7 :white_check_mark: *stored* by <@U0GRACE01>"


COMMANDS_REFUSED: dict[str, tuple[str, Allowlist, str]] = {
    "not listed": (MALLORY, EVERYBODY, "You are not on the list"),
    "not listed by id": (ADA, only(users=frozenset({GRACE}), usergroups=frozenset()), "You are not on the list"),
    "another channel": (ADA, only(channels=frozenset({ANALYTICS})), "may not be used in that channel"),
    "another bucket": (ADA, only(buckets=("billing-*",)), "does not store credentials for that bucket"),
}


@pytest.mark.parametrize(("user", "allowlist", "words"), COMMANDS_REFUSED.values(), ids=COMMANDS_REFUSED)
async def test_a_command_that_is_not_allowed_is_refused(
    desk: Desk, log: io.StringIO, user: str, allowlist: Allowlist, words: str
) -> None:
    """The refusal is ephemeral, names the contact, and is logged; no form opens."""
    desk.serve(allowlist)

    answer = await desk.command(BUCKET, user=user)

    assert words in answer
    assert "Please ask #data-platform." in answer
    assert desk.slack.modal(user) is None
    assert "form_refused" in log.getvalue()


async def test_without_a_contact_the_refusal_names_the_operator(desk: Desk) -> None:
    """A refused person always reads whom to ask."""
    desk.contact = ""
    desk.serve(EVERYBODY)

    assert "Please ask the operator of this bot." in await desk.command(user=MALLORY)


async def test_a_command_from_another_workspace_is_refused(desk: Desk) -> None:
    """A listed id does not help: the workspace in the payload decides."""
    payload = desk.slack.make_command(ADA, PLATFORM, f"/r2-credential {BUCKET}") | {"team_id": "T0PARTNER"}

    answer = await desk.slack.deliver("slash_commands", payload)

    assert "you belong to another one" in (answer.text or "")
    assert desk.slack.calls_of("views.open") == []


@pytest.mark.parametrize("after_effect", [False, True], ids=["before it opened", "after it opened"])
async def test_a_lost_connection_costs_no_form(desk: Desk, *, after_effect: bool) -> None:
    """It is open, and no one reads that the bot was late."""
    desk.slack.fail_next("views.open", drop_connection=True, after_effect=after_effect)

    assert await desk.command(BUCKET) == ""

    assert desk.slack.modal(ADA) is not None


TROUBLE: dict[str, tuple[str, str, str]] = {
    "group cannot be asked": ("usergroups.users.list", "internal_error", "Slack did not say who is in"),
    "scope for groups missing": (
        "usergroups.users.list",
        "missing_scope",
        "does not let the bot see who is in the user",
    ),
    "trigger expired": ("views.open", "expired_trigger_id", "waits three seconds"),
    "trigger used": ("views.open", "exchanged_trigger_id", "waits three seconds"),
    "Slack in trouble": ("views.open", "internal_error", "Slack could not process the bot's request"),
}


@pytest.mark.parametrize(("method", "error", "words"), TROUBLE.values(), ids=TROUBLE)
async def test_a_form_that_cannot_be_opened_is_explained(desk: Desk, method: str, error: str, words: str) -> None:
    """The person reads why and can try again."""
    desk.slack.fail_next(method, error=error)

    assert words in await desk.command(BUCKET)
    desk.clock.advance(MEMBERSHIP_LIFETIME)
    assert await desk.command(BUCKET) == ""


async def test_an_error_of_the_form_is_not_blamed_on_lateness(desk: Desk) -> None:
    """If Slack refuses it for another reason than a late trigger, typing the command again would not help."""
    desk.slack.fail_next("views.open", error="invalid_arguments")

    answer = await desk.command(BUCKET)

    assert answer == "Slack did not open the form (invalid_arguments). Please report it to the operator of the bot."


async def test_a_command_without_a_database_is_refused(desk: Desk) -> None:
    """Without a recorded opening, the form's Submit would be refused."""
    desk.execute("DROP TABLE openings")

    assert "could not record this" in await desk.command(BUCKET)
    assert desk.slack.modal(ADA) is None


# The submission.


async def test_a_submission_is_recorded_dispatched_and_acknowledged(desk: Desk) -> None:
    """The record has what was typed, the token only sealed; the form is replaced by the progress view."""
    await desk.open_form(reason=" ticket 7 ")

    outcome = await desk.slack.submit(ADA)

    assert outcome.view is not None
    assert (outcome.kind, outcome.view.title, outcome.view.has_submit) == ("updated", "Storing...", False)
    recorded = await desk.find()
    assert recorded is not None
    assert recorded.state is State.ACCEPTED
    assert (recorded.user_id, recorded.team_id) == (ADA, "T0SANDBOX")
    assert (recorded.channel_id, recorded.reason) == (PLATFORM, "ticket 7")
    assert (recorded.token_kind, recorded.last_four) == (PastedKind.ACCOUNT, TOKEN_TEXT[-4:])
    assert (recorded.accepted_at, recorded.expires_at) == (desk.clock(), desk.clock() + TTL)
    assert desk.dispatched == [BucketKey(account_id=ACCOUNT, bucket=BUCKET)]


async def test_a_recorded_token_opens_for_its_own_submission(desk: Desk) -> None:
    """The context of the record is the one under which the ingress sealed it."""
    await desk.open_form()
    await desk.slack.submit(ADA)
    recorded = await desk.find()
    assert recorded is not None

    context = SealingContext.of(recorded, TOKEN)

    sealed = await desk.find_sealed()
    assert desk.key_ring.open(sealed.token or "", context).reveal() == TOKEN_TEXT
    url = desk.key_ring.open(sealed.response_url or "", replace(context, purpose=RESPONSE_URL))
    assert url.reveal().startswith(f"{desk.slack.url}response/")


TOKEN_ERRORS: dict[str, tuple[str, str]] = {
    "a Global API key": ("5a4db" * 8, "Global API key"),
    "a Global API key in today's format": (f"cfk_{'a' * 40}5a4db0c1", "Global API key"),
    "an OAuth token": (f"cfoat_{'a' * 40}5a4db0c1", "OAuth token"),
    "the secret of an S3 key pair": ("5a4d" * 16, "Secret Access Key"),
    "the id of an S3 key pair": ("5a4d" * 8, "Access Key ID"),
    "two tokens": (f"{TOKEN_TEXT}\n{TOKEN_TEXT}", "more than one word"),
    "too short": ("hunter2", "not a Cloudflare API token"),
    "nothing but blanks": (" \u200b ", "Paste the Cloudflare API token."),
}


@pytest.mark.parametrize(("pasted", "words"), TOKEN_ERRORS.values(), ids=TOKEN_ERRORS)
async def test_an_unfit_token_is_reported_at_the_field(desk: Desk, pasted: str, words: str) -> None:
    """The form stays, with the fix at the token, and nothing is recorded."""
    await desk.open_form(token=pasted)

    outcome = await desk.slack.submit(ADA)

    assert list(outcome.errors) == ["token"]
    assert words in outcome.errors["token"]
    assert await desk.find() is None
    assert desk.dispatched == []


async def _open_check(desk: Desk) -> None:
    await desk.open_form()
    await desk.slack.fill(ADA, "check", ["check"])


async def test_one_check_too_many_is_reported_in_the_form(desk: Desk) -> None:
    """The form stays; unticked, the same one stores."""
    for _ in range(MOST_OPEN_CHECKS):
        await _open_check(desk)
        await desk.slack.submit(ADA)
        await desk.slack.close(ADA)
    desk.dispatched.clear()
    await _open_check(desk)

    outcome = await desk.slack.submit(ADA)

    assert list(outcome.errors) == ["check"]
    assert "You have 5 checks in progress" in outcome.errors["check"]
    assert (await desk.find(), desk.dispatched) == (None, [])
    await desk.slack.fill(ADA, "check", [])
    assert (await desk.slack.submit(ADA)).kind == "updated"
    recorded = await desk.find()
    assert recorded is not None
    assert recorded.task is Task.STORE


CHANNEL_ERRORS: dict[str, tuple[str, str]] = {
    "archived": (ARCHIVED, "archived"),
    "shared with another company": (PARTNER, "shared with another company"),
    "not allowed": (ANALYTICS, "may not post in this channel"),
    "none": ("", "Choose the channel to which the result is posted."),
    "the bot's direct message": ("D0ADA0001", "not a channel"),
    "a direct message of other people": ("D0PARTNER", "not a channel"),
    "a person": (MALLORY, "Choose the channel"),
    "no id of Slack's": ("#data-platform", "Choose the channel"),
}


@pytest.mark.parametrize(("channel", "words"), CHANNEL_ERRORS.values(), ids=CHANNEL_ERRORS)
async def test_an_unfit_channel_is_reported_at_the_field(desk: Desk, channel: str, words: str) -> None:
    """Even if a client sends a channel that the form does not offer."""
    desk.serve(only(channels=frozenset({PLATFORM, PARTNER, ARCHIVED})))
    await desk.open_form()
    payload = desk.slack.make_submission(ADA)
    payload["view"]["state"]["values"]["channel"]["channel"]["selected_conversation"] = channel or None

    answer = await desk.deliver(payload)

    assert answer["response_action"] == "errors"
    assert list(answer["errors"]) == ["channel"]
    assert words in answer["errors"]["channel"]
    assert await desk.find() is None


async def test_without_a_channel_the_direct_message_is_offered(desk: Desk) -> None:
    """No one is left with a field that offers no channel."""
    await desk.open_form(channel="")

    refused = await desk.slack.submit(ADA)
    await desk.slack.fill(ADA, "direct", ["direct"])
    taken = await desk.slack.submit(ADA)

    assert refused.errors == {"channel": "Choose a channel, or tick below that the result is sent to you directly."}
    assert taken.kind == "updated"


@pytest.mark.parametrize("channel", ["", PLATFORM, PARTNER, "U0MALLORY", "D0PARTNER"])
async def test_a_direct_message_goes_to_the_person_alone(desk: Desk, channel: str) -> None:
    """Whatever else the form says: no channel and no response URL of one are recorded."""
    await desk.open_form(direct="direct")
    payload = desk.slack.make_submission(ADA)
    payload["view"]["state"]["values"]["channel"]["channel"]["selected_conversation"] = channel or None
    desk.slack.calls.clear()

    answer = await desk.deliver(payload)

    assert answer["response_action"] == "update"
    recorded = await desk.find()
    assert recorded is not None
    assert (recorded.channel_id, recorded.user_id) == (DIRECT, ADA)
    assert (await desk.find_sealed()).response_url is None
    assert desk.slack.calls_of("conversations.info") == []


async def test_in_a_direct_message_with_the_bot_the_result_goes_there(desk: Desk) -> None:
    """It is the default, and the person need not choose anything."""
    assert await desk.command(BUCKET, channel=dm_id(ADA)) == ""
    await desk.slack.fill(ADA, "token", TOKEN_TEXT)

    assert (await desk.slack.submit(ADA)).kind == "updated"

    recorded = await desk.find()
    assert recorded is not None
    assert recorded.channel_id == DIRECT


WITH_OTHERS = {
    "two people": Channel(id="D0PARTNER", name="oscar", is_im=True, is_ext_shared=True, members=frozenset({ADA})),
    "several people": Channel(id="G0PARTNER", name="ada--oscar", is_mpim=True, members=frozenset({ADA})),
    "several people, as Slack names them today": Channel(
        id="C0PEOPLE1", name="ada--oscar", is_mpim=True, is_ext_shared=True, members=frozenset({ADA})
    ),
}


@pytest.mark.parametrize("conversation", WITH_OTHERS.values(), ids=WITH_OTHERS)
async def test_a_direct_message_between_people_is_refused_for_a_result(desk: Desk, conversation: Channel) -> None:
    """Another company may take part in it: it is neither the form's default nor accepted."""
    desk.slack.workspace.change_channel(conversation)
    assert await desk.command(BUCKET, channel=conversation.id) == ""
    view = desk.slack.modal(ADA)
    assert view is not None
    await desk.slack.fill(ADA, "token", TOKEN_TEXT)
    payload = desk.slack.make_submission(ADA)
    values = payload["view"]["state"]["values"]
    values["channel"]["channel"]["selected_conversation"] = conversation.id
    values["direct"]["direct"]["selected_options"] = []

    answer = await desk.deliver(payload)

    assert view.values["channel"]["channel"]["selected_conversation"] is None
    assert view.values["direct"]["direct"]["selected_options"] != []
    assert list(answer["errors"]) == ["channel"]
    assert "hoose" in answer["errors"]["channel"]
    assert await desk.find() is None


NAMES = ["privategroup", "ada--oscar", "", None, 7]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_reported", [False, True], ids=["by the scope that it lacks", "by Slack"])
@pytest.mark.parametrize("channel_id", ["G0PARTNER", "C0PEOPLE1"])
async def test_a_group_message_is_looked_up_by_any_name(
    desk: Desk, channel_id: str, name: object, *, is_reported: bool
) -> None:
    """The form offers the direct message there, and no one reads of scopes."""
    people = Channel(id=channel_id, name="x", is_mpim=True, bot_is_member=True, members=frozenset({ADA}))
    desk.slack.workspace.change_channel(people)
    if is_reported:
        scopes = (*desk.slack.config.scopes, "mpim:read")
        desk.slack.workspace.config = replace(desk.slack.workspace.config, scopes=scopes)
    payload = desk.slack.make_command(ADA, channel_id, f"/r2-credential {BUCKET}") | {"channel_name": name}

    answer = await desk.slack.deliver("slash_commands", payload)

    assert not answer.text
    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["channel"]["channel"]["selected_conversation"] is None
    assert view.values["direct"]["direct"]["selected_options"] != []
    await desk.slack.fill(ADA, "token", TOKEN_TEXT)
    assert (await desk.slack.submit(ADA)).kind == "updated"
    recorded = await desk.find()
    assert recorded is not None
    assert recorded.channel_id == DIRECT


@pytest.mark.parametrize("trouble", [{"status": 503}, {"error": "missing_scope"}, {"drop_connection": True}], ids=str)
async def test_the_form_opens_even_if_the_channel_lookup_fails(desk: Desk, trouble: dict[str, Any]) -> None:
    """The lookup is repeated at Submit."""
    desk.slack.fail_next("conversations.info", times=4, **trouble)

    assert await desk.command(BUCKET) == ""

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.values["channel"]["channel"]["selected_conversation"] == PLATFORM


async def test_where_channels_are_listed_no_direct_message_is_offered(desk: Desk) -> None:
    """The list says where results go: no one may keep theirs from the channel that should read it."""
    desk.serve(only(channels=frozenset({PLATFORM})))
    await desk.open_form()
    view = desk.slack.modal(ADA)
    assert view is not None
    payload = desk.slack.make_submission(ADA)
    payload["view"]["state"]["values"]["direct"] = {"direct": {"selected_options": [{"value": "direct"}]}}

    answer = await desk.deliver(payload)

    assert "direct" not in view.block_ids
    assert list(answer["errors"]) == ["channel"]
    assert "go to channels only" in answer["errors"]["channel"]
    assert await desk.find() is None


@pytest.mark.parametrize("channel", [PRIVATE, ANALYTICS])
async def test_a_channel_without_the_bot_is_accepted(desk: Desk, channel: str) -> None:
    """The response URL brings the result there."""
    await desk.open_form(channel=channel)

    assert (await desk.slack.submit(ADA)).kind == "updated"


ASKING_FAILS: dict[str, tuple[str, str]] = {
    "Slack in trouble": ("internal_error", "try again in a moment"),
    "rate limit": ("ratelimited", "try again in a moment"),
    "scope missing": ("missing_scope", "(missing_scope). Report it to the bot's operator."),
}


@pytest.mark.parametrize(("error", "words"), ASKING_FAILS.values(), ids=ASKING_FAILS)
async def test_a_failed_channel_lookup_is_reported_at_the_field(desk: Desk, error: str, words: str) -> None:
    """Nothing is recorded while the result's place is unknown; pressing Store again is enough."""
    await desk.open_form()
    desk.clock.advance(CHANNEL_LIFETIME)
    desk.slack.fail_next("conversations.info", error=error)

    refused = await desk.slack.submit(ADA)
    taken = await desk.slack.submit(ADA)

    assert list(refused.errors) == ["channel"]
    assert words in refused.errors["channel"]
    assert taken.kind == "updated"


async def test_all_slips_are_reported_at_once_each_at_its_field(desk: Desk) -> None:
    """No one has to press Store once for each mistake."""
    desk.execute("DELETE FROM snapshots")
    await desk.open_form(token="hunter2")
    payload = desk.slack.make_submission(ADA)
    values = payload["view"]["state"]["values"]
    values["bucket"]["bucket"]["value"] = "No Bucket"
    values["channel"]["channel"]["selected_conversation"] = ARCHIVED
    values["reason"]["reason"]["value"] = "x" * 301

    answer = await desk.deliver(payload)

    assert set(answer["errors"]) == {"bucket", "token", "channel", "reason"}
    assert "3 to 63 characters" in answer["errors"]["bucket"]
    assert "Shorten the reason to 300 characters; it has 301." in answer["errors"]["reason"]
    assert await desk.find() is None


@pytest.mark.parametrize("bucket", [*BAD_BUCKETS.values(), ""], ids=[*BAD_BUCKETS, "nothing"])
async def test_a_bad_bucket_name_is_reported_at_the_field(desk: Desk, bucket: str) -> None:
    """A client can also send any name as a chosen option."""
    await desk.open_form()
    payload = desk.slack.make_submission(ADA)
    payload["view"]["state"]["values"]["bucket"]["bucket"]["selected_option"]["value"] = bucket

    assert list((await desk.deliver(payload))["errors"]) == ["bucket"]


@pytest.mark.parametrize(("field", "text"), [("bucket", TOKEN_TEXT), ("reason", f"new: {TOKEN_TEXT}")])
async def test_a_token_in_another_field_is_refused_with_the_advice_to_revoke_it(
    desk: Desk, field: str, text: str
) -> None:
    """The advice is at the field, and the token is not repeated."""
    desk.execute("DELETE FROM snapshots")
    await desk.open_form()
    await desk.slack.fill(ADA, field, text)

    outcome = await desk.slack.submit(ADA)

    assert list(outcome.errors) == [field]
    assert "Revoke it in Cloudflare" in outcome.errors[field]
    assert "MADEUP" not in outcome.errors[field]


COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"
SHA_256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DIGESTS = {
    "a commit": (COMMIT, CONFIRMED),
    "a commit in a link": (f"see https://git.test/r/commit/{COMMIT}.", f"see https://git.test/r/commit/{CONFIRMED}."),
    "a checksum": (f"state sha256:{SHA_256}", f"state sha256:{CONFIRMED}"),
    "a checksum in capitals": (SHA_256.upper(), CONFIRMED),
    "both": (f"{COMMIT} {SHA_256}", f"{CONFIRMED} {CONFIRMED}"),
}


@pytest.mark.parametrize(("reason", "recorded"), DIGESTS.values(), ids=DIGESTS)
async def test_a_commit_or_checksum_in_the_reason_is_sent_masked_after_a_warning(
    desk: Desk, reason: str, recorded: str
) -> None:
    """It may be a token, and no shape distinguishes them: the first Submit warns, the second one is taken."""
    await desk.open_form(reason=reason)

    warned = await desk.slack.submit(ADA)

    assert list(warned.errors) == ["reason"]
    assert "If it is a commit or a checksum, press the button again" in warned.errors["reason"]
    assert await desk.find() is None

    assert (await desk.slack.submit(ADA)).kind == "updated"

    submission = await desk.find()
    assert submission is not None
    assert submission.reason == recorded
    assert COMMIT.encode() not in desk.database_path.read_bytes()


NEVER_SENT = {
    "a token": TOKEN_TEXT,
    "an older token": "MadeUp0123456789abcdefghijklmnopqrstuvwx",
    "a token and a commit": f"{TOKEN_TEXT} {COMMIT}",
    "a token that ends like a commit": f"cfut_{COMMIT}",
    "a Global API key": COMMIT[:37],
    "an older token in two cases": COMMIT.replace("f", "F"),
    "a foreign token": f"ghp_{COMMIT[:36]}",
    "a foreign token around a commit": f"SG.{COMMIT}.{COMMIT}",
    "hexadecimal digits of no such length": COMMIT + "0",
}


@pytest.mark.parametrize("secret", NEVER_SENT.values(), ids=NEVER_SENT)
async def test_a_reason_with_a_token_is_never_taken(desk: Desk, secret: str) -> None:
    """Neither at the second Submit, nor in a form that has warned of a commit."""
    await desk.open_form(reason=COMMIT)
    await desk.slack.submit(ADA)
    await desk.slack.fill(ADA, "reason", f"new: {secret}")

    for _ in range(2):
        outcome = await desk.slack.submit(ADA)
        assert "Revoke it in Cloudflare" in outcome.errors["reason"]
    assert await desk.find() is None


async def test_each_form_warns_of_a_commit(desk: Desk) -> None:
    """Who confirmed one word has not confirmed the next."""
    await desk.open_form(reason=COMMIT)
    await desk.slack.submit(ADA)

    await desk.open_form(reason=COMMIT)

    assert list((await desk.slack.submit(ADA)).errors) == ["reason"]


async def test_a_confirmed_commit_is_not_asked_about_again(desk: Desk) -> None:
    """Such as by "Try again", which fills in the reason as it was recorded."""
    await desk.open_form(reason=f"deploy {CONFIRMED}")

    assert (await desk.slack.submit(ADA)).kind == "updated"


async def test_a_bucket_that_is_not_served_is_reported_at_the_field(desk: Desk) -> None:
    """The list may have been narrowed since the form was opened."""
    await desk.open_form()
    desk.serve(only(buckets=("billing-*",)))

    outcome = await desk.slack.submit(ADA)

    assert "does not store credentials for that bucket" in outcome.errors["bucket"]
    assert await desk.find() is None


async def test_a_channel_that_this_person_may_not_use_is_reported_at_the_field(desk: Desk) -> None:
    """Others may post there."""
    desk.serve(
        Rule(name="of Ada", who=People(users=frozenset({ADA})), channels=frozenset({PLATFORM})),
        Rule(name="of Grace", who=People(users=frozenset({GRACE})), channels=frozenset({ANALYTICS})),
    )
    await desk.open_form(channel=ANALYTICS)

    outcome = await desk.slack.submit(ADA)

    assert outcome.errors == {"channel": "The bot may not post in this channel. Choose another one."}
    assert desk.dispatched == []


EVERYONE = People(usergroups=frozenset({GROUP}))


async def test_a_bucket_that_is_not_allowed_in_the_channel_is_reported_at_the_field(desk: Desk) -> None:
    """Each is allowed alone; nothing is recorded, and the token stays in the form."""
    desk.serve(
        Rule(name="one bucket", who=EVERYONE, buckets=(BUCKET,), channels=frozenset({PLATFORM})),
        Rule(name="others", who=EVERYONE, buckets=("billing-*",)),
    )
    await desk.open_form(channel=ANALYTICS)

    outcome = await desk.slack.submit(ADA)

    assert outcome.errors is not None
    assert "may not be used for that bucket in that channel" in outcome.errors["channel"]
    assert (await desk.find(), desk.dispatched) == (None, [])


VERBS: dict[str, tuple[Verb, bool, str]] = {
    "store, and may only check": (Verb.CHECK, False, "tick this"),
    "check, and may only store": (Verb.STORE, True, "untick this"),
}


@pytest.mark.parametrize(("verb", "is_ticked", "words"), VERBS.values(), ids=VERBS)
async def test_what_may_not_be_done_is_reported_at_the_tick(
    desk: Desk, verb: Verb, words: str, *, is_ticked: bool
) -> None:
    """Who may do one of the two gets the form, which holds both."""
    desk.serve(Rule(name="one verb", who=EVERYONE, verbs=frozenset({verb})))
    await desk.open_form()
    if is_ticked:
        await desk.slack.fill(ADA, "check", "check")

    outcome = await desk.slack.submit(ADA)

    assert outcome.errors is not None
    assert words in outcome.errors["check"]
    assert (await desk.find(), desk.dispatched) == (None, [])


STRICT = Rule(
    name="strict", who=EVERYONE, buckets=(BUCKET,), require_reason=True, max_token_lifetime=timedelta(days=90)
)


NO_REASONS = {
    "empty": "",
    "blank": "  ",
    "of Braille blanks": "\u2800\u2800",
    "invisible": "\u3164\u200b\u180b\U0001d159",
    "of dots": "...",
    "a commit, which is masked": COMMIT,
    "masked words alone": f"{CONFIRMED}, {CONFIRMED}",
}


@pytest.mark.parametrize("reason", NO_REASONS.values(), ids=NO_REASONS)
async def test_a_reason_is_required_where_the_rule_says_so(desk: Desk, reason: str) -> None:
    """The rule that decides; the form says so before, with the limit of a token's life."""
    desk.serve(STRICT, Rule(name="others", who=EVERYONE))
    await desk.open_form(reason=reason)
    view = desk.slack.modal(ADA)
    assert view is not None
    assert "Needed here." in view.text
    assert "90 days" in view.text

    outcome = await desk.slack.submit(ADA)

    assert outcome.errors == {"reason": "Say why, in words: for this bucket and channel, a reason is needed."}
    assert desk.dispatched == []


@pytest.mark.parametrize("approvals", [0, 1])
async def test_the_form_says_that_another_person_has_to_approve(desk: Desk, approvals: int) -> None:
    """Before anything is pasted, where that is certain."""
    desk.serve(Rule(name="eyes", who=EVERYONE, approvals=approvals, approvers=EVERYONE))
    await desk.open_form()
    view = desk.slack.modal(ADA)
    assert view is not None
    assert ("Another person has to approve it" in view.text) is (approvals == 1)


@pytest.mark.parametrize(("forge", "words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_cannot_submit(desk: Desk, log: io.StringIO, forge: Forge, words: str) -> None:
    """An open form proves nothing: the person who presses Store is checked again."""
    await desk.open_form()

    answer = await desk.deliver(forge(desk.slack.make_submission(ADA)))

    assert words in shown_in(answer)
    assert answer["view"]["title"]["text"] == "Nothing was sent"
    assert await desk.find() is None
    assert desk.dispatched == []
    assert "submission_refused" in log.getvalue()


async def test_an_outsider_cannot_submit(desk: Desk) -> None:
    """As Slack sends it for a person of another company, with the id of a listed one."""
    await desk.open_form()

    answer = await desk.deliver(desk.slack.make_submission(ADA, as_user=OUTSIDER))

    assert "you belong to another one" in shown_in(answer)
    assert await desk.find() is None


async def test_a_person_who_left_the_group_meanwhile_cannot_submit(desk: Desk) -> None:
    """The form was opened by a member who is none at Submit."""
    await desk.open_form()
    desk.change_group(GRACE)

    outcome = await desk.slack.submit(ADA)

    assert outcome.view is not None
    assert "not on the list" in outcome.view.text
    assert "Please ask #data-platform." in outcome.view.text
    assert not outcome.view.has_submit


async def test_without_an_answer_of_slack_no_one_can_submit(desk: Desk) -> None:
    """In doubt the answer is no, with that reason; the form stays, since the doubt passes."""
    await desk.open_form()
    desk.clock.advance(MEMBERSHIP_LIFETIME)
    desk.slack.fail_next("usergroups.users.list", status=503)

    refused = await desk.slack.submit(ADA)
    desk.clock.advance(SILENCE_LIFETIME)
    taken = await desk.slack.submit(ADA)

    assert "Slack did not say who is in the user groups" in refused.errors["token"]
    assert taken.kind == "updated"
    assert len(desk.dispatched) == 1


async def test_a_person_who_left_meanwhile_still_sees_the_outcome_of_an_earlier_submit(desk: Desk) -> None:
    """It was recorded when it was allowed: "nothing was sent" would be a lie."""
    await desk.open_form()
    payload = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    await desk.deliver(payload[0])
    desk.change_group(GRACE)

    answer = await desk.deliver(payload[1])

    assert answer["view"]["title"]["text"] == "Storing..."
    assert len(desk.dispatched) == 1


@pytest.mark.parametrize(("forge", "words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_sees_nothing_of_an_earlier_submit(desk: Desk, forge: Forge, words: str) -> None:
    """Knowing a view's id gives no access to its outcome."""
    await desk.open_form()
    payload = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    await desk.deliver(payload[0])
    forged = forge(payload[1]) | {"user": forge(payload[1])["user"] | {"id": MALLORY}}

    answer = await desk.deliver(forged)

    assert "Nothing was sent" in shown_in(answer)
    assert BUCKET not in shown_in(answer)


async def test_a_refused_person_reads_no_lie_when_the_database_is_down(desk: Desk) -> None:
    """It is unknown then whether the same submission was recorded before."""
    await desk.open_form()
    desk.change_group(GRACE)
    desk.execute("ALTER TABLE submissions RENAME TO elsewhere")

    outcome = await desk.slack.submit(ADA)

    assert list(outcome.errors) == ["token"]


# The opening.


def with_nonce(nonce: str) -> Forge:
    """Name another opening."""
    return lambda payload: payload | {"view": payload["view"] | {"private_metadata": nonce}}


def as_grace(payload: JsonObject) -> JsonObject:
    """Replace the person who opened the form by another listed one."""
    return payload | {"user": payload["user"] | {"id": GRACE}}


OPENINGS: dict[str, tuple[Forge, str]] = {
    "unknown": (with_nonce("nobody-opened-this"), "does not know this form"),
    "none": (with_nonce(""), "does not know this form"),
    "a pattern": (with_nonce("%"), "does not know this form"),
    "another person's": (as_grace, "opened for someone else"),
}


@pytest.mark.parametrize(("forge", "words"), OPENINGS.values(), ids=OPENINGS)
async def test_a_form_that_was_not_opened_by_this_person_is_not_taken(desk: Desk, forge: Forge, words: str) -> None:
    """The notice says why, that nothing was sent, and how to start again."""
    await desk.open_form()

    answer = await desk.deliver(forge(desk.slack.make_submission(ADA)))

    assert words in shown_in(answer)
    assert "Nothing was sent to Cloudflare, and the token you pasted was not kept." in shown_in(answer)
    assert await desk.find() is None
    assert desk.dispatched == []


async def test_a_form_is_valid_for_one_view(desk: Desk) -> None:
    """The nonce of a submitted form does not admit another view."""
    await desk.open_form()
    payload = desk.slack.make_submission(ADA)
    await desk.deliver(desk.slack.make_submission(ADA))

    answer = await desk.deliver(payload | {"view": payload["view"] | {"id": "V0ANOTHER"}})

    assert "submitted before" in shown_in(answer)
    assert await desk.submissions.find("V0ANOTHER") is None


@pytest.mark.parametrize(("age", "is_taken"), [(timedelta(minutes=59, seconds=59), True), (timedelta(hours=1), False)])
async def test_a_form_is_valid_for_an_hour(desk: Desk, age: timedelta, *, is_taken: bool) -> None:
    """After that it has to be opened again."""
    await desk.open_form()
    desk.clock.advance(age)

    outcome = await desk.slack.submit(ADA)

    assert outcome.view is not None
    assert ("open for more than an hour" in outcome.view.text) is not is_taken
    assert (await desk.find() is not None) is is_taken


async def test_form_errors_do_not_use_up_the_opening(desk: Desk) -> None:
    """After a slip the person can press Store again, in the same form."""
    await desk.open_form(token="hunter2")
    assert (await desk.slack.submit(ADA)).kind == "errors"

    await desk.slack.fill(ADA, "token", TOKEN_TEXT)

    assert (await desk.slack.submit(ADA)).kind == "updated"


# A repeated Submit.


async def test_a_repeated_submit_replaces_a_token_not_sent_yet(desk: Desk) -> None:
    """The last token counts, and there is still one submission."""
    other = make_token(Behaviour.GOOD, number=1234)
    await desk.open_form()
    first, second = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    second["view"]["state"]["values"]["token"]["token"]["value"] = other

    await desk.deliver(first)
    answer = await desk.deliver(second)

    recorded = await desk.find()
    assert recorded is not None
    assert recorded.last_four == other[-4:] != TOKEN_TEXT[-4:]
    assert answer["view"]["title"]["text"] == "Storing..."
    assert len(desk.dispatched) == 2


async def bring_to(desk: Desk, state: State) -> None:
    """Let a delivery bring the submission to that state."""
    for to in (State.VERIFYING, State.STORING, State.CONFIRMING, State.STORED):
        recorded = await desk.find()
        assert recorded is not None
        confirmation = CredentialStatus.PRESENT if to is State.STORED else None
        changes = Changes(attempts=1, possibly_written=True, confirmation=confirmation)
        lease = await desk.submissions.take(recorded.key)
        assert await desk.submissions.apply(recorded, Move(to=to, at=desk.clock(), changes=changes), lease)
        if to is state:
            return


async def test_a_repeated_submit_after_sending_shows_the_state(desk: Desk) -> None:
    """A running delivery is not changed."""
    await desk.open_form()
    first, second = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    second["view"]["state"]["values"]["token"]["token"]["value"] = make_token(Behaviour.GOOD, number=1234)
    await desk.deliver(first)
    recorded = await desk.find()
    assert recorded is not None
    sealed = await desk.find_sealed()
    await bring_to(desk, State.STORING)

    answer = await desk.deliver(second)

    under_way = await desk.find()
    assert under_way is not None
    assert await desk.find_sealed() == sealed
    assert under_way.last_four == recorded.last_four
    assert ":hourglass_flowing_sand:  Store it at Cloudflare" in shown_in(answer)
    assert len(desk.dispatched) == 1


async def test_a_repeated_submit_after_the_end_shows_the_result(desk: Desk) -> None:
    """Nothing is stored a second time."""
    await desk.open_form()
    first, second = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    await desk.deliver(first)
    await bring_to(desk, State.STORED)

    answer = await desk.deliver(second)

    assert answer["view"]["title"]["text"] == "Credential stored"
    assert len(desk.dispatched) == 1


@pytest.mark.parametrize("may_use", [True, False], ids=["allowed", "no longer allowed"])
async def test_a_damaged_record_is_reported_and_nothing_is_claimed(desk: Desk, *, may_use: bool) -> None:
    """The outcome of the first Submit cannot be read: "nothing was sent" could be a lie."""
    await desk.open_form()
    first, second = desk.slack.make_submission(ADA), desk.slack.make_submission(ADA)
    await desk.deliver(first)
    desk.execute("UPDATE submissions SET state = 'walking'")
    if not may_use:
        desk.change_group(GRACE)

    answer = await desk.deliver(second)

    assert "The bot's own record of this is damaged" in answer["errors"]["token"]
    assert len(desk.dispatched) == 1


async def test_a_database_that_is_down_keeps_the_form(desk: Desk, log: io.StringIO) -> None:
    """Since it was certainly not recorded, the form stays open, and the person can press again.

    The reference that the person reads is in the log.
    """
    await desk.open_form()
    desk.execute("ALTER TABLE submissions RENAME TO elsewhere")

    refused = await desk.slack.submit(ADA)
    desk.execute("ALTER TABLE elsewhere RENAME TO submissions")
    taken = await desk.slack.submit(ADA)

    assert refused.kind == "errors"
    assert "could not record this, so it sent nothing to Cloudflare" in refused.errors["token"]
    [failed] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "recording_failed"]
    assert (failed["level"], failed["user"], failed["error"]) == ("warning", ADA, "database_unavailable")
    assert f"Reference: {failed['reference']}" in refused.errors["token"]
    assert taken.kind == "updated"
    assert len(desk.dispatched) == 1
