"""How many files and sockets the process may open, and how many of them the port may use."""

import resource
from typing import Final

_ENOUGH: Final = 8192
"""More than the bot can use; a limit of a billion would only hide a leak."""

_MOST_CONNECTIONS: Final = 256
"""Slack's are open for milliseconds, so this is a hundred times what a busy workspace needs."""

_SHARE: Final = 4
"""The port gets a quarter: calls to Slack, Cloudflare and the database need the rest during an attack."""


def raise_limit() -> None:
    """Raise the soft limit to what the bot can use: the usual 1,024 is for programs that call select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (choose_limit(soft, hard), hard))


def most_connections() -> int:
    """Return how many connections the port may hold at a time."""
    return choose_share(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def choose_limit(soft: int, hard: int) -> int:
    """Return the soft limit to set; never lower than the present one."""
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH))


def choose_share(soft: int) -> int:
    """Return the port's part of the soft limit."""
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, soft // _SHARE)
