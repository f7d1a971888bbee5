"""Marked tokens take every path; afterwards everything left behind is searched for them, in every encoding.

Each library logs all that it can, and the bot's errors are noted with local variables, as an error tracker does.
"""

import base64
import pickle
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.sandbox.process import Transport, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from tests.aftermath import PARTS, SETTINGS, Aftermath, Marked, Watch, give_policy, go_all_ways
from tests.leaks import find_leaks
from tests.scene import SetScene
from tests.talkative import talkative

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOG_FORMATS: dict[Transport, str] = {"socket": "json", "http": "console"}
PLACES = (
    "printed",
    "data_while_running",
    "data_afterwards",
    "traffic",
    "modals",
    "pages",
    "processes",
    "tracker",
    "cloudflare",
)
OF_SLACK = {"bot token", "app token"}
TALKATIVE = {"httpcore.http11", "httpx", "sqlalchemy.engine.Engine", "slack_sdk", "asyncio"}
"""Some of the loggers that say what is sent, received and executed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aftermath(
    set_scene: SetScene, transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aftermath]:
    """Take tokens through success and every failure, then stop the bot."""
    directory, port = tmp_path_factory.mktemp("leaks"), str(find_free_port())
    settings = SETTINGS | {"R2_CREDENTIAL_LOG_FORMAT": LOG_FORMATS[transport], "R2_CREDENTIAL_METRICS_PORT": port}
    async with set_scene(transport, directory, settings) as scene:
        notes = directory / "notes"
        give_policy(scene.environment, directory)
        scene.environment = talkative(scene.environment, notes)
        await scene.start_ready_bot()
        marked = Marked()
        await go_all_ways(scene, marked)
        watch = Watch(scene, {port: scene.environment["R2_CREDENTIAL_HTTP_PORT"]}, [scene.data_dir], [notes])
        await watch.look()
        assert await scene.bot.stop() == 0
        yield watch.report(marked, {}, scene.printed())


async def test_the_search_finds_each_encoding() -> None:
    """Finding nothing proves something only if the search finds a token in each encoding."""
    token = make_token(Behaviour.GOOD, 771_399)
    raw = token.encode()

    assert find_leaks(pickle.dumps({"token": token}), token) == ["plain", "url-encoded"]
    assert find_leaks(raw.hex().upper().encode(), token) == ["hex"]
    assert find_leaks(raw[::-1], token) == ["reversed"]
    assert find_leaks(token.encode("utf-16"), token) == ["utf-16"]
    for ahead in (b"", b"a", b"ab"):
        assert any("base64" in name for name in find_leaks(base64.b64encode(ahead + raw + b"xyz"), token))
    assert find_leaks(b"cfat_ and nothing else", token) == []


@pytest.mark.parametrize("place", PLACES)
async def test_no_token_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """In no encoding, not even in part; at Cloudflare, nowhere but in the header or the body for it."""
    assert aftermath.find(place, aftermath.tokens) == []
    assert aftermath.find(place, sorted(PARTS)) == []


@pytest.mark.parametrize("place", [place for place in PLACES if place != "traffic"])
async def test_no_response_url_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """The holder of one can post into a channel: none is anywhere but in requests to it."""
    assert len(aftermath.response_urls) > len(Behaviour)

    assert aftermath.find(place, aftermath.response_urls) == []


@pytest.mark.parametrize("place", PLACES)
async def test_no_secret_of_the_settings_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """The tokens and secrets that the bot itself uses; Slack gets its own, and Cloudflare its own, in a header."""
    strange = {name: secret for name, secret in aftermath.secrets.items() if place != "traffic" or name not in OF_SLACK}

    assert aftermath.find(place, list(strange.values())) == []


async def test_the_process_shows_no_secret(aftermath: Aftermath) -> None:
    """Neither `ps` nor its environment does, and it never started a process that could have inherited one."""
    assert b"\0run\0" in aftermath.processes
    assert aftermath.children == b""


async def test_the_search_had_something_to_find(aftermath: Aftermath) -> None:
    """The libraries spoke of what they sent and received, and errors of the bot were seen with local variables."""
    assert aftermath.loggers >= TALKATIVE
    assert aftermath.tracker.count(b"\nbot.delivery.") > len(Behaviour)
    assert b"Secret(" in aftermath.tracker


async def test_every_path_was_really_taken(aftermath: Aftermath) -> None:
    """The log has refusals and faults, and the channel has stored and failed submissions."""
    texts = " ".join(aftermath.results)

    assert "stored a new credential" in texts
    assert "was not stored" in texts
    assert "has no bucket of this name" in texts
    assert "passed every check" in texts
    for event in (b"token_typed_in_command", b"submission_refused", b"submission_ended", b"submission_postponed"):
        assert event in aftermath.printed
    assert len(aftermath.tokens) > 20
