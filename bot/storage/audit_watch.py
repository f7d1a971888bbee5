"""Notices that the audit's chain was cut, or its end replaced: the last entry is remembered outside of the database.

In memory, in a file where the data directory lasts, and in the log, which can be compared with later by
`audit verify --head`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, select

from bot.model.audit import Event
from bot.model.errors import DatabaseTrouble, StartRefused
from bot.model.finding import Check, Finding, Mark, Part
from bot.settings import DatabaseSettings
from bot.storage.audit import AuditChain, Head
from bot.storage.beside import open_to_read
from bot.storage.chain_start import HEAD_FILE, read_authenticity, require_same_key
from bot.storage.database import Database
from bot.storage.places import NoRecordsYet
from bot.storage.schema import AUDIT

LOG_EVERY: Final = timedelta(minutes=10)

_FIX: Final = (
    "find out who writes to this database besides the bot, and compare `r2-credential-bot audit export` with the log "
    f"or with what the webhook got; then remove the file {HEAD_FILE} from the data directory, and restart"
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """An entry that was the last one, and when it was appended."""

    head: Head
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    head: Head
    at: datetime | None
    is_signed: bool
    is_cut: bool


class AuditWatch:
    """Looks each minute whether the chain still has the entry that was its last one."""

    def __init__(self, database: Database, chain: AuditChain, clock: Callable[[], datetime], path: Path) -> None:
        """Remember the last entry in this file, if its directory is there."""
        self._database = database
        self._chain = chain
        self._clock = clock
        self._path = path
        self._known = _read(path)
        self._logged_at: datetime | None = None

    def check(self) -> Check:
        """Return the check of the audit."""
        return Check(part=Part.AUDIT, examine=self.examine)

    async def count(self) -> int:
        """Return the number of the last entry. Raises DatabaseTrouble."""
        return (await self._look()).head.number

    async def examine(self) -> Sequence[Finding]:
        """Compare the chain with what is remembered, and remember its present end."""
        try:
            seen = await self._look()
        except DatabaseTrouble:
            return [_finding("audit_not_read", "it cannot be read now: the database is away", mark=Mark.WARNING)]
        if seen.is_signed and seen.at is not None and not seen.is_cut:
            self._remember(_Known(head=seen.head, at=seen.at))
        return [_judge(seen, self._known)]

    async def _look(self) -> _Seen:
        known = self._known
        return await self._database.run(lambda connection: _look(connection, self._chain, known))

    def _remember(self, last: _Known) -> None:
        now, is_new = self._clock(), last != self._known
        self._known = last
        if is_new:
            _write(self._path, last)
        if self._logged_at is None or (is_new and now - self._logged_at >= LOG_EVERY):
            self._logged_at = now
            _log.info("audit_head", head=str(last.head))


async def examine_audit(settings: DatabaseSettings) -> Sequence[Finding]:
    """Do the same once, for a command beside the running bot; remember nothing."""
    known = _read(settings.data_dir / HEAD_FILE)
    try:
        async with open_to_read(settings) as database:  # first: before the first start, there is no key either
            chain = AuditChain(read_authenticity(settings))
            await database.run(lambda connection: require_same_key(connection, chain))
            return [_judge(await database.run(lambda connection: _look(connection, chain, known)), known)]
    except NoRecordsYet:
        return [_finding("audit_to_come", "it begins with the next start")]
    except StartRefused as refused:
        return [_finding("audit_not_examined", str(refused), mark=Mark.FAILED)]


def _judge(seen: _Seen, known: _Known | None) -> Finding:
    if seen.is_cut:
        last = known.head.number if known else 0
        text = f"entries are missing: it had number {last}, and now ends with {seen.head.number} or another one"
        return _finding("audit_cut", text, mark=Mark.FAILED, fix=_FIX)
    if not seen.is_signed:
        text = f"its last entry, number {seen.head.number}, is not as the bot wrote it"
        return _finding("audit_forged", text, mark=Mark.FAILED, fix=_FIX)
    return _finding("audit_whole", f"{seen.head.number} entries, and the last one is as the bot wrote it")


_LAST: Final = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(1)


def _look(connection: Connection, chain: AuditChain, known: _Known | None) -> _Seen:
    last = connection.execute(_LAST).one_or_none()
    if last is None:
        return _Seen(head=Head(number=0, signature=""), at=None, is_signed=False, is_cut=True)
    is_there = known is None or _signature_of(connection, known.head.number) == known.head.signature
    is_cut = not is_there and not _was_restored(connection, chain, known)
    head = Head(number=last.number, signature=last.signature)
    return _Seen(head=head, at=last.at, is_signed=chain.is_authentic(last), is_cut=is_cut)


def _signature_of(connection: Connection, number: int) -> object:
    return connection.scalar(select(AUDIT.c.signature).where(AUDIT.c.number == number))


def _was_restored(connection: Connection, chain: AuditChain, known: _Known | None) -> bool:
    """Return whether the bot itself recorded, in place of what is missing, that a backup was put back.

    Later than the entry that is missing: a restore of before excuses no cut of today.
    """
    query = select(AUDIT).where(AUDIT.c.event == Event.RESTORED.value).order_by(AUDIT.c.number.desc()).limit(1)
    entry = connection.execute(query).one_or_none()
    if entry is None or entry.at is None or known is None:
        return False
    return entry.number <= known.head.number and entry.at > known.at and chain.is_authentic(entry)


def _finding(event: str, text: str, *, mark: Mark = Mark.OK, fix: str = "") -> Finding:
    return Finding(part=Part.AUDIT, event=event, text=text, mark=mark, fix=fix)


def _read(path: Path) -> _Known | None:
    """Return the remembered entry, or None where there is none: then the present end is the first to remember."""
    try:
        number, signature, at = path.read_text(encoding="ascii").split()
        time = datetime.fromisoformat(at).astimezone(UTC)
        return _Known(head=Head(number=int(number), signature=signature), at=time)
    except (OSError, ValueError):
        return None


def _write(path: Path, last: _Known) -> None:
    """Replace the file as a whole; without a directory that lasts, or room, memory and log have to do."""
    draft = path.with_name(f".{path.name}.draft")
    with suppress(OSError):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{last.head.number} {last.head.signature} {last.at.isoformat()}\n")
        draft.replace(path)
