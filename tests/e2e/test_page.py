"""The sandbox as a person uses it: the command that the README names, and its page in a real browser."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from bot.sandbox.process import Transport, find_free_port
from bot.sandbox.tokens import READY_MADE_TOKENS
from bot.sandbox.workspace import PATIENCE
from bot.slack.subcommands import usage_hint

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
GOOD = READY_MADE_TOKENS[0].token
ADDRESS = re.compile(rb"open at (http://127\.0\.0\.1:\d+/)")


async def start(
    transport: Transport, directory: Path, stdout: int, stderr: int, *options: str
) -> asyncio.subprocess.Process:
    """Run `sandbox` with a separate environment."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "sandbox", "--port", str(find_free_port()), "--transport", transport, *options),
        cwd=directory,
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "HOME": str(directory), "PATH": ""},
        stdout=stdout,
        stderr=stderr,
    )


@asynccontextmanager
async def sandbox(transport: Transport, directory: Path, *options: str) -> AsyncIterator[str]:
    """Run `sandbox` as a person would, and yield the address that it prints; SIGTERM must end it cleanly."""
    process = await start(transport, directory, asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL, *options)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while (found := ADDRESS.search(await process.stdout.readline())) is None:
                assert not process.stdout.at_eof()
        yield found[1].decode()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE.total_seconds()) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def open_page(browser: Browser, address: str) -> Page:
    """Open the page and fail on anything that the browser complains about."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    await page.goto(address)
    await expect(page.get_by_test_id("composer")).to_be_visible()
    return page


async def type_command(page: Page, line: str) -> None:
    """Type into the composer and send."""
    await page.get_by_test_id("composer").fill(line)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize("transport", ["socket", pytest.param("http", marks=pytest.mark.thorough)])
async def test_a_person_stores_a_token_on_the_page(browser: Browser, transport: Transport, tmp_path: Path) -> None:
    """Choose a user, type the command, pick a bucket, paste, Store: progress, result, message, and the exact token."""
    async with sandbox(transport, tmp_path) as address:
        page = await open_page(browser, address)
        await page.get_by_test_id("user-chooser").select_option(label="Grace Hopper")
        await page.get_by_test_id("composer").fill("/")
        await expect(page.get_by_test_id("command-hint")).to_contain_text(usage_hint())
        await type_command(page, "/r2-credential")
        modal = page.get_by_test_id("modal")
        await expect(modal).to_contain_text("Store a credential")
        submit = (await page.get_by_test_id("modal-submit").inner_text()).strip()
        await expect(page.get_by_test_id("start-here")).to_contain_text(f"Press {submit}.")
        await modal.get_by_test_id("block-bucket").locator("input").first.press_sequentially("click")
        await page.get_by_test_id("option").filter(has_text="clickstream-raw").click()
        await page.get_by_test_id("token-good").get_by_role("button", name="Paste").click()
        await page.screenshot(path=SCREENSHOTS / f"form-{transport}.png")
        await page.get_by_test_id("modal-submit").click()
        await expect(modal).to_contain_text("Storing...")
        await expect(modal).to_contain_text("Credential stored")
        await page.screenshot(path=SCREENSHOTS / f"result-{transport}.png")
        await page.get_by_test_id("modal-close").click()

        message = page.get_by_test_id("message").filter(has_text="Credential stored")
        await expect(message).to_contain_text("@Grace Hopper")
        await expect(message).to_contain_text(f"account API token ending in {GOOD[-4:]}")
        await expect(page.get_by_test_id("panel-slot-clickstream-raw")).to_contain_text(GOOD)
        assert GOOD not in await message.inner_text()
        await page.screenshot(path=SCREENSHOTS / f"sandbox-{transport}.png")


async def test_a_person_rotates_a_credential_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """Twice: from the command, then by a button in the table, so that the page follows the token that was replaced."""
    async with sandbox("socket", tmp_path) as address:
        page = await open_page(browser, address)
        at, modal = page.get_by_test_id, page.get_by_test_id("modal")
        await expect(at("part-account")).to_contain_text("Not made by this bot")
        await expect(at("also")).to_contain_text("/r2-credential rotate analytics-events")
        await type_command(page, "/r2-credential rotate analytics-events")
        await expect(modal).to_contain_text("Rotate a credential")
        await at("modal-submit").click()
        await expect(modal).to_contain_text("Waiting for Cloudflare to know this token")
        await page.screenshot(path=SCREENSHOTS / "rotating-socket.png")
        await expect(modal).to_contain_text("It is stored and tested")
        await at("modal-close").click()
        message = at("message").filter(has_text="Credential rotated")
        await expect(message).to_contain_text("made by the bot")
        first = await at("panel-slot-analytics-events").locator("code").text_content()
        assert first
        assert first not in await page.locator("#messages").inner_text()

        await type_command(page, "/r2-credential status")
        row = at("ephemeral").locator(".block-section").filter(has_text="analytics-events: the credential works")
        await row.get_by_role("button", name="Rotate").click()
        await at("modal-submit").click()
        await expect(modal).to_contain_text("It is stored and tested")
        await at("modal-close").click()
        await expect(at("panel-slot-analytics-events").locator("code")).not_to_have_text(first)
        tokens = at("part-account").locator(".account-token").filter(has_text="analytics-events")
        await expect(tokens.filter(has_text="in its slot")).to_have_count(1)
        await expect(tokens.filter(has_text=re.compile(r"replaced\s*disabled in \d+ s"))).to_have_count(1)
        await page.screenshot(path=SCREENSHOTS / "rotated-socket.png")


async def test_a_rotation_fails_on_the_page_as_it_was_asked_to(browser: Browser, tmp_path: Path) -> None:
    """A switch of the panel: nothing changes, and the result offers to rotate again or to paste a token."""
    async with sandbox("socket", tmp_path) as address:
        page = await open_page(browser, address)
        at = page.get_by_test_id
        before = await at("panel-slot-billing-exports").inner_text()
        await page.get_by_text("Let a rotation fail").click()
        await at("switch-refused-by-the-catalog").click()
        await type_command(page, "/r2-credential rotate billing-exports")
        await at("modal-submit").click()
        await expect(at("modal")).to_contain_text("Not rotated, nothing changed")
        await expect(at("modal")).to_contain_text("Cloudflare code 30004")
        await expect(at("switch-refused-by-the-catalog")).to_have_attribute("aria-checked", "false")
        assert await at("panel-slot-billing-exports").inner_text() == before
        await at("modal").get_by_role("button", name="Paste a token instead").click()
        await expect(at("modal")).to_contain_text("Cloudflare API token")
        await expect(page.get_by_role("button", name="Paste the token “Good”", exact=True)).to_be_visible()


@pytest.mark.thorough
async def test_a_person_rotates_all_buckets_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """The sums first, then one message that counts; each slot holds a token that the bot made."""
    async with sandbox("socket", tmp_path, "--fleet") as address:
        page = await open_page(browser, address)
        at = page.get_by_test_id
        await type_command(page, "/r2-credential rotate --all")
        await expect(at("ephemeral")).to_contain_text("43 can be rotated now")
        await at("ephemeral").get_by_role("button", name="Rotate all 43 buckets").click()
        await at("confirm-yes").click()
        await expect(at("message")).to_contain_text("43 of 43 buckets rotated")
        await expect(at("part-account").locator(".account-token").filter(has_text="in its slot")).to_have_count(43)
        await page.screenshot(path=SCREENSHOTS / "fleet-socket.png")


async def test_an_unlisted_person_is_refused_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """The refusal is ephemeral and names the contact."""
    async with sandbox("socket", tmp_path) as address:
        page = await open_page(browser, address)
        await page.get_by_test_id("user-chooser").select_option(label="Mallory")
        await type_command(page, "/r2-credential clickstream-raw")
        refusal = page.get_by_test_id("ephemeral")
        await expect(refusal).to_contain_text("You are not on the list")
        await expect(refusal).to_contain_text("Please ask #data-platform")
        await expect(page.get_by_test_id("modal")).to_have_count(0)
        await page.get_by_test_id("user-chooser").select_option(label="Ada Lovelace")
        await expect(page.get_by_test_id("ephemeral")).to_have_count(0)


async def test_the_bot_does_not_outlive_a_sandbox_whose_terminal_is_closed(tmp_path: Path) -> None:
    """Nothing reads its output: it ends, and with it the bot, which holds the other end of stderr as well."""
    reader, writer = os.pipe()
    os.close(reader)
    process = await start("socket", tmp_path, writer, asyncio.subprocess.PIPE)
    os.close(writer)
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await process.stderr.read()
    assert await process.wait() != 0
