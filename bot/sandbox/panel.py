"""The sandbox's side panel: what to do first, the slots, the account's tokens, what can go wrong, and tokens to try."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bot.sandbox.account_table import AccountTable
from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.page_state import PanelData, PanelSlot, PanelSwitch, PanelToken
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import READY_MADE_TOKENS
from bot.sandbox.troubles import Troubles

_AT_ONCE: Final = "The result appears in this channel."
_WITH_APPROVAL: Final = (
    "Then become another person (*You are*, at the top left) and press *Approve* or *Deny* in this channel."
)
_CATALOG_WORDS: Final = {"active": "active", "inactive": "switched off", None: "not enabled"}
_LATER: Final = 0.05
"""In seconds: what is known from a moment on is not known a little earlier, when a timer may fire."""


@dataclass(slots=True, kw_only=True)
class Panel:
    """Keeps the page's side panel up to date; only a sandbox can see into a slot."""

    cloudflare: FakeCloudflare
    slack: FakeSlack
    table: AccountTable
    troubles: Troubles
    four_eyes: bool = False
    has_fleet: bool = False

    def show(self) -> None:
        """Put it on the page."""
        self.slack.panel = self.describe
        self.slack.press_panel = self.press
        self.cloudflare.on_write = self._hear_write
        self.cloudflare.tokens.on_change = self._hear_token

    def press(self, pressed: str) -> None:
        """Do what a button of the panel is for. Raises KeyError or ValueError if there is none like it."""
        what, *rest = pressed.split(" ")
        if what == "trouble":
            (trouble_id,) = rest
            self.troubles.flip(trouble_id)
        elif what == "token":
            verb, token_id = rest
            self.table.press(verb, token_id)
        else:
            raise KeyError(pressed)

    def describe(self) -> PanelData:
        """Return what it shows now."""
        return PanelData(
            start=tuple(self._start()),
            also=tuple(self._also()),
            tokens=tuple(
                PanelToken(label=each.label, explanation=each.explanation, token=each.token)
                for each in READY_MADE_TOKENS
            ),
            slots=tuple(self._slots()),
            about=(
                f"A replaced token works for {_words(self.table.grace)} more (by default an hour). Then the bot "
                "disables it, has the slot tested 90 seconds later, and deletes it."
            ),
            account=tuple(self.table.rows()),
            switches=tuple(
                PanelSwitch(
                    group=each.step,
                    label=each.label,
                    explanation=each.explanation,
                    is_on=each.switch.is_on,
                    press=f"trouble {each.id}",
                )
                for each in self.troubles.all
            ),
        )

    def _start(self) -> list[str]:
        command = self.slack.config.commands[0].command
        return [
            f"Type `{command}` below and press *Enter*.",
            "Choose a bucket, then press *Paste* beside one of the tokens in the Sandbox panel.",
            f"Press *Check or store*. {_WITH_APPROVAL if self.four_eyes else _AT_ONCE}",
        ]

    def _also(self) -> list[str]:
        command = self.slack.config.commands[0].command
        return [
            f"Or let the bot make a token, so that nobody sees one: type `{command} rotate analytics-events`.",
            *([f"Or one for each bucket: type `{command} rotate --all`."] if self.has_fleet else []),
        ]

    def _slots(self) -> list[PanelSlot]:
        stored_at = {write.bucket: write.at for write in self.cloudflare.writes}
        return [
            PanelSlot(
                bucket=bucket.name,
                catalog_state=_CATALOG_WORDS[bucket.catalog],
                credential_state="present" if bucket.token else "absent",
                stored=bucket.token,
                stored_at=stored_at.get(bucket.name),
            )
            for bucket in self.cloudflare.buckets.values()
        ]

    def _hear_write(self) -> None:
        self.troubles.hear_write()
        self.slack.notify_panel()

    def _hear_token(self, token: AccountToken) -> None:
        """Show it now, and again once it is known everywhere."""
        self.troubles.hear_token(token)
        self.slack.notify_panel()
        wait = token.changes[-1][0] - self.cloudflare.now()
        asyncio.get_running_loop().call_later(max(wait.total_seconds(), 0) + _LATER, self.slack.notify_panel)


def _words(span: timedelta) -> str:
    return f"{span.total_seconds():g} seconds"
