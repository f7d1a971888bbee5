"""The state of a bucket is shown before a token is pasted for it, and without a catalog no form opens."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.place import DIRECT
from bot.model.submission import State, Task
from bot.policy.rules import Allowlist
from bot.sandbox.modals import Modal
from bot.slack.messages import render
from bot.slack.stories.no_catalog import OPEN_ANYWAY, USE_SIMILAR
from bot.slack.stories.slot import Slot, describe_slot
from tests.desk import ADA, ANALYTICS, BUCKET, EVERYBODY, MALLORY, PLATFORM, TOKEN_TEXT, Desk, only
from tests.make import make_key

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LAKE = make_key("lake")
STORED = StoredCredential(
    key=LAKE,
    submission_id="V1",
    stored_by="U0ADA0001",
    stored_at=NOW - timedelta(days=50),
    channel_id="C1",
    token_id="0f" * 16,
    expires_at=NOW + timedelta(days=40),
    reminded_at=None,
    broken_at=None,
)
MAY_ENABLE = replace(EVERYBODY, may_enable=True)


def _slot(credential: CredentialStatus, stored: StoredCredential | None = None) -> Slot:
    catalog = Catalog(key=LAKE, status=CatalogStatus.ACTIVE, credential_status=credential)
    return Slot(key=LAKE, catalog=catalog, stored=stored, as_of=NOW - timedelta(minutes=2), now=NOW)


DESCRIBED = {
    "works": (_slot(CredentialStatus.VALID), "`lake`: the credential works. *It will be replaced.*"),
    "broken": (_slot(CredentialStatus.INVALID), "*the credential does not work*. *It will be replaced.*"),
    "present": (_slot(CredentialStatus.PRESENT), "it is not known whether it works. *It will be replaced.*"),
    "empty": (_slot(CredentialStatus.ABSENT), "`lake`: no credential. Nothing is replaced."),
    "not known": (
        _slot(CredentialStatus.UNKNOWN),
        "whether there is a credential. *Any credential there will be replaced.*",
    ),
    "not through this bot": (_slot(CredentialStatus.VALID), "Nothing was stored through this bot."),
    "by a user": (_slot(CredentialStatus.VALID, STORED), "Stored last by <@U0ADA0001> on <!date^"),
    "until when": (_slot(CredentialStatus.VALID, STORED), "UTC>, in 40 days."),
    "how old": (_slot(CredentialStatus.VALID), "2 minutes ago, Cloudflare said of `lake`: the"),
    "off": (
        replace(
            _slot(CredentialStatus.VALID),
            catalog=Catalog(key=LAKE, status=CatalogStatus.INACTIVE, credential_status=CredentialStatus.VALID),
        ),
        "the catalog of `lake` is switched off: enable it first",
    ),
    "not listed": (replace(_slot(CredentialStatus.VALID), catalog=None), "Cloudflare listed no catalog on `lake`"),
    "never asked": (replace(_slot(CredentialStatus.VALID), catalog=None, as_of=None), "does not know yet what"),
}


@pytest.mark.parametrize(("slot", "words"), DESCRIBED.values(), ids=DESCRIBED)
def test_a_slot_is_described(slot: Slot, words: str) -> None:
    """Its state, the effect of a new token, who stored the last one, when that expires, and how old this is."""
    assert words in describe_slot(slot)
    assert slot.needs_enabling is ("enable it first" in words or "listed no catalog" in words)


def _buttons(view: Modal) -> dict[str, dict[str, Any]]:
    elements = [each for block in view.blocks for each in block.get("elements", [])]
    return {each["text"]["text"]: each for each in elements if each["type"] == "button"}


def _press(desk: Desk, action: dict[str, Any]) -> dict[str, Any]:
    """Return Slack's payload for a press in Ada's view, to be forged."""
    view = desk.slack.modals.top(ADA)
    assert view is not None
    trigger_id = desk.slack.triggers.issue(view.user, view.channel_id)
    return {**desk.slack.payloads.view_action(view, action), "trigger_id": trigger_id}


async def _open(desk: Desk, text: str) -> Modal:
    assert await desk.command(text) == ""
    view = desk.slack.modal(ADA)
    assert view is not None
    assert desk.slack.problems == []
    return view


NO_CATALOG = {
    "old-events": ("Enable the catalog first", "is switched off"),
    "not-listed-yet": ("No catalog found", "Cloudflare listed no catalog on `not-listed-yet`: check the name"),
}


@pytest.mark.parametrize(("bucket", "title", "words"), [(each, *words) for each, words in NO_CATALOG.items()])
async def test_without_a_catalog_a_notice_opens_and_no_form(desk: Desk, bucket: str, title: str, words: str) -> None:
    """No one pastes a token that would be refused; a person with the right enables the catalog by a button."""
    desk.serve(MAY_ENABLE)

    view = await _open(desk, bucket)

    assert (view.title, view.has_submit, view.values) == (title, False, {})
    assert words in view.text
    assert set(_buttons(view)) == {"Enable the catalog", "Open the form anyway"}
    assert desk.looks == ["listed"]


async def test_a_misspelt_bucket_is_asked_about(desk: Desk) -> None:
    """The notice suggests buckets that this person may see, and a press opens the form for one.

    That button comes first: a typing error must not enable a catalog.
    """
    desk.serve(MAY_ENABLE)
    view = await _open(desk, "biling-exports")
    assert "Did you mean `billing-exports`?" in view.text
    assert list(_buttons(view)) == ["Use billing-exports", "Enable the catalog", "Open the form anyway"]

    await desk.slack.click(ADA, view, USE_SIMILAR)

    form = desk.slack.modal(ADA)
    assert form is not None
    assert (form.id, form.has_submit) == (view.id, True)
    assert form.values["bucket"]["bucket"]["selected_option"]["value"] == "billing-exports"

    desk.serve(only(buckets=("biling-*",)))
    assert "Did you mean" not in (await _open(desk, "biling-exports")).text


async def test_a_person_who_may_not_enable_reads_where_it_is_done(desk: Desk) -> None:
    """With a link, and without a button that would be refused."""
    view = await _open(desk, "old-events")

    assert set(_buttons(view)) == {"Open the form anyway"}
    assert "/r2/overview|Cloudflare dashboard>" in view.text


@pytest.mark.parametrize(("bucket", "place"), [("old-events", PLATFORM), ("not-listed-yet", PLATFORM)])
async def test_enabling_from_the_notice_is_recorded_and_shown_in_its_place(desk: Desk, bucket: str, place: str) -> None:
    """The result goes to the channel in which it was asked for; the notice's view shows the progress."""
    desk.serve(MAY_ENABLE)
    view = await _open(desk, bucket)

    await desk.slack.click(ADA, view, render.ENABLE)

    shown = desk.slack.modal(ADA)
    assert shown is not None
    assert (shown.id, shown.title) == (view.id, "Enabling...")
    recorded = await desk.submissions.find(view.id)
    assert recorded is not None
    assert (recorded.task, recorded.state, recorded.channel_id) == (Task.ENABLE, State.ACCEPTED, place)
    assert desk.dispatched == [make_key(bucket)]


FORBIDDEN: dict[str, tuple[str, str, Allowlist, str]] = {
    "enable, on no list": (render.ENABLE, MALLORY, MAY_ENABLE, "not on the list"),
    "enable, no longer allowed": (render.ENABLE, ADA, EVERYBODY, "does not enable catalogs"),
    "enable, another bucket": (render.ENABLE, ADA, replace(MAY_ENABLE, buckets=("billing-*",)), "for that bucket"),
    "enable, another channel": (
        render.ENABLE,
        ADA,
        replace(MAY_ENABLE, channels=frozenset({ANALYTICS})),
        "may not be used in that channel",
    ),
    "open, on no list": (OPEN_ANYWAY, MALLORY, MAY_ENABLE, "not on the list"),
    "open, another bucket": (OPEN_ANYWAY, ADA, replace(MAY_ENABLE, buckets=("billing-*",)), "for that bucket"),
}


@pytest.mark.parametrize(("action_id", "user", "allowlist", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
async def test_an_old_notice_grants_nothing(
    desk: Desk, action_id: str, user: str, allowlist: Allowlist, words: str
) -> None:
    """The person who presses is checked again: a client can send any value, and rights change."""
    desk.serve(MAY_ENABLE)
    view = await _open(desk, "old-events")
    action = next(each for each in _buttons(view).values() if each["action_id"] == action_id)
    payload = _press(desk, {"block_id": "x", **action})
    desk.serve(allowlist)

    await desk.deliver(payload | {"user": payload["user"] | {"id": user}})

    shown = desk.slack.modal(ADA)
    assert shown is not None
    assert words in shown.text
    assert not shown.has_submit
    assert desk.dispatched == []


async def test_the_form_can_be_opened_anyway(desk: Desk) -> None:
    """The list may be older than the catalog; the form says what is known, and its Submit is accepted."""
    notice = await _open(desk, "not-listed-yet")

    await desk.slack.click(ADA, notice, OPEN_ANYWAY)

    view = desk.slack.modal(ADA)
    assert view is not None
    assert (view.id, view.has_submit) == (notice.id, True)
    assert view.values["bucket"]["bucket"]["selected_option"]["value"] == "not-listed-yet"
    assert "Cloudflare listed no catalog on `not-listed-yet`" in view.text
    await desk.slack.fill(ADA, "token", TOKEN_TEXT)
    assert (await desk.slack.submit(ADA)).kind == "updated"
    assert desk.dispatched == [make_key("not-listed-yet")]


async def test_a_chosen_bucket_is_described_and_nothing_typed_is_lost(desk: Desk) -> None:
    """The half-typed token comes with the choice: it is neither shown nor stored, and stays in its field."""
    await _open(desk, "")
    await desk.slack.fill(ADA, "token", TOKEN_TEXT)
    await desk.slack.fill(ADA, "reason", "because")
    await desk.slack.fill(ADA, "check", ["check"])

    await desk.slack.fill(ADA, "bucket", "billing-exports")

    view = desk.slack.modal(ADA)
    assert view is not None
    assert "Cloudflare said of `billing-exports`: there is a credential" in view.text
    values = {block: next(iter(field.values())) for block, field in view.values.items()}
    assert values["bucket"]["selected_option"]["value"] == "billing-exports"
    assert values["token"]["value"] == TOKEN_TEXT
    assert values["reason"]["value"] == "because"
    assert [each["value"] for each in values["check"]["selected_options"]] == ["check"]
    assert values["channel"]["selected_conversation"] == PLATFORM
    assert TOKEN_TEXT not in str(desk.slack.calls_of("views.update"))
    assert (await desk.slack.submit(ADA)).kind == "updated"


async def test_a_chosen_bucket_without_a_catalog_causes_a_warning(desk: Desk) -> None:
    """What was typed stays; the form has the button that enables the catalog."""
    desk.serve(MAY_ENABLE)
    await _open(desk, BUCKET)

    await desk.slack.fill(ADA, "bucket", "old-events")

    view = desk.slack.modal(ADA)
    assert view is not None
    assert view.has_submit
    assert "is switched off" in view.text
    assert "has to be pasted again" in _buttons(view)["Enable the catalog"]["confirm"]["text"]["text"]


async def test_a_bucket_that_the_person_may_not_see_is_not_described(desk: Desk) -> None:
    """A client can send any choice: its state is shown only to people who may see it."""
    await _open(desk, "")
    payload = _press(desk, {"type": "external_select", "block_id": "bucket", "action_id": "bucket"})
    state = {"type": "external_select", "selected_option": {"value": "billing-exports"}}
    payload["view"]["state"]["values"]["bucket"] = {"bucket": state}
    desk.serve(only(buckets=("analytics-*",)))

    await desk.deliver(payload)

    assert desk.slack.calls_of("views.update") == []


async def test_a_result_for_the_person_alone_says_so(desk: Desk) -> None:
    """From a direct message with the bot, enabling is reported to the person alone."""
    desk.serve(MAY_ENABLE)
    outcome = await desk.slack.open_home(ADA)
    assert outcome.failure is None
    home = await desk.slack.wait_for_home(ADA)
    await desk.slack.click(ADA, home, "store_credential")
    await desk.slack.fill(ADA, "bucket", "old-events")
    view = desk.slack.modal(ADA)
    assert view is not None

    await desk.slack.click(ADA, view, render.ENABLE)

    recorded = await desk.submissions.find(view.id)
    assert recorded is not None
    assert recorded.channel_id == DIRECT
