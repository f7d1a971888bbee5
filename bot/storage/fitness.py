"""Checks, once at the start, that a PostgreSQL server and any pooler in front of it suit the bot."""

from collections.abc import Callable, Mapping
from typing import Any, Final, LiteralString

import psycopg
import structlog

from bot.storage.refusals import READ_ONLY, STANDBY, Refusal

_OLDEST_VERSION: Final = 130000
_TOO_OLD: Final = Refusal(sqlstate=None, reason="the server is older than PostgreSQL 13", fix="use a newer one")
_SHARED: Final = Refusal(
    sqlstate=None,
    reason="a pooler lends sessions for one transaction at a time",
    fix="set its pool_mode to session, or put the server's own address into the URL",
)
"""Procrastinate's notifications and all session settings would be lost."""

_ENCODING: Final = "UTF8"
"""With SQL_ASCII, PostgreSQL takes no escape for a letter beyond ASCII in JSON; any other lacks most of Slack's."""

_ASK: Final[LiteralString] = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
_MAY_WRITE: Final = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"

_Raw = psycopg.AsyncConnection[Any]
_log = structlog.get_logger()


async def find_unfit(
    one: _Raw, other: _Raw, settings: Mapping[str, str], watch: Callable[[_Raw], None]
) -> Refusal | None:
    """Return why the bot cannot use the server of these two connections, or None; raises psycopg.Error.

    `watch` is called with each connection before it is used. Session settings that are not in force are logged.
    """
    if one.info.server_version < _OLDEST_VERSION:
        return _TOO_OLD
    if (encoding := one.info.parameter_status("server_encoding")) not in {_ENCODING, None}:
        return _of_another_encoding(encoding)
    if await _is_shared(one, other, watch):
        return _SHARED
    found = await (await one.execute(_ASK, (list(settings),))).fetchall()
    if lost := [name for name, value in found if value != settings[name]]:
        _log.error("postgres_settings_lost", settings=lost)
    is_standby, is_read_only = await (await one.execute(_MAY_WRITE)).fetchone() or (False, False)
    if is_standby:
        return STANDBY
    return READ_ONLY if is_read_only else None


def _of_another_encoding(encoding: str | None) -> Refusal:
    return Refusal(
        sqlstate=None,
        reason=f"the database's encoding is {encoding}, and the bot needs {_ENCODING}",
        fix=f"run `CREATE DATABASE name ENCODING '{_ENCODING}' TEMPLATE template0`, and put that name into the URL",
    )


async def _is_shared(one: _Raw, other: _Raw, watch: Callable[[_Raw], None]) -> bool:
    """Return whether a pooler assigns sessions per transaction: two open connections then share a session.

    Such a pooler assigns the session that was released last, or each in turn. Other clients can hide the sharing, but
    nothing else causes it. Only `other` stays in its transaction.
    """
    sessions = []
    for connection in (one, other, one):
        watch(connection)
        await connection.set_autocommit(connection is one)
        try:
            sessions.append(await (await connection.execute("SELECT pg_backend_pid()")).fetchone())
        except psycopg.errors.ProtocolViolation:  # PgBouncer in statement mode allows no transaction at all
            return True
    first, second, again = sessions
    return second == first or again != first
