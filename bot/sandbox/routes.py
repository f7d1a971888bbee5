"""The calls that the fake Cloudflare knows, distinguished by method and path."""

import re
from dataclasses import dataclass
from typing import Final, Literal

FAMILIES: Final = ("r2-catalog", "basin-catalog")

TokenKind = Literal["create_token", "list_tokens", "get_token", "update_token", "delete_token", "groups"]
"""A kind of request with the token that creates others."""
Kind = Literal[
    "verify", "own", "token", "list", "get", "read", "credential", "status", "enable", "disable", "any", TokenKind
]
"""A kind of request; "read" is a "get" by another token than the bot's own, "own" a "verify" by the bot's own, and
"token" a "get_token" by another than the minting token."""

_CATALOGS = rf"/accounts/(?P<account>[^/]+)/(?P<family>{'|'.join(FAMILIES)})"
_TOKENS = "/accounts/(?P<account>[^/]+)/tokens"
_CALLS: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("GET", "verify", "/user/tokens/verify"),
    ("GET", "verify", "/accounts/(?P<account>[^/]+)/tokens/verify"),
    ("GET", "token", "/user/tokens/(?P<token_id>[^/]+)"),
    ("GET", "list_tokens", _TOKENS),
    ("POST", "create_token", _TOKENS),
    ("GET", "groups", _TOKENS + "/permission_groups"),
    ("GET", "get_token", _TOKENS + "/(?P<token_id>[^/]+)"),
    ("PUT", "update_token", _TOKENS + "/(?P<token_id>[^/]+)"),
    ("DELETE", "delete_token", _TOKENS + "/(?P<token_id>[^/]+)"),
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


def find_route(method: str, path: str) -> Route | None:
    """Return where a path leads to; if it takes no such method, the route of one that it takes."""
    other = None
    for taken, kind, pattern in _CALLS:
        match = re.fullmatch(f"/client/v4{pattern}", path)
        if match is None:
            continue
        route = Route(method=taken, kind=kind, **match.groupdict())
        if taken == method:
            return route
        other = other or route
    return other
