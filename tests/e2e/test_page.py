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


async def start(transport: Transport, directory: Path, stdout: int, stderr: int) -> asyncio.subprocess.Process:
    """Run `sandbox` with a separate environment."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "sandbox", "--port", str(find_free_port()), "--transport", transport),
        cwd=directory,
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "HOME": str(directory), "PATH": ""},
        stdout=stdout,
        stderr=stderr,
    )


@asynccontextmanager
async def sandbox(transport: Transport, directory: Path) -> AsyncIterator[str]:
    """Run `sandbox` as a person would, and yield the address that it prints; SIGTERM must end it cleanly."""
    process = await start(transport, directory, asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL)
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
