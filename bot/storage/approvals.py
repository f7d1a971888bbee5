"""Stores requests for an approval, and the decisions on them: one of each for a submission."""

from dataclasses import asdict, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, exists, select

from bot.model.approval import Answer, Choice, Decided, Decision, Request, digest_of
from bot.model.audit import Entry, Event, Who
from bot.model.errors import RecordDamaged, RecordForged
from bot.model.move import Change, Move
from bot.model.submission import State
from bot.storage.audit import AuditChain
from bot.storage.authentic import entry_of, require_progress
from bot.storage.damage import require_shape
from bot.storage.database import Database
from bot.storage.moves import make_move
from bot.storage.rows import read_pending
from bot.storage.schema import APPROVAL_REQUESTS, AUDIT, DECISIONS, SUBMISSIONS
from bot.storage.upsert import insert_into


class Approvals:
    """Reads them, and notes requests. Every method raises DatabaseTrouble when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_request(self, submission_id: str) -> Request | None:
        """Return the recorded request; raises RecordDamaged."""
        return await self._database.run(lambda connection: _find_request(connection, submission_id))

    async def find_decision(self, submission_id: str) -> Decision | None:
        """Return the recorded decision, authentic or not; raises RecordDamaged, also if it was deleted."""

        def find(connection: Connection) -> Decision | None:
            decision = _find_decision(connection, submission_id)
            if decision is None:
                _require_undecided(connection, submission_id)
            return decision

        return await self._database.run(find)

    async def note_request(self, request: Request) -> None:
        """Record a posted request; the first one stays."""
        await self._database.run(lambda connection: _insert_once(connection, APPROVAL_REQUESTS, asdict(request)))


def record_decision(connection: Connection, chain: AuditChain, decision: Decision) -> tuple[Decided, list[Change]]:
    """Record a decision if the submission waits for it, and make its delivery due; raises RecordDamaged.

    The row is locked before it is read: of two that press at the same instant, the second one finds the first one's
    decision. The move bumps the revision: a delivery that read the submission before cannot put it to sleep again.
    """
    row = connection.execute(_LOCK.where(SUBMISSIONS.c.id == decision.submission_id)).one_or_none()
    if row is None:
        return Decided(answer=Answer.NOT_WAITING), []
    pending = read_pending(row)
    submission = pending.submission if pending.submission.is_ended else require_progress(chain, row)
    known = _find_decision(connection, decision.submission_id)
    if known is not None:
        return Decided(answer=Answer.DECIDED_BEFORE, submission=submission, decision=known), []
    if submission.state is not State.AWAITING_APPROVAL or submission.expires_at <= decision.decided_at:
        return Decided(answer=Answer.NOT_WAITING, submission=submission), []
    if digest_of(pending) != decision.digest:
        return Decided(answer=Answer.ANOTHER_TOKEN, submission=submission), []
    _require_undecided(connection, submission.id)
    _insert_once(connection, DECISIONS, asdict(decision) | {"choice": decision.choice.value})
    move = Move(to=submission.state, at=decision.decided_at)
    changes = make_move(connection, chain, submission, move, lease=None)
    chain.append(connection, [_entry_of(row, decision)])
    return Decided(answer=Answer.RECORDED, submission=submission, decision=decision), changes


def _require_undecided(connection: Connection, submission_id: str) -> None:
    """Raise RecordForged if the audit knows a decision: else who deletes a denial could have somebody else approve."""
    is_of_it = AUDIT.c.submission_id == submission_id, AUDIT.c.event.in_([event.value for event in _EVENTS.values()])
    if connection.scalar(select(exists().where(*is_of_it))):
        raise RecordForged(DECISIONS.name, submission_id, "choice")


def _entry_of(row: Row[Any], decision: Decision) -> Entry:
    """Return what the audit says of a decision: who decided, and on what."""
    entry = entry_of(row, _EVENTS[decision.choice], decision.decided_at)
    who = Who(user_id=decision.user_id, team_id=row.team_id, channel_id=row.approval_channel or "")
    return replace(entry, details=decision.digest, who=who)


_EVENTS: Final = {Choice.APPROVE: Event.APPROVED, Choice.DENY: Event.DENIED}
_LOCK: Final = select(SUBMISSIONS).with_for_update()


def _insert_once(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    connection.execute(insert_into(connection, table).on_conflict_do_nothing(index_elements=["submission_id"]), row)


def _find_request(connection: Connection, submission_id: str) -> Request | None:
    query = select(APPROVAL_REQUESTS).where(APPROVAL_REQUESTS.c.submission_id == submission_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _read_request(row)


def _find_decision(connection: Connection, submission_id: str) -> Decision | None:
    query = select(DECISIONS).where(DECISIONS.c.submission_id == submission_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _read_decision(row)


def _read_request(row: Row[Any]) -> Request:
    require_shape(row, APPROVAL_REQUESTS)
    return Request(**row._asdict())


def _read_decision(row: Row[Any]) -> Decision:
    require_shape(row, DECISIONS)
    try:
        return Decision(**row._asdict() | {"choice": Choice(row.choice)})
    except ValueError:
        raise RecordDamaged(DECISIONS.name, row.submission_id, "choice") from None
