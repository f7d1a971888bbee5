"""How each client reaches its service is said in one line, and what is doubtful about it is a warning."""

import shutil
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest

from bot.model.finding import Finding, Mark, Part
from bot.model.role import Role
from bot.operations.network_checks import find_in_network, network_check
from bot.settings import Settings, load_settings
from tests.tls import Authority, make_authority

NOW = datetime.now(UTC)
AGES_AGO = NOW - timedelta(days=60)
ONE_DAY = timedelta(days=1)
BASE = {
    "SLACK_BOT_TOKEN": "xoxb-made-up",
    "SLACK_APP_TOKEN": "xapp-made-up",
    "CLOUDFLARE_ACCOUNT_ID": "0f" * 16,
    "CLOUDFLARE_API_TOKEN": "made-up-token-of-the-bot",
    "R2_CREDENTIAL_ALLOWED_USERS": "U0ADA0001",
}
PEM = "-----BEGIN {0} KEY-----\nMADEUP\n-----END {0} KEY-----"
PROXY = "http://ops:MARKED@proxy.example.com:3128"
Read = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Return a function that reads settings from the given variables."""

    def read_settings(variables: Mapping[str, str], role: Role = Role.ALL) -> Settings:
        for name, value in (BASE | dict(variables)).items():
            monkeypatch.setenv(name, value)
        return load_settings(tmp_path / "no.env", role).settings

    return read_settings


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that is valid for thirty days."""
    return make_authority(tmp_path_factory.mktemp("authority"))


def _find(settings: Settings, now: datetime = NOW) -> tuple[list[str], list[Finding]]:
    """Return the lines of the clients, and the warnings."""
    found = list(find_in_network(settings, now))
    assert all(each.part is Part.NETWORK and not each.blocks for each in found)
    assert "MARKED" not in str(found)
    routes = [each.text for each in found if each.mark is Mark.OK]
    return routes, [each for each in found if each.mark is not Mark.OK]


OWN = "trusting this machine's authorities and certifi's"


def test_each_client_has_its_line(read: Read) -> None:
    """With the host, the proxy without its login, and the authorities."""
    routes, doubts = _find(read({"HTTPS_PROXY": PROXY, "NO_PROXY": ".slack.com"}))
    way = f"directly, since NO_PROXY has .slack.com, {OWN}"
    assert routes == [
        f"Slack's Web API: slack.com {way}",
        f"Slack's WebSocket: wss-primary.slack.com {way}",
        f"Slack's response URLs: hooks.slack.com {way}",
        f"Cloudflare's API: api.cloudflare.com through the proxy http://proxy.example.com:3128, {OWN}",
    ]
    assert doubts == []


OTHERS: dict[str, tuple[dict[str, str], str]] = {
    "no proxy": ({}, f"Cloudflare's API: api.cloudflare.com directly, since no proxy is set, {OWN}"),
    "on loopback": (
        {"CLOUDFLARE_BASE_URL": "http://127.0.0.1:8080/client/v4", "HTTPS_PROXY": PROXY},
        "Cloudflare's API: 127.0.0.1 directly, since it is not encrypted",
    ),
    "an exception for a port": (
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.cloudflare.com:443"},
        f"Cloudflare's API: api.cloudflare.com directly, since NO_PROXY has api.cloudflare.com:443, {OWN}",
    ),
}


@pytest.mark.parametrize(("variables", "line"), OTHERS.values(), ids=OTHERS)
def test_why_a_service_is_called_directly(read: Read, variables: dict[str, str], line: str) -> None:
    """The entry of NO_PROXY is quoted as it was written."""
    routes, _ = _find(read(variables))
    assert routes[-1] == line


def test_a_role_has_only_its_own_clients(read: Read) -> None:
    """A gateway calls no Cloudflare, and a worker has no WebSocket."""
    shared = {"R2_CREDENTIAL_DATABASE_URL": "postgresql://bot@db.example.com/bot"}
    worker = read(
        shared | {"R2_CREDENTIAL_SEALING_KEY": PEM.format("PRIVATE")},
        Role.WORKER,
    )
    gateway = read(shared | {"R2_CREDENTIAL_SEALING_PUBLIC_KEY": PEM.format("PUBLIC")}, Role.GATEWAY)
    names = [[line.partition(":")[0] for line in _find(each)[0]] for each in (worker, gateway)]
    assert names == [
        ["Slack's Web API", "Slack's response URLs", "Cloudflare's API"],
        ["Slack's Web API", "Slack's WebSocket", "Slack's response URLs"],
    ]


@pytest.mark.parametrize("exceptions", ["*", "slack.com,api.cloudflare.com"])
def test_a_proxy_that_nobody_uses_is_doubtful(read: Read, exceptions: str) -> None:
    """It was set for something."""
    _, [doubt] = _find(read({"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}))
    assert (doubt.event, doubt.setting) == ("proxy_unused", "NO_PROXY")
    assert _find(read({"HTTPS_PROXY": PROXY, "NO_PROXY": "slack.com"}))[1] == []


def test_exceptions_without_a_proxy_are_fine(read: Read) -> None:
    """Many machines have some."""
    assert _find(read({"NO_PROXY": "*"}))[1] == []


AGES = {
    "long valid": (AGES_AGO, []),
    "for thirty days": (NOW + ONE_DAY, ["authorities_expire_soon"]),
    "expired": (NOW + 31 * ONE_DAY, ["authorities_expired"]),
}


@pytest.mark.parametrize(("now", "events"), AGES.values(), ids=AGES)
@pytest.mark.parametrize("place", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_expire_are_doubtful(
    *, read: Read, authority: Authority, tmp_path: Path, place: str, now: datetime, events: list[str]
) -> None:
    """Before the day on which nothing can be reached any more."""
    directory = tmp_path / "authorities"
    directory.mkdir()
    shutil.copy(authority.ca_file, directory / "0123abcd.0")
    where = str(authority.ca_file) if place == "SSL_CERT_FILE" else f"/nowhere:{directory}"
    routes, doubts = _find(read({place: where}), now)
    assert [each.event for each in doubts] == events
    assert all(each.setting == place and each.fix for each in doubts)
    assert all(line.endswith(f"trusting the authorities in {where}") for line in routes)


def test_one_valid_authority_is_enough(read: Read, authority: Authority, tmp_path: Path) -> None:
    """A bundle of public authorities always has one that has expired."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.ca_file.read_bytes() + Path(certifi.where()).read_bytes())
    assert _find(read({"SSL_CERT_FILE": str(bundle)}), NOW + 31 * ONE_DAY)[1] == []


def test_a_file_without_an_authority_is_doubtful(read: Read, authority: Authority, tmp_path: Path) -> None:
    """A server's certificate in its place does not vouch for that server's successor."""
    leaf = tmp_path / "leaf.pem"
    text = authority.chain_file.read_text()
    leaf.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    _, [doubt] = _find(read({"SSL_CERT_FILE": str(leaf)}))
    assert (doubt.event, doubt.setting) == ("authorities_missing", "SSL_CERT_FILE")


def test_a_file_that_is_gone_is_doubtful(read: Read, authority: Authority, tmp_path: Path) -> None:
    """The running bot still has its contents, but would not start again."""
    file = tmp_path / "ca.pem"
    shutil.copy(authority.ca_file, file)
    settings = read({"SSL_CERT_FILE": str(file)})
    file.write_text("no certificate")
    texts = [_find(settings)[1][0].text]
    file.unlink()
    texts.append(_find(settings)[1][0].text)
    assert ["no certificate in PEM" in texts[0], "No such file" in texts[1]] == [True, True]


async def test_a_machine_without_a_store_is_named(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the authorities of certifi are as old as the bot."""
    nowhere = ssl.get_default_verify_paths()._replace(cafile=None, capath=str(tmp_path))  # type: ignore[arg-type]
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    *routes, doubt = await network_check(read({})).examine()
    assert doubt.event == "machine_without_authorities"
    assert routes[0].text.endswith("trusting certifi's authorities")
