"""What a step wants of a submission: a Move. Whoever applies it does all of it, or nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from bot.model.catalog import CredentialStatus
from bot.model.errors import BotError
from bot.model.submission import Findings, Pending, State, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a move changes besides the state; None leaves a field as it is."""

    attempts: int | None = None
    possibly_written: bool | None = None
    checked_at: datetime | None = None
    patience_until: datetime | None = None
    findings: Findings | None = None
    confirm_until: datetime | None = None
    cf_ray: str | None = None
    confirmation: CredentialStatus | None = None
    reported_at: datetime | None = None
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of a submission, all of it in one transaction.

    A move to CONFIRMING means that Cloudflare has stored the token: older submissions are superseded, and this token is
    recorded as the slot's credential. Every ending erases the sealed token; the report erases the sealed response URL.
    """

    to: State
    at: datetime
    """When the next step is due; of a move to an ending, when it ended."""

    changes: Changes = Changes()
    because: BotError | None = None
    """The error to record; replaced by the next one, cleared by a success or by new findings."""

    supersedes: bool = False
    """Whether older ones of the bucket that could still be sent end as well."""

    tested_at: datetime | None = None
    """When Cloudflare tested the slot, where `changes.confirmation` comes from such a test."""

    forgets_response_url: bool = False
    effect: "Callable[[Pending], Awaitable[Self]] | None" = None
    """What is done once this is recorded, and not before: given what is recorded, it says what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A submission as a move has left it; `is_new_state` tells a step from a note, such as that people were told."""

    submission: Submission
    is_new_state: bool
