"""How this process reaches a service: through which proxy, and which authorities it trusts. The same for all clients.

Libraries that read the environment disagree about both, and raise at `NO_PROXY=::1/128` or a missing CA file. So none
may (`trust_env` is off): the settings read the variables once, and each client gets this decision.
"""

import base64
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import certifi

from bot.model.secret import Secret

_FOR_TLS: Final = ("HTTPS_PROXY", "ALL_PROXY")
PROXIES: Final = frozenset({*_FOR_TLS, "HTTP_PROXY"})
"""The variables that may hold the login of a proxy; each also in lower case."""

CA_FILE: Final = "SSL_CERT_FILE"
CA_DIRECTORY: Final = "SSL_CERT_DIR"

_HTTPS: Final = 443
_TLS_SCHEMES: Final = frozenset({"https", "wss"})
_PROXY_SCHEMES: Final = frozenset({"http", "https"})
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_NO_PROXY_ENTRY: Final = re.compile(
    r"\[(?P<v6>[^\]]+)\](?P<bits>/\d+)?(:(?P<v6_port>\d+))?|(?P<host>[^:]+):(?P<port>\d+)"
)
_HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.\d+")
"""The names that OpenSSL looks up in a directory of certificates; it ignores all other files."""

_Address = IPv4Network | IPv6Network


class NetworkUnusable(Exception):  # noqa: N818 - as the other refusals are named
    """Proxy or authorities cannot be used. `problems` has one line per variable, with the fix and without the value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy, used only with CONNECT: it sees the host's name and ciphertext."""

    address: str
    login: Secret | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that log in to the proxy."""
        if self.login is None:
            return {}
        return {"Proxy-Authorization": f"Basic {base64.b64encode(self.login.reveal().encode()).decode()}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exception:
    """An entry of NO_PROXY, as `written`: a host and its subdomains, or a network; for one port or all."""

    written: str
    host: str = ""
    network: _Address | None = None
    port: int | None = None

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return host == self.host or host.endswith(f".{self.host}")
        try:
            return ip_address(host) in self.network
        except ValueError:  # a name: it is not resolved
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a URL is reached: through a proxy, or directly; `exception` is the entry of NO_PROXY that decides so."""

    proxy: Proxy | None = None
    exception: str = ""
    is_encrypted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The decision about proxy and authorities; by default no proxy, and the authorities of this machine."""

    proxy: Proxy | None = None
    exceptions: tuple[_Exception, ...] = ()
    excepts_all: bool = False
    """Whether NO_PROXY is `*`: then `proxy` is None, whatever is set."""
    ca_file: str | None = None
    ca_directories: str | None = None

    def proxy_for(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for a URL, or None for none: plain http is for loopback, and a proxy could read it."""
        return self.route(scheme, host, port).proxy

    def route(self, scheme: str, host: str, port: int | None) -> Route:
        """Return how a URL is reached, and why."""
        if scheme not in _TLS_SCHEMES:
            return Route(is_encrypted=False)
        plain = host.strip("[]").rstrip(".").lower()
        covering = (each.written for each in self.exceptions if each.covers(plain, port or _HTTPS))
        exception = "*" if self.excepts_all else next(covering, "")
        return Route(proxy=None if exception else self.proxy, exception=exception)

    def tls_context(self) -> ssl.SSLContext:
        """Return the context for TLS connections, which verifies certificates and host names."""
        return _tls_context(self.ca_file, self.ca_directories)


DIRECT: Final = Network()


def read_network(variables: Mapping[str, str]) -> Network:
    """Read the variables that curl and OpenSSL also read; raises NetworkUnusable with all problems at once."""
    problems: list[str] = []
    bypass = _value(variables, "NO_PROXY")[1].replace(",", " ").split()
    proxy = None
    try:
        proxy = None if "*" in bypass else _read_proxy(variables)
    except NetworkUnusable as unusable:
        problems += unusable.problems
    problems += _problems_of_authorities(variables)
    if problems:
        raise NetworkUnusable(problems)
    return Network(
        proxy=proxy,
        excepts_all="*" in bypass and any(_value(variables, name)[1] for name in _FOR_TLS),
        exceptions=tuple(_read_exceptions(bypass)),
        ca_file=variables.get(CA_FILE),
        ca_directories=variables.get(CA_DIRECTORY),
    )


def find_unused(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for a variable that has no effect, though the operator may expect one."""
    name, value = _value(variables, "HTTP_PROXY")
    if value and not any(_value(variables, other)[1] for other in _FOR_TLS):
        yield f"{name}: is for http:// addresses, and the bot calls https:// ones; set HTTPS_PROXY if they need a proxy"


def _value(variables: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the name that is set, and its value; lower case takes precedence, as in curl and Python."""
    return next(((each, variables[each]) for each in (name.lower(), name) if variables.get(each)), (name, ""))


def _read_proxy(variables: Mapping[str, str]) -> Proxy | None:
    name, value = next((found for each in _FOR_TLS if (found := _value(variables, each))[1]), ("", ""))
    if not value:
        return None
    if value.lower().startswith("socks"):
        problem = "is a SOCKS proxy, which is not supported: set HTTPS_PROXY=http://HOST:PORT, or unset it"
        raise NetworkUnusable([f"{name}: {problem}"])
    try:
        return _parse_proxy(value)
    except ValueError:
        problem = "is not a proxy: write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT in percent-encoding"
        raise NetworkUnusable([f"{name}: {problem}"]) from None


def _parse_proxy(value: str) -> Proxy:
    """Raise ValueError if it is not a proxy's address; the error's text may quote the value."""
    url = urlsplit(value if "://" in value else f"http://{value}")
    host, port = url.hostname or "", url.port
    is_v6 = ":" in host
    if is_v6:
        ip_address(host)
    is_plain = url.path in ("", "/") and not url.query and not url.fragment
    if url.scheme not in _PROXY_SCHEMES or not (is_v6 or _HOST.fullmatch(host)) or not is_plain:
        raise ValueError
    login = None if url.username is None else f"{unquote(url.username)}:{unquote(url.password or '')}"
    place = f"[{host}]" if is_v6 else host
    return Proxy(
        address=f"{url.scheme}://{place}" + (f":{port}" if port is not None else ""),
        login=None if login is None else Secret(login),
    )


def _read_exceptions(entries: list[str]) -> Iterator[_Exception]:
    for entry in entries:
        place = entry.rpartition("://")[2].rstrip("/").lower()
        network = _parse_network(place)
        found = None if network else _NO_PROXY_ENTRY.fullmatch(place)
        if found is None:
            host, port = place, None
        else:
            host = f"{found['v6']}{found['bits'] or ''}" if found["v6"] else found["host"]
            port = int(found["port"] or found["v6_port"] or 0) or None
        name = host.lstrip("*").strip(".")
        if name:  # "." alone would cover everything
            yield _Exception(written=entry, host=name, network=network or _parse_network(host), port=port)


def _parse_network(text: str) -> _Address | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _problems_of_authorities(variables: Mapping[str, str]) -> Iterator[str]:
    file, directories = variables.get(CA_FILE), variables.get(CA_DIRECTORY)
    if file:
        trouble = _trouble_with_file(file)
        if trouble:
            yield f"{CA_FILE}: {trouble}; name a PEM file with the authorities to trust, or unset it"
    elif directories and not any(_holds_authorities(Path(each)) for each in directories.split(os.pathsep)):
        yield (
            f"{CA_DIRECTORY}: has no certificate that this user can read under a name that OpenSSL looks up; run "
            f"`openssl rehash` there, name a PEM file in {CA_FILE} instead, or unset it"
        )


def _trouble_with_file(file: str) -> str | None:
    try:
        Path(file).read_bytes()
        _tls_context(file, None)
    except ssl.SSLError:
        return "has no certificate in PEM"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:
        return "is not a possible path"
    return None


def list_hashed(directory: Path) -> list[Path]:
    """Return the files that OpenSSL looks up in a directory of certificates; raises OSError or ValueError."""
    return [path for path in directory.iterdir() if _HASHED_NAME.fullmatch(path.name)]


def has_own_authorities() -> bool:
    """Return whether this machine has a store of certificate authorities."""
    places = ssl.get_default_verify_paths()
    return places.cafile is not None or (places.capath is not None and _holds_authorities(Path(places.capath)))


def _holds_authorities(directory: Path) -> bool:
    try:
        return any(path.read_bytes() for path in list_hashed(directory))
    except (OSError, ValueError):
        return False


@cache
def _tls_context(file: str | None, directories: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=file, capath=directories)
    if file is None and directories is None:
        context.load_verify_locations(certifi.where())  # macOS and slim images have no store, or an outdated one
    context.set_alpn_protocols(["http/1.1"])
    return context
