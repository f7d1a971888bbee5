"""Begins the audit's chain with the tables, and makes sure that every process continues it with the same key."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, inspect, select

from bot.model.errors import KeyFileUnusable, StartRefused
from bot.sealing.audit_key import load_audit_key
from bot.sealing.authenticity import Authenticity
from bot.settings import DatabaseSettings
from bot.storage.audit import AuditChain
from bot.storage.authentic import adopt_unsigned
from bot.storage.migrations import bring_up_to_date, is_up_to_date
from bot.storage.places import require_private
from bot.storage.schema import AUDIT, SUBMISSIONS
from bot.storage.trouble import DATA_DIR_SETTING

AUDIT_KEY_SETTING: Final = "R2_CREDENTIAL_AUDIT_KEY"
AUDIT_KEY: Final = "audit-key"
"""In the data directory, where no key is given. Not one of the sealing keys: those are replaced each day."""

_LAST: Final = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(1)


def load_chain(settings: DatabaseSettings) -> AuditChain:
    """Return the chain with the operator's keys, or with the bot's own, which is made if there is none.

    Processes that share a PostgreSQL may share no directory; without a key that was given, they take Slack's bot token,
    which all of them have and the database has not. Raises StartRefused, and OSError for an unusable data directory.
    """
    if settings.audit_keys:
        return AuditChain(Authenticity(key.reveal() for key in settings.audit_keys))
    if settings.postgres_url is not None:
        if settings.slack_bot_token is None:
            message = f"{AUDIT_KEY_SETTING}: set it as for the bot, or SLACK_BOT_TOKEN if the bot has no such key"
            raise StartRefused(message)
        return AuditChain(Authenticity([settings.slack_bot_token.reveal()]))
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(settings.data_dir, DATA_DIR_SETTING)
    try:
        return AuditChain(Authenticity([load_audit_key(settings.data_dir / AUDIT_KEY)]))
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None


def set_up_with(chain: AuditChain, now: Callable[[], datetime]) -> Callable[[Connection], None]:
    """Return what brings the tables up to date and, in the same transaction, begins a chain that is new with them."""
    return partial(_set_up, chain, now)


def _set_up(chain: AuditChain, now: Callable[[], datetime], connection: Connection) -> None:
    was_signed = is_up_to_date(connection) or _has_signatures(connection)
    bring_up_to_date(connection)
    if not was_signed:
        adopt_unsigned(connection, chain, now())


def _has_signatures(connection: Connection) -> bool:
    """Return whether the tables are of a version that signs. Another process may be adding that right now."""
    tables = inspect(connection)
    columns = tables.get_columns(SUBMISSIONS.name) if tables.has_table(SUBMISSIONS.name) else []
    return any(column["name"] == SUBMISSIONS.c.signature.name for column in columns)


def require_same_key(connection: Connection, chain: AuditChain) -> None:
    """Raise StartRefused if the last entry is signed with a key that this process does not have."""
    last = connection.execute(_LAST).one_or_none()
    key_id = "" if last is None else str(last.signature).split(".")[1:2]
    if last is not None and not chain.authenticity.key_ids.intersection(key_id):
        message = (
            f"{AUDIT_KEY_SETTING}: the records of this database are signed with another key; set the same one for "
            f"every process, or put the file {AUDIT_KEY} back into the data directory (with PostgreSQL, the default "
            "changes with SLACK_BOT_TOKEN). If it is lost, stop all processes and run `r2-credential-bot audit begin`"
        )
        raise StartRefused(message)
