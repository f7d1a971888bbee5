"""The proxy and the trusted authorities of every client, over real TLS; no variable causes a traceback."""

import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from slack_bolt.async_app import AsyncApp
from structlog.testing import capture_logs

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareUnreachable
from bot.model.errors import SlackTrouble
from bot.model.secret import Secret
from bot.network import Network, NetworkUnusable, find_unused, read_network
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN, FakeCloudflare
from bot.sandbox.slack import FakeSlack
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.slack.api import SlackWeb
from bot.slack.inbound.connection import SocketModeConnection
from bot.slack.response_url import SlackPost
from bot.slack.session import SlackClient, open_session
from tests.clock import Clock
from tests.ingress import make_ingress
from tests.tls import Authority, ConnectProxy, make_authority, open_proxy, terminate_tls

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
LONG = timedelta(minutes=5)
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make one certificate authority for all tests."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Every client of the bot, over TLS."""

    http: aiohttp.ClientSession
    cloudflare: CloudflareClient
    web: SlackWeb
    web_client: SlackClient
    slack: FakeSlack
    slack_port: int
    cloudflare_port: int
    network: Network
    clock: Clock

    async def list_catalogs(self) -> None:
        """Call Cloudflare."""
        await self.cloudflare.list_catalogs()

    async def identify(self) -> None:
        """Call Slack's Web API."""
        await self.web.identify()

    async def post_by_response_url(self) -> None:
        """Post to a response URL; the post must be accepted."""
        path = self.slack.response_urls.issue(ADA, PLATFORM).partition("//")[2].partition("/")[2]
        origin = f"https://localhost:{self.slack_port}"
        assert await SlackPost(self.http, origin).post(Secret(f"{origin}/{path}"), {"text": "A text."})

    async def connect(self) -> None:
        """Open and close a Socket Mode connection."""
        address = await self.web.open_connection("xapp-sandbox-app")
        path = address.partition("//")[2].partition("/")[2]
        key_ring = KeyRing(*load_private_keys(generate_private_key()))
        app = AsyncApp(client=self.web_client, signing_secret="made-up")
        connection = SocketModeConnection(
            make_ingress(app, self.clock, key_ring, account_id=SANDBOX_ACCOUNT_ID),
            feel_pulse=lambda: None,
            app_token="xapp-made-up",
            web_client=self.web_client,
            logger=logging.getLogger("slack_sdk"),
            network=self.network,
        )
        await connection.open(f"wss://localhost:{self.slack_port}/{path}")
        await connection.close()


Way = Callable[[Clients], Awaitable[None]]
WAYS: dict[str, Way] = {
    "Cloudflare": Clients.list_catalogs,
    "Web API": Clients.identify,
    "response URL": Clients.post_by_response_url,
    "Socket Mode": Clients.connect,
}
WITH_EACH = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
OpenClients = Callable[[Network], Any]


@pytest_asyncio.fixture
async def open_clients(authority: Authority, clock: Clock) -> AsyncIterator[OpenClients]:
    """Start both doubles behind TLS, and return a function that makes the clients of a network."""
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(FakeSlack())
        cloudflare = await stack.enter_async_context(FakeCloudflare())
        slack_port = await stack.enter_async_context(terminate_tls(authority, slack.port))
        cloudflare_port = await stack.enter_async_context(
            terminate_tls(authority, httpx.URL(cloudflare.base_url).port or 0)
        )

        @asynccontextmanager
        async def make(network: Network) -> AsyncIterator[Clients]:
            client = CloudflareClient(
                account_id=SANDBOX_ACCOUNT_ID,
                base_url=f"https://localhost:{cloudflare_port}/client/v4",
                auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
                network=network,
            )
            async with open_session(LONG, network) as http:
                web_client = SlackClient(
                    token=slack.config.bot_tokens[0],
                    base_url=f"https://localhost:{slack_port}/api/",
                    session=http,
                    retry_handlers=[],
                )
                yield Clients(
                    http=http,
                    cloudflare=client,
                    web=SlackWeb(web_client),
                    web_client=web_client,
                    slack=slack,
                    slack_port=slack_port,
                    cloudflare_port=cloudflare_port,
                    network=network,
                    clock=clock,
                )
            await client.aclose()

        yield make


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    """Start a proxy."""
    async with open_proxy() as started:
        yield started


@WITH_EACH
async def test_every_client_goes_through_the_proxy(
    open_clients: OpenClients, authority: Authority, proxy: ConnectProxy, way: Way
) -> None:
    """The proxy gets the host's name and its own login, with nothing in the environment."""
    network = read_network(
        {"HTTPS_PROXY": f"http://ops:p%40ss@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(authority.ca_file)}
    )
    async with open_clients(network) as clients:
        await way(clients)
    ports = {clients.slack_port, clients.cloudflare_port}
    assert proxy.tunnels
    assert set(proxy.tunnels) <= {f"localhost:{port}" for port in ports}
    assert set(proxy.logins) == {"Basic b3BzOnBAc3M="}


@WITH_EACH
async def test_a_proxy_over_tls_is_used(open_clients: OpenClients, authority: Authority, way: Way) -> None:
    """Its certificate is checked against the same authorities."""
    async with open_proxy(authority.server_context()) as proxy:
        network = read_network(
            {"ALL_PROXY": f"https://localhost:{proxy.port}", "SSL_CERT_FILE": str(authority.ca_file)}
        )
        async with open_clients(network) as clients:
            await way(clients)
    assert proxy.tunnels


@WITH_EACH
@pytest.mark.parametrize("exception", ["localhost", "*", "x,LOCALHOST:{slack} localhost:{cloudflare}"])
async def test_hosts_excepted_from_the_proxy_are_called_directly(
    open_clients: OpenClients, authority: Authority, proxy: ConnectProxy, way: Way, exception: str
) -> None:
    """Every client does so, even if the environment names a proxy as well."""
    variables = {"HTTPS_PROXY": f"127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(authority.ca_file)}
    async with open_clients(Network()) as clients:
        exception = exception.format(slack=clients.slack_port, cloudflare=clients.cloudflare_port)
    async with open_clients(read_network(variables | {"NO_PROXY": exception})) as clients:
        await way(clients)
    assert proxy.tunnels == []


@WITH_EACH
async def test_no_client_reads_the_environment(
    open_clients: OpenClients, authority: Authority, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Variables that make the libraries raise or use another host have no effect."""
    network = read_network({"SSL_CERT_FILE": str(authority.ca_file)})
    for name in PROXIES:
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "[::1],fd12:3456::/48")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    async with open_clients(network) as clients:
        await way(clients)


async def test_the_proxys_password_is_not_logged(
    open_clients: OpenClients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK logs the proxy that it finds in the environment, password included."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", "http://ops:MARKED@127.0.0.1:9")
    network = read_network({"HTTPS_PROXY": "http://ops:MARKED@127.0.0.1:9"})
    async with open_clients(network) as clients:
        with pytest.raises(SlackTrouble):
            await clients.identify()
        with pytest.raises(CloudflareUnreachable):
            await clients.list_catalogs()
    assert "MARKED" not in caplog.text + repr(network)


@WITH_EACH
async def test_an_unknown_authority_is_not_trusted(open_clients: OpenClients, way: Way) -> None:
    """The machine's authorities do not vouch for a self-made certificate."""
    async with open_clients(Network()) as clients:
        if way is not WAYS["Socket Mode"]:  # Socket Mode calls the Web API first
            with pytest.raises((SlackTrouble, CloudflareUnreachable, AssertionError)):
                await way(clients)
        session = open_session(LONG)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.ws_connect(f"wss://localhost:{clients.slack_port}/")
        await session.close()


async def test_a_response_url_that_the_proxy_refuses_is_logged_as_not_posted(
    open_clients: OpenClients, authority: Authority, proxy: ConnectProxy
) -> None:
    """The message can be delivered in another way, and the operator reads the reason."""
    proxy.refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    network = read_network({"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(authority.ca_file)})
    async with open_clients(network) as clients:
        origin = f"https://localhost:{clients.slack_port}"
        with capture_logs() as logs:
            assert await SlackPost(clients.http, origin).post(Secret(f"{origin}/x"), {"text": "A text."}) is False
    [line] = [line for line in logs if line["event"] == "response_url_not_reached"]
    assert line["cause"] == "ClientHttpProxyError"


DIRECTLY = [
    ("localhost,fd12:3456::/48", "fd12:3456::9"),
    ("localhost,[::1]", "::1"),
    ("::1/128", "[::1]"),
    ("[fd12::]/16", "fd12:1::1"),
    ("[::1]:443", "::1"),
    ("::1", "::1"),
    ("10.0.0.0/8", "10.2.3.4"),
    ("10.2.3.4", "10.2.3.4"),
    ("10.2.3.4:443", "10.2.3.4"),
    ("slack.com", "slack.com"),
    ("slack.com", "hooks.slack.com"),
    (".slack.com", "slack.com"),
    ("*.slack.com", "wss-primary.slack.com"),
    ("SLACK.com.", "slack.com."),
    ("https://slack.com", "slack.com"),
    ("a b,\tslack.com ,,", "slack.com"),
    ("a,*", "slack.com"),
]
BY_PROXY = [
    ("", "slack.com"),
    (",. *. [] [::1 1.2.3.4/99 :443 %", "slack.com"),
    ("slack.com", "notslack.com"),
    ("slack.com", "slack.com.example.com"),
    ("api.slack.com", "slack.com"),
    ("slack.com:8443", "slack.com"),
    ("10.0.0.0/8", "11.0.0.1"),
    ("10.0.0.0/8", "ten.example.com"),
    ("::1/128", "::2"),
    ("[::1]:80", "::1"),
]


@pytest.mark.parametrize(("exceptions", "host"), DIRECTLY)
def test_an_excepted_host_is_called_directly(exceptions: str, host: str) -> None:
    """Names cover their subdomains; addresses and networks may be IPv4 or IPv6, with or without a port."""
    network = read_network({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": exceptions})
    assert network.proxy_for("https", host, None) is None
    assert network.proxy_for("wss", host, 443) is None


@pytest.mark.parametrize(("exceptions", "host"), BY_PROXY)
def test_a_host_that_no_exception_covers_goes_through_the_proxy(exceptions: str, host: str) -> None:
    """An empty or malformed entry covers nothing and raises nothing."""
    network = read_network({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": exceptions})
    proxy = network.proxy_for("https", host, None)
    assert proxy is not None
    assert proxy.address == "http://proxy:3128"


def test_plain_http_has_no_proxy() -> None:
    """It is for loopback only, and the proxy would read the token."""
    network = read_network({"HTTPS_PROXY": "proxy", "HTTP_PROXY": "proxy", "ALL_PROXY": "proxy"})
    assert network.proxy_for("http", "127.0.0.1", 80) is network.proxy_for("ws", "localhost", None) is None


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, "http://b:1"),
        ({"HTTPS_PROXY": "http://b:1", "ALL_PROXY": "socks5://127.0.0.1:1080"}, "http://b:1"),
        ({"all_proxy": "b"}, "http://b"),
        ({"HTTPS_PROXY": "http://[fd12::1]:3128/"}, "http://[fd12::1]:3128"),
        ({"HTTPS_PROXY": "HTTPS://Proxy.Example.com"}, "https://proxy.example.com"),
    ],
)
def test_which_variable_names_the_proxy(variables: dict[str, str], address: str) -> None:
    """Lower case wins, the specific variable wins over the general one, and a missing scheme means http."""
    proxy = read_network(variables).proxy
    assert proxy is not None
    assert proxy.address == address


@pytest.mark.parametrize("variables", [{}, {"HTTP_PROXY": "proxy:1"}, {"ALL_PROXY": "socks5://x", "NO_PROXY": "*"}])
def test_no_variable_that_names_a_proxy(variables: dict[str, str]) -> None:
    """A proxy for plain http, or one excepted everywhere, is not used."""
    assert read_network(variables).proxy is None


SOCKS = ["socks5://127.0.0.1:1080", "SOCKS5H://u:MARKED@x:1", "socks4://x", "socks://x"]
NO_PROXY_AT_ALL = [
    "http://",
    "http://MARKED:port",
    "http://x:99999",
    "ftp://MARKED",
    "http://[::1",
    "http://x/MARKED",
    "http://u:MARKED#1@x:3128",
    "http://a b:1",
    "://",
]


def _problems(variables: dict[str, str]) -> list[str]:
    with pytest.raises(NetworkUnusable) as refusal:
        read_network(variables)
    return refusal.value.problems


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", [*SOCKS, *NO_PROXY_AT_ALL])
def test_a_proxy_that_cannot_be_used_is_reported(name: str, value: str) -> None:
    """One line with the variable's name as it was set and the fix, without the value, which may hold a password."""
    [problem] = _problems({name: value})
    assert problem.startswith(
        f"{name}: is a SOCKS proxy" if value in SOCKS else f"{name}: is not a proxy: write http://"
    )
    assert "MARKED" not in problem


@pytest.fixture
def ca_files(tmp_path: Path) -> dict[str, str]:
    """Make files that hold no certificate authorities."""
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "text.pem").write_text("MARKED")
    (tmp_path / "half.pem").write_text("-----BEGIN CERTIFICATE-----\nMARKED\n-----END CERTIFICATE-----\n")
    (tmp_path / "directory").mkdir()
    return {path.stem: str(path) for path in tmp_path.iterdir()} | {"missing": "/nowhere.pem", "NUL": "a\0b"}


@pytest.mark.parametrize("which", ["missing", "empty", "text", "half", "directory", "NUL"])
def test_an_unusable_file_of_authorities_is_reported(ca_files: dict[str, str], which: str) -> None:
    """It is reported together with all other problems."""
    file, proxy = sorted(_problems({"SSL_CERT_FILE": ca_files[which], "HTTPS_PROXY": "ftp://x"}), reverse=True)
    assert file.startswith("SSL_CERT_FILE: ")
    assert file.endswith("; name a PEM file with the authorities to trust, or unset it")
    assert "MARKED" not in file
    assert proxy.startswith("HTTPS_PROXY: ")


@pytest.mark.parametrize("which", ["missing", "directory", "text", "NUL"])
def test_an_unusable_directory_of_authorities_is_reported(ca_files: dict[str, str], which: str) -> None:
    """OpenSSL itself would say nothing and trust no one."""
    [problem] = _problems({"SSL_CERT_DIR": ca_files[which]})
    assert problem.startswith("SSL_CERT_DIR: has no certificate that this user can read")


async def test_a_directory_of_authorities_is_read(
    open_clients: OpenClients, authority: Authority, tmp_path: Path
) -> None:
    """Files have the hashed names that OpenSSL expects; the list may have several directories."""
    (tmp_path / _hashed_name(authority.ca_file)).write_bytes(authority.ca_file.read_bytes())
    async with open_clients(read_network({"SSL_CERT_DIR": f"/nowhere:{tmp_path}"})) as clients:
        await clients.identify()
        await clients.list_catalogs()


def _hashed_name(ca_file: Path) -> str:
    """Return the name that `openssl rehash` gives: a hash of the parts of the subject in lower case."""
    subject = x509.load_pem_x509_certificate(ca_file.read_bytes()).subject
    digest = hashlib.sha1(subject.public_bytes()[2:], usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}.0"


def test_an_unusable_directory_besides_a_good_file_does_no_harm(authority: Authority) -> None:
    """Tools that find authorities set both variables."""
    network = read_network({"SSL_CERT_FILE": str(authority.ca_file), "SSL_CERT_DIR": "/nowhere"})
    assert network.tls_context().cert_store_stats()["x509_ca"] == 1


def test_without_variables_the_usual_authorities_are_trusted() -> None:
    """If the machine has none, those of certifi are used."""
    assert Network().tls_context().cert_store_stats()["x509_ca"] > 50
    assert Network().tls_context().verify_mode is ssl.CERT_REQUIRED
    assert Network().tls_context().check_hostname


@pytest.mark.parametrize(
    ("variables", "is_warned"),
    [
        ({"HTTP_PROXY": "http://x:1"}, True),
        ({"http_proxy": "http://x:1"}, True),
        ({"HTTP_PROXY": "http://x:1", "https_proxy": "http://x:1"}, False),
        ({"HTTP_PROXY": "http://x:1", "ALL_PROXY": "http://x:1"}, False),
        ({"HTTP_PROXY": "http://x:1", "NO_PROXY": "x"}, True),
        ({}, False),
    ],
)
def test_a_proxy_for_plain_http_alone_is_a_warning(variables: dict[str, str], *, is_warned: bool) -> None:
    """The operator who set it may have meant all traffic."""
    assert [line.partition(":")[0] for line in find_unused(variables)] == [*variables][: int(is_warned)]
