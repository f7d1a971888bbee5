"""The account's API tokens as the side panel shows them: where each is used, and what becomes of it next and when."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.page_state import PanelAccountToken
from bot.sandbox.policies import CATALOG_WRITE, STORAGE_WRITE

PROBE_AFTER: Final = timedelta(seconds=90)
"""How long the bot leaves a token disabled before it has the slot tested."""

OTHERS: Final = "Not made by this bot: it leaves them alone"
DELETED: Final = "Deleted"

_MARK: Final = "r2-credential-bot"
_PARTS: Final = 4
_BY_HAND: Final = {"disable": "Disable", "enable": "Enable", "delete": "Delete"}


@dataclass(slots=True, kw_only=True)
class AccountTable:
    """The tokens of one account. `grace` is the bot's: how long a replaced token still works."""

    cloudflare: FakeCloudflare
    grace: timedelta
    _others: set[str] = field(default_factory=set)
    _by_hand: set[str] = field(default_factory=set)

    def furnish(self) -> None:
        """Create two tokens that the bot must leave alone: one of another tool, one of another installation of it."""
        account = f"com.cloudflare.api.account.{self.cloudflare.account_id}"
        groups = [{"id": group.id} for group in (CATALOG_WRITE, STORAGE_WRITE)]
        policies = [{"effect": "allow", "permission_groups": groups, "resources": {account: "*"}}]
        for name in ("terraform-nightly-export", f"{_MARK} 0badc0de clickstream-raw 7k2m9q4x1z"):
            self._others.add(self.cloudflare.tokens.add(name, policies).id)

    def press(self, verb: str, token_id: str) -> None:
        """Do by hand what somebody could in the dashboard. Raises KeyError if there is no such verb or token."""
        tokens = self.cloudflare.tokens
        verbs = {"disable": tokens.disable_by_hand, "enable": tokens.enable_by_hand, "delete": tokens.delete_by_hand}
        self._by_hand.add(tokens.tokens[token_id].id)
        verbs[verb](token_id)

    def rows(self) -> Iterator[PanelAccountToken]:
        """Yield the bot's tokens, those of others, then the deleted ones, each group with the newest first."""
        used, replaced = self._find_uses()
        there = sorted(self.cloudflare.tokens.tokens.values(), key=lambda each: each.created_at, reverse=True)
        for token in sorted(there, key=lambda each: (each.is_deleted, each.id in self._others)):
            yield self._row(token, used.get(token.value, []), replaced.get(token.value))

    def _find_uses(self) -> tuple[dict[str, list[str]], dict[str, datetime]]:
        """Return the slots that hold each token, and when those that none holds any more were replaced."""
        used: dict[str, list[str]] = {}
        for bucket in self.cloudflare.buckets.values():
            if bucket.token is not None:
                used.setdefault(bucket.token, []).append(bucket.name)
        held: dict[str, str] = {}
        replaced: dict[str, datetime] = {}
        for write in self.cloudflare.writes:
            before = held.get(write.bucket)
            if before is not None and before != write.token:
                replaced[before] = write.at
            held[write.bucket] = write.token
        return used, replaced

    def _row(self, token: AccountToken, slots: list[str], replaced_at: datetime | None) -> PanelAccountToken:
        group, title, detail = self._name(token)
        status = self._status(token)
        note, follows, until = self._next(token, status, replaced_at if not slots else None)
        return PanelAccountToken(
            id=token.id,
            group=DELETED if token.is_deleted else group,
            title=title,
            detail=detail,
            status=status,
            slots=tuple(slots),
            expires_at=token.expires_on,
            note=note,
            next=follows,
            until=until,
            presses=tuple(self._presses(token)),
        )

    def _name(self, token: AccountToken) -> tuple[str, str, str]:
        """Return the group, what a person knows the token by, and the rest of its name."""
        if token.id in self._others:
            return OTHERS, token.name, ""
        parts = token.name.split(" ")
        if len(parts) != _PARTS:
            return "Made by this bot", token.name, ""
        return f"Made by this bot: {parts[0]} {parts[1]} …", parts[2], parts[3]

    def _status(self, token: AccountToken) -> str:
        if token.is_deleted:
            return "deleted"
        known = token.state_known_at(self.cloudflare.now())
        if known == "unknown" or token.flaw == "unknown":
            return "not known yet"
        return "expired" if token.is_expired(self.cloudflare.now()) else token.status

    def _next(self, token: AccountToken, status: str, replaced_at: datetime | None) -> tuple[str, str, datetime | None]:
        """Return a remark, what follows, and when at the earliest."""
        if token.id in self._by_hand:
            return "changed by hand", "", None
        if status == "not known yet" and token.flaw != "unknown":
            return "", "known", token.changes[-1][0]
        if status == "disabled":
            return "", "slot tested without it, then deleted", token.changed_at + PROBE_AFTER
        if status == "active" and replaced_at is not None:
            return "replaced", "disabled", replaced_at + self.grace
        return "", "", None

    def _presses(self, token: AccountToken) -> Iterator[tuple[str, str]]:
        if token.is_deleted or token.id in self._others:
            return
        for verb in ("enable" if token.status == "disabled" else "disable", "delete"):
            yield _BY_HAND[verb], f"token {verb} {token.id}"
