"""Submissions as rows of their table, and back; the conditions by which queries select them."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, literal_column, or_, select, tuple_

from bot.model.catalog import BucketKey, CredentialStatus
from bot.model.errors import RecordDamaged
from bot.model.submission import (
    FOR_THE_SLOT,
    Check,
    Findings,
    NewSubmission,
    Pending,
    Sealed,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    Task,
    TokenFacts,
    TokenKind,
)
from bot.storage.damage import require_shape
from bot.storage.schema import LEASES, SUBMISSIONS

MOST_COUNTED: Final = 1_000_000_000
"""More attempts or changes than there can be: incrementing a damaged number must not overflow."""


def is_its(table: Table) -> ColumnElement[bool]:
    """Return the condition for the rows of the bucket that `names_of` names."""
    return and_(table.c.account_id == bindparam("its_account_id"), table.c.bucket == bindparam("its_bucket"))


ITS_BUCKET: Final = is_its(SUBMISSIONS)
"""The rows of the bucket that `names_of` names."""

MAY_BE_SENT: Final = and_(
    SUBMISSIONS.c.reported_at.is_(None),
    SUBMISSIONS.c.ended_at.is_(None),
    SUBMISSIONS.c.state != State.CONFIRMING.value,
)
"""The rows whose token can still be sent to Cloudflare, or sent again."""

IS_UNCERTAIN: Final = SUBMISSIONS.c.state == literal_column(f"'{State.UNCERTAIN.value}'")
"""The rows that may have been written. A literal: by a parameter, SQLite would not see that it is the index's."""

EPOCH: Final = select(LEASES.c.epoch).where(is_its(LEASES))
"""The epoch of the bucket's lease; no row while no one has taken it."""

PLACE: Final = (SUBMISSIONS.c.sent_at, SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.sequence)
"""The order of a bucket's submissions: by when Slack sent them, then by arrival (docs/decisions/5-newest-wins.md)."""

IS_OLDER: Final = tuple_(*PLACE) < tuple_(*(bindparam(f"its_{column.name}", type_=column.type) for column in PLACE))
"""Whether a row comes before the one with that place."""

IS_FOR_THE_SLOT: Final = or_(*(SUBMISSIONS.c.task == literal_column(f"'{task.value}'") for task in FOR_THE_SLOT))

NO_ERROR: Final = dict.fromkeys(("error_code", "cloudflare_code", "cloudflare_message"))
NO_CAUSE: Final = NO_ERROR | {"cf_ray": None}

OF_FINDINGS: Final = ("token_id", "token_owner", "token_expires_at", "unchecked", "credential_before")
"""The columns that hold findings; without a `checked_at`, there are none."""

NOTHING_FOUND: Final = NO_CAUSE | dict.fromkeys(("checked_at", "patience_until", *OF_FINDINGS))
"""Resets what was found about the first token when a repeated Submit replaces it."""


OF_PROGRESS: Final = (
    "state",
    "attempts",
    "possibly_written",
    "checked_at",
    "patience_until",
    *OF_FINDINGS,
    "confirm_until",
    "ended_at",
    "error_code",
    "cloudflare_code",
    "cloudflare_message",
    "cf_ray",
    "confirmation",
    "superseded_by",
    "revision",
    "approval_channel",
    "decided_by",
)
"""The columns that moves change, but for when the next step is due: a writer can make the bot wait anyway."""


def names_of(key: BucketKey) -> dict[str, str]:
    """Return the parameters of a statement about a bucket."""
    return {"its_account_id": key.account_id, "its_bucket": key.bucket}


def new_row(new: NewSubmission) -> dict[str, Any]:
    """Return the row of a submission without its times, which `bot.storage.accepting` decides."""
    return {
        "id": new.id,
        "task": new.task.value,
        "state": State.ACCEPTED.value,
        "team_id": new.team_id,
        "user_id": new.user_id,
        "account_id": new.key.account_id,
        "bucket": new.key.bucket,
        "channel_id": new.channel_id,
        "reason": new.reason,
        "token_kind": new.token_kind.value,
        "last_four": new.last_four,
        "fingerprint": new.fingerprint,
        "sealed_token": new.sealed.token,
        "sealed_response_url": new.sealed.response_url,
    }


def progress_of(submission: Submission) -> dict[str, Any]:
    """Return how far it has come: the values of `OF_PROGRESS`."""
    findings, confirmation = submission.findings, submission.confirmation
    progress = {name: getattr(submission, name) for name in OF_PROGRESS if name not in OF_FINDINGS}
    progress |= columns_of(findings) if findings else dict.fromkeys(OF_FINDINGS)
    return progress | {"state": submission.state.value, "confirmation": confirmation.value if confirmation else None}


def read_pending(row: Row[Any]) -> Pending:
    """Read a row including its sealed values; raises RecordDamaged."""
    return Pending(
        submission=read_submission(row),
        sealed=Sealed(
            token=SealedToken(row.sealed_token) if row.sealed_token else None,
            response_url=SealedResponseUrl(row.sealed_response_url) if row.sealed_response_url else None,
        ),
    )


def read_submission(row: Row[Any]) -> Submission:
    """Read a row; raises RecordDamaged."""
    require_shape(row, SUBMISSIONS)
    try:
        submission = _as_submission(row)
    except ValueError:  # a word that this version does not know
        raise RecordDamaged(SUBMISSIONS.name, row.id, "a word that the bot does not know") from None
    if not (
        0 <= submission.attempts < MOST_COUNTED and 0 <= submission.revision < MOST_COUNTED
    ):  # could not be counted on
        raise RecordDamaged(SUBMISSIONS.name, row.id, "attempts or revision")
    return submission


def _as_submission(row: Row[Any]) -> Submission:
    return Submission(
        id=row.id,
        task=Task(row.task),
        state=State(row.state),
        team_id=row.team_id,
        user_id=row.user_id,
        key=BucketKey(account_id=row.account_id, bucket=row.bucket),
        channel_id=row.channel_id,
        reason=row.reason,
        token_kind=TokenKind(row.token_kind),
        last_four=row.last_four,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        next_attempt_at=row.next_attempt_at,
        attempts=row.attempts,
        possibly_written=row.possibly_written,
        checked_at=row.checked_at,
        patience_until=row.patience_until,
        findings=_read_findings(row),
        confirm_until=row.confirm_until,
        ended_at=row.ended_at,
        error_code=row.error_code,
        cloudflare_code=row.cloudflare_code,
        cloudflare_message=row.cloudflare_message or "",
        cf_ray=row.cf_ray,
        confirmation=CredentialStatus(row.confirmation) if row.confirmation else None,
        reported_at=row.reported_at,
        superseded_by=row.superseded_by,
        revision=row.revision,
        approval_channel=row.approval_channel,
        decided_by=row.decided_by,
    )


def _read_findings(row: Row[Any]) -> Findings | None:
    if row.checked_at is None:
        return None
    token = (
        TokenFacts(id=row.token_id, owner=TokenKind(row.token_owner), expires_at=row.token_expires_at)
        if row.token_id
        else None
    )
    return Findings(
        token=token,
        unchecked=frozenset(Check(each) for each in (row.unchecked or "").split()),
        credential=CredentialStatus(row.credential_before or CredentialStatus.UNKNOWN),
    )


def columns_of(findings: Findings) -> dict[str, Any]:
    """Return the columns that hold the findings."""
    token = findings.token
    return {
        "token_id": token.id if token else None,
        "token_owner": token.owner.value if token else None,
        "token_expires_at": token.expires_at if token else None,
        "unchecked": " ".join(sorted(findings.unchecked)),
        "credential_before": findings.credential.value,
    }
