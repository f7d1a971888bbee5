"""The page of the fake Slack, in a real browser, with a Bolt app that is unaware of it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import aiohttp
import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.page_state import PanelAccountToken, PanelData, PanelSlot, PanelSwitch, PanelToken
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import PATIENCE, FakeSlackConfig
from tests.sandbox.contrast import find_faint

pytestmark = pytest.mark.asyncio(loop_scope="session")

JsonObject = dict[str, Any]

ADA, GRACE = "U0ADA0001", "U0GRACE01"
HERE, PRIVATE, SHARED, ARCHIVED = "C0DATAPLT", "G0INCID42", "C0PARTNER", "C0OLDWARE"
WITH_ADA, WITH_GRACE = "D0ADA0001", "D0GRACE01"


def plain(text: str) -> JsonObject:
    """Return a plain text object."""
    return {"type": "plain_text", "text": text}


def field(block_id: str, label: str, element: JsonObject, **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return an input block."""
    element = {"action_id": f"{block_id}_action", **element}
    return {"type": "input", "block_id": block_id, "label": plain(label), "element": element, **more}


OPTIONS = [
    {"text": plain(name), "value": name, "description": plain(f"credential {state}")}
    for name, state in (("events-prod", "present"), ("events-staging", "absent"), ("logs", "invalid"))
]
FORM: JsonObject = {
    "type": "modal",
    "callback_id": "form",
    "title": plain("Store a credential"),
    "submit": plain("Submit"),
    "close": plain("Cancel"),
    "blocks": [
        {"type": "section", "text": {"type": "mrkdwn", "text": "Goes *sealed*. :lock:"}},
        field("bucket", "Bucket", {"type": "external_select", "min_query_length": 1}),
        field("token", "API token", {"type": "plain_text_input"}, hint=plain("As it was shown")),
        field("channel", "Result in", {"type": "conversations_select", "default_to_current_conversation": True}),
        field(
            "kind",
            "Kind",
            {"type": "static_select", "options": OPTIONS, "initial_option": OPTIONS[2]},
            optional=True,
            dispatch_action=True,
        ),
        field("flags", "Flags", {"type": "checkboxes", "options": OPTIONS}, optional=True, dispatch_action=True),
        field("reason", "Reason", {"type": "plain_text_input", "multiline": True}, optional=True, dispatch_action=True),
        {"type": "actions", "elements": [{"type": "button", "action_id": "help", "text": plain("Help")}]},
    ],
}
DONE: JsonObject = {
    "type": "modal",
    "title": plain("Done"),
    "close": plain("Close"),
    "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": ":white_check_mark: Stored"}}],
}
RESULT: list[JsonObject] = [
    {"type": "header", "text": plain("Result")},
    {
        "type": "section",
        "text": {"type": "mrkdwn", "text": f"<@{ADA}> stored it in <#{HERE}> &amp; <https://example.com/x|said so>"},
        "fields": [{"type": "mrkdwn", "text": "*Token*\n`cfut_abcd`"}, plain("plain <b>text</b>")],
    },
    {"type": "divider"},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "again",
                "style": "primary",
                "text": plain("Try again"),
                "confirm": {
                    "title": plain("Sure?"),
                    "text": plain("Once more"),
                    "confirm": plain("Yes"),
                    "deny": plain("No"),
                },
            },
            {"type": "button", "action_id": "docs", "text": plain("Read"), "url": "https://example.com/docs"},
            {"type": "static_select", "action_id": "choose", "options": OPTIONS, "placeholder": plain("Choose one")},
        ],
    },
    {
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": "> quoted\n```let x = 1```\n<!date^1700000000^{date_num}|then>"}],
    },
]


EMOJI = (
    *("large_green_circle", "large_yellow_circle", "red_circle", "white_circle", "black_circle", "hourglass"),
    *("rotating_light", "warning", "mag", "house", "arrow_left", "arrow_right"),
)


def button(action_id: str, label: str, value: str, **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return a button with a value."""
    return {"type": "button", "action_id": action_id, "text": plain(label), "value": value, **more}


def status(number: int) -> list[JsonObject]:
    """Return one page of a table with a button in each row, and the buttons that turn the page."""
    rows: list[JsonObject] = [
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": f":large_green_circle: *{name}* on page {number}\nstored 3 days ago"},
            "accessory": button("choose", "Renew", name),
        }
        for name in ("events-prod", "logs")
    ]
    turning = [button("turn", ":arrow_left: Back", str(number - 1)), button("turn_on", "Next", str(number + 1))]
    return [{"type": "header", "text": plain("Catalogs")}, *rows, {"type": "actions", "elements": turning}]


def home(number: int) -> JsonObject:
    """Return a Home tab: the table, a field, and a button with a confirmation."""
    confirm = {"title": plain("Sure?"), "text": plain("All of them"), "confirm": plain("Yes"), "deny": plain("No")}
    renew_all = button("again", "Renew all", "all", style="danger", confirm=confirm)
    kind = {"type": "static_select", "action_id": "kind_action", "options": OPTIONS, "placeholder": plain("Any kind")}
    return {
        "type": "home",
        "blocks": [
            *status(number),
            field("reason", "Reason", {"type": "plain_text_input"}),
            {"type": "actions", "elements": [kind, renew_all]},
            {"type": "context", "elements": [plain(" ".join(f":{name}:" for name in EMOJI))]},
        ],
    }


def page_app(slack: FakeSlack, seen: list[JsonObject]) -> AsyncApp:
    """Return a Bolt app that uses every kind of block and keeps what it receives."""
    app = AsyncApp(client=AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url), signing_secret="unused")

    @app.command("/r2-credential")
    async def open_form(ack: Any, body: JsonObject, client: AsyncWebClient) -> None:  # noqa: ANN401 - Bolt's
        if body["text"] == "status":
            await ack("`present`, as of 3 s ago")
            return
        if body["text"] == "table":
            await ack(text="Catalogs", blocks=status(1))
            return
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=FORM)

    @app.options("bucket_action")
    async def offer(ack: Any, payload: JsonObject) -> None:  # noqa: ANN401 - Bolt's
        await ack(options=[option for option in OPTIONS if payload["value"] in option["value"]])

    @app.view("form")
    async def submitted(ack: Any, body: JsonObject, client: AsyncWebClient) -> None:  # noqa: ANN401 - Bolt's
        seen.append(body)
        values = body["view"]["state"]["values"]
        if values["token"]["token_action"]["value"] == "wrong":
            await ack(response_action="errors", errors={"token": "That is no API token"})
            return
        await ack(response_action="update", view=DONE)
        channel = values["channel"]["channel_action"]["selected_conversation"]
        await client.chat_postMessage(channel=channel, text="Stored", blocks=RESULT)

    @app.action(re.compile("again|choose|help|.*_action"))
    async def acted(ack: Any, body: JsonObject) -> None:  # noqa: ANN401 - Bolt's
        await ack()
        seen.append(body)
        slack.workspace.changes.announce()

    add_status(app, seen)
    return app


def add_status(app: AsyncApp, seen: list[JsonObject]) -> None:
    """Let the app publish its Home tab when opened, and turn the table's pages there and in answers."""

    @app.event("app_home_opened")
    async def opened(body: JsonObject, client: AsyncWebClient) -> None:
        seen.append(body)
        if body["event"]["tab"] == "home" and "view" not in body["event"]:
            await client.views_publish(user_id=body["event"]["user"], view=home(1))

    @app.action(re.compile("turn|turn_on"))
    async def turn(ack: Any, body: JsonObject, respond: Any, client: AsyncWebClient) -> None:  # noqa: ANN401 - Bolt's
        await ack()
        seen.append(body)
        number = int(body["actions"][0]["value"])
        if "view" in body:
            await client.views_publish(user_id=body["user"]["id"], view=home(number))
        elif number:
            await respond("Catalogs", blocks=status(number), replace_original=True)
        else:
            await respond(delete_original=True)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[FakeSlack, list[JsonObject]]]:
    """Yield a fake Slack with its app, and what the app received."""
    async with FakeSlack() as slack:
        seen: list[JsonObject] = []
        web_client = AsyncWebClient(base_url=slack.api_url)
        handler = AsyncSocketModeHandler(page_app(slack, seen), slack.config.app_token, web_client=web_client)
        await handler.connect_async()  # type: ignore[no-untyped-call]  # Bolt left it so
        await slack.wait_for_connections()
        slack.panel = lambda: PanelData(
            start=("Type `/r2-credential` below and press *Enter*.", "Press *Submit*."),
            tokens=(PanelToken(label="Good one", explanation="Works", token="cfut_good"),),
            slots=(
                PanelSlot(
                    bucket="events-prod",
                    catalog_state="active",
                    credential_state="present",
                    stored="cfut_before",
                    stored_at=datetime(2026, 11, 1, tzinfo=UTC),
                ),
                PanelSlot(bucket="logs", catalog_state="active", credential_state="absent"),
            ),
        )
        try:
            yield slack, seen
        finally:
            await handler.close_async()  # type: ignore[no-untyped-call]  # as above


async def open_page(browser: Browser, slack: FakeSlack, **options: Any) -> tuple[Page, list[str]]:  # noqa: ANN401 - the browser's
    """Open the page and return it with the list in which its errors are collected."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    await page.goto(slack.url)
    return page, errors


async def test_the_main_path_in_a_browser(browser: Browser) -> None:
    """Command, type-ahead by keyboard, errors in the form, the pasted token, progress, and the rendered result."""
    async with connected() as (slack, seen):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at("composer").fill("/r2")
        await expect(at("command-hint")).to_contain_text("/r2-credential")
        await at("composer").press("Enter")
        await expect(at("composer")).to_have_value("/r2-credential ")
        await at("composer").press("Enter")

        await expect(at("modal")).to_be_visible()
        bucket = at("block-bucket").get_by_role("combobox")
        await expect(bucket).to_be_focused()
        await bucket.press_sequentially("events")
        await expect(at("option")).to_have_count(2)
        await expect(at("option").first).to_contain_text("credential present")
        await bucket.press("ArrowDown")
        await bucket.press("Enter")
        await expect(bucket).to_have_value("events-staging")
        token = at("block-token").get_by_role("textbox")
        await token.fill("wrong")
        await token.press("Enter")
        await expect(at("block-token").get_by_test_id("field-error")).to_have_text("That is no API token")
        await expect(token).to_have_attribute("aria-invalid", "true")
        await expect(token).to_be_focused()
        await at("token-good-one").get_by_role("button", name="Paste").click()
        await expect(token).to_have_value("cfut_good")
        await at("block-flags").get_by_label("logs").check()
        await at("block-kind").get_by_role("combobox").click()
        await at("option").filter(has_text="events-prod").click()
        await at("block-reason").get_by_role("textbox").fill("rotation")
        await at("block-reason").get_by_role("textbox").press("Control+Enter")
        await slack.workspace.changes.wait_until(lambda: len(seen) > 3 or None, PATIENCE, "the fields")
        await at("action-help").click()
        await slack.workspace.changes.wait_until(lambda: len(seen) > 4 or None, PATIENCE, "the press")
        await at("modal-submit").click()
        await expect(at("modal")).to_contain_text("Stored")
        await page.keyboard.press("Escape")
        await expect(at("modal")).to_have_count(0)

        await expect(at("message")).to_contain_text("@Ada Lovelace stored it")
        values = seen[-1]["view"]["state"]["values"]
        assert values["bucket"]["bucket_action"]["selected_option"]["value"] == "events-staging"
        assert values["token"]["token_action"]["value"] == "cfut_good"
        assert values["kind"]["kind_action"]["selected_option"]["value"] == "events-prod"
        assert [option["value"] for option in values["flags"]["flags_action"]["selected_options"]] == ["logs"]
        dispatched = [body for body in seen if body["type"] == "block_actions"]
        actions = [body["actions"][0]["action_id"] for body in dispatched]
        assert actions == ["flags_action", "kind_action", "reason_action", "help"]
        assert dispatched[0]["view"]["state"]["values"]["bucket"]["bucket_action"]["selected_option"] is not None
        assert errors == []


async def test_a_message_is_rendered_and_its_buttons_and_selects_work(browser: Browser) -> None:
    """Foreign text stays text; a button asks for its confirmation first; a select in a message sends the choice."""
    async with connected() as (slack, seen):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url).chat_postMessage(
            channel=HERE, text="Stored", blocks=RESULT
        )
        message = at("message").last
        await expect(message).to_contain_text("@Ada Lovelace stored it in #data-platform & said so")
        await expect(message).to_contain_text("plain <b>text</b>")
        await expect(message.get_by_role("link", name="said so")).to_have_attribute("href", "https://example.com/x")
        await at("action-again").click()
        await at("confirm-deny").click()
        await at("action-again").click()
        await at("confirm-yes").click()
        await at("message").get_by_role("combobox").click()
        await at("option").filter(has_text="events-prod").click()
        await slack.workspace.changes.wait_until(lambda: len(seen) > 1 or None, PATIENCE, "the choice")

        assert [body["actions"][0]["action_id"] for body in seen] == ["again", "choose"]
        assert errors == []


async def test_people_see_their_own_content(browser: Browser) -> None:
    """Ephemeral messages and modals belong to one person; channels show their state; the archived one is closed."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at("composer").fill("/r2-credential status")
        await at("send").click()
        await expect(at("ephemeral")).to_contain_text("Only visible to you")
        await slack.type_command(ADA, HERE, "/r2-credential")
        await expect(at("modal")).to_be_visible()
        await expect(at("composer")).not_to_be_focused()
        await at("modal-cancel").click()
        await at("user-chooser").select_option(GRACE)
        await expect(at("ephemeral")).to_have_count(0)
        await slack.say(ADA, SHARED, "hello *partners*")
        await expect(at(f"channel-{SHARED}")).to_have_class(re.compile("unread"))
        await at(f"channel-{SHARED}").click()
        await expect(at("message")).to_contain_text("hello partners")
        await expect(page.locator("#channel-header")).to_contain_text("Shared with another company")
        await at(f"channel-{PRIVATE}").click()
        await expect(page.locator("#channel-header")).to_contain_text("R2 Credential is not in this channel")
        await at(f"channel-{ARCHIVED}").click()
        await expect(page.locator("#composer-place")).to_contain_text("archived")
        await page.reload()
        await expect(page.get_by_role("heading", name="old-warehouse", exact=True)).to_be_visible()
        await expect(at("user-chooser")).to_have_value(GRACE)
        assert errors == []


async def test_the_form_keeps_what_was_typed_after_a_failure(browser: Browser) -> None:
    """Tab stays inside, Escape closes a list before the modal, and a failure keeps the form with everything typed."""
    async with connected() as (slack, _):
        page, _ = await open_page(browser, slack)
        at = page.get_by_test_id
        await at("composer").fill("/r2-credential")
        await at("send").click()
        await at("modal-submit").click()
        await expect(at("block-bucket").get_by_test_id("field-error")).to_contain_text("complete this required field")
        await expect(at("block-channel").get_by_test_id("field-error")).to_be_hidden()
        bucket = at("block-bucket").get_by_role("combobox")
        await bucket.fill("logs")
        await expect(at("option")).to_have_count(1)
        await bucket.press("Escape")
        await expect(at("option")).to_have_count(0)
        await expect(at("modal")).to_be_visible()
        await bucket.fill("logs")
        await at("option").click()
        await at("block-token").get_by_role("textbox").fill("kept")
        await slack.transport.drop_connections()
        slack.transport.refuses_connections = True
        await at("modal-submit").click()
        await expect(at("modal-notice")).to_contain_text("trouble connecting")
        await expect(at("block-token").get_by_role("textbox")).to_have_value("kept")
        await expect(bucket).to_have_value("logs")
        await at("modal-submit").focus()
        await page.keyboard.press("Tab")
        await expect(at("token-good-one").get_by_role("button", name="Paste")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(at("modal-close")).to_be_focused()
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(at("block-token").get_by_role("textbox")).to_have_value("cfut_good")
        await expect(at("block-token").get_by_role("textbox")).to_be_focused()


async def test_the_panel_shows_slots_and_copies_tokens(browser: Browser) -> None:
    """The slots with their exact values, live; the panel can be hidden; a narrow window still has everything."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack, permissions=["clipboard-read", "clipboard-write"])
        at = page.get_by_test_id
        await expect(at("panel-slot-events-prod")).to_contain_text("cfut_before")
        await expect(at("panel-slot-logs")).to_have_text("logscredential absent")
        await page.get_by_role("button", name="Copy the token “Good one”", exact=True).click()
        await expect(page.get_by_role("button", name="Copied the token “Good one”", exact=True)).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == "cfut_good"
        slot = PanelSlot(bucket="logs", catalog_state="active", credential_state="valid", stored="cfut_good")
        slack.panel = lambda: PanelData(slots=(slot,))
        slack.notify_panel()
        await expect(at("panel-slot-logs")).to_contain_text("cfut_good")
        await page.get_by_label("Hide the sandbox panel").click()
        await expect(page.locator("#panel")).to_be_hidden()
        await at("panel-toggle").click()
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.get_by_label("Open the menu").click()
        await at(f"channel-{SHARED}").click()
        await expect(at("composer")).to_be_focused()
        overflow = page.locator("html")
        assert await overflow.evaluate("html => html.scrollWidth") == 390
        assert errors == []


def account_panel(*, is_on: bool = False, status: str = "active") -> PanelData:
    """Return a panel with two tokens of the account and a switch."""
    until = datetime.now(UTC) + timedelta(minutes=10)
    ours = PanelAccountToken(
        id="one",
        group="Made by the bot",
        title="logs",
        detail="9k2m",
        status=status,
        note="replaced",
        next="disabled",
        until=until,
        presses=(("Disable", "token disable one"),),
    )
    switch = PanelSwitch(group="Making", label="Quota", explanation="Too many", is_on=is_on, press="trouble quota")
    return PanelData(
        account=(ours, PanelAccountToken(id="two", group="Others", title="terraform", status="disabled")),
        switches=(switch,),
        about="Wait a minute.",
    )


async def test_the_panel_shows_the_tokens_of_the_account_and_its_switches(browser: Browser) -> None:
    """What follows and when, in groups; what is pressed is sent, and the button that was pressed keeps the focus."""
    async with connected() as (slack, _):
        pressed: list[str] = []
        slack.panel, slack.press_panel = account_panel, pressed.append
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await expect(at("part-account")).to_contain_text(re.compile(r"account\s*2.*Wait a minute", re.DOTALL))
        await expect(at("part-account")).to_contain_text("Made by the botlogsactive")
        await expect(at("account-token-one")).to_contain_text(re.compile(r"9k2m\s*replaced\s*disabled in \d+ s"))
        await expect(at("account-token-two")).not_to_contain_text("in no slot")
        await at("by-hand-one").select_option(label="Disable")
        await expect(at("part-slots")).to_be_hidden()
        await expect(at("switch-quota")).to_be_hidden()
        await page.get_by_text("Let a rotation fail").click()
        await at("switch-quota").press("Enter")
        await expect(at("switch-quota")).to_have_attribute("aria-checked", "false")
        wanted = ["token disable one", "trouble quota"]
        await slack.workspace.changes.wait_until(lambda: pressed == wanted or None, PATIENCE, "what was pressed")
        slack.panel = lambda: account_panel(is_on=True, status="disabled")
        slack.notify_panel()
        await expect(at("switch-quota")).to_have_attribute("aria-checked", "true")
        await expect(at("switch-quota")).to_be_focused()
        await expect(at("part-switches")).to_contain_text("1 on")
        await expect(at("account-token-one")).to_contain_text("disabled")
        assert errors == []


async def test_a_long_list_of_slots_scrolls_by_itself(browser: Browser) -> None:
    """Forty buckets do not push the rest of the panel away; empty ones take a line."""
    async with connected() as (slack, _):
        names = [f"bucket-{number}" for number in range(40)]
        slots = tuple(PanelSlot(bucket=name, catalog_state="active", credential_state="absent") for name in names)
        slack.panel = lambda: PanelData(slots=slots, account=account_panel().account)
        page, _ = await open_page(browser, slack)
        await expect(page.get_by_test_id("panel-slot-bucket-39")).to_be_attached()
        await expect(page.get_by_test_id("account-token-one")).to_be_in_viewport()
        await page.get_by_test_id("panel-slot-bucket-39").scroll_into_view_if_needed()
        await expect(page.get_by_test_id("panel-slot-bucket-39")).to_be_in_viewport()


async def test_a_press_that_the_panel_does_not_know_is_refused(browser: Browser) -> None:
    """A page of yesterday's sandbox learns why nothing happens."""
    async with connected() as (slack, _):
        page, _ = await open_page(browser, slack)
        slack.panel = account_panel
        slack.notify_panel()
        await page.get_by_test_id("by-hand-one").select_option(label="Disable")
        await expect(page.locator("#toast")).to_have_text("token disable one")


async def test_a_fresh_page_says_what_to_do_first(browser: Browser) -> None:
    """The steps are shown at the start of a conversation, except in one that cannot be written in."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack)
        steps = page.get_by_test_id("start-here").get_by_role("listitem")
        await expect(steps).to_have_text(["Type /r2-credential below and press Enter.", "Press Submit."])
        await page.get_by_test_id(f"channel-{ARCHIVED}").click()
        await expect(page.locator("#channel-header")).to_contain_text("Archived")
        await expect(steps).to_have_count(0)
        assert errors == []


async def is_at_its_end(page: Page) -> bool:
    """Say whether the newest message is fully visible."""
    rest: float = await page.locator("#messages").evaluate(
        "async list => { for (const _ of 'ab') await new Promise(requestAnimationFrame);"
        " return list.scrollHeight - list.scrollTop - list.clientHeight }"
    )
    return rest < 2


async def test_the_list_follows_the_newest_message(browser: Browser) -> None:
    """After a reload and under a growing draft as well; a person who scrolled up to read is not moved."""
    async with connected() as (slack, _):
        for number in range(40):
            await slack.say(GRACE, HERE, f"message {number}")
        page, errors = await open_page(browser, slack)
        newest = page.get_by_test_id("message").last
        for _ in range(2):
            await expect(newest).to_contain_text("message 39")
            assert await is_at_its_end(page)
            await page.reload()
        await page.get_by_test_id("composer").fill("a\n" * 8)
        assert await is_at_its_end(page)
        await slack.say(GRACE, HERE, "one more")
        await expect(newest).to_contain_text("one more")
        assert await is_at_its_end(page)
        await page.locator("#messages").evaluate("list => { list.scrollTop = 0 }")
        await slack.say(GRACE, HERE, "unseen")
        await expect(newest).to_contain_text("unseen")
        assert await page.locator("#messages").evaluate("list => list.scrollTop") == 0
        assert errors == []


async def test_back_stays_on_the_page(browser: Browser) -> None:
    """It closes what lies on top, then returns to the previous place; a reload and a typed address change nothing."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack)
        at, header = page.get_by_test_id, page.locator("#channel-header")
        await at(f"channel-{SHARED}").click()
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("home")).to_contain_text("page 1")
        await at("action-again").click()
        await page.evaluate("history.back()")
        await expect(at("confirm")).to_have_count(0)
        await slack.type_command(ADA, HERE, "/r2-credential")
        await expect(at("modal")).to_be_visible()
        await page.go_back()
        await expect(at("modal")).to_have_count(0)
        await expect(at("home")).to_contain_text("page 1")
        for place in ("partner-acme", "data-platform", "data-platform"):
            await page.evaluate("history.back()")
            await expect(header).to_contain_text(place)
        await page.goto(f"{slack.url}#{PRIVATE}")
        await expect(header).to_contain_text("incident-42")
        await page.reload()
        await expect(header).to_contain_text("incident-42")
        await page.go_back()
        await page.evaluate("history.back()")
        await expect(header).to_contain_text("incident-42")
        assert page.url.startswith(slack.url)
        assert errors == []


PHONE, TABLET = {"width": 375, "height": 667}, {"width": 900, "height": 700}


@pytest.mark.parametrize("size", [PHONE, TABLET], ids=["phone", "tablet"])
async def test_a_token_is_pasted_on_a_narrow_screen(browser: Browser, size: ViewportSize) -> None:
    """The form leaves the panel in reach and its buttons uncovered; the focus returns to the field."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack)
        await page.set_viewport_size(size)
        await slack.type_command(ADA, HERE, "/r2-credential")
        token = page.get_by_test_id("block-token").get_by_role("textbox")
        await token.focus()
        await page.get_by_role("button", name="Paste the token “Good one”").click()
        await expect(token).to_have_value("cfut_good")
        await expect(token).to_be_in_viewport(ratio=1)
        assert await page.locator("html").evaluate("html => html.scrollWidth") == size["width"]
        assert errors == []


async def test_the_page_reconnects_when_the_sandbox_is_back(browser: Browser) -> None:
    """The stream breaks with the server, is reopened, and brings the whole new state."""
    async with FakeSlack() as first:
        page, _ = await open_page(browser, first)
        await first.say(ADA, HERE, "before")
        await expect(page.get_by_test_id("message")).to_contain_text("before")
    await expect(page.locator("body")).to_have_class(re.compile("offline"))

    async with FakeSlack(port=first.port) as second:
        await second.say(GRACE, HERE, "after")
        await expect(page.get_by_test_id("message")).to_have_text(re.compile("after"))
        await expect(page.locator("body")).not_to_have_class(re.compile("offline"))


# The App Home.


async def test_the_home_tab_in_a_browser(browser: Browser) -> None:
    """Opening it lets the app publish; the right button is pressed, confirmed, and the update shown in place."""
    async with connected() as (slack, seen):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("tab-home")).to_have_attribute("aria-selected", "true")
        await expect(at("home")).to_contain_text("events-prod on page 1")
        await expect(at("composer")).to_be_hidden()
        await at("home").get_by_role("textbox").first.fill("rotation")
        await at("action-choose").nth(1).click()
        await at("action-again").click()
        await at("confirm-deny").click()
        await at("action-again").click()
        await at("confirm-yes").click()
        await at("home").get_by_role("combobox").click()
        await at("option").filter(has_text="logs").click()
        await slack.workspace.changes.wait_until(lambda: len(seen) > 3 or None, PATIENCE, "the choice")
        await at("action-turn_on").focus()
        await page.keyboard.press("Enter")

        await expect(at("home")).to_contain_text("logs on page 2")
        await expect(at("action-turn_on")).to_be_focused()
        await expect(at("home").get_by_role("textbox").first).to_have_value("rotation")
        opening, row, again, kind, turn = seen
        assert opening["event"]["tab"] == "home"
        assert [body["actions"][0].get("value") for body in (row, again, turn)] == ["logs", "all", "2"]
        assert kind["actions"][0]["selected_option"]["value"] == "logs"
        assert row["view"]["state"]["values"]["reason"]["reason_action"]["value"] == "rotation"
        assert turn["container"] == {"type": "view", "view_id": turn["view"]["id"]}
        assert errors == []


async def test_the_focus_stays_while_the_home_tab_changes(browser: Browser) -> None:
    """A confirmation and a modal each cover a button that is redrawn meanwhile: the focus returns to it."""
    async with connected() as (slack, _):
        client = AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url)
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{WITH_ADA}").click()
        await at("action-again").focus()
        await page.keyboard.press("Enter")
        await client.views_publish(user_id=ADA, view=home(2))
        await expect(at("home")).to_contain_text("page 2")
        await at("confirm-yes").click()
        await expect(at("action-again")).to_be_focused()
        await slack.type_command(ADA, HERE, "/r2-credential")
        await expect(at("modal")).to_be_visible()
        await client.views_publish(user_id=ADA, view=home(3))
        await expect(at("home")).to_contain_text("page 3")
        await page.keyboard.press("Escape")
        await expect(at("action-again")).to_be_focused()
        assert errors == []


async def test_the_tabs_work_by_keyboard_and_are_remembered(browser: Browser) -> None:
    """Arrows move between tabs, a reload returns to the same one, and another person has another home."""
    async with connected() as (slack, seen):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{WITH_ADA}").click()
        await at("tab-home").focus()
        await page.keyboard.press("ArrowRight")
        await expect(at("tab-messages")).to_be_focused()
        await expect(at("home")).to_be_hidden()
        await expect(at("composer")).to_be_visible()
        await at(f"channel-{HERE}").click()
        await expect(at("tab-home")).to_be_hidden()
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("composer")).to_be_focused()
        await at("tab-messages").focus()
        await page.keyboard.press("Home")
        await expect(at("tab-home")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(at("home")).to_be_focused()
        await page.reload()
        await expect(at("home")).to_contain_text("page 1")
        await at("user-chooser").select_option(GRACE)
        await expect(at("home")).to_contain_text("page 1")
        await expect(at(f"channel-{WITH_GRACE}")).to_have_attribute("aria-current", "page")
        async with asyncio.timeout(60):
            while len(seen) < 6:  # noqa: ASYNC110 - the page shows an older home until the event has come
                await asyncio.sleep(0.01)
        opened = [(body["event"]["user"], body["event"]["tab"]) for body in seen]
        assert opened == [(ADA, tab) for tab in ("home", "messages", "messages", "home", "home")] + [(GRACE, "home")]
        assert errors == []


async def test_a_home_tab_is_empty_until_something_is_published(browser: Browser) -> None:
    """It says so, later publishing appears by itself, and new messages are marked on their tab."""
    async with FakeSlack() as slack:
        client = AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url)
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("home-placeholder")).to_contain_text("Nothing here yet")
        await client.views_publish(user_id=GRACE, view=home(1))
        await client.views_publish(user_id=ADA, view=home(7))
        await expect(at("home")).to_contain_text("logs on page 7")
        await expect(at("home-placeholder")).to_have_count(0)
        await client.chat_postMessage(channel=ADA, text="Stored")
        await expect(at("tab-messages")).to_contain_text("unread")
        await at("action-choose").first.click()
        await expect(page.locator("#toast")).to_contain_text("did not answer")
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("message")).to_contain_text("Stored")
        await expect(at("tab-messages")).not_to_contain_text("unread")
        assert errors == []


async def test_every_state_has_its_sign_and_a_phone_has_room(browser: Browser) -> None:
    """No emoji remains a word between colons, and nothing is wider than the screen, in dark mode as well."""
    async with FakeSlack() as slack:
        await AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url).views_publish(user_id=ADA, view=home(1))
        page, errors = await open_page(browser, slack, color_scheme="dark")
        at = page.get_by_test_id
        await page.set_viewport_size({"width": 375, "height": 667})
        await page.get_by_label("Open the menu").click()
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("home")).to_contain_text("Catalogs")
        await expect(at("home")).not_to_contain_text(re.compile(":[a-z_]+:"))
        await expect(at("home").locator(".block-context .glyph")).to_have_count(len(EMOJI))
        assert await page.locator("html").evaluate("html => html.scrollWidth") == 375
        assert await at("home").evaluate("home => home.scrollWidth <= home.clientWidth")
        await at("tab-messages").click()
        await expect(at("composer")).to_be_visible()
        assert errors == []


async def test_a_faint_text_is_found(browser: Browser) -> None:
    """The check finds a grey, an opacity and a placeholder, and nothing in black on white."""
    page = await browser.new_page()
    await page.set_content(
        "<body style='background: #fff; color: #000'>fine<p style='color: #777'>grey</p>"
        "<div style='opacity: .5'><p>see-through</p></div>"
        "<style>::placeholder { color: #999 }</style><input placeholder='hint'><input value='typed' placeholder='x'>"
    )
    assert [text.rpartition(": ")[2] for text in await find_faint(page)] == ["grey", "see-through", "hint"]


STATES = ("active", "switched off", "not enabled"), ("present", "absent", "invalid")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out(browser: Browser, scheme: Literal["light", "dark"]) -> None:
    """At least 4.5 to 1, in each part and each state of the page."""
    async with connected() as (slack, _):
        slots = tuple(
            PanelSlot(bucket=f"b{number}", catalog_state=catalog, credential_state=credential, stored="cfut_x")
            for number, (catalog, credential) in enumerate(zip(*STATES, strict=True))
        )
        others = account_panel(is_on=True)
        panel = replace(slack.panel(), slots=slots, also=("Or `not`.",), about=others.about)
        slack.panel = lambda: replace(panel, account=others.account, switches=others.switches)
        client = AsyncWebClient("xoxb-sandbox-bot", base_url=slack.api_url)
        await client.chat_postMessage(channel=HERE, text="Stored", blocks=RESULT)
        for user in (*slack.config.users, slack.config.users[-1]):
            await slack.say(user.id, HERE, "`code` <!here> a word in *bold*")
        await slack.type_command(ADA, HERE, "/r2-credential status")
        await slack.type_command(ADA, HERE, "/other")
        page, _ = await open_page(browser, slack, color_scheme=scheme)
        at, faint = page.get_by_test_id, set[str]()
        await page.get_by_text("Let a rotation fail").click()
        await at("message").last.hover()
        faint.update(await find_faint(page))
        await at("composer").fill("/r2")
        await expect(at("command-hint")).to_be_visible()
        await at(f"channel-{PRIVATE}").hover()
        faint.update(await find_faint(page))
        await at(f"channel-{ARCHIVED}").click()
        await at(f"channel-{SHARED}").hover()
        faint.update(await find_faint(page))
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("home")).to_contain_text("page 1")
        faint.update(await find_faint(page))
        await at("action-again").click()
        faint.update(await find_faint(page))
        await at("confirm-deny").click()
        await slack.type_command(ADA, HERE, "/r2-credential")
        await at("modal-submit").click()
        await expect(at("block-bucket").get_by_test_id("field-error")).to_be_visible()
        await at("block-bucket").get_by_role("combobox").fill("e")
        await expect(at("option")).to_have_count(2)
        await at("option").last.hover()
        faint.update(await find_faint(page))
        await at("option").last.click()
        await at("block-token").get_by_role("textbox").fill("kept")
        await slack.transport.drop_connections()
        slack.transport.refuses_connections = True
        await at("action-help").click()
        await expect(page.locator("#toast")).to_be_visible()
        await at("modal-submit").click()
        await expect(at("modal-notice")).to_be_visible()
        faint.update(await find_faint(page))
        await page.locator("#overlay .modal").evaluate("card => card.classList.add('busy')")
        await page.evaluate("document.body.classList.add('offline')")
        faint.update(await find_faint(page))
        assert faint == set()


async def test_an_app_without_a_home_tab_has_no_tabs(browser: Browser) -> None:
    """It shows only a conversation, whatever the address says."""
    async with FakeSlack(FakeSlackConfig(home_tab_enabled=False)) as slack:
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{WITH_ADA}").click()
        await expect(at("composer")).to_be_focused()
        await expect(at("tab-home")).to_be_hidden()
        await page.goto(f"{slack.url}#{WITH_ADA}/home")
        await expect(at("composer")).to_be_visible()
        await expect(at("home")).to_be_hidden()
        assert errors == []


async def test_an_ephemeral_answer_is_paged_in_place(browser: Browser) -> None:
    """The buttons of a command's answer work through the response URL; the last press removes the answer."""
    async with connected() as (slack, seen):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at(f"channel-{PRIVATE}").click()
        await at("composer").fill("/r2-credential table")
        await at("send").click()
        await expect(at("ephemeral")).to_contain_text("logs on page 1")
        await at("action-choose").nth(1).click()
        await at("action-turn_on").click()
        await expect(at("ephemeral")).to_contain_text("logs on page 2")
        await expect(at("ephemeral")).to_have_count(1)
        await at("action-turn").click()
        await expect(at("ephemeral")).to_contain_text("logs on page 1")
        await at("action-turn").click()
        await expect(at("ephemeral")).to_have_count(0)
        assert [body["actions"][0]["value"] for body in seen] == ["logs", "2", "1", "0"]
        assert all(body["container"]["is_ephemeral"] and "message" not in body for body in seen)
        assert errors == []


async def test_the_focus_stays_in_a_message(browser: Browser) -> None:
    """Neither another message nor a page turned by keyboard moves it; a screen reader reads only what is new."""
    async with connected() as (slack, _):
        page, errors = await open_page(browser, slack)
        at = page.get_by_test_id
        await at("composer").fill("/r2-credential table")
        await at("send").click()
        await at("action-turn_on").focus()
        await page.locator("#messages").evaluate(
            "list => { window.added = []; new MutationObserver(all => all.forEach(one =>"
            " one.addedNodes.forEach(node => added.push(node.textContent)))).observe(list, { childList: true }) }"
        )
        await slack.say(GRACE, HERE, "meanwhile")
        await expect(at("message")).to_contain_text("meanwhile")
        await expect(at("action-turn_on")).to_be_focused()
        assert [text[-9:] for text in await page.evaluate("added")] == ["meanwhile"]
        for number in (2, 3):
            await page.keyboard.press("Enter")
            await expect(at("ephemeral")).to_contain_text(f"logs on page {number}")
            await expect(at("action-turn_on")).to_be_focused()
        await at("user-chooser").focus()
        await slack.say(GRACE, HERE, "at last")
        await expect(at("message").last).to_contain_text("at last")
        await expect(at("user-chooser")).to_be_focused()
        assert errors == []


# Without a browser.


async def call(slack: FakeSlack, path: str, body: object = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    """Send a request to the server: POST with a body, or else GET."""
    async with aiohttp.ClientSession() as session:
        method = "GET" if body is None else "POST"
        async with session.request(method, f"{slack.url}{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.text(), dict(answer.headers.items())


async def test_the_page_is_served_with_a_strict_policy() -> None:
    """No inline script or style, nothing from other hosts; unknown files and actions are 404."""
    async with FakeSlack() as slack:
        status, text, headers = await call(slack, "")
        assert status == 200
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert not re.search(r"<style|style=|onclick|https?://", text)
        for name in re.findall(r'(?:src|href)="/(page/[^"]+)"', text):
            assert (await call(slack, name))[0] == 200
        assert (await call(slack, "page/secrets.py"))[0] == 404
        assert (await call(slack, "page/explode", {}))[0] == 404


STRANGERS = {
    "a foreign origin": {"Origin": "https://evil.example"},
    "a foreign name that resolves to loopback": {"Host": "evil.example:80"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
async def test_other_sites_cannot_drive_the_sandbox(headers: dict[str, str]) -> None:
    """A page of another site in the same browser is refused everywhere."""
    async with FakeSlack() as slack:
        assert (await call(slack, "", **headers))[0] == 403
        assert (await call(slack, "page/events", **headers))[0] == 403
        assert (await call(slack, "page/say", {}, **headers))[0] == 403


REFUSED: dict[str, tuple[str, object]] = {
    "no JSON object": ("say", []),
    "a missing part": ("say", {"user": ADA}),
    "an archived channel": ("say", {"user": ADA, "channel": ARCHIVED, "text": "x"}),
    "no form": ("submit", {"user": ADA, "view": "V0", "values": {}}),
    "a closed form": ("close", {"user": ADA, "view": "V0"}),
    "a missing message": ("click", {"user": ADA, "message": "1.0", "action": "x"}),
    "a missing Home tab": ("click", {"user": ADA, "home": "V0", "values": {}, "action": "x"}),
    "a field of a missing Home tab": ("fill", {"user": ADA, "home": "V0", "values": {}, "block": "x"}),
    "a tab opened by an unknown user": ("open", {"user": "U0GONE", "tab": "home"}),
}


@pytest.mark.parametrize(("action", "body"), REFUSED.values(), ids=REFUSED)
async def test_impossible_requests_are_answered_with_the_reason(action: str, body: object) -> None:
    """The page shows the reason; nothing happens."""
    async with FakeSlack() as slack:
        status, text, _ = await call(slack, f"page/{action}", body)
        assert status == 409
        assert "error" in text


async def test_an_unknown_person_sees_the_first_persons_state() -> None:
    """A remembered user that no longer exists does no harm; blank text is not sent."""
    async with FakeSlack() as slack:
        await call(slack, "page/say", {"user": ADA, "channel": HERE, "text": "  "})
        async with aiohttp.ClientSession() as session, session.get(f"{slack.url}page/events?user=U0GONE") as answer:
            line = (await answer.content.readuntil(b"\n\n")).decode()
    assert f'"you": "{ADA}"' in line
    assert '"messages": []' in line
