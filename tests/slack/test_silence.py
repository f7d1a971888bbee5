"""Why Slack gave no usable answer, over real sockets: what the operator reads names the cause and the fix."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from bot.model.errors import SlackTrouble
from bot.model.no_answer import NoAnswer
from bot.network import DIRECT, Network, read_network
from bot.sandbox.process import find_free_port
from bot.sandbox.slack import FakeSlack
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.session import SlackClient, open_session
from tests.between import stand_between
from tests.tls import Authority, make_authority, open_proxy, terminate_tls

ADDRESS: Final = "SLACK_API_URL"


async def _explain(address: str, network: Network = DIRECT) -> NoAnswer:
    """Call auth.test there, in vain."""
    async with open_session(TIMEOUT, network) as http:
        client = SlackClient(token="xoxb-sandbox-bot", base_url=f"{address}/api/", session=http, retry_handlers=[])
        with pytest.raises(SlackTrouble) as trouble:
            await SlackWeb(client).identify()
    return trouble.value.why


ANSWERS: dict[str, tuple[Callable[[], web.Response], str, str]] = {
    "a redirect": (lambda: web.Response(status=302, headers={"Location": "/MARKER"}), "(a redirect)", ADDRESS),
    "a login page": (lambda: web.Response(text="<p>MARKER", content_type="text/html"), "(HTTP 200)", ADDRESS),
    "a page without a name": (lambda: web.Response(text="MARKER"), "(no JSON object)", ADDRESS),
    "half an answer": (lambda: web.Response(text="{MARKER", content_type="application/json"), "(HTTP 200)", ADDRESS),
    "not found": (lambda: web.Response(status=404, text="MARKER", content_type="text/html"), "(HTTP 404)", ADDRESS),
    "compressed": (lambda: web.Response(headers={"Content-Encoding": "gzip"}), "(not Slack's format)", ADDRESS),
    "another's format": (lambda: web.json_response({"ok": True, "team_id": "MARKER"}), "(not Slack's form", ADDRESS),
    "rate limited": (lambda: web.json_response({"ok": False, "error": "ratelimited"}, status=429), "(HTTP 429)", ""),
    "down": (lambda: web.Response(status=503, text="MARKER"), "it has a problem (HTTP 503)", ""),
    "in trouble": (lambda: web.json_response({"ok": False, "error": "fatal_error"}), "(fatal_error)", ""),
}


@pytest.mark.parametrize(("answer", "because", "setting"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_not_slacks_is_explained(
    answer: Callable[[], web.Response], because: str, setting: str
) -> None:
    """Something else there is looked for at the address; of Slack's own trouble there is nothing to fix."""
    async with stand_between() as between:
        between.tamper = lambda _: answer()
        said = await _explain(between.address)

    assert because in said.because
    assert said.setting == setting
    assert bool(said.fix) == bool(setting)
    assert "MARKER" not in str(said)


@asynccontextmanager
async def _nobody(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    yield f"http://127.0.0.1:{find_free_port()}", DIRECT


@asynccontextmanager
async def _behind_tls(authority: Authority) -> AsyncIterator[tuple[str, Network]]:
    async with FakeSlack() as slack, terminate_tls(authority, slack.port) as port:
        yield f"https://localhost:{port}", DIRECT


@asynccontextmanager
async def _without_tls(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    async with FakeSlack() as slack:
        yield f"https://localhost:{slack.port}", DIRECT


@asynccontextmanager
async def _behind_no_proxy(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    network = read_network({"HTTPS_PROXY": f"http://127.0.0.1:{find_free_port()}"})
    yield "https://slack.invalid", network


@asynccontextmanager
async def _behind_proxy(refusal: bytes) -> AsyncIterator[tuple[str, Network]]:
    async with open_proxy() as proxy:
        proxy.refusal = refusal
        yield "https://slack.invalid", read_network({"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})


LOGIN: Final = b"HTTP/1.1 407 MARKER\r\nContent-Length: 0\r\n\r\n"
FORBIDDEN: Final = b"HTTP/1.1 403 MARKER\r\nContent-Length: 0\r\n\r\n"
Way = Callable[[Authority], AbstractAsyncContextManager[tuple[str, Network]]]
WAYS: dict[str, tuple[Way, str, str, str]] = {
    "nothing listens": (_nobody, "no connection is made (ECONNREFUSED)", "", "allow outgoing HTTPS to Slack's hosts"),
    "an unknown authority": (_behind_tls, "certificate there is not trusted", "SSL_CERT_FILE", "inspects TLS"),
    "no TLS": (_without_tls, "the TLS handshake failed (", "", "without TLS"),
    "no proxy": (_behind_no_proxy, "the proxy is not reached", "HTTPS_PROXY", "check the proxy's host and port"),
    "a login": (lambda _: _behind_proxy(LOGIN), "the proxy asks for a login (407)", "HTTPS_PROXY", "USER:PASSWORD"),
    "a ban": (lambda _: _behind_proxy(FORBIDDEN), "opens no connection (HTTP 403)", "HTTPS_PROXY", "allow Slack's"),
}


@pytest.mark.parametrize(("way", "because", "setting", "fix"), WAYS.values(), ids=WAYS)
async def test_a_way_that_is_closed_is_explained(
    way: Way, because: str, setting: str, fix: str, tmp_path: Path
) -> None:
    """A firewall, an inspecting proxy and a proxy's login each have their own fix."""
    async with way(make_authority(tmp_path)) as (address, network):
        said = await _explain(address, network)

    assert because in said.because
    assert said.setting == setting
    assert fix in said.fix
    assert "MARKER" not in str(said)
