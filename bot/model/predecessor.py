"""What becomes of the token that a rotation has replaced. Pure."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from bot.model.catalog import CredentialStatus
from bot.model.errors import DatabaseTrouble
from bot.model.minted import TAKEN_BACK, MintedState, MintedToken
from bot.model.submission import State, Submission


class Fate(StrEnum):
    """What becomes of it."""

    TO_BE_REVOKED = "to_be_revoked"
    REVOKED = "revoked"
    FOREIGN = "foreign"
    """It worked, and is none of the bot's tokens: the bot does not touch it."""
    NOT_KNOWN = "not_known"
    """Nothing is revoked, and it is not known what the slot held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """`revoked_at`: when it is revoked, if it is going to be."""

    fate: Fate
    revoked_at: datetime | None = None


FindPredecessor: TypeAlias = Callable[[Submission], Awaitable[Predecessor | None]]
"""Looks it up, for what people are told of a rotation; raises DatabaseTrouble."""


async def know_nothing(_: Submission) -> None:
    """Return nothing, where the bot makes no tokens."""


async def find_if_possible(find: FindPredecessor, submission: Submission) -> Predecessor | None:
    """Return it, or nothing where the database does not answer: a view without it is better than none."""
    try:
        return await find(submission)
    except DatabaseTrouble:
        return None


def find_predecessor(submission: Submission, tokens: Iterable[MintedToken]) -> Predecessor | None:
    """Return what became of it, from all tokens of the bucket; None where there was none, or nothing is proven."""
    if submission.state is not State.STORED or submission.confirmation is not CredentialStatus.VALID:
        return None
    older = [token for token in tokens if token.submission_id != submission.id and token.was_sent]
    due = [token.due_at for token in older if token.state in TAKEN_BACK]
    if due:
        return Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=max(due))
    ended_at = submission.ended_at or submission.accepted_at
    if any(token.state is MintedState.DEAD and token.changed_at >= ended_at for token in older):
        return Predecessor(fate=Fate.REVOKED)
    before = submission.findings.credential if submission.findings else CredentialStatus.UNKNOWN
    if before.is_alarm:
        return None
    is_foreign = before is CredentialStatus.VALID or not older
    return Predecessor(fate=Fate.FOREIGN if is_foreign else Fate.NOT_KNOWN)
