"""What the operator does about an error of the bot's own access to Cloudflare: the setting at fault, and the fix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.cloudflare.errors import (
    BlockedOnTheWay,
    CallerLacksPermission,
    CallerNotAllowed,
    CallerRejected,
    ChallengePage,
    OperatorError,
    R2NotEnabled,
    RequestRejected,
    RouteGone,
)
from bot.model.errors import BotError

_RIGHT: Final = "Workers R2 Data Catalog Write"
_GIVE_RIGHT: Final = f"give the token the permission {_RIGHT} for the account"


@dataclass(frozen=True, slots=True)
class Fix:
    """What is wrong in the bot's set-up, by the name of a setting, and what to do."""

    setting: str
    fix: str


FIXES: Final[Mapping[type[OperatorError], Fix]] = {
    CallerRejected: Fix(
        "CLOUDFLARE_API_TOKEN",
        f"use a token that is active, belongs to the account CLOUDFLARE_ACCOUNT_ID and has the permission {_RIGHT}",
    ),
    CallerLacksPermission: Fix("CLOUDFLARE_API_TOKEN", _GIVE_RIGHT),
    CallerNotAllowed: Fix("CLOUDFLARE_API_TOKEN", _GIVE_RIGHT),
    RouteGone: Fix(
        "CLOUDFLARE_ACCOUNT_ID",
        "check the id and CLOUDFLARE_BASE_URL, and set R2_CREDENTIAL_CATALOG_API to auto",
    ),
    R2NotEnabled: Fix("CLOUDFLARE_ACCOUNT_ID", "enable R2 in the dashboard of this account, or name another account"),
    ChallengePage: Fix(
        "HTTPS_PROXY",
        "Cloudflare challenges this machine's address: let the bot reach its API from another one",
    ),
    BlockedOnTheWay: Fix("HTTPS_PROXY", "let the bot reach CLOUDFLARE_BASE_URL past the proxy or filter that said no"),
    RequestRejected: Fix("CLOUDFLARE_API_TOKEN", "ask Cloudflare's support what its code and cf-ray mean"),
}


def fix_of(error: type[BotError]) -> Fix | None:
    """Return what the operator does about this error, or None where it is nobody's set-up."""
    return next((FIXES[kind] for kind in error.__mro__ if kind in FIXES), None)
