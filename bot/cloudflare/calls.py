"""The paths of Cloudflare's API, and the name of each call for the log and the metrics. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from bot.metrics import OTHER

_OF_A_BUCKET: Final[Mapping[tuple[str, str], str]] = {
    ("GET", ""): "get_catalog",
    ("GET", "credential/status"): "test_credential",
    ("POST", "credential"): "store_credential",
    ("POST", "enable"): "enable_catalog",
}
"""The calls about one bucket, by what follows its name."""
_OF_TOKENS: Final[Mapping[str, str]] = {"GET": "list_tokens", "POST": "create_token"}
_OF_A_TOKEN: Final[Mapping[str, str]] = {"GET": "get_token", "PUT": "set_token_status", "DELETE": "delete_token"}
_BELOW_TOKENS: Final[Mapping[str, str]] = {"verify": "verify_token", "permission_groups": "list_permission_groups"}
_ACCOUNT_ID: Final = re.compile(r"[0-9a-f]{32}")


def account_path(account_id: str) -> str:
    """Return the path below which everything of an account is; raises ValueError for what is no account id."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        message = "an account id is 32 lower-case hexadecimal digits"
        raise ValueError(message)
    return f"accounts/{account_id}"


def describe_path(path: str) -> str:
    """Return the template of a path: user/tokens/verify, accounts/ID/tokens/ID, accounts/ID/FAMILY/BUCKET/..."""
    parts = path.split("/")
    is_of_account = parts[0] == "accounts"
    if is_of_account:
        parts[1] = "{account}"
    head, rest = parts[: 2 + is_of_account], parts[2 + is_of_account :]
    if head[-1] == "tokens" and rest and rest[0] not in _BELOW_TOKENS:
        rest = ["{token}"]
    elif head[-1] != "tokens" and rest:
        rest[0] = "{bucket}"
    return "/".join([*head, *rest])


def name_call(method: str, path: str) -> str:
    """Return the name of a call, nearly that of the function that makes it."""
    parts = path.split("/")
    if parts[-1] == "tokens":
        return _OF_TOKENS.get(method, OTHER)
    if "tokens" in parts[1:3]:
        return _BELOW_TOKENS.get(parts[-1]) or _OF_A_TOKEN.get(method, OTHER)
    place = "/".join(parts[3:]).partition("/")  # the bucket, and what is below it
    return _OF_A_BUCKET.get((method, place[2]), OTHER) if place[0] else "list_catalogs"
