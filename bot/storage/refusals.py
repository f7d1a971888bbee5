"""Classifies refusals by PostgreSQL, or by a pooler in front of it: the SQLSTATE, and the fix if one is known.

For a refused connection, psycopg gets no SQLSTATE, only the server's message.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg

_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal. Without a fix, it may pass by itself, or the cause is unknown."""

    sqlstate: str | None
    reason: str
    fix: str | None = None
    passes: bool = False
    """Whether waiting may help although a fix is known."""


_FIXES: Final = {
    "22023": "correct that parameter in the URL, or in PGTZ, PGDATESTYLE or PGOPTIONS of the environment",
    "08P01": "remove that parameter from the URL, or name it in the pooler's ignore_startup_parameters",
    "25006": (
        "the bot has to write: turn default_transaction_read_only off for its role and its database, or put the "
        "primary's address into the URL"
    ),
    "28000": "create the role with LOGIN, allow it in pg_hba.conf, or put another one into the URL",
    "28P01": "put the right role and password into the URL",
    "3D000": "create the database, or put the right name into the URL",
    "3F000": "create a schema for the bot, and name it in its role's search_path",
    "42501": (
        "make the bot's role the owner of the database and of the bot's tables, or GRANT USAGE, CREATE ON SCHEMA to it"
    ),
    "42704": "remove that parameter from the options in the URL",
}
_STATEMENTS: Final = frozenset({"25006", "3F000", "42501"})
"""Refused statements whose messages quote only names; the messages of other errors can quote values."""

_REFUSED: Final = tuple(
    (re.compile(words), sqlstate)
    for words, sqlstate in (
        (r"password authentication failed|SASL authentication failed|auth failed|no such user", "28P01"),
        (r"no password supplied", "28P01"),
        (r"^role .* does not exist|is not permitted to log in|no pg_hba\.conf entry|pg_hba\.conf rejects", "28000"),
        (r"^database .* does not exist|no such database", "3D000"),
        (r"^permission denied for database", "42501"),
        (r"^invalid value for parameter", "22023"),
        (r"unsupported startup parameter", "08P01"),
        (r"unrecognized configuration parameter", "42704"),
        (r"starting up|shutting down|in recovery mode|not (yet )?accepting connections", "57P03"),
        (r"too many (clients|connections)|connection slots are reserved|no more connections allowed", "53300"),
    )
)
_WITHOUT_THE_SERVER: Final = (
    (re.compile(r"no password supplied"), "28P01", _FIXES["28P01"]),
    (re.compile(r"server does not support SSL"), None, "turn TLS on at the server, or remove sslmode from the URL"),
    (
        re.compile(r"(invalid \w{1,40} value|bad value for \w{1,40})"),
        None,
        "correct that parameter in the URL, or in the environment variable that begins with PG",
    ),
    (re.compile(r"definition of service .{1,60} not found"), None, "unset PGSERVICE, or add that service to its file"),
    (
        re.compile(r"certificate verify failed|does not match host name|root certificate file"),
        None,
        "put the path of the right root certificate into the URL as sslrootcert, and the host that it names",
    ),
)
"""Errors of the client itself; all its other messages are about hosts that did not answer."""

READ_ONLY: Final = Refusal(sqlstate="25006", reason="every transaction is read-only", fix=_FIXES["25006"])
STANDBY: Final = Refusal(
    sqlstate="25006",
    reason="the server is a standby",
    fix="put the primary's address into the URL, or promote this one",
    passes=True,
)


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of a driver's error, also if another error wraps it."""
    return next((cause.sqlstate for cause in causes(error) if isinstance(cause, psycopg.Error)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes: Procrastinate wraps the driver's errors."""
    while error is not None:
        yield error
        error = error.__cause__


def judge_connecting(error: psycopg.Error) -> Refusal | None:
    """Return the refusal of a connection, or None if no server answered."""
    message = str(error)
    _, *said = message.split("FATAL:")
    refusals = [_judge(each.strip().partition("\n")[0][:_LONGEST_REASON]) for each in said]
    for each in refusals:
        if each.fix is None:  # with several hosts, one may still accept later
            return each
    if refusals:
        return refusals[0]
    for words, sqlstate, fix in _WITHOUT_THE_SERVER:
        if found := words.search(message):
            return Refusal(sqlstate=sqlstate, reason=found.group(), fix=fix)
    return None


def judge_statement(error: BaseException | None) -> Refusal | None:
    """Return the refusal of a statement, or None if waiting may help."""
    for cause in causes(error):
        if isinstance(cause, psycopg.Error) and cause.sqlstate in _STATEMENTS:
            reason = (cause.diag.message_primary or "")[:_LONGEST_REASON]
            return Refusal(sqlstate=cause.sqlstate, reason=reason, fix=_FIXES[cause.sqlstate])
    return None


def _judge(reason: str) -> Refusal:
    sqlstate = next((sqlstate for words, sqlstate in _REFUSED if words.search(reason)), None)
    return Refusal(sqlstate=sqlstate, reason=reason, fix=_FIXES.get(sqlstate or ""))
