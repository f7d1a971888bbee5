"""What is wrong with the settings, each on its own and all together: by name and with the fix, never with a value."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from bot.model.catalog import CatalogApi
from bot.model.role import Role
from bot.model.token_name import Scope
from bot.setting_rotation import (
    EVERY,
    GRACE,
    MINTING_TOKEN,
    QUOTA,
    SCOPE,
    find_nothing_to_mint_with,
    find_one_token_for_both,
    find_too_short_an_interval,
)
from bot.setting_values import DEFAULT_HTTP_PORT, HOST_FIX, has_comment


def find_problems_of_fields(
    error: ValidationError, values: Mapping[str, Any] | None = None, *, except_for: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each value that pydantic or our validators refused; `values` are the raw ones."""
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0])
        if name in except_for:
            continue
        if problem["type"] == "missing":
            yield f"{name}: {_MISSING[name]}"
        else:
            fix = problem.get("ctx", {}).get("error") or _FIXES[name]
            yield f"{name}: {fix}{_COMMENT_FIX if has_comment((values or {}).get(name)) else ''}"


_COMMENT_FIX: Final = ". Its comment counts as a part of it: put that on a line of its own"
"""Docker's and systemd's env files do not remove what follows a value."""


_MISSING: Final = {
    "SLACK_BOT_TOKEN": "set it to the bot token (xoxb-...) from the Slack app's page OAuth & Permissions",
    "CLOUDFLARE_ACCOUNT_ID": "set it to the id of the Cloudflare account, 32 hexadecimal digits",
}


_FIXES: Final = {
    "R2_CREDENTIAL_ALLOW_ENABLE": "is true or false",
    "R2_CREDENTIAL_CATALOG_API": f"is one of {', '.join(CatalogApi)}",
    "R2_CREDENTIAL_CONTACT": "is a user, user group or channel id, or a text of at most 200 characters",
    "R2_CREDENTIAL_HTTP_HOST": HOST_FIX,
    "R2_CREDENTIAL_HTTP_PORT": "is a port from 0 to 65535; 0 takes a free one",
    "R2_CREDENTIAL_METRICS_HOST": HOST_FIX,
    "R2_CREDENTIAL_METRICS_PORT": "is off, or a port from 0 to 65535; 0 takes a free one",
    QUOTA: "is the number of account API tokens that the account may have, from 1 to 1000000",
    SCOPE: f"is one of {', '.join(Scope)}",
    "R2_CREDENTIAL_LOG_LEVEL": "is debug, info, warning or error",
    "R2_CREDENTIAL_LOG_FORMAT": "is json or console",
}
"""The fix for a value that pydantic itself refused."""


def find_problems_together(values: Mapping[str, Any], role: Role, *, except_for: Collection[str] = ()) -> Iterator[str]:
    """Yield a line for each problem of the settings as a whole; takes raw values, since single ones may be bad.

    A rule about one of `except_for`, which cannot be read, is not checked: its line would be a second, false one.
    """
    for names, find_problems in _RULES:
        if not any(name in except_for for name in names):
            yield from find_problems(values, role)


def _find_no_transport(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    if role.takes_payloads and not values.get("SLACK_APP_TOKEN") and not values.get("SLACK_SIGNING_SECRET"):
        yield "SLACK_APP_TOKEN or SLACK_SIGNING_SECRET: set the first for Socket Mode, or the second for HTTP"


def _problems_with_cloudflare_login(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    if not role.delivers:
        return
    if not values.get("CLOUDFLARE_API_TOKEN"):
        missing = [name for name in ("CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY") if not values.get(name)]
        if missing:
            yield (
                "CLOUDFLARE_API_TOKEN: set it (permission Workers R2 Data Catalog Write), or both CLOUDFLARE_EMAIL and "
                "CLOUDFLARE_API_KEY"
            )
    elif values.get("CLOUDFLARE_EMAIL") or values.get("CLOUDFLARE_API_KEY"):
        yield "CLOUDFLARE_API_TOKEN: is set together with CLOUDFLARE_EMAIL or CLOUDFLARE_API_KEY; keep only the token"


def _find_no_shared_database(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    url = values.get("R2_CREDENTIAL_DATABASE_URL")
    if role is not Role.ALL and not (isinstance(url, str) and url.startswith("postgres")):
        yield f"R2_CREDENTIAL_DATABASE_URL: a {role} needs the postgresql:// URL that all processes share"


def _find_no_shared_key(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    """Those who only seal, and the workers who open it, must share the two halves of one key."""
    if not role.delivers and not values.get("R2_CREDENTIAL_SEALING_PUBLIC_KEY"):
        yield "R2_CREDENTIAL_SEALING_PUBLIC_KEY: set it to the public half of the workers' key, as `keygen` printed it"
    if role is Role.WORKER and not values.get("R2_CREDENTIAL_SEALING_KEY"):
        yield "R2_CREDENTIAL_SEALING_KEY: set it to the private key (`keygen PATH` makes one), the same for all workers"


def _find_two_policies(values: Mapping[str, Any], _: Role) -> Iterator[str]:
    named = [name for name in _SHORT_FORM if values.get(name) not in (None, "")]
    if values.get(_POLICY) and named:
        yield f"{_POLICY}: is set together with {', '.join(named)}, which its rules say instead: keep only one of them"


def _find_nobody(values: Mapping[str, Any], role: Role) -> Iterator[str]:
    if role.speaks_to_slack and not values.get(_POLICY) and not any(_lists_anyone(values.get(name)) for name in _WHO):
        yield f"{' or '.join(_WHO)}: no one is listed, so no one could use the bot; list at least one id"


def _find_shared_port(values: Mapping[str, Any], _: Role) -> Iterator[str]:
    """Refuse one port for both: what is meant for the operator would be asked of Slack's port, or the reverse."""
    slack, metrics = (_port_of(values.get(name)) for name in ("R2_CREDENTIAL_HTTP_PORT", "R2_CREDENTIAL_METRICS_PORT"))
    if metrics and metrics == (DEFAULT_HTTP_PORT if slack is None else slack):
        yield "R2_CREDENTIAL_METRICS_PORT: is the same as R2_CREDENTIAL_HTTP_PORT; give the metrics a port of their own"


def _port_of(value: object) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else None


_POLICY: Final = "R2_CREDENTIAL_POLICY"
_SHORT_FORM: Final = (
    "R2_CREDENTIAL_ALLOWED_USERS",
    "R2_CREDENTIAL_ALLOWED_USERGROUPS",
    "R2_CREDENTIAL_ALLOWED_CHANNELS",
    "R2_CREDENTIAL_ALLOWED_BUCKETS",
    "R2_CREDENTIAL_ALLOW_ENABLE",
    "R2_CREDENTIAL_MAX_TOKEN_LIFETIME",
)
_WHO: Final = ("R2_CREDENTIAL_ALLOWED_USERS", "R2_CREDENTIAL_ALLOWED_USERGROUPS")


def _lists_anyone(value: object) -> bool:
    return any(name.strip() for name in value.split(",")) if isinstance(value, str) else value is not None


_Rule = Callable[[Mapping[str, Any], Role], Iterator[str]]

_RULES: Final[tuple[tuple[tuple[str, ...], _Rule], ...]] = (
    (("SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"), _find_no_transport),
    (("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY"), _problems_with_cloudflare_login),
    (("R2_CREDENTIAL_DATABASE_URL",), _find_no_shared_database),
    (("R2_CREDENTIAL_SEALING_PUBLIC_KEY", "R2_CREDENTIAL_SEALING_KEY"), _find_no_shared_key),
    (("R2_CREDENTIAL_HTTP_PORT", "R2_CREDENTIAL_METRICS_PORT"), _find_shared_port),
    (_WHO, _find_nobody),
    ((_POLICY, *_SHORT_FORM), _find_two_policies),
    ((MINTING_TOKEN, "CLOUDFLARE_API_TOKEN"), find_one_token_for_both),
    ((EVERY, GRACE), find_too_short_an_interval),
    ((), find_nothing_to_mint_with),  # one that cannot be read is there, so it is not missing
)
"""Each rule after the settings that it is about."""
