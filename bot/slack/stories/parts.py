"""The dependencies of the stories; the composition root fills them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bot.model.approval import Authenticity
from bot.model.catalog import BucketKey
from bot.model.enabling import MayEnable, nobody_may
from bot.policy.gate import Gate
from bot.rotation.fleet_room import FleetRoom
from bot.slack.api import SlackWeb
from bot.slack.channels import Channels
from bot.slack.response_url import SlackPost
from bot.slack.rotations import Rotations
from bot.slack.stories.visibility import Visibility
from bot.storage.approvals import Approvals
from bot.storage.catalogs import Catalogs
from bot.storage.fleets import Fleets
from bot.storage.submissions import Submissions


class WantSnapshot(Protocol):
    """Schedules a refresh of the catalogs from Cloudflare, unless they are fresh. Returns at once."""

    def __call__(self, *, tests: bool = False) -> None:
        """Schedule it; with `tests`, test their credentials as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Within Slack's 3 s a story waits only for the database and for Slack.

    `contact` is whom a refused person should ask. `room`: how many more tokens the account may have. `may_enable`:
    whether a result offers to enable its catalog.
    """

    account_id: str
    ttl: timedelta
    contact: str
    gate: Gate
    submissions: Submissions
    approvals: Approvals
    authenticity: Authenticity
    catalogs: Catalogs
    web: SlackWeb
    channels: Channels
    slack_post: SlackPost
    want_snapshot: WantSnapshot
    clock: Callable[[], datetime]
    visibility: Visibility
    rotations: Rotations
    fleets: Fleets
    room: FleetRoom
    may_enable: MayEnable = nobody_may

    def key(self, bucket: str) -> BucketKey:
        """Return the slot of a bucket of the account."""
        return BucketKey(account_id=self.account_id, bucket=bucket)
