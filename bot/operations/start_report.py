"""What the line "ready" says about the start."""

from collections.abc import Sequence

from bot import __version__
from bot.policy.listed import list_ids
from bot.policy.rules import Rule
from bot.settings import Settings


def describe_start(
    settings: Settings, rules: Sequence[Rule], *, transport: str, http_address: str, metrics_address: str | None
) -> dict[str, object]:
    """Return the fields of the line "ready": what was started, and how much the rules list."""
    listed, globs = list_ids(rules), {glob for rule in rules for glob in rule.buckets}
    return {
        "version": __version__,
        "role": settings.role.value,
        "database": "sqlite" if settings.postgres_url is None else "postgresql",
        "transport": transport,
        "http": http_address,
        "metrics": metrics_address or "off",
        "rules": len(rules),
        "users": len(listed.users),
        "usergroups": len(listed.usergroups),
        "channels": len(listed.channels) or "any",
        "buckets": len(globs) or "any",
    }
