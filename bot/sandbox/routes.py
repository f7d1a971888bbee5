"""The calls that the fake Cloudflare knows, distinguished by method and path."""

import re
from dataclasses import dataclass
from typing import Final, Literal

FAMILIES: Final = ("r2-catalog", "basin-catalog")

Kind = Literal["verify", "own", "token", "list", "get", "read", "credential", "status", "enable", "disable", "any"]
"""A kind of request; "read" is a "get" by another token than the bot's own, "own" a "verify" by the bot's own."""

_CATALOGS = rf"/accounts/(?P<account>[^/]+)/(?P<family>{'|'.join(FAMILIES)})"
_CALLS: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("GET", "verify", "/user/tokens/verify"),
    ("GET", "verify", "/accounts/(?P<account>[^/]+)/tokens/verify"),
    ("GET", "token", "/user/tokens/(?P<token_id>[^/]+)"),
    ("GET", "token", "/accounts/(?P<account>[^/]+)/tokens/(?P<token_id>[^/]+)"),
    ("GET", "list", _CATALOGS),
    ("GET", "get", _CATALOGS + "/(?P<bucket>[^/]+)"),
    ("POST", "credential", _CATALOGS + "/(?P<bucket>[^/]+)/credential"),
    ("GET", "status", _CATALOGS + "/(?P<bucket>[^/]+)/credential/status"),
    ("POST", "enable", _CATALOGS + "/(?P<bucket>[^/]+)/enable"),
    ("POST", "disable", _CATALOGS + "/(?P<bucket>[^/]+)/disable"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a path leads to, and with which method; a part that the path lacks is empty."""

    method: str
    kind: Kind
    account: str = ""
    family: str = ""
    bucket: str = ""
    token_id: str = ""


def find_route(path: str) -> Route | None:
    """Return where a path leads to; each has one method only."""
    for method, kind, pattern in _CALLS:
        match = re.fullmatch(f"/client/v4{pattern}", path)
        if match is not None:
            return Route(method=method, kind=kind, **match.groupdict())
    return None
