"""What is wrong with, or doubtful about, the settings of rotation and of the minter: by name and with the fix."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from bot.model.role import Role
from bot.setting_values import parse_duration, parse_interval

MINTING_TOKEN: Final = "CLOUDFLARE_MINTING_TOKEN"  # noqa: S105 - the name of a setting
EVERY: Final = "R2_CREDENTIAL_ROTATE_EVERY"
GRACE: Final = "R2_CREDENTIAL_ROTATE_GRACE"
QUOTA: Final = "R2_CREDENTIAL_ROTATE_QUOTA"
SCOPE: Final = "R2_CREDENTIAL_ROTATE_SCOPE"

DEFAULT_EVERY: Final = timedelta(days=30)
"""It concerns only what a person has rotated once: nothing is rotated by itself before that."""

DEFAULT_GRACE: Final = timedelta(hours=1)
DEFAULT_QUOTA: Final = 500
"""The account API tokens that Cloudflare lets an account have, unless it raised that."""

_SAFE_GRACE: Final = timedelta(minutes=15)

_NEEDED_BY_A_MINTER: Final[Mapping[str, str]] = {
    MINTING_TOKEN: "a minter needs it: an account API token with the one permission Account API Tokens Write",
    "R2_CREDENTIAL_AUDIT_KEY": (
        "a minter needs it, since it has no Slack token to make one of: the same key for every process "
        "(`keygen --audit PATH` makes one)"
    ),
    "R2_CREDENTIAL_POLICY": "a minter needs the policy of the other processes, in which a rule grants the verb rotate",
}


def find_nothing_to_mint_with(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    """Yield what a minter lacks that the other processes can do without."""
    if role is Role.MINTER:
        yield from (f"{name}: {fix}" for name, fix in _NEEDED_BY_A_MINTER.items() if not values.get(name))


def find_one_token_for_both(values: Mapping[str, Any], _: Role) -> Iterator[str]:
    """Refuse a minting token that is the bot's own: every delivery would carry an administrator's rights."""
    minting = values.get(MINTING_TOKEN)
    if minting and minting == values.get("CLOUDFLARE_API_TOKEN"):
        yield (
            f"{MINTING_TOKEN}: is the same as CLOUDFLARE_API_TOKEN; make a token of its own that can do nothing but "
            "make tokens, so that the bot's other requests do not carry it"
        )


def find_too_short_an_interval(values: Mapping[str, Any], _: Role) -> Iterator[str]:
    """Refuse a schedule that replaces a token before the one that it replaced is revoked."""
    every = _parsed(parse_interval, values.get(EVERY))
    grace = _parsed(parse_duration, values.get(GRACE)) or DEFAULT_GRACE
    if every is not None and every < 2 * grace:
        yield (
            f"{EVERY}: is shorter than twice {GRACE}, so each token would be replaced before the last one is revoked; "
            "rotate less often, or make the grace shorter"
        )


def find_short_grace(grace: timedelta) -> Iterator[str]:
    """Yield a warning for a grace within which a write that was sent before may still land."""
    if grace < _SAFE_GRACE:
        yield (
            f"{GRACE}: is shorter than 15m, so a write that a frozen process still sends could land after it and leave "
            "a revoked token in the slot; make it 15m or longer"
        )


def _parsed(parse: Callable[[object], object], value: object) -> timedelta | None:
    """Return a duration; None for one that is missing, off or wrong, which has a line of its own."""
    try:
        parsed = parse(value)
    except ValueError:
        return None
    return parsed if isinstance(parsed, timedelta) else None
