"""What the operator should know at the start, before a user finds out: what runs, what is missing, who is let in.

The checks (`find_...`) return findings and log nothing, so that a command can print them as well.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from bot import __version__
from bot.model.errors import MembershipUnknown
from bot.settings import Settings

_USERGROUPS: Final = "R2_CREDENTIAL_ALLOWED_USERGROUPS"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line for the log; with a `setting` and a `fix` if there is something to do."""

    event: str
    level: int = logging.INFO
    setting: str = ""
    fix: str = ""
    known: Mapping[str, object] = field(default_factory=dict)


def log_findings(findings: Iterable[Finding]) -> None:
    """Log each finding at its level."""
    for each in findings:
        what_to_do = {"setting": each.setting, "fix": each.fix} if each.fix else {}
        _log.log(each.level, each.event, **each.known, **what_to_do)


def describe_start(
    settings: Settings, *, transport: str, http_address: str, metrics_address: str | None
) -> dict[str, object]:
    """Return the fields of the line "ready": what was started, and how much each allowlist lists."""
    return {
        "version": __version__,
        "role": settings.role.value,
        "database": "sqlite" if settings.postgres_url is None else "postgresql",
        "transport": transport,
        "http": http_address,
        "metrics": metrics_address or "off",
        "users": len(settings.allowed_users),
        "usergroups": len(settings.allowed_usergroups),
        "channels": len(settings.allowed_channels) or "any",
        "buckets": len(settings.allowed_buckets) or "any",
    }


async def report_people(settings: Settings, members_of: Callable[[str], Awaitable[frozenset[str]]]) -> None:
    """Ask Slack for the members of each allowed user group, and log whom the allowlist lets in."""
    members: dict[str, frozenset[str] | None] = {}
    for group in settings.allowed_usergroups:
        try:
            members[group] = await members_of(group)
        except MembershipUnknown:  # logged there
            members[group] = None
    log_findings(find_people(settings.allowed_users, members))


def find_missing_scopes(granted: Collection[str] | None, wanted: Collection[str]) -> Iterator[Finding]:
    """Compare the scopes that Slack granted the bot token (None: unknown) with those in the manifest."""
    missing = [] if granted is None else sorted(set(wanted) - set(granted))
    if missing:
        yield Finding(
            event="slack_scopes_missing",
            level=logging.ERROR,
            setting="SLACK_BOT_TOKEN",
            fix="add the scopes to the app under OAuth & Permissions, as in manifest.yml, and reinstall it",
            known={"scopes": missing},
        )


def find_people(users: Collection[str], members: Mapping[str, Collection[str] | None]) -> Iterator[Finding]:
    """Count the people whom the allowlist lets in; `members` is by user group, None if Slack did not say."""
    known = [people for people in members.values() if people is not None]
    yield Finding(
        event="allowlist_lets_in",
        known={
            "people": len(set(users).union(*known)),
            "users": len(users),
            "usergroups": {group: None if people is None else len(people) for group, people in members.items()},
        },
    )
    if not users and len(known) == len(members) and not any(known):
        yield Finding(
            event="allowlist_matches_nobody",
            level=logging.WARNING,
            setting=_USERGROUPS,
            fix="no listed user group has a member: check the ids, or add people to the groups in Slack",
        )
