"""The fake Slack, tested with software that we did not write: Bolt, its Socket Mode client and Slack's Web client."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.answers import TROUBLE
from bot.sandbox.modals import REQUIRED, Modal
from bot.sandbox.process import find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import OUTSIDERS, PATIENCE, Channel, FakeSlackConfig, ImpossibleStepError, User, fits_filter

JsonObject = dict[str, Any]

ADA, GRACE, MALLORY = "U0ADA0001", "U0GRACE01", "U0MALLORY"
HERE, PUBLIC, PRIVATE, SHARED, ARCHIVED = "C0DATAPLT", "C0ANALYTX", "G0INCID42", "C0PARTNER", "C0OLDWARE"
CONFIG = FakeSlackConfig(answer_timeout=PATIENCE)
IMPATIENT = replace(CONFIG, answer_timeout=timedelta(milliseconds=60))
OUTSIDER = User(id="U0OUTSIDE", name="oscar", real_name="Oscar Outside", team_id="T0ACME")
BOT_TOKEN = "xoxb-sandbox-bot"
BRIEFLY = timedelta(milliseconds=50)
STEADY = 60
"""Seconds between two pings of the SDK: with a shorter time it takes a busy machine's connection for a dead one."""


def plain(text: str) -> JsonObject:
    """Return a plain text object."""
    return {"type": "plain_text", "text": text}


OPTIONS = [
    {"text": plain("Events"), "value": "events", "description": plain("present")},
    {"text": plain("Logs"), "value": "logs"},
]
FORM: JsonObject = {
    "type": "modal",
    "callback_id": "form",
    "private_metadata": "nonce",
    "notify_on_close": True,
    "title": plain("Form"),
    "submit": plain("Submit"),
    "close": plain("Cancel"),
    "blocks": [
        {
            "type": "input",
            "block_id": "bucket",
            "label": plain("Bucket"),
            "element": {"type": "external_select", "action_id": "bucket_pick", "min_query_length": 1},
        },
        {
            "type": "input",
            "block_id": "token",
            "label": plain("Token"),
            "element": {"type": "plain_text_input", "action_id": "token_text", "min_length": 2, "max_length": 20},
        },
        {
            "type": "input",
            "block_id": "channel",
            "label": plain("Channel"),
            "element": {
                "type": "conversations_select",
                "action_id": "channel_pick",
                "default_to_current_conversation": True,
                "response_url_enabled": True,
            },
        },
        {
            "type": "input",
            "block_id": "extras",
            "optional": True,
            "dispatch_action": True,
            "label": plain("Extras"),
            "element": {"type": "checkboxes", "action_id": "extra_boxes", "options": OPTIONS},
        },
        {
            "type": "actions",
            "block_id": "row",
            "elements": [{"type": "button", "action_id": "help", "text": plain("?")}],
        },
    ],
}
DONE: JsonObject = {
    "type": "modal",
    "callback_id": "done",
    "title": plain("Done"),
    "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*stored*"}}],
}


@dataclass
class Rig:
    """The fake Slack and a Bolt app connected to it."""

    slack: FakeSlack
    app: AsyncApp
    handler: AsyncSocketModeHandler | None = None

    @property
    def client(self) -> AsyncWebClient:
        """Return Slack's own Web client with the bot's token."""
        return client_for(self.slack)


def client_for(slack: FakeSlack, token: str | None = BOT_TOKEN) -> AsyncWebClient:
    """Return Slack's Web client, pointed at the fake Slack."""
    return AsyncWebClient(token, base_url=slack.api_url, timeout=5, retry_handlers=[])


def form_app(slack: FakeSlack, *, verifies: bool = True) -> AsyncApp:
    """Return a Bolt app that opens the form at the command and offers options; each test handles submissions."""
    app = AsyncApp(
        client=client_for(slack), signing_secret=slack.config.signing_secret, request_verification_enabled=verifies
    )

    @app.command("/r2-credential")
    async def open_form(ack: Any, body: JsonObject, client: AsyncWebClient) -> None:  # noqa: ANN401 - Bolt's
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=FORM)

    @app.options("bucket_pick")
    async def offer(ack: Any, payload: JsonObject) -> None:  # noqa: ANN401 - Bolt's
        await ack(options=[option for option in OPTIONS if payload["value"] in option["value"]])

    @app.view_closed("form")
    async def closed(ack: Any) -> None:  # noqa: ANN401 - Bolt's
        await ack()

    @app.action("help")
    @app.action("extra_boxes")
    async def act(ack: Any) -> None:  # noqa: ANN401 - Bolt's
        await ack()

    return app


@asynccontextmanager
async def socket_rig(config: FakeSlackConfig = CONFIG) -> AsyncIterator[Rig]:
    """Connect a Bolt app by Socket Mode."""
    async with FakeSlack(config) as slack:
        app = form_app(slack)
        web_client = client_for(slack, None)
        handler = AsyncSocketModeHandler(app, config.app_token, web_client=web_client, ping_interval=STEADY)
        await handler.connect_async()  # type: ignore[no-untyped-call]  # Bolt left it so
        await slack.wait_for_connections()
        try:
            yield Rig(slack, app, handler)
        finally:
            await handler.close_async()  # type: ignore[no-untyped-call]  # as above


@asynccontextmanager
async def http_rig(config: FakeSlackConfig = CONFIG) -> AsyncIterator[Rig]:
    """Serve a Bolt app over HTTP; Bolt checks the signatures."""
    async with FakeSlack(config) as slack:
        app = form_app(slack)

        async def serve(request: web.Request) -> web.Response:
            asked = AsyncBoltRequest(body=await request.text(), headers=dict(request.headers))
            answer = await app.async_dispatch(asked)
            headers = {name: values[0] for name, values in answer.headers.items()}
            return web.Response(status=answer.status, body=answer.body.encode(), headers=headers)

        async with serving(serve) as url:
            slack.request_url = url
            yield Rig(slack, app)


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """Serve one path on loopback and yield its address."""
    server = web.Application()
    server.router.add_post("/slack/events", handler)
    runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
    finally:
        await runner.cleanup()


@pytest.fixture(params=["socket", "http"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Yield a connected Bolt app, once for each transport."""
    async with socket_rig() if request.param == "socket" else http_rig() as connected:
        yield connected


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Yield a fake Slack that no app is connected to."""
    async with FakeSlack(CONFIG) as started:
        yield started


async def fill_form(slack: FakeSlack, user_id: str = ADA) -> Modal:
    """Open the form and fill in the required fields."""
    await slack.type_command(user_id, HERE, "/r2-credential")
    modal = await slack.wait_for_view(user_id, lambda view: view.callback_id == "form")
    await slack.fill(user_id, "bucket", "events")
    await slack.fill(user_id, "token", "cf-token")
    return modal


def answers(rig: Rig, **answer: Any) -> list[JsonObject]:  # noqa: ANN401 - arguments of Bolt's ack
    """Let the app answer every submission like this; return the list in which the received bodies are collected."""
    bodies: list[JsonObject] = []

    @rig.app.view("form")
    async def submitted(ack: Any, body: JsonObject) -> None:  # noqa: ANN401 - Bolt's
        bodies.append(body)
        await ack(**answer)

    return bodies


async def error_of(call: Any) -> str:  # noqa: ANN401 - an awaitable of the SDK
    """Return Slack's error code for a refused call."""
    with pytest.raises(SlackApiError) as refused:
        await call
    return str(refused.value.response["error"])


# The whole path, over both transports.


async def test_command_form_submission_and_messages_work_with_bolt(rig: Rig) -> None:
    """A command opens the form, the type-ahead offers, the submission arrives as Slack sends it, the app answers."""
    bodies = answers(rig, response_action="update", view=DONE)
    slack = rig.slack

    outcome = await slack.type_command(GRACE, HERE, "/r2-credential events & <logs>")
    modal = await slack.wait_for_view(GRACE)
    search = await slack.search_options(GRACE, "bucket", "ev")
    await slack.fill(GRACE, "bucket", "events")
    await slack.fill(GRACE, "token", "cf-token")
    result = await slack.submit(GRACE)

    assert outcome.message is None
    assert slack.sent[0].payload["text"] == "events &amp; &lt;logs&gt;"
    assert modal.block_ids == ("bucket", "token", "channel", "extras", "row")
    assert [(one.text, one.value, one.description) for one in search.options] == [("Events", "events", "present")]
    assert result.kind == "updated"
    assert result.view is not None
    assert result.view.text == "Done\n*stored*"
    view = bodies[0]["view"]
    values = view["state"]["values"]
    assert values["token"]["token_text"] == {"type": "plain_text_input", "value": "cf-token"}
    assert values["bucket"]["bucket_pick"]["selected_option"]["value"] == "events"
    assert values["channel"]["channel_pick"]["selected_conversation"] == HERE
    assert values["extras"]["extra_boxes"]["selected_options"] == []
    assert bodies[0]["user"] == {"id": GRACE, "username": "grace", "name": "grace", "team_id": "T0SANDBOX"}
    assert view["app_installed_team_id"] == bodies[0]["team"]["id"] == "T0SANDBOX"
    assert (view["private_metadata"], view["root_view_id"], view["previous_view_id"]) == ("nonce", view["id"], None)
    assert bodies[0]["response_urls"][0]["channel_id"] == HERE
    assert slack.problems == []


async def test_an_answer_with_errors_keeps_the_form(rig: Rig) -> None:
    """Errors are shown at their fields, and everything typed stays."""
    answers(rig, response_action="errors", errors={"token": "Not a token"})
    await fill_form(rig.slack)

    result = await rig.slack.submit(ADA)

    assert (result.kind, result.errors) == ("errors", {"token": "Not a token"})
    assert result.view is not None
    assert result.view.values["token"]["token_text"]["value"] == "cf-token"


async def test_an_empty_answer_closes_the_form(rig: Rig) -> None:
    """`ack()` closes the modal; a later call for the view does not find it."""
    answers(rig)
    modal = await fill_form(rig.slack)

    result = await rig.slack.submit(ADA)

    assert (result.kind, result.view, rig.slack.modal(ADA)) == ("closed", None, None)
    assert await error_of(rig.client.views_update(view_id=modal.id, view=DONE)) == "not_found"


async def test_views_can_be_pushed_and_cleared(rig: Rig) -> None:
    """`push` puts a view on top, three deep at most; `clear` removes the stack."""
    answers(rig, response_action="push", view=FORM)
    first = await fill_form(rig.slack)

    kinds = [(await rig.slack.submit(ADA)).kind]
    for _ in range(2):
        await rig.slack.fill(ADA, "bucket", "events")
        await rig.slack.fill(ADA, "token", "cf-token")
        kinds.append((await rig.slack.submit(ADA)).kind)

    assert kinds == ["pushed", "pushed", "failed"]
    top = rig.slack.modals.top(ADA)
    assert top is not None
    assert (top.root_view_id, top.previous_view_id == first.id) == (first.id, False)
    assert "push_limit_reached" in rig.slack.problems[-1]
    await rig.slack.close(ADA)
    assert rig.slack.modal(ADA) is not None


async def test_clear_takes_the_whole_stack_away(rig: Rig) -> None:
    """The answer `clear` closes every view."""
    answers(rig, response_action="clear")
    await fill_form(rig.slack)

    assert (await rig.slack.submit(ADA)).kind == "cleared"
    assert rig.slack.modal(ADA) is None


async def test_closing_notifies_an_app_that_asked_for_it(rig: Rig) -> None:
    """`view_closed` is sent for `notify_on_close`; Cancel and the cross differ in `is_cleared`."""
    await fill_form(rig.slack)
    await rig.slack.close(ADA)
    await fill_form(rig.slack)
    await rig.slack.close(ADA, whole_stack=True)

    closed = [sent for sent in rig.slack.sent if sent.payload.get("type") == "view_closed"]
    assert [sent.payload["is_cleared"] for sent in closed] == [False, True]
    assert [sent.answer.failure for sent in closed] == [None, None]


async def test_actions_in_a_modal_carry_its_full_state(rig: Rig) -> None:
    """A field that dispatches and a button send `block_actions` with everything typed so far."""
    modal = await fill_form(rig.slack)

    filled = await rig.slack.fill(ADA, "extras", ["events", "Logs"])
    clicked = await rig.slack.click(ADA, modal, "help")

    boxes, button = (sent.payload for sent in rig.slack.sent[-2:])
    assert (filled.failure, clicked.failure) == (None, None)
    assert [option["value"] for option in boxes["actions"][0]["selected_options"]] == ["events", "logs"]
    assert button["actions"][0]["block_id"] == "row"
    assert button["view"]["state"]["values"]["token"]["token_text"]["value"] == "cf-token"
    assert button["container"] == {"type": "view", "view_id": modal.id}


async def test_command_answers_are_ephemeral_unless_they_say_otherwise(rig: Rig) -> None:
    """A text or JSON answer is seen by the person alone, `in_channel` by all; `respond` replaces the answer."""
    rig.app._async_listeners.clear()
    answered = asyncio.Event()

    @rig.app.command("/r2-credential")
    async def answer(ack: Any, body: JsonObject, respond: Any) -> None:  # noqa: ANN401 - Bolt's
        if body["text"] == "all":
            await ack(text="for all", response_type="in_channel")
        else:
            await ack("for you")
            await answered.wait()
            await respond("for you, newer", replace_original=True)
            await respond("and more", blocks=[{"type": "divider"}])

    loud = await rig.slack.type_command(ADA, PRIVATE, "/r2-credential all")
    quiet = await rig.slack.type_command(ADA, PRIVATE, "/r2-credential")
    answered.set()
    newer = await rig.slack.wait_for_message(PRIVATE, lambda message: message.text == "and more", as_user=ADA)

    assert loud.message is not None
    assert quiet.message is not None
    assert (loud.message.ephemeral_to, quiet.message.ephemeral_to) == (None, ADA)
    assert [message.text for message in rig.slack.ephemerals(ADA, PRIVATE)] == ["for you, newer", "and more"]
    assert newer.ephemeral_to == ADA
    assert rig.slack.ephemerals(GRACE, PRIVATE) == ()
    assert [message.text for message in rig.slack.messages(PRIVATE)] == ["for all"]


async def test_a_message_button_reaches_the_app_with_its_message(rig: Rig) -> None:
    """A press carries the message, its channel and a response URL that can replace it."""
    seen: list[JsonObject] = []

    @rig.app.action("retry")
    async def retry(ack: Any, body: JsonObject, respond: Any) -> None:  # noqa: ANN401 - Bolt's
        seen.append(body)
        await ack()
        await respond("replaced", replace_original=True)

    button = {"type": "button", "action_id": "retry", "text": plain("Again"), "value": "7", "style": "primary"}
    await rig.client.chat_postMessage(
        channel=HERE, text="failed", blocks=[{"type": "actions", "elements": [button]}], client_msg_id="id-1"
    )
    message = await rig.slack.wait_for_message(HERE)

    outcome = await rig.slack.click(GRACE, message, "retry")
    replaced = await rig.slack.wait_for_message(HERE, lambda one: one.text == "replaced")

    assert outcome.failure is None
    assert seen[0]["message"]["ts"] == message.ts == replaced.ts
    assert (message.shown_text, message.client_msg_id, replaced.edited) == ("Again", "id-1", True)
    assert seen[0]["actions"][0]["value"] == "7"
    assert seen[0]["container"]["is_ephemeral"] is False
    assert seen[0]["channel"] == {"id": HERE, "name": "data-platform"}


# Bad answers of the app.


async def silent(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.sleep(60)
    return web.Response()


def answering(**answer: Any) -> Callable[[web.Request], Any]:  # noqa: ANN401 - arguments of Response
    """Return a handler that always gives this answer."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(**answer)

    return serve


BAD_HTTP_ANSWERS: dict[str, tuple[Callable[[web.Request], Any], str]] = {
    "late": (silent, "operation_timeout"),
    "a server error": (answering(status=500), "dispatch_failed"),
    "a redirect": (answering(status=302, headers={"Location": "/"}), "dispatch_failed"),
    "broken JSON": (answering(text="{", content_type="application/json"), "dispatch_failed"),
    "JSON that is no object": (answering(text="[1]", content_type="application/json"), "dispatch_failed"),
}


@pytest.mark.parametrize(("handler", "failure"), BAD_HTTP_ANSWERS.values(), ids=BAD_HTTP_ANSWERS)
async def test_a_bad_http_answer_is_shown_as_slack_shows_it(
    slack: FakeSlack, handler: Callable[[web.Request], Any], failure: str
) -> None:
    """The person sees which error it was; the form keeps what was typed and shows the failure."""
    async with serving(handler) as slack.request_url:
        client = client_for(slack)
        payload = slack.make_command(ADA, HERE, "/r2-credential")
        await client.views_open(trigger_id=payload["trigger_id"], view=FORM)
        await slack.fill(ADA, "token", "cf-token")
        slack.modals.top(ADA).values["bucket", "bucket_pick"]["selected_option"] = OPTIONS[0]  # type: ignore[union-attr]  # it is open
        slack.transport.config = IMPATIENT if handler is silent else CONFIG
        command = await slack.type_command(ADA, HERE, "/r2-credential")
        submission = await slack.submit(ADA)
        search = await slack.search_options(ADA, "bucket", "ev")

    assert command.message is not None
    assert command.message.text == f"/r2-credential failed with the error {failure}"
    assert command.failure == submission.failure == search.failure == failure
    assert submission.view is not None
    assert (submission.kind, submission.view.notice, submission.view.is_busy) == ("failed", TROUBLE, False)
    assert submission.view.values["token"]["token_text"]["value"] == "cf-token"


async def test_without_a_reachable_app_the_delivery_fails(slack: FakeSlack) -> None:
    """There is no Socket Mode connection, or no server at the request URL."""
    unconnected = await slack.type_command(ADA, HERE, "/r2-credential")
    slack.request_url = "http://127.0.0.1:9/"
    unreachable = await slack.type_command(ADA, HERE, "/r2-credential")

    assert (unconnected.failure, unreachable.failure) == ("dispatch_failed", "dispatch_failed")


async def test_a_silent_socket_app_times_out() -> None:
    """An envelope that is not acknowledged in time is abandoned; a late acknowledgement changes nothing."""
    async with socket_rig() as rig:
        is_given_up, is_acknowledged = asyncio.Event(), asyncio.Event()

        @rig.app.view("form")
        async def late(ack: Any) -> None:  # noqa: ANN401 - Bolt's
            await is_given_up.wait()
            await ack()
            is_acknowledged.set()

        await fill_form(rig.slack)
        rig.slack.transport.config = IMPATIENT
        result = await rig.slack.submit(ADA)
        is_given_up.set()
        await is_acknowledged.wait()

        assert (result.kind, result.failure) == ("failed", "operation_timeout")
        assert rig.slack.modal(ADA) is not None


async def test_stopping_ends_all_waiting(rig: Rig) -> None:
    """A caller that waits for the app's answer learns at once that there will be none."""
    thinking = asyncio.Event()

    @rig.app.view("form")
    async def think(ack: Any) -> None:  # noqa: ANN401 - Bolt's
        thinking.set()
        await asyncio.sleep(1)

    await fill_form(rig.slack)
    submitting = asyncio.create_task(rig.slack.submit(ADA))
    await thinking.wait()
    await rig.slack.stop()

    assert (await submitting).failure == "dispatch_failed"


BAD_VIEW_ANSWERS: dict[str, tuple[JsonObject, str]] = {
    "errors at an unknown block": (
        {"response_action": "errors", "errors": {"nowhere": "x"}},
        "no input block 'nowhere'",
    ),
    "errors at a block that is no input": ({"response_action": "errors", "errors": {"row": "x"}}, "no input block"),
    "empty errors": ({"response_action": "errors", "errors": {}}, "non-empty"),
    "an error without text": ({"response_action": "errors", "errors": {"token": ""}}, "has no text"),
    "an invalid view": ({"response_action": "update", "view": {"type": "modal"}}, "missing required field"),
    "no view": ({"response_action": "update"}, "must be an object"),
    "an unknown action": ({"response_action": "explode"}, "unknown answer"),
}


@pytest.mark.parametrize(("answer", "problem"), BAD_VIEW_ANSWERS.values(), ids=BAD_VIEW_ANSWERS)
async def test_a_bad_answer_to_a_submission_is_a_failure(slack: FakeSlack, answer: JsonObject, problem: str) -> None:
    """The whole answer is dropped, the form stays, and the test can read why."""

    async def serve(request: web.Request) -> web.Response:
        return web.json_response(answer if b"view_submission" in await request.read() else {"options": OPTIONS})

    async with serving(serve) as slack.request_url:
        await client_for(slack).views_open(
            trigger_id=slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"], view=FORM
        )
        await slack.fill(ADA, "bucket", "events")
        await slack.fill(ADA, "token", "cf-token")
        result = await slack.submit(ADA)

    assert result.kind == "failed"
    assert any(problem in found for found in slack.problems)


async def test_other_bad_answers_are_recorded(slack: FakeSlack) -> None:
    """A text for a submission, bad blocks for a command and bad options are all refused."""

    async def serve(request: web.Request) -> web.Response:
        body = await request.text()
        if "view_submission" in body:
            return web.Response(text="thanks")
        return web.json_response({"text": "x", "blocks": [{"type": "nonsense"}]})

    async with serving(serve) as slack.request_url:
        trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
        await client_for(slack).views_open(trigger_id=trigger_id, view=FORM | {"blocks": FORM["blocks"][1:3]})
        await slack.fill(ADA, "token", "cf-token")
        submission = await slack.submit(ADA)
        command = await slack.type_command(ADA, HERE, "/r2-credential")
        slack.modals.update(slack.modals.top(ADA), FORM)  # type: ignore[arg-type]  # it is open
        search = await slack.search_options(ADA, "bucket", "ev")

    assert (submission.failure, command.failure, search.failure) == ("dispatch_failed",) * 3
    assert len(slack.problems) >= 3


# What the person's own client refuses.


async def test_the_form_is_validated_before_anything_is_sent(rig: Rig) -> None:
    """Missing fields and too short or too long texts are reported by Slack; nothing reaches the app."""
    bodies = answers(rig)
    await rig.slack.type_command(ADA, HERE, "/r2-credential")
    await rig.slack.wait_for_view(ADA)

    empty = await rig.slack.submit(ADA)
    await rig.slack.fill(ADA, "bucket", "events")
    await rig.slack.fill(ADA, "token", "x" * 21)
    long = await rig.slack.submit(ADA)
    await rig.slack.fill(ADA, "token", "x")
    short = await rig.slack.submit(ADA)

    assert empty.errors == {"bucket": REQUIRED, "token": REQUIRED}
    assert long.errors == {"token": "Must be 20 characters or fewer."}
    assert short.errors == {"token": "Must be at least 2 characters."}
    assert (empty.was_sent, bodies) == (False, [])


async def test_impossible_steps_are_refused(rig: Rig) -> None:
    """A step that no person could take fails in the test that tries it."""
    slack = rig.slack
    with pytest.raises(ImpossibleStepError, match="no view open"):
        await slack.submit(ADA)
    with pytest.raises(ImpossibleStepError, match="cannot write"):
        await slack.type_command(ADA, ARCHIVED, "/r2-credential")
    await fill_form(slack)
    with pytest.raises(ImpossibleStepError, match="no field"):
        await slack.fill(ADA, "nowhere", "x")
    with pytest.raises(ImpossibleStepError, match="not offered"):
        await slack.fill(ADA, "bucket", "unknown")
    with pytest.raises(ImpossibleStepError, match="takes one value"):
        await slack.fill(ADA, "token", ["a", "b"])
    with pytest.raises(ImpossibleStepError, match="no type-ahead"):
        await slack.search_options(ADA, "token", "x")
    with pytest.raises(ImpossibleStepError, match="no action"):
        await slack.click(ADA, slack.modal(ADA), "nothing")  # type: ignore[arg-type]  # it is open
    with pytest.raises(AssertionError, match="did not come"):
        await slack.wait_for_message(HERE, within=BRIEFLY)
    with pytest.raises(AssertionError, match="did not come"):
        await slack.wait_for_view(GRACE, within=BRIEFLY)
    with pytest.raises(AssertionError, match="did not come"):
        await slack.wait_for_view(ADA, lambda view: view.callback_id == "other", within=BRIEFLY)


async def test_fields_can_be_emptied_and_changed(rig: Rig) -> None:
    """Every kind of field can be emptied again; a query that is too short is not sent."""
    await fill_form(rig.slack)
    before = len(rig.slack.sent)

    await rig.slack.fill(ADA, "bucket", "Events")
    await rig.slack.fill(ADA, "bucket", "")
    await rig.slack.fill(ADA, "token", "")
    await rig.slack.fill(ADA, "channel", PUBLIC)
    await rig.slack.fill(ADA, "extras", "events")
    nothing = await rig.slack.search_options(ADA, "bucket", "")

    modal = rig.slack.modal(ADA)
    assert modal is not None
    assert modal.values["bucket"]["bucket_pick"]["selected_option"] is None
    assert modal.values["token"]["token_text"]["value"] is None
    assert modal.values["channel"]["channel_pick"]["selected_conversation"] == PUBLIC
    assert (nothing.options, len(rig.slack.sent) - before) == ((), 1)


async def test_an_unknown_command_and_ordinary_messages_are_not_sent(slack: FakeSlack) -> None:
    """The app receives neither of them."""
    outcome = await slack.type_command(ADA, HERE, "/unknown thing")
    said = await slack.say(ADA, HERE, "a < b & c")
    view_without_submit = FORM | {"submit": None, "blocks": DONE["blocks"]}
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
    await client_for(slack).views_open(trigger_id=trigger_id, view=view_without_submit)

    assert outcome.failure == "invalid_command"
    assert (said.text, slack.sent) == ("a &lt; b &amp; c", [])
    with pytest.raises(ImpossibleStepError, match="no submit"):
        await slack.submit(ADA)


# The Web API.


async def test_auth_test_names_the_app_and_its_scopes(slack: FakeSlack) -> None:
    """The answer identifies the token's app."""
    answer = await client_for(slack).auth_test()

    assert (answer["team_id"], answer["user_id"], answer["bot_id"]) == ("T0SANDBOX", "U0R2BOT01", "B0R2BOT01")
    assert answer.headers["X-OAuth-Scopes"] == ",".join(slack.config.scopes)


async def test_the_scopes_are_returned_for_a_known_token_only(slack: FakeSlack) -> None:
    """In refusals as well; an app token has its own scope."""
    with pytest.raises(SlackApiError) as refused:
        await client_for(slack).conversations_info(channel="C0NOWHERE")
    with pytest.raises(SlackApiError) as stranger:
        await client_for(slack, "xoxb-other").auth_test()
    opened = await client_for(slack, slack.config.app_token).apps_connections_open(app_token="xapp-sandbox-app")

    assert "chat:write" in refused.value.response.headers["X-OAuth-Scopes"]
    assert "X-OAuth-Scopes" not in stranger.value.response.headers
    assert opened.headers["X-OAuth-Scopes"] == "connections:write"


DIRECT = "D0ADA0001"
MISSING: dict[str, tuple[str, JsonObject, str]] = {
    "a public channel": ("conversations.info", {"channel": HERE}, "channels:read"),
    "a private channel": ("conversations.info", {"channel": PRIVATE}, "groups:read"),
    "a direct message": ("conversations.info", {"channel": DIRECT}, "im:read"),
    "a user group": ("usergroups.users.list", {"usergroup": "S0DATAENG"}, "usergroups:read"),
    "a person": ("users.info", {"user": ADA}, "users:read"),
    "a message": ("chat.postMessage", {"channel": HERE, "text": "x"}, "chat:write"),
    "a changed message": ("chat.update", {"channel": HERE, "ts": "1.2", "text": "x"}, "chat:write"),
    "an ephemeral message": ("chat.postEphemeral", {"channel": HERE, "user": ADA, "text": "x"}, "chat:write"),
}


@pytest.mark.parametrize(("method", "arguments", "scope"), MISSING.values(), ids=MISSING)
async def test_a_call_needs_its_scope(method: str, arguments: JsonObject, scope: str) -> None:
    """Slack's error names the missing scope and those that were granted."""
    without = tuple(granted for granted in CONFIG.scopes if granted != scope)
    async with FakeSlack(replace(CONFIG, scopes=without)) as slack:
        slack.change_channel(PRIVATE, bot_is_member=True)
        with pytest.raises(SlackApiError) as refused:
            await client_for(slack).api_call(method, json=arguments)
    answer = refused.value.response
    assert (answer["error"], answer["needed"], answer["provided"]) == ("missing_scope", scope, ",".join(without))


TOKENS: dict[str, tuple[str | None, str, str]] = {
    "no token": (None, "auth.test", "not_authed"),
    "a wrong token": ("xoxb-other", "auth.test", "invalid_auth"),
    "an app token for a bot's method": ("xapp-sandbox-app", "auth.test", "not_allowed_token_type"),
    "a bot token for Socket Mode": ("xoxb-sandbox-bot", "apps.connections.open", "not_allowed_token_type"),
    "an unknown method": ("xoxb-sandbox-bot", "chat.delete", "unknown_method"),
}


@pytest.mark.parametrize(("token", "method", "error"), TOKENS.values(), ids=TOKENS)
async def test_a_call_needs_the_right_token_and_method(
    slack: FakeSlack, token: str | None, method: str, error: str
) -> None:
    """The answer has Slack's error code in Slack's envelope."""
    assert await error_of(client_for(slack, token).api_call(method)) == error


CHANNELS: dict[str, tuple[str, str]] = {
    "unknown": ("C0NOWHERE", "channel_not_found"),
    "private without the bot": (PRIVATE, "channel_not_found"),
    "public without the bot": (PUBLIC, "not_in_channel"),
    "archived": (ARCHIVED, "is_archived"),
    "none": ("", "invalid_arguments"),
}


@pytest.mark.parametrize(("channel", "error"), CHANNELS.values(), ids=CHANNELS)
async def test_the_bot_cannot_post_everywhere(slack: FakeSlack, channel: str, error: str) -> None:
    """Both posting methods refuse alike, with Slack's error codes."""
    client = client_for(slack)

    assert await error_of(client.chat_postMessage(channel=channel, text="x")) == error
    assert await error_of(client.chat_postEphemeral(channel=channel, user=ADA, text="x")) == error


async def test_the_bot_changes_its_own_messages_and_no_others(slack: FakeSlack) -> None:
    """Neither one that was deleted, nor a person's, nor one in another channel, nor one that only one person sees."""
    client = client_for(slack)
    posted = await client.chat_postMessage(channel=HERE, text="before")
    changed = await client.chat_update(channel=HERE, ts=str(posted["ts"]), text="after")
    said = await slack.say(ADA, HERE, "mine")
    hidden = await client.chat_postEphemeral(channel=HERE, user=ADA, text="only Ada")

    assert changed["ts"] == posted["ts"]
    [message] = [message for message in slack.messages(HERE) if message.ts == posted["ts"]]
    assert (message.text, message.edited) == ("after", True)
    assert await error_of(client.chat_update(channel=HERE, ts="1.2", text="x")) == "message_not_found"
    assert await error_of(client.chat_update(channel=HERE, ts=said.ts, text="x")) == "cant_update_message"
    assert await error_of(client.chat_update(channel=ADA, ts=str(posted["ts"]), text="x")) == "message_not_found"
    assert (
        await error_of(client.chat_update(channel=HERE, ts=str(hidden["message_ts"]), text="x")) == "message_not_found"
    )


CONTENTS: dict[str, tuple[JsonObject, str]] = {
    "nothing": ({"text": ""}, "no_text"),
    "a text too long": ({"text": "x" * 40_001}, "msg_too_long"),
    "bad blocks": ({"text": "x", "blocks": [{"type": "input"}]}, "invalid_blocks"),
    "blocks that are no JSON": ({"text": "x", "blocks": "["}, "invalid_blocks_format"),
    "blocks that are too long together": (
        {"text": "x", "blocks": [{"type": "section", "text": plain("x" * 2900)}] * 5},
        "msg_blocks_too_long",
    ),
    "text of a wrong type": ({"text": {"a": 1}}, "invalid_arguments"),
}


@pytest.mark.parametrize(("content", "error"), CONTENTS.values(), ids=CONTENTS)
async def test_a_bad_message_is_refused(slack: FakeSlack, content: JsonObject, error: str) -> None:
    """The answer has Slack's error code for what is wrong with a message."""
    call = client_for(slack).api_call("chat.postMessage", json={"channel": HERE, **content})

    assert await error_of(call) == error


async def test_posting_reaches_channels_direct_messages_and_single_users(slack: FakeSlack) -> None:
    """A user's id addresses the direct message; blocks may be JSON in a form field."""
    client = client_for(slack)

    direct = await client.chat_postMessage(channel=ADA, text="to Ada")
    form = await client.api_call(
        "chat.postMessage", data={"channel": HERE, "text": "x", "blocks": json.dumps([{"type": "divider"}])}
    )
    await client.chat_postEphemeral(channel=HERE, user=ADA, text="only Ada")
    stranger = await error_of(client.chat_postEphemeral(channel=HERE, user="U0NOBODY", text="x"))

    assert direct["channel"] == "D0ADA0001"
    assert [message.text for message in slack.messages("D0ADA0001")] == ["to Ada"]
    assert form["message"]["blocks"][0]["type"] == "divider"
    assert [message.text for message in slack.ephemerals(ADA, HERE)] == ["only Ada"]
    assert stranger == "user_not_in_channel"


async def test_channels_and_groups_can_be_looked_up() -> None:
    """`conversations.info` says what is shared, private, archived and where the bot is; changes show at once."""
    async with FakeSlack(replace(CONFIG, scopes=(*CONFIG.scopes, "im:read"))) as slack:
        await look_up_channels_and_groups(slack)


async def look_up_channels_and_groups(slack: FakeSlack) -> None:
    """Look up one of each kind."""
    client = client_for(slack)
    slack.change_channel(PRIVATE, bot_is_member=True)
    slack.change_channel(PUBLIC, is_archived=True, is_ext_shared=True)

    shared = (await client.conversations_info(channel=SHARED))["channel"]
    private = (await client.conversations_info(channel=PRIVATE))["channel"]
    public = (await client.conversations_info(channel=PUBLIC))["channel"]
    direct = (await client.conversations_info(channel="D0ADA0001"))["channel"]

    assert (shared["is_ext_shared"], shared["is_member"], shared["is_private"]) == (True, True, False)
    assert (private["is_private"], private["is_group"], private["is_member"]) == (True, True, True)
    assert (public["is_archived"], public["is_ext_shared"], public["is_member"]) == (True, True, False)
    assert (direct["is_im"], direct["user"]) == (True, ADA)
    assert await error_of(client.conversations_info(channel="C0NOWHERE")) == "channel_not_found"
    assert (await client.usergroups_users_list(usergroup="S0DATAENG"))["users"] == [ADA, GRACE]
    assert await error_of(client.usergroups_users_list(usergroup="S0OTHER")) == "no_such_subteam"


async def test_people_are_described_as_slack_does(slack: FakeSlack) -> None:
    """With the flags that apply; a person who left has none of a member's."""
    client = client_for(slack)
    for user in OUTSIDERS:
        slack.workspace.change_user(user)
    grace = replace(slack.workspace.users["U0GRACE01"], enterprise_id="E0NORTH", workspaces=("T0SANDBOX", "T0OTHER"))
    slack.workspace.change_user(grace)
    described = {
        user_id: (await client.users_info(user=user_id))["user"]
        for user_id in (ADA, "U0GRACE01", *(each.id for each in OUTSIDERS))
    }

    assert (described[ADA]["team_id"], described[ADA]["is_restricted"], described[ADA]["deleted"]) == (
        "T0SANDBOX",
        False,
        False,
    )
    assert described["U0GRACE01"]["enterprise_user"]["teams"] == ["T0SANDBOX", "T0OTHER"]
    assert described["U0GUEST01"]["is_restricted"] is True
    assert described["U0ONECHAN"]["is_ultra_restricted"] is True
    assert (described["U0DEPART1"]["deleted"], "is_restricted" in described["U0DEPART1"]) == (True, False)
    assert described["U0ROBOT01"]["is_bot"] is True
    assert described["U0INVITED"]["is_invited_user"] is True
    assert (described["U0STRANGE"]["is_stranger"], described["U0PARTNER"]["team_id"]) == (True, "T0PARTNER")
    assert await error_of(client.users_info(user="U0NOWHERE")) == "user_not_found"


async def test_a_trigger_opens_one_modal_within_three_seconds() -> None:
    """Unknown, used and old triggers are distinguished."""
    now = [1_800_000_000.0]
    async with FakeSlack(replace(CONFIG, clock=lambda: now[0])) as slack:
        client = client_for(slack)
        first, second = (slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"] for _ in range(2))
        await client.views_open(trigger_id=first, view=FORM)
        used = await error_of(client.views_open(trigger_id=first, view=FORM))
        now[0] += 3.1
        old = await error_of(client.views_open(trigger_id=second, view=FORM))
        unknown = await error_of(client.views_open(trigger_id="1.2.3", view=FORM))

    assert (used, old, unknown) == ("exchanged_trigger_id", "expired_trigger_id", "invalid_trigger_id")


VIEW_CALLS: dict[str, tuple[str, JsonObject, str]] = {
    "no view": ("views.open", {"trigger_id": "x"}, "invalid_arguments"),
    "a view that is no JSON": ("views.open", {"trigger_id": "x", "view": "{"}, "invalid_arguments"),
    "a bad view": ("views.open", {"trigger_id": "x", "view": {"type": "modal"}}, "invalid_arguments"),
    "no trigger": ("views.open", {"view": DONE}, "invalid_arguments"),
    "no id": ("views.update", {"view": DONE}, "invalid_arguments"),
    "an unknown id": ("views.update", {"view": DONE, "view_id": "V0"}, "not_found"),
    "an unknown external id": ("views.update", {"view": DONE, "external_id": "mine"}, "not_found"),
}


@pytest.mark.parametrize(("method", "arguments", "error"), VIEW_CALLS.values(), ids=VIEW_CALLS)
async def test_a_bad_view_call_is_refused(slack: FakeSlack, method: str, arguments: JsonObject, error: str) -> None:
    """The answer has Slack's error code, with what is wrong in `response_metadata`."""
    assert await error_of(client_for(slack).api_call(method, json=arguments)) == error


async def test_views_update_keeps_what_was_typed_and_honours_hash_and_external_id(slack: FakeSlack) -> None:
    """An unchanged field keeps its value; an old hash and a taken external id are refused."""
    client = client_for(slack)
    command = slack.make_command(ADA, HERE, "/r2-credential")
    opened = await client.views_open(trigger_id=command["trigger_id"], view=FORM | {"external_id": "mine"})
    await slack.fill(ADA, "token", "half-typed")

    await client.views_update(external_id="mine", view=FORM | {"external_id": "mine", "title": plain("Newer")})
    stale = await error_of(client.views_update(view_id=opened["view"]["id"], hash=opened["view"]["hash"], view=FORM))
    other = slack.make_command(GRACE, HERE, "/r2-credential")["trigger_id"]
    taken = await error_of(client.views_open(trigger_id=other, view=FORM | {"external_id": "mine"}))
    grace = await client.views_open(trigger_id=other, view=FORM)
    moved = await error_of(client.views_update(view_id=grace["view"]["id"], view=FORM | {"external_id": "mine"}))

    modal = slack.modal(ADA)
    assert modal is not None
    assert (modal.title, modal.values["token"]["token_text"]["value"]) == ("Newer", "half-typed")
    assert (stale, taken, moved) == ("hash_conflict", "duplicate_external_id", "duplicate_external_id")


async def test_an_update_within_a_second_of_the_answer_is_overwritten() -> None:
    """It is answered ok and has no effect; a second later it has."""
    now = [1_800_000_000.0]
    async with socket_rig(replace(CONFIG, clock=lambda: now[0])) as rig:
        answers(rig, response_action="update", view=DONE)
        modal = await fill_form(rig.slack)
        await rig.slack.submit(ADA)
        later = DONE | {"title": plain("Later")}

        too_soon = await rig.client.views_update(view_id=modal.id, view=later)
        shown = rig.slack.modal(ADA)
        now[0] += 1.1
        await rig.client.views_update(view_id=modal.id, view=later)

        assert too_soon["ok"]
        assert shown is not None
        assert shown.title == "Done"
        assert (await rig.slack.wait_for_view(ADA)).title == "Later"


async def test_malformed_arguments_are_refused(slack: FakeSlack) -> None:
    """Broken JSON and JSON that is no object are `invalid_json`; a token may be in the form."""
    async with aiohttp.ClientSession() as session:

        async def call(**request: Any) -> JsonObject:  # noqa: ANN401 - arguments of aiohttp
            async with session.post(f"{slack.api_url}auth.test", **request) as answer:
                content: JsonObject = await answer.json()
                return content

        headers = {"Content-Type": "application/json"}
        assert (await call(data="{", headers=headers))["error"] == "invalid_json"
        assert (await call(data="[]", headers=headers))["error"] == "invalid_json"
        assert (await call(data={"token": "xoxb-sandbox-bot"}))["ok"] is True


# Response URLs.


async def respond(url: str, **content: Any) -> tuple[int, str]:  # noqa: ANN401 - fields of the message
    """POST to a response URL as any HTTP client would."""
    async with aiohttp.ClientSession() as session, session.post(url, json=content) as answer:
        return answer.status, await answer.text()


async def test_a_response_url_works_five_times_even_without_the_bot_in_the_channel(slack: FakeSlack) -> None:
    """It posts for the person alone, or for all; the sixth use is refused, and an invalid one does not count."""
    url = slack.make_command(ADA, PRIVATE, "/r2-credential")["response_url"]

    empty = await respond(url, text="")
    statuses = [(await respond(url, text=f"{n}", response_type="in_channel"))[0] for n in range(4)]
    deleted = await respond(url, delete_original=True)
    spent = await respond(url, text="six")

    assert (empty[0], statuses, deleted[0]) == (400, [200] * 4, 200)
    assert (spent[0], json.loads(spent[1])["error"]) == (404, "used_url")
    assert [message.text for message in slack.messages(PRIVATE)] == ["1", "2", "3"]


async def test_a_response_url_ends_after_thirty_minutes_and_with_the_channel() -> None:
    """Expired, unknown and archived have different errors."""
    now = [1_800_000_000.0]
    async with FakeSlack(replace(CONFIG, clock=lambda: now[0])) as slack:
        url = slack.make_command(ADA, HERE, "/r2-credential")["response_url"]
        slack.change_channel(HERE, is_archived=True)
        archived = await respond(url, text="x")
        now[0] += 30 * 60
        old = await respond(url, text="x")
        unknown = await respond(f"{slack.url}response/none", text="x")
        async with aiohttp.ClientSession() as session, session.post(url, data="no JSON") as answer:
            assert answer.status == 404

    assert (archived[0], old[0], unknown[0]) == (410, 404, 404)
    assert "expired_url" in old[1]


async def test_a_response_url_needs_a_json_object(slack: FakeSlack) -> None:
    """Anything else is an invalid payload."""
    url = slack.make_command(ADA, HERE, "/r2-credential")["response_url"]

    async with aiohttp.ClientSession() as session, session.post(url, data="no JSON") as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_payload")


# Transports.


async def test_http_requests_are_signed_as_the_sdk_checks_it(slack: FakeSlack) -> None:
    """Slack's own verifier accepts what is sent, form-encoded, and a test can spoil each header."""
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append((await request.read(), dict(request.headers)))
        return web.Response(status=201, text="made")

    verifier = SignatureVerifier(slack.config.signing_secret)
    async with serving(serve) as slack.request_url:
        await slack.type_command(ADA, HERE, "/r2-credential events")
        raw = await slack.post_raw(b"payload=1")
        await slack.post_raw(b"payload=1", headers={"X-Slack-Signature": "v0=00"})
        await slack.post_raw(b"payload=1", headers={"X-Slack-Signature": ""})
        await slack.post_raw(b"payload=1", timestamp="1000000000")

    valid = [verifier.is_valid_request(body, headers) for body, headers in seen]
    assert valid == [True, True, False, False, False]
    assert "X-Slack-Signature" not in seen[3][1]
    assert (raw.status, raw.body) == (201, b"made")
    command = parse_qs(seen[0][0].decode())
    assert (command["command"], command["text"], command["is_enterprise_install"]) == (
        ["/r2-credential"],
        ["events"],
        ["false"],
    )


async def test_payloads_can_be_forged_replayed_and_sent_by_outsiders(rig: Rig) -> None:
    """A payload in another person's name is sent unchanged, and its answer changes nothing here."""
    bodies = answers(rig)
    await fill_form(rig.slack)

    payload = rig.slack.make_submission(ADA, as_user=OUTSIDER)
    first = await rig.slack.deliver("interactive", payload)
    second = await rig.slack.deliver("interactive", payload)

    assert (first.failure, second.status) == (None, 200)
    assert bodies[0]["user"]["team_id"] == bodies[0]["team"]["id"] == bodies[0]["view"]["team_id"] == "T0ACME"
    assert bodies[0]["view"]["app_installed_team_id"] == "T0SANDBOX"
    assert len(bodies) == 2
    assert rig.slack.modal(ADA) is not None


async def test_socket_connections_are_shared_reopened_and_refused() -> None:
    """After `disconnect` or a cut connection the client comes back; a used ticket opens nothing."""
    async with socket_rig() as rig:
        slack = rig.slack
        opened = len(slack.calls_of("apps.connections.open"))
        await slack.transport.ask_to_reconnect()
        await slack.workspace.changes.wait_until(
            lambda: len(slack.calls_of("apps.connections.open")) > opened or None, timedelta(seconds=5), "a new line"
        )
        await slack.wait_for_connections()
        await slack.transport.drop_connections()
        await slack.wait_for_connections()
        await slack.type_command(ADA, HERE, "/r2-credential")
        await slack.wait_for_view(ADA, lambda view: view.callback_id == "form")

        async with aiohttp.ClientSession() as session:
            async with session.get(f"{slack.url}link/?ticket=used") as answer:
                assert answer.status == 403
            slack.transport.refuses_connections = True
            async with session.get(f"{slack.url}link/?ticket={slack.transport.issue_ticket()}") as answer:
                assert answer.status == 403


async def test_two_connections_take_turns_and_malformed_frames_are_ignored(slack: FakeSlack) -> None:
    """Each envelope goes to one connection; frames that are no acknowledgement do nothing, pings are answered."""
    app_client = client_for(slack, "xapp-sandbox-app")
    async with aiohttp.ClientSession() as session:
        sockets = []
        for _ in range(2):
            url = (await app_client.apps_connections_open(app_token="xapp-sandbox-app"))["url"]
            sockets.append(await session.ws_connect(str(url), autoping=False))
        hello = [await socket.receive_json() for socket in sockets]
        await sockets[0].send_str("nonsense")
        await sockets[0].send_bytes(b'{"envelope_id": "unknown"}')
        await sockets[0].ping(b"are you there")
        pong = await sockets[0].receive()

        takers = []
        for _ in range(2):
            sending = asyncio.create_task(slack.type_command(ADA, HERE, "/r2-credential"))
            done, _ = await asyncio.wait(
                readers := [asyncio.create_task(socket.receive_json()) for socket in sockets],
                return_when=asyncio.FIRST_COMPLETED,
            )
            envelope = done.pop().result()
            taker = next(index for index, reader in enumerate(readers) if reader.done())
            takers.append(taker)
            await sockets[taker].send_json({"envelope_id": envelope["envelope_id"]})
            assert (await sending).failure is None
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        for socket in sockets:
            await socket.close()

    assert [frame["num_connections"] for frame in hello] == [1, 2]
    assert hello[0]["connection_info"] == {"app_id": "A0R2CREDS"}
    assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"are you there")
    assert set(envelope) == {"envelope_id", "type", "payload", "accepts_response_payload"}
    assert sorted(takers) == [0, 1]


# Planned failures, and the recorded traffic.


async def test_planned_failures_come_once_and_in_order(slack: FakeSlack) -> None:
    """Errors, statuses, limits, delays and cut connections, each as often as planned, then the real answer."""
    client = client_for(slack)
    slack.fail_next("auth.test", error="fatal_error")
    slack.fail_next("auth.test", retry_after=7)
    slack.fail_next("auth.test", status=503)
    slack.fail_next("auth.test", delay=timedelta(milliseconds=1), times=2)

    fatal = await error_of(client.auth_test())
    with pytest.raises(SlackApiError) as limited:
        await client.auth_test()
    with pytest.raises(SlackApiError) as down:
        await client.auth_test()

    assert (fatal, limited.value.response["error"]) == ("fatal_error", "ratelimited")
    assert (limited.value.response.status_code, limited.value.response.headers["Retry-After"]) == (429, "7")
    assert down.value.response.status_code == 503
    assert [(await client.auth_test())["ok"] for _ in range(3)] == [True] * 3
    assert len(slack.calls_of("auth.test")) == 6


async def test_a_cut_connection_may_hide_a_success(slack: FakeSlack) -> None:
    """`after_effect` posts and then loses the answer; without it nothing is posted."""
    client = client_for(slack)
    slack.fail_next("chat.postMessage", drop_connection=True)
    slack.fail_next("chat.postMessage", drop_connection=True, after_effect=True)
    slack.fail_next("response_url", status=500)

    for text in ("lost", "posted"):
        with pytest.raises(aiohttp.ClientError):
            await client.chat_postMessage(channel=HERE, text=text)
    failed = await respond(slack.make_command(ADA, HERE, "/r2-credential")["response_url"], text="x")

    assert [message.text for message in slack.messages(HERE)] == ["posted"]
    assert failed[0] == 500


async def test_everything_the_app_sends_is_recorded(rig: Rig) -> None:
    """Web API calls, acknowledgements and response URLs are all in the traffic; calls are kept parsed."""
    answers(rig, response_action="errors", errors={"token": "marker-in-ack"})
    await fill_form(rig.slack)
    await rig.slack.submit(ADA)
    await rig.client.chat_postMessage(channel=HERE, text="marker-in-call")
    await respond(rig.slack.make_command(ADA, HERE, "/r2-credential")["response_url"], text="marker-in-response")

    traffic = rig.slack.traffic_received()

    assert all(marker in traffic for marker in (b"marker-in-ack", b"marker-in-call", b"marker-in-response"))
    assert b"Bearer xoxb-sandbox-bot" in traffic
    assert rig.slack.calls_of("chat.postMessage")[0].arguments["text"] == "marker-in-call"


# Who sees and may choose which conversation.


FILTERS: dict[str, tuple[Channel, JsonObject | None, bool]] = {
    "no filter": (Channel(id="C1", name="a"), None, True),
    "a kind that is not included": (Channel(id="C1", name="a"), {"include": ["private"]}, False),
    "a private channel": (Channel(id="C1", name="a", is_private=True), {"include": ["private"]}, True),
    "a shared channel": (
        Channel(id="C1", name="a", is_ext_shared=True),
        {"exclude_external_shared_channels": True},
        False,
    ),
    "a message with the bot": (Channel(id="D1", name="a", dm_with=ADA), {"exclude_bot_users": True}, False),
    "a direct message": (Channel(id="D1", name="a", dm_with=ADA), {"include": ["im"]}, True),
    "a direct message between people": (Channel(id="D1", name="a", is_im=True), {"exclude_bot_users": True}, True),
    "a direct message with another company, although shared channels are excluded": (
        Channel(id="D1", name="a", is_im=True, is_ext_shared=True),
        {"exclude_external_shared_channels": True},
        True,
    ),
    "a group message with another company, although shared channels are excluded": (
        Channel(id="G1", name="a", is_mpim=True, is_ext_shared=True),
        {"exclude_external_shared_channels": True},
        True,
    ),
    "a direct message, of channels": (
        Channel(id="D1", name="a", is_im=True),
        {"include": ["public", "private"]},
        False,
    ),
    "a group message, of channels": (
        Channel(id="C1", name="a", is_mpim=True),
        {"include": ["public", "private"]},
        False,
    ),
}


@pytest.mark.parametrize(("channel", "wanted", "fits"), FILTERS.values(), ids=FILTERS)
def test_a_filter_of_conversations(channel: Channel, wanted: JsonObject | None, fits: bool) -> None:  # noqa: FBT001 - a table
    """A conversations select offers what its filter allows."""
    assert fits_filter(channel, wanted) is fits


OF_PEOPLE: dict[str, tuple[Channel, str, str]] = {
    "two": (Channel(id="D0PEOPLE1", name="oscar", is_im=True), "directmessage", "channel_not_found"),
    "several": (Channel(id="G0PEOPLE1", name="ada--oscar", is_mpim=True), "mpdm-ada--oscar-1", "channel_not_found"),
    "several and the bot": (
        Channel(id="C0PEOPLE1", name="ada--oscar", is_mpim=True, bot_is_member=True),
        "mpdm-ada--oscar-1",
        "missing_scope",
    ),
}


@pytest.mark.parametrize(("conversation", "name", "error"), OF_PEOPLE.values(), ids=OF_PEOPLE)
async def test_the_app_cannot_see_direct_messages_between_people(
    slack: FakeSlack, conversation: Channel, name: str, error: str
) -> None:
    """It cannot look them up; a command typed there names their kind."""
    slack.workspace.change_channel(conversation)
    assert await error_of(client_for(slack).conversations_info(channel=conversation.id)) == error
    assert slack.make_command(ADA, conversation.id, "/r2-credential")["channel_name"] == name


async def test_a_group_message_can_be_looked_up_with_its_scope() -> None:
    """Slack then says what it is."""
    group = Channel(id="G0PEOPLE1", name="ada--oscar", is_mpim=True, bot_is_member=True)
    async with FakeSlack(replace(CONFIG, channels=(group,), scopes=(*CONFIG.scopes, "mpim:read"))) as slack:
        answer = (await client_for(slack).conversations_info(channel=group.id))["channel"]
    assert (answer["is_mpim"], answer["is_channel"], answer["is_group"], answer["is_private"]) == (
        True,
        False,
        False,
        True,
    )


async def test_only_members_see_a_channel_and_write_in_it() -> None:
    """A channel with members is seen by them alone; each person has a separate direct message with the bot."""
    secret = Channel(id="G0SECRET1", name="secret", is_private=True, members=frozenset({ADA}))
    async with FakeSlack(replace(CONFIG, channels=(secret,))) as slack:
        seen = [channel.id for channel in slack.workspace.seen_channels(MALLORY)]
        with pytest.raises(ImpossibleStepError):
            await slack.say(MALLORY, secret.id, "hello?")
        posted = await slack.say(ADA, secret.id, "hello")

    assert seen == ["D0MALLORY"]
    assert posted.shown_text == "hello"


async def test_a_filtered_field_does_not_default_to_the_current_conversation(slack: FakeSlack) -> None:
    """The default is left out if the filter excludes it; an initial conversation takes precedence."""
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
    element = {"type": "conversations_select", "action_id": "c", "default_to_current_conversation": True}
    blocks = [
        {
            "type": "input",
            "block_id": "private",
            "label": plain("P"),
            "element": element | {"filter": {"include": ["private"]}},
        },
        {
            "type": "input",
            "block_id": "given",
            "label": plain("G"),
            "element": element | {"initial_conversation": PUBLIC},
        },
    ]
    await client_for(slack).views_open(trigger_id=trigger_id, view=FORM | {"blocks": blocks})

    modal = slack.modal(ADA)
    assert modal is not None
    assert modal.values["private"]["c"]["selected_conversation"] is None
    assert modal.values["given"]["c"]["selected_conversation"] == PUBLIC
    assert slack.make_submission(ADA)["response_urls"] == []


async def test_selects_in_messages_send_what_is_chosen(slack: FakeSlack) -> None:
    """Selects and checkboxes in a message are chosen by `click`; an ephemeral message is not sent along."""
    elements = [
        {"type": "static_select", "action_id": "pick", "options": OPTIONS},
        {"type": "conversations_select", "action_id": "where"},
        {"type": "checkboxes", "action_id": "boxes", "options": OPTIONS},
    ]
    await client_for(slack).chat_postEphemeral(
        channel=HERE,
        user=ADA,
        text="choose",
        blocks=[{"type": "actions", "elements": elements}],
    )
    message = slack.ephemerals(ADA, HERE)[0]

    await slack.click(ADA, message, "pick", "events")
    await slack.click(ADA, message, "where", PUBLIC)
    await slack.click(ADA, message, "boxes", "logs")
    with pytest.raises(ImpossibleStepError, match="not offered"):
        await slack.click(ADA, message, "pick", "nothing")

    payloads = [sent.payload for sent in slack.sent]
    actions = [payload["actions"][0] for payload in payloads]
    assert actions[0]["selected_option"]["value"] == "events"
    assert actions[1]["selected_conversation"] == PUBLIC
    assert actions[2]["selected_options"][0]["value"] == "logs"
    assert payloads[0]["container"]["is_ephemeral"] is True
    assert "message" not in payloads[0]


async def test_an_answer_for_a_form_closed_meanwhile_is_dropped() -> None:
    """The person closed it while the app was working."""
    async with socket_rig() as rig:
        thinking, go_on = asyncio.Event(), asyncio.Event()

        @rig.app.view("form")
        async def think(ack: Any) -> None:  # noqa: ANN401 - Bolt's
            thinking.set()
            await go_on.wait()
            await ack(response_action="update", view=DONE)

        await fill_form(rig.slack)
        submitting = asyncio.create_task(rig.slack.submit(ADA))
        await thinking.wait()
        busy = rig.slack.modal(ADA)
        await rig.slack.close(ADA)
        go_on.set()

        assert busy is not None
        assert busy.is_busy
        assert (await submitting).kind == "closed"
        assert rig.slack.modal(ADA) is None


# Several replicas.


@pytest.fixture
async def patient_slack() -> AsyncIterator[FakeSlack]:
    """Yield a fake Slack that waits long enough for a second try."""
    async with FakeSlack(CONFIG) as started:
        yield started


@asynccontextmanager
async def open_lines(slack: FakeSlack, count: int) -> AsyncIterator[list[aiohttp.ClientWebSocketResponse]]:
    """Open Socket Mode connections without an SDK."""
    app_client = client_for(slack, "xapp-sandbox-app")
    async with aiohttp.ClientSession() as session:
        lines = []
        for _ in range(count):
            url = (await app_client.apps_connections_open(app_token="xapp-sandbox-app"))["url"]
            lines.append(await session.ws_connect(str(url)))
            await lines[-1].receive_json()
        yield lines
        for line in lines:
            await line.close()


async def test_an_envelope_left_by_a_closed_connection_goes_over_another(patient_slack: FakeSlack) -> None:
    """The same envelope goes at once; one that was answered before the close is not sent again."""
    async with open_lines(patient_slack, 3) as lines:
        sending = asyncio.create_task(patient_slack.type_command(ADA, HERE, "/r2-credential"))
        first = await lines[0].receive_json()
        await lines[0].close()
        second = await lines[1].receive_json()
        await lines[1].send_json({"envelope_id": second["envelope_id"]})
        await lines[1].close()
        outcome = await sending

        assert first == second
        assert outcome.failure is None
        with pytest.raises(TimeoutError):
            await lines[2].receive(timeout=0.05)


async def test_without_another_connection_an_envelope_times_out(slack: FakeSlack) -> None:
    """The last connection closed without an answer."""
    slack.transport.config = IMPATIENT
    async with open_lines(slack, 1) as lines:
        sending = asyncio.create_task(slack.type_command(ADA, HERE, "/r2-credential"))
        await lines[0].receive_json()
        await lines[0].close()

        assert (await sending).failure == "operation_timeout"


async def test_redelivery_can_be_switched_off(slack: FakeSlack) -> None:
    """Slack does not promise it: the envelope of a closed connection is then lost, and the person sees that."""
    slack.transport.config = IMPATIENT
    slack.transport.redelivers = False
    async with open_lines(slack, 2) as lines:
        sending = asyncio.create_task(slack.type_command(ADA, HERE, "/r2-credential"))
        await lines[0].receive_json()
        await lines[0].close()

        assert (await sending).failure == "operation_timeout"


@pytest.mark.parametrize(("redelivers", "failure"), [(True, None), (False, "dispatch_failed")])
async def test_a_connection_that_has_just_gone_is_skipped(
    patient_slack: FakeSlack, *, redelivers: bool, failure: str | None
) -> None:
    """It can no longer be written to, but its end has not been noticed yet."""
    slack = patient_slack
    slack.transport.redelivers = redelivers
    async with open_lines(slack, 2) as lines:
        request = slack.transport.connections[0]._req
        assert request is not None
        assert request.transport is not None
        request.transport.abort()  # its server notices a moment later
        sending = asyncio.create_task(slack.type_command(ADA, HERE, "/r2-credential"))
        if redelivers:
            await lines[1].send_json({"envelope_id": (await lines[1].receive_json())["envelope_id"]})

        assert (await sending).failure == failure


async def test_request_urls_take_turns_and_bad_ones_are_skipped(patient_slack: FakeSlack) -> None:
    """As with a load balancer: a refused connection or a 503 leads to the next URL, any other answer is final."""
    slack = patient_slack
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status={"/busy": 503, "/wrong": 401}.get(request.path, 200))

    server = web.Application()
    server.router.add_post("/{name}", answer)
    async with TestServer(server, host="127.0.0.1") as running:
        one, two, busy, wrong = (str(running.make_url(path)) for path in ("/one", "/two", "/busy", "/wrong"))
        dead = f"http://127.0.0.1:{find_free_port()}/dead"
        slack.transport.request_urls = [one, two]
        assert [await _status(slack) for _ in range(4)] == [200] * 4
        slack.transport.request_urls = [dead, busy, one]
        assert await _status(slack) == 200
        slack.transport.request_urls = [wrong, one]
        assert await _status(slack) == 401
        slack.transport.request_urls = [dead, busy]
        assert await _status(slack) == 503
        slack.transport.request_urls = [dead]
        assert await _status(slack) == 0

    assert asked == ["/one", "/two", "/one", "/two", "/busy", "/one", "/wrong", "/busy"]


async def _status(slack: FakeSlack) -> int | None:
    await slack.type_command(ADA, HERE, "/r2-credential")
    return slack.sent[-1].answer.status


# The App Home.


def button(value: str | None, label: str = "Press") -> JsonObject:
    """Return a button as a table's row has it: all share one action, and the value distinguishes them."""
    one = {"type": "button", "action_id": "row", "text": plain(label)}
    return one if value is None else {**one, "value": value}


ROWS: list[JsonObject] = [
    {"type": "section", "text": plain("first"), "accessory": button("1")},
    {"type": "section", "text": plain("second"), "accessory": button("2")},
    {"type": "actions", "elements": [{"type": "static_select", "action_id": "pick", "options": OPTIONS}]},
]
HOME: JsonObject = {
    "type": "home",
    "callback_id": "home",
    "private_metadata": "nonce",
    "blocks": [
        *ROWS,
        {
            "type": "input",
            "block_id": "note",
            "label": plain("Note"),
            "element": {"type": "plain_text_input", "action_id": "note_text"},
        },
    ],
}


def home_saying(text: str) -> JsonObject:
    """Return a home view with one line."""
    return {"type": "home", "blocks": [{"type": "section", "text": plain(text)}]}


def publishes(rig: Rig) -> list[JsonObject]:
    """Let the app publish when its home is opened; return the list in which the received events are collected."""
    events: list[JsonObject] = []

    @rig.app.event("app_home_opened")
    async def opened(body: JsonObject, client: AsyncWebClient) -> None:
        events.append(body)
        await client.views_publish(user_id=body["event"]["user"], view=HOME)

    return events


async def test_opening_the_app_home_lets_the_app_publish_it(rig: Rig) -> None:
    """The event arrives as Slack sends it, without a view the first time and with it the second."""
    events = publishes(rig)

    outcome = await rig.slack.open_home(ADA)
    home = await rig.slack.wait_for_home(ADA, lambda one: "second" in one.text)
    await rig.slack.open_home(ADA)
    again = await rig.slack.wait_for_home(ADA, lambda one: one.hash != home.hash)
    await rig.slack.open_home(ADA, tab="messages")
    await rig.slack.workspace.changes.wait_until(lambda: len(events) > 2 or None, timedelta(seconds=5), "the events")

    first, second, third = events
    assert (outcome.failure, outcome.was_sent) == (None, True)
    assert {name: value for name, value in first["event"].items() if name != "event_ts"} == {
        "type": "app_home_opened",
        "user": ADA,
        "channel": "D0ADA0001",
        "tab": "home",
    }
    assert (first["type"], first["team_id"], first["api_app_id"]) == ("event_callback", "T0SANDBOX", "A0R2CREDS")
    assert (first["is_ext_shared_channel"], first["authorizations"][0]["user_id"]) == (False, "U0R2BOT01")
    assert (second["event"]["view"]["id"], second["event"]["view"]["hash"]) == (home.id, home.hash)
    assert ("view" in third["event"], third["event"]["tab"]) == (False, "messages")
    assert len({event["event_id"] for event in events}) == 3
    assert (again.id, again.callback_id, again.private_metadata) == (home.id, "home", "nonce")
    assert (home.block_ids[-1], rig.slack.home(GRACE)) == ("note", None)
    assert rig.slack.problems == []


async def test_a_press_at_home_carries_the_whole_view_and_no_conversation(rig: Rig) -> None:
    """The right one of two rows is pressed, a choice stays, and the trigger opens a modal without a channel."""
    bodies: list[JsonObject] = []

    @rig.app.action("row")
    @rig.app.action("pick")
    async def acted(ack: Any, body: JsonObject, client: AsyncWebClient) -> None:  # noqa: ANN401 - Bolt's
        bodies.append(body)
        await ack()
        if body["actions"][0]["action_id"] == "row":
            await client.views_open(trigger_id=body["trigger_id"], view=FORM)

    await rig.client.views_publish(user_id=ADA, view=HOME)
    home = await rig.slack.wait_for_home(ADA)

    chosen = await rig.slack.click(ADA, home, "pick", "logs")
    typed = await rig.slack.click(ADA, home, "note", "half a note")
    pressed = await rig.slack.click(ADA, home, "row", "2")
    modal = await rig.slack.wait_for_view(ADA)

    assert (chosen.failure, typed.failure, pressed.failure) == (None, None, None)
    choice, press = bodies
    assert choice["actions"][0]["selected_option"]["value"] == "logs"
    assert (press["actions"][0]["value"], press["actions"][0]["block_id"]) == ("2", home.block_ids[1])
    assert press["container"] == {"type": "view", "view_id": home.id}
    assert {"channel", "message", "response_url"}.isdisjoint(press)
    view = press["view"]
    assert (view["type"], view["root_view_id"], view["previous_view_id"], view["submit"]) == (
        "home",
        home.id,
        None,
        None,
    )
    assert view["state"]["values"][home.block_ids[2]]["pick"]["selected_option"]["value"] == "logs"
    assert view["state"]["values"]["note"]["note_text"]["value"] == "half a note"
    assert modal.values["channel"]["channel_pick"]["selected_conversation"] is None


async def test_home_payloads_can_be_forged(rig: Rig) -> None:
    """Another person presses in Ada's home, or an outsider opens it: both payloads are sent unchanged."""
    bodies: list[JsonObject] = []

    @rig.app.action("row")
    async def acted(ack: Any, body: JsonObject) -> None:  # noqa: ANN401 - Bolt's
        bodies.append(body)
        await ack()

    await rig.client.views_publish(user_id=ADA, view=HOME)
    home = await rig.slack.wait_for_home(ADA)
    action = {"type": "button", "action_id": "row", "block_id": "made-up", "value": "9"}

    mallory = await rig.slack.deliver("interactive", rig.slack.make_home_action(MALLORY, home, action))
    oscar = rig.slack.make_home_action(ADA, home, action, as_user=OUTSIDER)
    await rig.slack.deliver("interactive", oscar)
    opened = rig.slack.make_home_opened(ADA, as_user=OUTSIDER)

    assert mallory.failure is None
    assert [body["user"]["id"] for body in bodies] == [MALLORY, OUTSIDER.id]
    assert {body["view"]["id"] for body in bodies} == {home.id}
    assert bodies[1]["view"]["team_id"] == bodies[1]["team"]["id"] == opened["team_id"] == "T0ACME"
    assert (bodies[1]["actions"][0]["value"], opened["event"]["user"]) == ("9", OUTSIDER.id)


async def test_an_event_has_its_own_sort_of_envelope(slack: FakeSlack) -> None:
    """It needs no response payload, and says that this is the first delivery."""
    async with open_lines(slack, 1) as lines:
        opening = asyncio.create_task(slack.open_home(ADA))
        envelope = await lines[0].receive_json()
        await lines[0].send_json({"envelope_id": envelope.pop("envelope_id"), "payload": {"ignored": True}})

        assert (await opening).failure is None
    payload = envelope.pop("payload")
    assert envelope == {
        "type": "events_api",
        "accepts_response_payload": False,
        "retry_attempt": 0,
        "retry_reason": "",
    }
    assert payload["event"]["type"] == "app_home_opened"


async def test_an_event_by_http_is_signed_json(slack: FakeSlack) -> None:
    """The body is the event itself; the content of a good answer does not matter."""
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append((await request.read(), dict(request.headers)))
        return web.Response(text="[]", content_type="application/json")

    async with serving(serve) as slack.request_url:
        outcome = await slack.open_home(ADA)

    body, headers = seen[0]
    assert outcome.failure is None
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == slack.sent[0].payload
    assert SignatureVerifier(slack.config.signing_secret).is_valid_request(body, headers)


BAD_EVENT_ANSWERS: dict[str, tuple[Callable[[web.Request], Any], str]] = {
    "late": (silent, "operation_timeout"),
    "a server error": (answering(status=500), "dispatch_failed"),
    "a redirect": (answering(status=302, headers={"Location": "/"}), "dispatch_failed"),
}


@pytest.mark.parametrize(("handler", "failure"), BAD_EVENT_ANSWERS.values(), ids=BAD_EVENT_ANSWERS)
async def test_an_event_that_is_not_acknowledged_is_a_failure(
    slack: FakeSlack, handler: Callable[[web.Request], Any], failure: str
) -> None:
    """The person sees nothing, nothing is sent again, and the test can read it."""
    slack.transport.config = IMPATIENT if handler is silent else CONFIG
    async with serving(handler) as slack.request_url:
        outcome = await slack.open_home(ADA)

    assert (outcome.failure, outcome.was_sent, len(slack.sent)) == (failure, True, 1)
    assert slack.home(ADA) is None


async def test_without_a_connection_or_an_acknowledgement_the_event_fails(slack: FakeSlack) -> None:
    """First no client is connected; then one is, and does not answer."""
    unconnected = await slack.open_home(ADA)
    async with open_lines(slack, 1):
        slack.transport.config = IMPATIENT
        silent_app = await slack.open_home(ADA)

    assert (unconnected.failure, silent_app.failure) == ("dispatch_failed", "operation_timeout")


async def test_an_app_without_a_subscription_gets_no_event() -> None:
    """Its home can be opened and published all the same."""
    async with FakeSlack(replace(CONFIG, bot_events=())) as slack:
        await client_for(slack).views_publish(user_id=ADA, view=HOME)
        outcome = await slack.open_home(ADA)

        assert (outcome.failure, outcome.was_sent, slack.sent) == (None, False, [])
        assert slack.home(ADA) is not None


async def test_an_app_without_a_home_tab_publishes_nothing() -> None:
    """Slack says `not_enabled`, and the tab cannot be opened; the Messages tab can."""
    async with FakeSlack(replace(CONFIG, home_tab_enabled=False)) as slack:
        assert await error_of(client_for(slack).views_publish(user_id=ADA, view=HOME)) == "not_enabled"
        with pytest.raises(ImpossibleStepError, match="no Home tab"):
            await slack.open_home(ADA)
        await slack.open_home(ADA, tab="messages")

        assert (slack.home(ADA), len(slack.sent)) == (None, 1)


async def test_a_modal_has_a_maximum_size(slack: FakeSlack) -> None:
    """The limit of the Home tab applies, whether the modal is opened or updated."""
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3000}}
    view = {**DONE, "blocks": [block] * 90}
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
    assert await error_of(client_for(slack).views_open(trigger_id=trigger_id, view=view)) == "view_too_large"
    opened = await client_for(slack).views_open(trigger_id=trigger_id, view=DONE)
    updating = client_for(slack).views_update(view_id=opened["view"]["id"], view=view)
    assert await error_of(updating) == "view_too_large"


PUBLISHINGS: dict[str, tuple[JsonObject, str]] = {
    "no user": ({"view": HOME}, "invalid_arguments"),
    "no user's id": ({"user_id": "ada", "view": HOME}, "invalid_arguments"),
    "an unknown user": ({"user_id": "U0NOBODY1", "view": HOME}, "user_not_found"),
    "no view": ({"user_id": ADA}, "invalid_arguments"),
    "a view that is no JSON": ({"user_id": ADA, "view": "{"}, "invalid_arguments"),
    "a modal": ({"user_id": ADA, "view": FORM}, "invalid_arguments"),
    "a hash before anything was published": ({"user_id": ADA, "view": HOME, "hash": "1.a"}, "hash_conflict"),
    "a view too large": (
        {"user_id": ADA, "view": {"type": "home", "blocks": [home_saying("x" * 3000)["blocks"][0]] * 90}},
        "view_too_large",
    ),
}


@pytest.mark.parametrize(("arguments", "error"), PUBLISHINGS.values(), ids=PUBLISHINGS)
async def test_a_bad_publishing_is_refused(slack: FakeSlack, arguments: JsonObject, error: str) -> None:
    """The answer has Slack's error code; nothing is on the Home tab."""
    assert await error_of(client_for(slack).api_call("views.publish", json=arguments)) == error
    assert slack.home(ADA) is None


async def test_publishing_again_replaces_the_view_unless_its_hash_is_old(slack: FakeSlack) -> None:
    """The id stays, a new hash guards the view, typed values stay, and each person has a separate view."""
    client = client_for(slack)
    first = (await client.views_publish(user_id=ADA, view=HOME))["view"]
    await slack.click(ADA, await slack.wait_for_home(ADA), "note_text", "kept")

    second = (await client.views_publish(user_id=ADA, view=HOME, hash=first["hash"]))["view"]
    stale = await error_of(client.views_publish(user_id=ADA, view=home_saying("late"), hash=first["hash"]))
    grace = (await client.views_publish(user_id=GRACE, view=home_saying("for Grace")))["view"]

    home = slack.home(ADA)
    assert home is not None
    assert (first["id"], first["type"], first["app_id"]) == (second["id"], "home", "A0R2CREDS")
    assert (stale, home.hash) == ("hash_conflict", second["hash"])
    assert second["hash"] != first["hash"]
    assert home.values["note"]["note_text"]["value"] == "kept"
    assert second["state"]["values"]["note"]["note_text"]["value"] == "kept"
    assert grace["id"] != first["id"]


async def test_an_external_id_belongs_to_one_view(slack: FakeSlack) -> None:
    """Neither another person's home nor a modal can take it; the same home can keep it."""
    client = client_for(slack)
    mine = HOME | {"external_id": "mine"}
    await client.views_publish(user_id=ADA, view=mine)

    kept = await client.views_publish(user_id=ADA, view=mine)
    grace = await error_of(client.views_publish(user_id=GRACE, view=mine))
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
    modal = await error_of(client.views_open(trigger_id=trigger_id, view=FORM | {"external_id": "mine"}))

    assert kept["view"]["external_id"] == "mine"
    assert (grace, modal) == ("duplicate_external_id", "duplicate_external_id")


async def test_a_home_is_neither_opened_nor_updated_as_a_modal(slack: FakeSlack) -> None:
    """`views.open` accepts modals only, and `views.update` does not find the view of a Home tab."""
    client = client_for(slack)
    published = (await client.views_publish(user_id=ADA, view=HOME))["view"]
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]

    assert await error_of(client.views_open(trigger_id=trigger_id, view=HOME)) == "invalid_arguments"
    assert await error_of(client.views_update(view_id=published["id"], view=HOME)) == "invalid_arguments"
    assert await error_of(client.views_update(view_id=published["id"], view=DONE)) == "not_found"


async def test_impossible_steps_at_home_are_refused(slack: FakeSlack) -> None:
    """No view, another person's home, or an action or value that does not exist."""
    with pytest.raises(AssertionError, match="did not come"):
        await slack.wait_for_home(ADA, within=BRIEFLY)
    await client_for(slack).views_publish(user_id=ADA, view=HOME)
    home = await slack.wait_for_home(ADA)
    with pytest.raises(ImpossibleStepError, match="nothing is on the Home tab"):
        await slack.click(GRACE, home, "row")
    await client_for(slack).views_publish(user_id=GRACE, view=HOME)
    with pytest.raises(ImpossibleStepError, match="is not on the Home tab"):
        await slack.click(GRACE, home, "row")
    with pytest.raises(ImpossibleStepError, match="no action"):
        await slack.click(ADA, home, "nothing")
    with pytest.raises(ImpossibleStepError, match="has the value '3'"):
        await slack.click(ADA, home, "row", "3")
    with pytest.raises(ImpossibleStepError, match="not offered"):
        await slack.click(ADA, home, "pick", "nothing")
    with pytest.raises(ImpossibleStepError, match="several values"):
        await slack.click(ADA, home, "row", ["1", "2"])
    with pytest.raises(AssertionError, match="did not come"):
        await slack.wait_for_home(ADA, lambda one: "third" in one.text, within=BRIEFLY)
    assert slack.sent == []


async def test_one_of_several_buttons_is_named_by_its_value(slack: FakeSlack) -> None:
    """In messages and modals too; without a value the first one is pressed."""
    select = {"type": "static_select", "action_id": "row", "options": OPTIONS}
    blocks = [*ROWS, {"type": "section", "text": plain("third"), "accessory": button(None)}]
    await client_for(slack).chat_postMessage(
        channel=HERE, text="rows", blocks=[*blocks, {**ROWS[2], "elements": [select]}]
    )
    message = await slack.wait_for_message(HERE)
    trigger_id = slack.make_command(ADA, HERE, "/r2-credential")["trigger_id"]
    await client_for(slack).views_open(trigger_id=trigger_id, view=DONE | {"blocks": blocks})
    modal = slack.modal(ADA)
    assert modal is not None

    for where in (message, modal):
        await slack.click(ADA, where, "row", "2")
        await slack.click(ADA, where, "row")
        with pytest.raises(ImpossibleStepError, match="has the value '3'"):
            await slack.click(ADA, where, "row", "3")
    await slack.click(ADA, message, "row", "logs")

    actions = [sent.payload["actions"][0] for sent in slack.sent]
    assert [action.get("value") for action in actions] == ["2", "1", "2", "1", None]
    assert actions[-1]["selected_option"]["value"] == "logs"


# Ephemeral answers with buttons.


def status_page(number: int) -> list[JsonObject]:
    """Return one page of a status table."""
    row = {"type": "section", "text": plain(f"page {number}"), "accessory": button(str(number + 1), "Next")}
    return [row, {"type": "context", "elements": [plain(":large_green_circle: fine")]}]


async def test_a_commands_ephemeral_answer_is_paged_by_its_buttons(rig: Rig) -> None:
    """Each press has a response URL that replaces the message in place; the last one deletes it."""
    bodies: list[JsonObject] = []
    rig.app._async_listeners.clear()

    @rig.app.command("/r2-credential")
    async def answer(ack: Any) -> None:  # noqa: ANN401 - Bolt's
        await ack(text="page 1", blocks=status_page(1))

    @rig.app.action("row")
    async def turn(ack: Any, body: JsonObject, respond: Any) -> None:  # noqa: ANN401 - Bolt's
        bodies.append(body)
        await ack()
        wanted = body["actions"][0]["value"]
        if wanted == "3":
            await respond(delete_original=True)
        else:
            await respond(f"page {wanted}", blocks=status_page(int(wanted)), replace_original=True)

    first = (await rig.slack.type_command(ADA, PUBLIC, "/r2-credential status")).message
    assert first is not None
    await rig.slack.click(ADA, first, "row")
    second = await rig.slack.wait_for_message(PUBLIC, lambda one: one.text == "page 2", as_user=ADA)
    await rig.slack.click(ADA, second, "row", "3")
    await rig.slack.workspace.changes.wait_until(
        lambda: None if rig.slack.ephemerals(ADA, PUBLIC) else True, timedelta(seconds=5), "the end"
    )

    assert (second.ts, second.ephemeral_to, second.edited) == (first.ts, ADA, False)
    assert "page 2" in second.shown_text
    assert bodies[0]["container"] == {
        "type": "message",
        "message_ts": first.ts,
        "channel_id": PUBLIC,
        "is_ephemeral": True,
    }
    assert "message" not in bodies[0]
    assert bodies[0]["response_url"] != bodies[1]["response_url"]
    assert (rig.slack.messages(PUBLIC), rig.slack.ephemerals(GRACE, PUBLIC)) == ((), ())


async def test_the_commands_own_response_url_replaces_and_deletes_its_answer(rig: Rig) -> None:
    """It works with blocks and buttons; an invalid use leaves the answer as it was."""
    rig.app._async_listeners.clear()

    @rig.app.command("/r2-credential")
    async def answer(ack: Any) -> None:  # noqa: ANN401 - Bolt's
        await ack(text="page 1", blocks=status_page(1))

    outcome = await rig.slack.type_command(ADA, PUBLIC, "/r2-credential status")
    url = rig.slack.sent[-1].payload["response_url"]
    bad = await respond(url, replace_original=True, text="x", blocks=[{"type": "input"}])
    assert rig.slack.ephemerals(ADA, PUBLIC) == (outcome.message,)
    replaced = await respond(url, replace_original=True, text="page 2", blocks=status_page(2))
    newer = rig.slack.ephemerals(ADA, PUBLIC)
    deleted = await respond(url, delete_original=True)

    assert (bad[0], replaced[0], deleted[0]) == (400, 200, 200)
    assert [(one.text, "Next" in one.shown_text) for one in newer] == [("page 2", True)]
    assert rig.slack.ephemerals(ADA, PUBLIC) == ()
