"""The check of the public URL, over TLS on loopback: our own bot, other servers, and nobody."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest
from aiohttp import web
from slack_bolt.async_app import AsyncApp
from slack_sdk.signature import SignatureVerifier
from yarl import URL

from bot.model.finding import Finding, Mark
from bot.network import DIRECT, Network, read_network
from bot.operations.server import Server
from bot.sandbox.process import find_free_port
from bot.slack.checks.public_url import public_url_check
from bot.slack.inbound.http import HttpIngress
from tests.between import stand_between
from tests.clock import Clock
from tests.ingress import make_ingress
from tests.tls import Authority, make_authority, open_proxy, terminate_tls

SIGNER: Final = SignatureVerifier("5a4d0b0c5a4d0b0c5a4d0b0c5a4d0b0c")
OTHER: Final = SignatureVerifier("0" * 32)
ACCOUNT = "5a4db0c0000000000000000000000001"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make one certificate authority for all tests."""
    return make_authority(tmp_path_factory.mktemp("authority"))


async def _examine(url: str, network: Network = DIRECT, signer: SignatureVerifier | None = SIGNER) -> Finding:
    [found] = await public_url_check(url, signer, network).examine()
    return found


def _trusting(authority: Authority) -> Network:
    return read_network({"SSL_CERT_FILE": str(authority.ca_file)})


def _make_ingress(*signers: SignatureVerifier) -> HttpIngress:
    app = AsyncApp(signing_secret="made-up", token="xoxb-made-up")
    return HttpIngress(
        make_ingress(app, Clock()),
        signers,
    )


async def _yes() -> bool:
    return True


@asynccontextmanager
async def _serve_bot(authority: Authority, ingress: HttpIngress | None) -> AsyncIterator[str]:
    """Serve the bot's own port behind TLS."""
    server = Server()
    address = await server.listen("127.0.0.1", 0)
    if ingress is not None:
        server.attach(ingress.handle, _yes)
    async with terminate_tls(authority, URL(f"http://{address}").port or 0) as port:
        yield f"https://localhost:{port}"
    await server.stop()


@pytest.mark.parametrize("path", ["", "/", "/slack/events"])
async def test_our_own_bot_answers(authority: Authority, path: str) -> None:
    """With or without the path; also during a rotation, with two signing secrets."""
    async with _serve_bot(authority, _make_ingress(OTHER, SIGNER)) as url:
        found = await _examine(url + path, _trusting(authority))

    assert (found.event, found.mark) == ("public_url_answers", Mark.OK)


async def test_another_signing_secret_is_named(authority: Authority) -> None:
    """The most likely fault of a new installation."""
    async with _serve_bot(authority, _make_ingress(OTHER)) as url:
        found = await _examine(url, _trusting(authority))

    assert (found.mark, found.setting) == (Mark.FAILED, "SLACK_SIGNING_SECRET")
    assert "another signing secret (HTTP 401)" in found.text
    assert "Basic Information" in found.fix


async def test_a_bot_that_is_not_ready_is_named(authority: Authority) -> None:
    """It waits for its database, or for Slack."""
    async with _serve_bot(authority, None) as url:
        found = await _examine(url, _trusting(authority))

    assert "the bot there is not ready (HTTP 503)" in found.text


ANSWERS: dict[str, tuple[Callable[[], web.Response], str, str]] = {
    "a stale signature": (lambda: web.Response(status=401, text="stale_timestamp\n"), "the clock of", "set the clocks"),
    "Socket Mode there": (lambda: web.Response(status=404, text="not found\n"), "uses Socket Mode", "SLACK_APP_TOKEN"),
    "another server": (lambda: web.Response(status=404, text="MARKER"), "other than the bot", "reverse proxy"),
    "another 401": (lambda: web.Response(status=401, text="MARKER"), "other than the bot", "reverse proxy"),
    "a page": (lambda: web.Response(text="<p>MARKER", content_type="text/html"), "(HTTP 200)", "reverse proxy"),
    "another answer": (lambda: web.json_response({"challenge": "MARKER"}), "(HTTP 200)", "reverse proxy"),
    "a list": (lambda: web.json_response(["MARKER"]), "(HTTP 200)", "reverse proxy"),
    "words of ours": (lambda: web.Response(text="not found\n"), "other than the bot", "reverse proxy"),
    "a long answer": (lambda: web.Response(text="MARKER" * 100_000), "other than the bot", "reverse proxy"),
    "a proxy without a bot": (lambda: web.Response(status=502), "(HTTP 502)", "reverse proxy"),
    "a redirect": (
        lambda: web.Response(status=301, headers={"Location": "https://x.invalid/MARKER"}),
        "redirects (HTTP 301)",
        "give Slack the address",
    ),
}


@pytest.mark.parametrize(("answer", "text", "fix"), ANSWERS.values(), ids=ANSWERS)
async def test_what_else_answers_has_its_own_fix(
    authority: Authority, answer: Callable[[], web.Response], text: str, fix: str
) -> None:
    """Nothing of its answer is quoted."""
    async with stand_between() as between, terminate_tls(authority, URL(between.address).port or 0) as port:
        between.tamper = lambda _: answer()
        found = await _examine(f"https://localhost:{port}", _trusting(authority))
        asked = list(between.asked)

    assert (found.mark, found.blocks) == (Mark.FAILED, True)
    assert text in found.text
    assert fix in found.fix
    assert "MARKER" not in str(found)
    assert [(method, path) for method, path, _ in asked] == [("POST", "/slack/events")]


async def test_no_compressed_answer_is_asked_for_or_unpacked(authority: Authority) -> None:
    """Anyone may answer at the URL, and a few bytes could expand to all of the memory."""
    packed = gzip.compress(b"not found\n")

    async with stand_between() as between, terminate_tls(authority, URL(between.address).port or 0) as port:
        between.tamper = lambda _: web.Response(status=404, body=packed, headers={"Content-Encoding": "gzip"})
        found = await _examine(f"https://localhost:{port}", _trusting(authority))
        [(_, _, headers)] = between.asked

    assert headers["accept-encoding"] == "identity"
    assert "other than the bot" in found.text


@asynccontextmanager
async def _nobody(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    yield f"https://localhost:{find_free_port()}", DIRECT


@asynccontextmanager
async def _untrusted(authority: Authority) -> AsyncIterator[tuple[str, Network]]:
    async with terminate_tls(authority, find_free_port()) as port:
        yield f"https://localhost:{port}", DIRECT


@asynccontextmanager
async def _proxy(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    async with open_proxy() as proxy:
        proxy.refusal = b"HTTP/1.1 407 MARKER\r\nContent-Length: 0\r\n\r\n"
        yield "https://bot.invalid", read_network({"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})


@asynccontextmanager
async def _no_proxy(_: Authority) -> AsyncIterator[tuple[str, Network]]:
    yield "https://bot.invalid", read_network({"HTTPS_PROXY": f"http://127.0.0.1:{find_free_port()}"})


Way = Callable[[Authority], AbstractAsyncContextManager[tuple[str, Network]]]
WAYS: dict[str, tuple[Way, str, str]] = {
    "nothing listens": (_nobody, "ECONNREFUSED", ""),
    "an unknown authority": (_untrusted, "the certificate there is not trusted", "SSL_CERT_FILE"),
    "a proxy's login": (_proxy, "the proxy asks for a login", "HTTPS_PROXY"),
    "no proxy": (_no_proxy, "the proxy is not reached", "HTTPS_PROXY"),
}


@pytest.mark.parametrize(("way", "because", "setting"), WAYS.values(), ids=WAYS)
async def test_a_url_that_is_not_reached_is_explained(
    authority: Authority, way: Way, because: str, setting: str
) -> None:
    """A machine may be unable to reach its own public address."""
    async with way(authority) as (url, network):
        found = await _examine(url, network)

    assert (found.event, found.setting) == ("public_url_not_reached", setting)
    assert because in found.text
    assert "on another machine" in found.fix


@pytest.mark.parametrize("url", ["http://bot.example.com", "bot.example.com", "https://bot.example.com/?x=1", ""])
async def test_a_url_that_slack_would_not_accept_is_named(url: str) -> None:
    """Without asking anyone."""
    found = await _examine(url)

    assert (found.mark, "https://HOST" in found.text) == (Mark.FAILED, True)


async def test_in_socket_mode_there_is_no_public_url() -> None:
    """The operator wants the one or the other."""
    found = await _examine("https://bot.example.com", signer=None)

    assert found.mark is Mark.FAILED
    assert "omit --url" in found.fix
