"""What the audit records: who tried what, what was decided, what was written, and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from bot.model.catalog import BucketKey


class Event(StrEnum):
    """What happened. The words are stable: exports and the receivers of the webhook rely on them."""

    CHAIN_BEGUN = "chain_begun"
    SUBMITTED = "submitted"
    REFUSED = "refused"
    APPROVED = "approved"
    DENIED = "denied"
    WRITE_SENT = "write_sent"
    """Recorded before the request leaves: what follows may or may not have reached the slot."""
    WRITTEN = "written"
    MINTED = "minted"
    """The bot made a token; `token_id` is Cloudflare's id of it."""
    REVOKED = "revoked"
    """The bot deleted a token that it had made."""
    ENDED = "ended"
    FLEET_STARTED = "fleet_started"
    """A person has had the credentials of many buckets rotated."""
    FLEET_STOPPED = "fleet_stopped"
    """Somebody pressed Stop, or the bot stopped by itself: `code` says why, and nobody is named."""
    FLEET_ENDED = "fleet_ended"
    RESTORED = "restored"
    """A backup of the database was put back: what was recorded after it is missing, and what it held open has ended."""
    PEOPLE_FORGOTTEN = "people_forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What an entry says of a person. It can be forgotten without breaking the chain. Never a token."""

    user_id: str
    team_id: str = ""
    channel_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, before it gets its number. What it does not speak of is "".

    A token appears by Cloudflare's id and a keyed fingerprint only, never by its last four characters.
    """

    event: Event
    at: datetime
    key: BucketKey | None = None
    submission_id: str = ""
    task: str = ""
    outcome: str = ""
    code: str = ""
    token_id: str = ""
    fingerprint: str = ""
    cf_ray: str = ""
    details: str = ""
    who: Who | None = None


PERSONAL: Final = ("user_id", "team_id", "channel_id", "reason")
"""The names of what can be forgotten."""
