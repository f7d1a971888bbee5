"""What the policies of a token allow, in the fake Cloudflare."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

_ACCOUNT: Final = "com.cloudflare.api.account"
_BUCKET: Final = "com.cloudflare.edge.r2.bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A permission group."""

    id: str
    name: str
    scope: str = _ACCOUNT


CATALOG_WRITE: Final = Group(id="d229766a2f7f4d299f20eaa8c9b1fde9", name="Workers R2 Data Catalog Write")
BUCKET_ITEM_WRITE: Final = Group(
    id="2efd5506f9c8494dacb1fa10a3e7d5b6", name="Workers R2 Storage Bucket Item Write", scope=_BUCKET
)
STORAGE_WRITE: Final = Group(id="bf7481a1826f439697cb59a20b22293e", name="Workers R2 Storage Write")
TOKENS_WRITE: Final = Group(id="5a4db0c0000000000000000000000004", name="Account API Tokens Write")
PERMISSION_GROUPS: Final = (CATALOG_WRITE, BUCKET_ITEM_WRITE, STORAGE_WRITE, TOKENS_WRITE)


def describe_group(group: Group, *, is_selectable: bool) -> dict[str, object]:
    """Return a group as the list of them shows it."""
    return {"id": group.id, "name": group.name, "scopes": [group.scope], "is_selectable": is_selectable}


def find_bad_policy(policies: object, grantable: Collection[str]) -> str | None:
    """Return why these policies are refused, or None. Names of resources may be anything."""
    if not isinstance(policies, list) or not policies:
        return "policies must not be empty"
    for policy in policies:
        if not isinstance(policy, dict) or policy.get("effect") not in ("allow", "deny"):
            return "a policy must allow or deny"
        groups, resources = policy.get("permission_groups"), policy.get("resources")
        if not isinstance(resources, dict) or not resources or not isinstance(groups, list) or not groups:
            return "a policy must have permission groups and resources"
        bad = next((group.get("id") for group in groups if group.get("id") not in grantable), None)
        if bad is not None:
            return f"Permission group {bad} does not exist or cannot be granted"
    return None


def reads_catalogs(policies: Sequence[dict[str, Any]], account_id: str) -> bool:
    """Return whether the policies let a token use the catalogs of the account."""
    return (CATALOG_WRITE.id, f"{_ACCOUNT}.{account_id}") in set(_allowed(policies))


def reaches_bucket(policies: Sequence[dict[str, Any]], account_id: str, bucket: str) -> bool:
    """Return whether the policies let a token write the data of this bucket, or of all."""
    wanted = {
        (BUCKET_ITEM_WRITE.id, f"{_BUCKET}.{account_id}_default_{bucket}"),
        (STORAGE_WRITE.id, f"{_ACCOUNT}.{account_id}"),
    }
    return not wanted.isdisjoint(_allowed(policies))


def find_buckets(policies: Sequence[dict[str, Any]], account_id: str) -> list[str]:
    """Return the buckets that the policies name."""
    start = f"{_BUCKET}.{account_id}_default_"
    return [resource.removeprefix(start) for _, resource in _allowed(policies) if resource.startswith(start)]


def _allowed(policies: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for policy in policies:
        for group in policy["permission_groups"] if policy["effect"] == "allow" else ():
            for resource in policy["resources"]:
                yield group["id"], resource
