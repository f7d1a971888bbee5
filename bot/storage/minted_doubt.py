"""What becomes of the records of the bot's own tokens when the database is an older one, or its key was lost."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from bot.model.errors import RecordDamaged
from bot.model.minted import UNSETTLED, MintedState
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.damage import SetAside
from bot.storage.installations import sign_mark
from bot.storage.minted_rows import change_token, read_tokens, select_left, sign_row
from bot.storage.schema import INSTALLATIONS, MINTED_TOKENS, MINTING_LEASES

_MAY_HAVE_BEEN_SENT: Final = [state.value for state in (*UNSETTLED, MintedState.CREATED)]
_LEAP: Final = 1_000_000
"""A process that still runs may hold one of the epochs that came after the backup."""


def doubt_tokens(connection: Connection, chain: AuditChain, at: datetime) -> None:
    """Take every lease away, and forget that a token was not sent: since the backup, it may have been.

    That is true of one whose create was under way as well: its answer may have come since. Those that are being taken
    back need nothing: each step asks Cloudflare, and the slot is tested again.
    """
    connection.execute(update(MINTING_LEASES).values(epoch=MINTING_LEASES.c.epoch + _LEAP, held_until=at))
    unsent = select_left().where(MINTED_TOKENS.c.state.in_(_MAY_HAVE_BEEN_SENT))
    for token in read_tokens(connection, chain, unsent, SetAside()):
        state = MintedState.KEPT if token.state is MintedState.CREATED else token.state
        change_token(connection, chain, token, replace(token, state=state, was_sent=True), at)


def sign_again(connection: Connection, authenticity: Authenticity) -> None:
    """Vouch for the installation's mark and for what is left of its tokens, as they are: nobody can verify them."""
    for row in connection.execute(select(INSTALLATIONS)):
        is_it = INSTALLATIONS.c.account_id == row.account_id
        signature = sign_mark(authenticity, row.account_id, row.mark)
        connection.execute(update(INSTALLATIONS).where(is_it).values(signature=signature))
    for row in connection.execute(select_left()).all():
        with suppress(RecordDamaged):  # it stays as it is, and is reported when it is read
            _sign_token(connection, authenticity, row)


def _sign_token(connection: Connection, authenticity: Authenticity, row: Row[Any]) -> None:
    is_it = MINTED_TOKENS.c.name == row.name
    connection.execute(update(MINTED_TOKENS).where(is_it).values(signature=sign_row(authenticity, row)))
