"""Begins the audit's chain with the tables, and makes sure that every process continues it with the same key."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, inspect, select

from bot.model.audit import Entry, Event
from bot.model.errors import KeyFileUnusable, StartRefused
from bot.sealing.audit_key import load_audit_key, read_audit_key
from bot.sealing.authenticity import Authenticity, key_id_of
from bot.settings import DatabaseSettings
from bot.storage.adoption import adopt, adopt_unsigned
from bot.storage.audit import AuditChain
from bot.storage.migrations import bring_up_to_date, is_up_to_date
from bot.storage.places import require_private
from bot.storage.schema import AUDIT, SUBMISSIONS
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING

AUDIT_KEY_SETTING: Final = "R2_CREDENTIAL_AUDIT_KEY"
AUDIT_KEY: Final = "audit-key"
"""In the data directory, where no key is given. Not one of the sealing keys: those are replaced each day."""

HEAD_FILE: Final = "audit-head"
"""In the data directory, once a process has seen the end of a chain there (`bot.storage.audit_watch`)."""

RequireKey = Callable[[Connection, AuditChain], None]
"""Refuses, by StartRefused, a process whose key is not the one that is wanted."""

_LAST: Final = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(1)


def load_chain(settings: DatabaseSettings) -> AuditChain:
    """Return the chain with the operator's keys, or with the bot's own, which is made if there is none.

    Processes that share a PostgreSQL may share no directory; without a key that was given, they take Slack's bot token,
    which all of them have and the database has not. Raises StartRefused, and OSError for an unusable data directory.
    """
    given = _read_given(settings)
    if given is not None:
        return AuditChain(given)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(settings.data_dir, DATA_DIR_SETTING)
    try:
        return AuditChain(Authenticity([load_audit_key(settings.data_dir / AUDIT_KEY)]))
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None


def read_authenticity(settings: DatabaseSettings) -> Authenticity:
    """Return the same keys, and make none. Raises StartRefused."""
    given = _read_given(settings)
    if given is not None:
        return given
    path = settings.data_dir / AUDIT_KEY
    try:
        return Authenticity([read_audit_key(path)])
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None
    except OSError as error:
        message = (
            f"{AUDIT_KEY_SETTING}: is not set, and the bot's own key cannot be read from {path} ({error.strerror}); "
            "run this with the settings of the bot, as its user"
        )
        raise StartRefused(message) from None


def _read_given(settings: DatabaseSettings) -> Authenticity | None:
    """Return the keys that the settings give; None if it is the one in the data directory."""
    if settings.audit_keys:
        return Authenticity(key.reveal() for key in settings.audit_keys)
    if settings.postgres_url is None:
        return None
    if settings.slack_bot_token is None:
        message = f"{AUDIT_KEY_SETTING}: set it as for the bot, or SLACK_BOT_TOKEN if the bot has no such key"
        raise StartRefused(message)
    return Authenticity([settings.slack_bot_token.reveal()])


def read_webhook_secret(settings: DatabaseSettings) -> str:
    """Return the webhook's secret in plain text, to be printed for its receiver. Raises StartRefused."""
    return read_authenticity(settings).webhook_secret().reveal()


def set_up_with(
    chain: AuditChain, now: Callable[[], datetime], *, adopts: bool = False
) -> Callable[[Connection], None]:
    """Return what brings the tables up to date and, in the same transaction, begins a chain that is new with them.

    It raises StartRefused for records that nobody signed, unless it `adopts` them: who can write to the database can
    take the signatures away, with their columns, and would have a restart sign whatever is there.
    """
    return partial(_set_up, chain, now, adopts)


def _set_up(chain: AuditChain, now: Callable[[], datetime], adopts: bool, connection: Connection) -> None:  # noqa: FBT001 - by partial
    was_signed = is_up_to_date(connection)
    columns = [] if was_signed else _columns_of_submissions(connection)
    was_signed = was_signed or SUBMISSIONS.c.signature.name in columns
    if columns and not was_signed and not adopts:
        message = (
            f"{DATABASE_SETTING}: the records of this database are not signed. If they are those of a version that did "
            "not sign, stop all processes, run `r2-credential-bot restored`, which ends what is open, and start again. "
            "If not, find out who writes to this database besides the bot"
        )
        raise StartRefused(message)
    bring_up_to_date(connection)
    if not was_signed:
        adopt_unsigned(connection, chain, now())


def _columns_of_submissions(connection: Connection) -> list[str]:
    """Return the names, none if there is no such table. Another process may be adding some right now."""
    tables = inspect(connection)
    columns = tables.get_columns(SUBMISSIONS.name) if tables.has_table(SUBMISSIONS.name) else []
    return [column["name"] for column in columns]


def require_same_key(connection: Connection, chain: AuditChain) -> None:
    """Raise StartRefused if the last entry is signed with a key that this process does not have."""
    if _has_key_of_last(connection, chain) is False:
        message = (
            f"{AUDIT_KEY_SETTING}: the records of this database are signed with another key; set the same one for "
            f"every process, or put the file {AUDIT_KEY} back into the data directory (with PostgreSQL, the default "
            "changes with SLACK_BOT_TOKEN). If it is lost, stop all processes and run `r2-credential-bot audit begin`"
        )
        raise StartRefused(message)


def require_another_key(connection: Connection, chain: AuditChain) -> None:
    """Raise StartRefused if this process has the key that signed the last entry: then no key is lost."""
    if _has_key_of_last(connection, chain) is not False:
        message = f"{AUDIT_KEY_SETTING}: signs the last entry of the audit already, so there is nothing to do"
        raise StartRefused(message)


def begin_anew(connection: Connection, chain: AuditChain, at: datetime) -> None:
    """Go on with this process's key, after the entries of a lost one, and sign with it what no result was posted of."""
    adopt(connection, chain, at, [Entry(event=Event.CHAIN_BEGUN, at=at, details=chain.authenticity.key_id)])


def _has_key_of_last(connection: Connection, chain: AuditChain) -> bool | None:
    """Return whether this process has the key of the last entry; None before the first one."""
    last = connection.execute(_LAST).one_or_none()
    return None if last is None else key_id_of(last.signature) in chain.authenticity.key_ids
