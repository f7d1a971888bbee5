"""Connects to a PostgreSQL server: reads the URL, checks the server once, and keeps its refusals."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.datetime import TimestamptzLoader

from bot.model.errors import DatabaseUnavailable
from bot.storage.deadline import Deadline
from bot.storage.fitness import find_unfit
from bot.storage.refusals import Refusal, judge_connecting
from bot.storage.session import COMMON, set_up

_SESSION: Final = {
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "3s",  # so that a frozen process releases its row locks
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",  # psycopg reads no other, and PGDATESTYLE of the environment may ask for one
    "default_transaction_isolation": "read committed",
}
_CONNECTION: Final = {**COMMON, "application_name": "r2-credential-bot"}
_SILENCES: Final = (
    (re.compile("[Rr]efused"), "the connection was refused: is the server running, and listening at that address?"),
    (re.compile("resolve|translate host"), "the name of its host cannot be resolved"),
    (re.compile("[Uu]nreachable|No route"), "the network has no way to its host"),
    (re.compile("No such file"), "there is no socket of a server on this machine"),
    (re.compile("closed the connection|reset by peer"), "the connection was closed while it was opened"),
)
_NO_ANSWER: Final = "there was no answer in time"
_UNKNOWN_PARAMETER: Final = re.compile(r'invalid URI query parameter: "(\w{1,40})"')

_log = structlog.get_logger()


class Connector:
    """Opens connections to the server of one URL."""

    def __init__(self, url: str) -> None:
        """Parse the URL; raises ValueError, with a sentence that quotes no password, if it is invalid."""
        self._parameters = _parameters(url)
        self.refusal: Refusal | None = None  # the last one that the operator may have to fix
        self._logged: Refusal | None = None
        self.silence = _NO_ANSWER
        """Why the latest attempt to connect got no answer."""

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection with the session settings applied; must run within a Deadline. Raises psycopg.Error."""
        self.silence = _NO_ANSWER  # it holds if the time runs out below
        try:
            connection = await psycopg.AsyncConnection.connect(**self._parameters)
        except (psycopg.OperationalError, psycopg.ProgrammingError) as error:  # the latter: PGCONNECT_TIMEOUT=abc
            refusal = judge_connecting(error)
            self.silence = next((why for words, why in _SILENCES if words.search(str(error))), "it cannot be reached")
            if refusal is not None and "," in str(self._parameters.get("host")):
                refusal = replace(refusal, passes=True)  # another server may answer later
            self.note(refusal)
            raise
        self.refusal = None
        Deadline.current().watch(connection)  # SQLAlchemy sends queries over its first connection
        await set_up(connection, _SESSION)
        connection.adapters.register_loader("timestamptz", _TimeLoader)
        return connection

    async def examine(self, time_limit: timedelta) -> None:
        """Check once what holds for every later connection; raises DatabaseUnavailable."""
        opened: list[psycopg.AsyncConnection[Any]] = []
        try:
            with Deadline.within(time_limit) as deadline:
                async with deadline.limit():
                    opened.append(one := await self.connect())
                    opened.append(other := await self.connect())
                    found = await find_unfit(one, other, _SESSION, deadline.watch)
        except (psycopg.Error, OSError, UnicodeError, TimeoutError):
            raise DatabaseUnavailable from None
        finally:
            for connection in opened:
                await connection.close()
        if found is not None:
            self.note(found)
            raise DatabaseUnavailable

    def note(self, refusal: Refusal | None) -> None:
        """Keep a refusal for the operator, and log one that is new; None is ignored."""
        if refusal is None:
            return
        self.refusal = refusal
        if refusal != self._logged:
            _log.error("postgres_refused", sqlstate=refusal.sqlstate, reason=refusal.reason, fix=refusal.fix)
            self._logged = refusal


class _TimeLoader(Loader):
    """Loads times that Python cannot represent, such as infinity, as None: an error would fail the whole query."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._loader = TimestamptzLoader(oid, context)

    def load(self, data: Buffer) -> datetime | None:
        """Return the time, or None."""
        try:
            return self._loader.load(data)
        except psycopg.DataError:
            return None


def _parameters(url: str) -> dict[str, Any]:
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ValueError(_explain(url, str(error))) from None
    return {**parameters, **_CONNECTION}


def _explain(url: str, message: str) -> str:
    """Name an unknown parameter, unless it may be the rest of a password that contains a question mark."""
    found = _UNKNOWN_PARAMETER.search(message)
    if found and "@" not in url.partition("?")[2]:
        return f"PostgreSQL knows no parameter `{found[1]}`; correct it, or remove it"
    return "is not an address that PostgreSQL's own programs understand"
