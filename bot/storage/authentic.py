"""Signs what a person asked for when it is recorded, and sets aside what nobody signed before anything is done with it.

Who can write to the database has no key: an inserted or changed row opens no token, sends nothing, and is announced in
nobody's name; nor does one that has ended by what the audit says. What remains is in docs/threat-model.md.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, exists, or_, select

from bot.model.audit import Entry, Event, Who
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import RecordForged
from bot.model.submission import ENDINGS, State, Submission
from bot.sealing.authenticity import Authenticity, Fields
from bot.storage.audit import AuditChain, as_text
from bot.storage.rows import OF_FINDINGS, OF_PROGRESS, progress_of, read_submission
from bot.storage.schema import AUDIT, OPENINGS, SUBMISSIONS

_OPENING: Final = "opening"
_SUBMISSION: Final = "submission"
_PROGRESS: Final = "progress"
_OF_OPENING: Final = ("nonce", "team_id", "user_id", "expires_at")
_OF_SUBMISSION: Final = (
    "id",
    "task",
    "team_id",
    "user_id",
    "account_id",
    "bucket",
    "channel_id",
    "reason",
    "token_kind",
    "last_four",
    "fingerprint",
    "nonce",
    "token_digest",
    "response_url_digest",
    "sent_at",
    "accepted_at",
    "expires_at",
)
_ON_THE_WAY: Final = frozenset({"attempts", "patience_until", "confirm_until", "revision"})
_OF_RESULT: Final = tuple(name for name in OF_PROGRESS if name not in _ON_THE_WAY)
"""What a result says: its digest is part of the entry that records the ending."""

SEALED: Final = {"sealed_token": "token_digest", "sealed_response_url": "response_url_digest"}
FINAL_STATES: Final = frozenset(state.value for state in ENDINGS)
ADOPTED: Final = "adopted"
"""The nonce of a submission from before there were signatures."""

_ENTRIES: Final = select(AUDIT).order_by(AUDIT.c.number)
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""By as much Slack's clock, which says when a Submit was sent, may be ahead of the bot's."""

_SAYS_SENT: Final = or_(
    AUDIT.c.event.in_((Event.WRITE_SENT.value, Event.WRITTEN.value)), AUDIT.c.outcome == State.UNCERTAIN.value
)


def has_ended(submission_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that the audit knows an ending of a submission."""
    return exists().where(AUDIT.c.submission_id == submission_id, AUDIT.c.event == Event.ENDED.value)


def sign_submission(authenticity: Authenticity, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a submission with its signatures; the sealed values are covered by their digests."""
    signed = dict(row) | {digest: _digest(row[sealed]) for sealed, digest in SEALED.items()}
    signed["signature"] = authenticity.sign(_SUBMISSION, _fields(signed, _OF_SUBMISSION))
    progress = dict.fromkeys(OF_PROGRESS) | {name: row[name] for name in OF_PROGRESS if name in row}
    return signed | {"progress": sign_progress(authenticity, row["id"], progress)}


def sign_progress(authenticity: Authenticity, submission_id: str, progress: Mapping[str, Any]) -> str:
    """Return the signature of how far a submission has come: see `bot.storage.rows.progress_of`."""
    return authenticity.sign(_PROGRESS, _fields_of_progress(submission_id, progress))


def require_recorded(chain: AuditChain, row: Row[Any], progress: Mapping[str, Any]) -> Submission:
    """Return the submission of a row as a statement has left it; raises RecordForged unless that is as it was told.

    Else someone who writes to the database at the same time, or has put a trigger there, would have it signed.
    """
    submission = read_submission(row)
    _require_signature(chain.authenticity, row)
    if _fields_of_progress(submission.id, progress_of(submission)) != _fields_of_progress(row.id, progress):
        raise _forged(row, _PROGRESS)
    return submission


def require_progress(chain: AuditChain, row: Row[Any]) -> Submission:
    """Return the submission of a row that has not ended; raises RecordForged unless the bot has brought it so far."""
    submission = read_submission(row)
    _require_signature(chain.authenticity, row)
    _require_progress(chain.authenticity, row, submission)
    return submission


def _require_progress(authenticity: Authenticity, row: Row[Any], submission: Submission) -> None:
    fields = _fields_of_progress(submission.id, progress_of(submission))
    if not authenticity.verifies(_PROGRESS, fields, row.progress):
        raise _forged(row, _PROGRESS)


def _fields_of_progress(submission_id: str, progress: Mapping[str, Any]) -> Fields:
    """Return what a signature covers: as a row is read, which knows no findings without a time, and no empty value."""
    known = progress if progress["checked_at"] else {**progress, **dict.fromkeys(OF_FINDINGS)}
    texts = {name: as_text(value or None) for name, value in known.items() if value != CredentialStatus.UNKNOWN}
    return texts | {"id": submission_id}


def sign_opening(authenticity: Authenticity, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an opening with its signature."""
    return dict(row) | {"signature": authenticity.sign(_OPENING, _fields(row, _OF_OPENING))}


def require_authentic(connection: Connection, chain: AuditChain, row: Row[Any], *, has_ended: bool = False) -> None:
    """Raise RecordForged unless a row of work is what a person asked for, and has come as far as it says.

    `row` has the columns of the submission, those of its opening as `opening_...`, and `has_ended`; the argument says
    that somebody remembers the ending, whatever the audit says.
    """
    _require_signature(chain.authenticity, row)
    _require_opening(chain.authenticity, row)
    is_final = row.state in FINAL_STATES
    if (row.has_ended or has_ended) and not is_final:  # an ending is final: this row was put back
        raise _forged(row, "state")
    try:
        _require_progress(chain.authenticity, row, read_submission(row))
    except RecordForged:
        # After a restore, all that was open ends by one statement, which signs no row.
        if not (is_final and _has_ending(connection, chain, row)):
            raise


def digest_of_result(row: Row[Any]) -> str:
    """Return the digest of what the result of a submission says."""
    fields = {name: as_text(getattr(row, name)) for name in _OF_RESULT}
    return hashlib.sha256(repr(sorted(fields.items())).encode("utf-8", "surrogatepass")).hexdigest()


def entry_of(row: Row[Any], event: Event, at: Any) -> Entry:  # noqa: ANN401 - a time, or a damaged one
    """Return the entry that a submission's row gives rise to."""
    is_end = event is Event.ENDED
    return Entry(
        event=event,
        at=at,
        key=BucketKey(account_id=row.account_id, bucket=row.bucket),
        submission_id=row.id,
        task=row.task,
        outcome=row.state if is_end else "",
        code=(row.error_code or "") if is_end else "",
        token_id=row.token_id or "",
        fingerprint=row.fingerprint or "",
        cf_ray=row.cf_ray or "",
        details=digest_of_result(row) if is_end else _expiry(row) if event is Event.WRITTEN else "",
        who=Who(user_id=row.user_id, team_id=row.team_id, channel_id=row.channel_id, reason=row.reason),
    )


def is_stored_by_the_bot(connection: Connection, chain: AuditChain, credential: StoredCredential) -> bool:
    """Return whether the audit says that this was written, for this person, to this slot: before it is announced.

    Who it was may be forgotten by now; then nobody is named.
    """
    its_entry = AUDIT.c.submission_id == credential.submission_id, AUDIT.c.event == Event.WRITTEN.value
    return any(
        _says_the_same(entry, credential) and chain.is_authentic(entry)
        for entry in connection.execute(_ENTRIES.where(*its_entry))
    )


def was_sent_by_the_bot(connection: Connection, chain: AuditChain, row: Row[Any]) -> bool:
    """Return whether the audit says that a token was sent, for this person, and not long before its Submit.

    Else a made-up row would end every Submit for its bucket, and name a person who is said to have stored another one.
    `row` has the `id`, `user_id` and `sent_at` of a submission.
    """
    entries = connection.execute(_ENTRIES.where(AUDIT.c.submission_id == row.id, _SAYS_SENT))
    return any(
        entry.user_id in (None, row.user_id) and row.sent_at - entry.at <= _CLOCKS_DIFFER and chain.is_authentic(entry)
        for entry in entries
        if entry.at is not None
    )


def _says_the_same(entry: Row[Any], credential: StoredCredential) -> bool:
    its = credential.key.account_id, credential.bucket, credential.token_id or "", text_of(credential.expires_at)
    is_same = (entry.account_id, entry.bucket, entry.token_id, entry.details) == its
    is_named = (entry.user_id, entry.channel_id) == (credential.stored_by, credential.channel_id)
    return is_same and (is_named or entry.user_id is None)


def _expiry(row: Row[Any]) -> str:
    """Return what an entry about a write says of the token besides its id."""
    return text_of(row.token_expires_at)


def text_of(time: datetime | None) -> str:
    """Return a time as an entry says it; "" for none."""
    return str(as_text(time)) if time is not None else ""


def _require_signature(authenticity: Authenticity, row: Row[Any]) -> None:
    if not authenticity.verifies(_SUBMISSION, _fields(row._mapping, _OF_SUBMISSION), row.signature):  # noqa: SLF001 - public in SQLAlchemy, with this name
        raise _forged(row, "signature")
    for sealed, digest in SEALED.items():
        value = getattr(row, sealed)
        if value is not None and _digest(value) != getattr(row, digest):
            raise _forged(row, sealed)


def _require_opening(authenticity: Authenticity, row: Row[Any]) -> None:
    """Require the form of a submission: opened by the same person, and recorded by a gateway."""
    if row.nonce in ("", ADOPTED):  # signed as such: no form was opened for it
        return
    opening = {name: getattr(row, f"opening_{name}") for name in _OF_OPENING}
    is_signed = authenticity.verifies(_OPENING, _fields(opening, _OF_OPENING), row.opening_signature)
    if not is_signed or opening["nonce"] != row.nonce or opening["user_id"] != row.user_id:
        raise _forged(row, "nonce")


def _has_ending(connection: Connection, chain: AuditChain, row: Row[Any]) -> bool:
    """Return whether the chain has an authentic entry that says how it ended, in the same words."""
    its_entry = AUDIT.c.submission_id == row.id, AUDIT.c.event == Event.ENDED.value
    query = _ENTRIES.where(*its_entry, AUDIT.c.details == digest_of_result(row))
    return any(chain.is_authentic(entry) for entry in connection.execute(query))


def _fields(row: Any, names: tuple[str, ...]) -> Fields:  # noqa: ANN401 - a row or a mapping
    return {name: as_text(row[name]) for name in names}


def _digest(sealed: str | None) -> str:
    return hashlib.sha256(sealed.encode("utf-8", "surrogatepass")).hexdigest() if sealed else ""


def _forged(row: Row[Any], column: str) -> RecordForged:
    return RecordForged(SUBMISSIONS.name, str(row.id), column)


OPENING_COLUMNS: Final = tuple(OPENINGS.c[name].label(f"opening_{name}") for name in (*_OF_OPENING, "signature"))
