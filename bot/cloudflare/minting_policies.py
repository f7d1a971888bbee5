"""What a minted token may do: its policies, and whether Cloudflare still offers the permissions in them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.cloudflare.diagnosis import Answer, not_understood
from bot.model.token_name import Scope, TokenName

_ACCOUNT_SCOPE: Final = "com.cloudflare.api.account"
_BUCKET_SCOPE: Final = "com.cloudflare.edge.r2.bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionGroup:
    """A permission group of Cloudflare's, with the scope in which the bot grants it."""

    id: str
    name: str
    scope: str


CATALOG_WRITE: Final = PermissionGroup(
    id="d229766a2f7f4d299f20eaa8c9b1fde9", name="Workers R2 Data Catalog Write", scope=_ACCOUNT_SCOPE
)
BUCKET_ITEM_WRITE: Final = PermissionGroup(
    id="2efd5506f9c8494dacb1fa10a3e7d5b6", name="Workers R2 Storage Bucket Item Write", scope=_BUCKET_SCOPE
)
STORAGE_WRITE: Final = PermissionGroup(
    id="bf7481a1826f439697cb59a20b22293e", name="Workers R2 Storage Write", scope=_ACCOUNT_SCOPE
)
GROUPS: Final[Mapping[Scope, tuple[PermissionGroup, PermissionGroup]]] = {
    Scope.BUCKET: (CATALOG_WRITE, BUCKET_ITEM_WRITE),
    Scope.ACCOUNT: (CATALOG_WRITE, STORAGE_WRITE),
}
"""The permissions of a token, by its scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grantable:
    """Which of the permissions Cloudflare does not offer: `missing`, or `not_selectable` for the minting token."""

    missing: frozenset[PermissionGroup]
    not_selectable: frozenset[PermissionGroup]

    def refused(self, scope: Scope) -> Sequence[PermissionGroup]:
        """Return the permissions that a token of this scope needs and cannot get."""
        return [group for group in GROUPS[scope] if group in self.missing | self.not_selectable]


def build_policies(account_id: str, name: TokenName, scope: Scope) -> list[dict[str, object]]:
    """Return the policies of the token: the same for its creation and for each change, which replaces them.

    Cloudflare does not validate the names of resources: for a wrong one it creates a token that can do nothing.
    """
    account = f"{_ACCOUNT_SCOPE}.{account_id}"
    resources = {_ACCOUNT_SCOPE: account, _BUCKET_SCOPE: f"{_BUCKET_SCOPE}.{account_id}_default_{name.bucket}"}
    if scope is Scope.ACCOUNT:
        return [_policy(account, *GROUPS[scope])]
    return [_policy(resources[group.scope], group) for group in GROUPS[scope]]


def parse_grantable(answer: Answer, result: object) -> Grantable:
    """Read the list of permission groups. Raises AnswerNotUnderstood.

    A group without `is_selectable` counts as selectable: creating the token is the authoritative check.
    """
    if not isinstance(result, list):
        raise not_understood(answer, is_write=False)
    entries = [entry for entry in result if isinstance(entry, dict)]
    offered = {entry["id"]: entry for entry in entries if isinstance(entry.get("id"), str)}
    wanted = {CATALOG_WRITE, BUCKET_ITEM_WRITE, STORAGE_WRITE}
    missing = frozenset(group for group in wanted if not _has_scope(offered.get(group.id), group.scope))
    refused = (group for group in wanted - missing if offered[group.id].get("is_selectable") is False)
    return Grantable(missing=missing, not_selectable=frozenset(refused))


def _policy(resource: str, *groups: PermissionGroup) -> dict[str, object]:
    ids = [{"id": group.id} for group in groups]
    return {"effect": "allow", "permission_groups": ids, "resources": {resource: "*"}}


def _has_scope(entry: Mapping[str, object] | None, scope: str) -> bool:
    """Return whether the group is there and, if Cloudflare says which scopes it has, has this one."""
    if entry is None:
        return False
    scopes = entry.get("scopes")
    return scope in scopes if isinstance(scopes, list) and scopes else True
