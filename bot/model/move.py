"""A Move: the change that a step makes to a submission. It is applied as a whole or not at all."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from bot.model.catalog import CredentialStatus
from bot.model.errors import BotError
from bot.model.submission import Findings, Pending, State, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes of a move besides the state; None leaves a field unchanged."""

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
    approval_channel: str | None = None
    decided_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of a submission, all of it in one transaction.

    A move to CONFIRMING means that Cloudflare has stored the token: older submissions are superseded, and this token is
    recorded as the slot's credential. Every ending erases the sealed token; the report erases the sealed response URL.
    """

    to: State
    at: datetime
    """When the next step is due; for an ending, when it ended."""

    changes: Changes = Changes()
    because: BotError | None = None
    """The error to record; replaced by the next one, cleared by a success or by new findings."""

    supersedes: bool = False
    """Whether older ones of the bucket that could still be sent end as well."""

    tested_at: datetime | None = None
    """When Cloudflare tested the slot, if `changes.confirmation` is from a test."""

    retires_at: datetime | None = None
    """When the bucket's older minted tokens may be taken back; None if nothing is proven of this one."""

    forgets_response_url: bool = False
    effect: "Callable[[Pending], Awaitable[Self]] | None" = None
    """Runs only after this move is recorded: takes the recorded submission, returns the next move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A submission as a move has left it; `is_new_state` is False for a mere note, such as `reported_at`."""

    submission: Submission
    is_new_state: bool
