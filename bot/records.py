"""The tables and their compare-and-set transitions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from bot.catalog import Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.database import Database
from bot.database.schema import CATALOGS, OPENINGS, SNAPSHOTS, SUBMISSIONS
from bot.sealing import key_id_of
from bot.submission import (
    ENDINGS,
    STEPS,
    BucketKey,
    Confirmation,
    NewSubmission,
    Opening,
    SealedResponseUrl,
    SealedToken,
    State,
    Submission,
    TokenKind,
)


class Verdict(StrEnum):
    """What became of a Submit."""

    RECORDED = "recorded"
    REPLACED = "replaced"
    ALREADY_UNDER_WAY = "already_under_way"
    UNKNOWN_OPENING = "unknown_opening"
    SOMEBODY_ELSES = "somebody_elses"
    USED = "used"
    TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The verdict, and the submission as recorded where there is one."""

    verdict: Verdict
    submission: Submission | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a transition changes besides the state; None leaves a column as it is."""

    next_attempt_at: datetime | None = None
    attempts: int | None = None
    possibly_written: bool | None = None
    confirm_until: datetime | None = None
    error_code: str | None = None
    cloudflare_code: int | None = None
    cf_ray: str | None = None
    credential_before: CredentialStatus | None = None
    confirmation: Confirmation | None = None


class Records:
    """Reads and moves what the database holds. Every method raises DatabaseUnavailable when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._database.run(lambda connection: connection.execute(select(1)) and None)

    async def add_opening(self, opening: Opening) -> None:
        """Record an opened modal."""
        row = {field.name: getattr(opening, field.name) for field in fields(opening)}
        await self._database.run(lambda connection: connection.execute(insert(OPENINGS), row) and None)

    async def accept(self, new: NewSubmission, nonce: str) -> Acceptance:
        """Use up the opening and record the submission, both or neither.

        A repeated Submit of the same view replaces what was recorded as long as nothing was sent, and leaves it alone
        afterwards.
        """
        return await self._database.run(lambda connection: _accept(connection, new, nonce))

    async def runnable(self, key: BucketKey) -> list[Submission]:
        """Return the bucket's submissions that ended and are not told yet, and the oldest of those not ended."""
        its = {"its_account_id": key.account_id, "its_bucket": key.bucket}
        rows = await self._database.run(lambda connection: connection.execute(_RUNNABLE, its).all())
        return [_read_submission(row) for row in rows]

    async def unreported_keys(self) -> list[BucketKey]:
        """Return the buckets that have something left to do."""
        query = select(SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket).where(_is_unreported()).distinct()
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [BucketKey(account_id=row.account_id, bucket=row.bucket) for row in rows]

    async def find(self, submission_id: str) -> Submission | None:
        """Return one submission."""
        query = select(SUBMISSIONS).where(SUBMISSIONS.c.id == submission_id)
        return await self._database.run(lambda connection: _read_one(connection.execute(query).one_or_none()))

    async def move(self, submission: Submission, to: State, changes: Changes | None = None) -> Submission | None:
        """Take one step, if the submission still stands as it was read; return it as it is then, else None."""
        if to is not submission.state or submission.is_ended:
            _require_step(submission.state, to)
        values = {"state": to.value} | _values(changes or Changes())
        return await self._change(submission, values)

    async def end(
        self, submission: Submission, ending: State, ended_at: datetime, changes: Changes | None = None
    ) -> Submission | None:
        """Move to an ending and erase the sealed token in the same transaction."""
        if ending not in ENDINGS:
            message = f"{ending} is no ending"
            raise ValueError(message)
        _require_step(submission.state, ending)
        values = {"state": ending.value, "ended_at": ended_at, "sealed_token": None, "next_attempt_at": ended_at}
        if ending is State.STORED:  # what went wrong on the way there is not how it ended
            values |= {"error_code": None, "cloudflare_code": None}
        return await self._change(submission, values | _values(changes or Changes()))

    async def postpone_report(self, submission: Submission, until: datetime, *, forget_response_url: bool) -> None:
        """Try the report again at `until`."""
        values: dict[str, Any] = {"next_attempt_at": until}
        if forget_response_url:
            values["sealed_response_url"] = None
        await self._change(submission, values)

    async def mark_reported(self, submission: Submission, reported_at: datetime) -> None:
        """Note that the final message is out, and erase the response URL."""
        await self._change(submission, {"reported_at": reported_at, "sealed_response_url": None})

    async def key_ids_in_use(self) -> frozenset[str]:
        """Return the ids of the keys that something not yet erased is sealed with."""
        query = select(SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.sealed_response_url).where(_is_unreported())
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return frozenset(key_id_of(sealed) for row in rows for sealed in row if sealed)

    async def forget_openings(self, expired_before: datetime) -> None:
        """Delete openings that expired before that time."""
        statement = delete(OPENINGS).where(OPENINGS.c.expires_at < expired_before)
        await self._database.run(lambda connection: connection.execute(statement) and None)

    async def save_snapshot(self, account_id: str, snapshot: Snapshot) -> None:
        """Replace the account's catalogs."""
        await self._database.run(lambda connection: _save_snapshot(connection, account_id, snapshot))

    async def save_catalog(self, account_id: str, catalog: Catalog) -> None:
        """Correct one catalog of the snapshot."""
        row = _catalog_row(account_id, catalog)
        statement = (
            sqlite_insert(CATALOGS).values(row).on_conflict_do_update(index_elements=["account_id", "bucket"], set_=row)
        )
        await self._database.run(lambda connection: connection.execute(statement) and None)

    async def snapshot(self, account_id: str) -> Snapshot | None:
        """Return the account's catalogs, or None when nobody has asked Cloudflare yet."""
        return await self._database.run(lambda connection: _read_snapshot(connection, account_id))

    async def _change(self, submission: Submission, values: dict[str, Any]) -> Submission | None:
        statement = (
            update(SUBMISSIONS)
            .where(
                SUBMISSIONS.c.id == submission.id,
                SUBMISSIONS.c.state == submission.state.value,
                SUBMISSIONS.c.attempts == submission.attempts,
                SUBMISSIONS.c.sealed_token.is_not_distinct_from(submission.sealed_token),
            )
            .values(values)
            .returning(SUBMISSIONS)
        )
        return await self._database.run(lambda connection: _read_one(connection.execute(statement).one_or_none()))


def _require_step(state: State, to: State) -> None:
    if to not in STEPS.get(state, frozenset()):
        message = f"no step leads from {state} to {to}"
        raise ValueError(message)


def _is_unreported() -> ColumnElement[bool]:
    return SUBMISSIONS.c.reported_at.is_(None)


# Statements that run for each submission are built once: building and hashing them took longer than running them.
_others: Final = SUBMISSIONS.alias()
_RUNNABLE: Final = (
    select(SUBMISSIONS)
    .where(
        SUBMISSIONS.c.account_id == bindparam("its_account_id"),
        SUBMISSIONS.c.bucket == bindparam("its_bucket"),
        _is_unreported(),
        or_(
            SUBMISSIONS.c.ended_at.is_not(None),
            SUBMISSIONS.c.sequence
            == select(_others.c.sequence)
            .where(
                _others.c.account_id == bindparam("its_account_id"),
                _others.c.bucket == bindparam("its_bucket"),
                _others.c.reported_at.is_(None),
                _others.c.ended_at.is_(None),
            )
            .order_by(_others.c.accepted_at, _others.c.sequence)
            .limit(1)
            .scalar_subquery(),
        ),
    )
    .order_by(SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.sequence)
)
_CLAIM_OPENING: Final = (
    update(OPENINGS)
    .where(
        OPENINGS.c.nonce == bindparam("its_nonce"),
        OPENINGS.c.team_id == bindparam("its_team_id"),
        OPENINGS.c.user_id == bindparam("its_user_id"),
        or_(
            and_(OPENINGS.c.used_by.is_(None), OPENINGS.c.expires_at > bindparam("now")),
            OPENINGS.c.used_by == bindparam("used_by"),  # a repeated Submit: however late, it is told how it stands
        ),
    )
    .values(used_by=bindparam("used_by"))
)
_INSERT_SUBMISSION: Final = sqlite_insert(SUBMISSIONS).on_conflict_do_nothing(index_elements=["id"])


def _accept(connection: Connection, new: NewSubmission, nonce: str) -> Acceptance:
    claim = {
        "its_nonce": nonce,
        "its_team_id": new.team_id,
        "its_user_id": new.user_id,
        "now": new.accepted_at,
        "used_by": new.id,
    }
    row = _submission_row(new)
    if connection.execute(_CLAIM_OPENING, claim).rowcount == 0:
        is_repeated = connection.scalar(select(SUBMISSIONS.c.id).where(_is_same_form(new))) is not None
        return (
            _accept_again(connection, new, row) if is_repeated else Acceptance(verdict=_why_not(connection, new, nonce))
        )
    if connection.execute(_INSERT_SUBMISSION, row).rowcount == 1:
        return Acceptance(verdict=Verdict.RECORDED)
    return _accept_again(connection, new, row)


def _why_not(connection: Connection, new: NewSubmission, nonce: str) -> Verdict:
    opening = connection.execute(select(OPENINGS).where(OPENINGS.c.nonce == nonce)).one_or_none()
    if opening is None:
        return Verdict.UNKNOWN_OPENING
    if (opening.team_id, opening.user_id) != (new.team_id, new.user_id):
        return Verdict.SOMEBODY_ELSES
    return Verdict.USED if opening.used_by not in (None, new.id) else Verdict.TOO_OLD


def _accept_again(connection: Connection, new: NewSubmission, row: dict[str, Any]) -> Acceptance:
    """Take a second Submit of the same view, unless it is the older one and was only slower on its way here."""
    replace = (
        update(SUBMISSIONS)
        .where(
            _is_same_form(new),
            SUBMISSIONS.c.state == State.ACCEPTED.value,
            SUBMISSIONS.c.accepted_at <= new.accepted_at,
        )
        .values(row)
    )
    verdict = Verdict.REPLACED if connection.execute(replace).rowcount else Verdict.ALREADY_UNDER_WAY
    found = connection.execute(select(SUBMISSIONS).where(_is_same_form(new))).one()
    return Acceptance(verdict=verdict, submission=_read_one(found))


def _is_same_form(new: NewSubmission) -> ColumnElement[bool]:
    """Whether a row is of this view, and of the person whose view it is."""
    submission = SUBMISSIONS.c
    return and_(submission.id == new.id, submission.team_id == new.team_id, submission.user_id == new.user_id)


def _submission_row(new: NewSubmission) -> dict[str, Any]:
    return {
        "id": new.id,
        "state": State.ACCEPTED.value,
        "team_id": new.team_id,
        "user_id": new.user_id,
        "account_id": new.key.account_id,
        "bucket": new.key.bucket,
        "channel_id": new.channel_id,
        "reason": new.reason,
        "token_kind": new.token_kind.value,
        "last_four": new.last_four,
        "sealed_token": new.sealed_token,
        "sealed_response_url": new.sealed_response_url,
        "accepted_at": new.accepted_at,
        "expires_at": new.expires_at,
        "next_attempt_at": new.accepted_at,
    }


def _read_one(row: Row[Any] | None) -> Submission | None:
    return None if row is None else _read_submission(row)


def _read_submission(row: Row[Any]) -> Submission:
    return Submission(
        id=row.id,
        state=State(row.state),
        team_id=row.team_id,
        user_id=row.user_id,
        key=BucketKey(account_id=row.account_id, bucket=row.bucket),
        channel_id=row.channel_id,
        reason=row.reason,
        token_kind=TokenKind(row.token_kind),
        last_four=row.last_four,
        sealed_token=SealedToken(row.sealed_token) if row.sealed_token else None,
        sealed_response_url=SealedResponseUrl(row.sealed_response_url) if row.sealed_response_url else None,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        next_attempt_at=row.next_attempt_at,
        attempts=row.attempts,
        possibly_written=row.possibly_written,
        confirm_until=row.confirm_until,
        ended_at=row.ended_at,
        error_code=row.error_code,
        cloudflare_code=row.cloudflare_code,
        cf_ray=row.cf_ray,
        credential_before=CredentialStatus(row.credential_before) if row.credential_before else None,
        confirmation=Confirmation(row.confirmation) if row.confirmation else None,
        reported_at=row.reported_at,
    )


def _values(changes: Changes) -> dict[str, Any]:
    pairs = ((field.name, getattr(changes, field.name)) for field in fields(changes))
    values = {name: value for name, value in pairs if value is not None}
    if changes.error_code is not None:  # its code and Ray ID go with it: those of an earlier error must not stay
        values |= {"cloudflare_code": changes.cloudflare_code, "cf_ray": changes.cf_ray}
    return values


def _catalog_row(account_id: str, catalog: Catalog) -> dict[str, str]:
    return {
        "account_id": account_id,
        "bucket": catalog.bucket,
        "status": catalog.status.value,
        "credential_status": catalog.credential_status.value,
    }


def _save_snapshot(connection: Connection, account_id: str, snapshot: Snapshot) -> None:
    connection.execute(delete(CATALOGS).where(CATALOGS.c.account_id == account_id))
    rows: Sequence[dict[str, str]] = [_catalog_row(account_id, catalog) for catalog in snapshot.catalogs]
    if rows:
        connection.execute(insert(CATALOGS), rows)
    row = {"account_id": account_id, "refreshed_at": snapshot.refreshed_at}
    connection.execute(
        sqlite_insert(SNAPSHOTS).values(row).on_conflict_do_update(index_elements=["account_id"], set_=row)
    )


def _read_snapshot(connection: Connection, account_id: str) -> Snapshot | None:
    refreshed_at = connection.scalar(select(SNAPSHOTS.c.refreshed_at).where(SNAPSHOTS.c.account_id == account_id))
    if refreshed_at is None:
        return None
    rows = connection.execute(select(CATALOGS).where(CATALOGS.c.account_id == account_id).order_by(CATALOGS.c.bucket))
    return Snapshot(catalogs=tuple(_read_catalog(row) for row in rows), refreshed_at=refreshed_at)


def _read_catalog(row: Row[Any]) -> Catalog:
    return Catalog(
        bucket=row.bucket,
        status=CatalogStatus(row.status),
        credential_status=CredentialStatus(row.credential_status),
    )
