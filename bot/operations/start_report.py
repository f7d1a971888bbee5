"""What the operator should know at the start, before the first user finds it out: what is missing, and who is meant.

Each check returns findings and logs nothing, so that a command can print them as well.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

_USERGROUPS: Final = "R2_CREDENTIAL_ALLOWED_USERGROUPS"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line for the log; with a `setting` and a `fix` where there is something to do."""

    event: str
    level: int = logging.INFO
    setting: str = ""
    fix: str = ""
    known: Mapping[str, object] = field(default_factory=dict)


def log_findings(findings: Iterable[Finding]) -> None:
    """Log them, each at its level."""
    for each in findings:
        what_to_do = {"setting": each.setting, "fix": each.fix} if each.fix else {}
        _log.log(each.level, each.event, **each.known, **what_to_do)


def find_missing_scopes(granted: Collection[str] | None, wanted: Collection[str]) -> Iterator[Finding]:
    """Compare what Slack granted the bot token with what the manifest asks for; None: Slack did not say."""
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
    """Say whom the allowlist lets in; `members` by user group, None where Slack did not say."""
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


def find_buckets(globs: Collection[str], matched: int, listed: int) -> Iterator[Finding]:
    """Say how many of the account's catalogs the bot serves."""
    yield Finding(event="allowlist_serves", known={"buckets": matched, "of": listed})
    if globs and listed and not matched:
        yield Finding(
            event="allowlist_matches_no_bucket",
            level=logging.WARNING,
            setting="R2_CREDENTIAL_ALLOWED_BUCKETS",
            fix="no catalog of the account has a name that it allows: check the names and CLOUDFLARE_ACCOUNT_ID",
        )
