"""Examines how this process reaches each service: through which proxy, why, and which authorities it trusts.

Whether a proxy answers belongs to the service that is called through it.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bot.model.finding import Check, Finding, Mark, Part
from bot.network import CA_DIRECTORY, CA_FILE, Network, Route, has_own_authorities, list_hashed
from bot.settings import Settings, SlackSettings

EXPIRES_SOON: Final = timedelta(days=30)

_SLACK_HOSTS: Final = ("slack.com", "slack-gov.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """A client of the bot, and where it connects to."""

    name: str
    scheme: str
    host: str
    port: int | None


def network_check(settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Check:
    """Return the check of proxy and authorities."""

    async def examine() -> Sequence[Finding]:
        return await asyncio.to_thread(lambda: list(find_in_network(settings, clock())))

    return Check(part=Part.NETWORK, examine=examine)


def find_in_network(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Yield a line for each client, then what is doubtful."""
    network = settings.network
    clients = list(_list_clients(settings))
    routes = [network.route(each.scheme, each.host, each.port) for each in clients]
    for client, route in zip(clients, routes, strict=True):
        yield _describe(client, route, network)
    encrypted = [route for route in routes if route.is_encrypted]
    is_proxy_set = network.proxy is not None or network.excepts_all
    if is_proxy_set and encrypted and all(route.exception for route in encrypted):
        yield _doubt(
            "proxy_unused",
            "a proxy is set, but NO_PROXY excepts every service that the bot calls",
            "NO_PROXY",
            "remove the entry that is not meant, or unset the proxy",
        )
    if encrypted:
        yield from _find_in_authorities(network, now)


def _list_clients(settings: Settings) -> Iterator[_Client]:
    if isinstance(settings, SlackSettings):
        yield from _list_clients_of_slack(settings)
    if settings.role.calls_cloudflare:
        api = urlsplit(settings.cloudflare_base_url)
        yield _Client(name="Cloudflare's API", scheme=api.scheme, host=api.hostname or "", port=api.port)
    if settings.role.delivers and settings.audit_webhook is not None:
        hook = urlsplit(settings.audit_webhook)
        yield _Client(name="The audit's webhook", scheme=hook.scheme, host=hook.hostname or "", port=hook.port)


def _list_clients_of_slack(settings: SlackSettings) -> Iterator[_Client]:
    web = urlsplit(settings.slack_api_url)
    host = web.hostname or ""
    is_slacks = host in _SLACK_HOSTS
    make = partial(_Client, scheme=web.scheme, port=web.port)
    yield make(name="Slack's Web API", host=host)
    if settings.role.takes_payloads and settings.slack_app_token is not None:
        yield make(name="Slack's WebSocket", host=f"wss-primary.{host}" if is_slacks else host)
    yield make(name="Slack's response URLs", host=f"hooks.{host}" if is_slacks else host)


def _describe(client: _Client, route: Route, network: Network) -> Finding:
    known: dict[str, object] = {"client": client.name, "host": client.host}
    if route.proxy is not None:
        way = f"through the proxy {route.proxy.address}"
        known["proxy"] = route.proxy.address
    elif not route.is_encrypted:
        way = "directly, since it is not encrypted"
    else:
        why = f"NO_PROXY has {route.exception}" if route.exception else "no proxy is set"
        way = f"directly, since {why}"
    trusted = f", trusting {_describe_authorities(network)}" if route.is_encrypted else ""
    text = f"{client.name}: {client.host} {way}{trusted}"
    return Finding(part=Part.NETWORK, event="network_route", text=text, known=known)


def _describe_authorities(network: Network) -> str:
    places = [place for place in (network.ca_file, network.ca_directories) if place]
    if places:
        return f"the authorities in {' and '.join(places)}"
    return "this machine's authorities and certifi's" if has_own_authorities() else "certifi's authorities"


def _find_in_authorities(network: Network, now: datetime) -> Iterator[Finding]:
    if network.ca_file:
        yield from _find_in_files(CA_FILE, [network.ca_file], now)
    elif network.ca_directories:
        yield from _find_in_files(CA_DIRECTORY, list(_list_files(network.ca_directories)), now)
    elif not has_own_authorities():
        yield _doubt(
            "machine_without_authorities",
            "this machine has no store of certificate authorities, so those of the package certifi are trusted",
            "",
            "install ca-certificates, or update certifi with the bot",
        )


def _list_files(directories: str) -> Iterator[str]:
    for directory in directories.split(os.pathsep):
        with suppress(OSError):  # one that is missing is no fault while another is there
            yield from map(str, list_hashed(Path(directory)))


def _find_in_files(setting: str, files: Sequence[str], now: datetime) -> Iterator[Finding]:
    """Yield what is doubtful about the authorities that a variable names, all files together."""
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for file in files:
            store.load_verify_locations(file)
    except OSError as error:  # an SSLError is one
        cause = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in PEM"
        text = f"the authorities cannot be read any more ({cause}): the bot would not start again"
        yield _doubt("authorities_unreadable", text, setting, "put the file back, or name another one")
        return
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in store.get_ca_certs()]
    if not ends:
        text = "there is no certificate of an authority, only others: services signed by one are not trusted"
        yield _doubt("authorities_missing", text, setting, "add the certificate of the authority that signs, in PEM")
        return
    last = datetime.fromtimestamp(max(ends), UTC)
    if last <= now:
        text = f"every authority has expired, the last one on {last:%Y-%m-%d}"
        yield _doubt("authorities_expired", text, setting, "replace them by the new ones of your network")
    elif last - now <= EXPIRES_SOON:
        text = f"the last authority expires on {last:%Y-%m-%d}, in {(last - now).days} days"
        yield _doubt("authorities_expire_soon", text, setting, "replace them by the new ones of your network")


def _doubt(event: str, text: str, setting: str, fix: str) -> Finding:
    return Finding(part=Part.NETWORK, event=event, mark=Mark.WARNING, text=text, setting=setting, fix=fix)
