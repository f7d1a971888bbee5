"""What a submission's move means for the tokens that the bot made: part of the same transaction.

The row says "may be in the slot" before a request that stores the token can leave, and nothing is taken back before a
newer one is proven.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, exists, select, tuple_

from bot.model.minted import ON_ITS_WAY, REPLACEABLE, MintedState, MintedToken
from bot.model.move import Change, Move
from bot.model.submission import State, Submission, Task
from bot.storage.audit import AuditChain
from bot.storage.damage import LeftToOthers
from bot.storage.minted_rows import change_token, read_tokens, select_left
from bot.storage.rotation_failures import note_failure
from bot.storage.rows import PLACE
from bot.storage.schema import MINTED_TOKENS, SUBMISSIONS

_ON_ITS_WAY: Final = [state.value for state in ON_ITS_WAY]
_REPLACEABLE: Final = [state.value for state in REPLACEABLE]


def follow_moves(
    connection: Connection, chain: AuditChain, changed: Iterable[tuple[Change, Row[Any]]], move: Move
) -> None:
    """Bring the tokens of all submissions that a move changed to where they belong."""
    for change, row in changed:
        submission = change.submission
        if submission.task is Task.ROTATE:
            _follow(connection, chain, change, move)
            if change.is_new_state:
                note_failure(connection, submission, move.at)
        if move.retires_at is not None and submission.state is State.STORED and change.is_new_state:
            _retire_older(connection, chain, row, move.retires_at, move.at)


def _follow(connection: Connection, chain: AuditChain, change: Change, move: Move) -> None:
    submission = change.submission
    token = _find(connection, chain, submission.id)
    if token is None:
        return
    if submission.state is State.STORING and move.effect is not None:
        change_token(connection, chain, token, replace(token, state=MintedState.SENT, was_sent=True), move.at)
    elif submission.state is State.CONFIRMING and change.is_new_state:
        change_token(connection, chain, token, replace(token, state=MintedState.IN_SLOT, was_sent=True), move.at)
    elif submission.state is State.STORED and change.is_new_state and move.retires_at is not None:
        change_token(connection, chain, token, replace(token, state=MintedState.PROVEN), move.at)
    elif submission.is_ended and change.is_new_state:
        _leave(connection, chain, token, submission, move.at)


def _leave(connection: Connection, chain: AuditChain, token: MintedToken, submission: Submission, at: datetime) -> None:
    """Hand what an ended submission leaves to the minter: a token that is surely in no slot is taken back at once.

    While a request that makes one may be out, the row stays as the minter knows it: it will know, or find out.
    """
    is_refused = token.state is MintedState.SENT and not submission.possibly_written
    if token.state is MintedState.CREATED or is_refused:
        retired = replace(token, state=MintedState.RETIRED, due_at=at, was_sent=False)
        change_token(connection, chain, token, retired, at)


def _retire_older(
    connection: Connection, chain: AuditChain, newer: Row[Any], retires_at: datetime, at: datetime
) -> None:
    """Retire every token of the bucket that the slot held, or may have held, before the one that is proven now.

    One that is proven now by a paste is kept: a person can give it another value at Cloudflare. The schedule leaves it.
    """
    older = select_left().where(
        MINTED_TOKENS.c.account_id == newer.account_id,
        MINTED_TOKENS.c.bucket == newer.bucket,
        MINTED_TOKENS.c.state.in_(_REPLACEABLE),
        MINTED_TOKENS.c.submission_id.is_distinct_from(newer.id),
        ~_is_of_a_later_one(newer),
    )
    for token in read_tokens(connection, chain, older.with_for_update(), LeftToOthers()):
        state = MintedState.KEPT if token.token_id == newer.token_id else MintedState.RETIRED
        change_token(connection, chain, token, replace(token, state=state, due_at=retires_at), at)


def _is_of_a_later_one(newer: Row[Any]) -> ColumnElement[bool]:
    its_place = tuple_(*(getattr(newer, column.name) for column in PLACE), types=[column.type for column in PLACE])
    is_later = tuple_(*PLACE) > its_place
    return exists(select(1).where(SUBMISSIONS.c.id == MINTED_TOKENS.c.submission_id, is_later))


def _find(connection: Connection, chain: AuditChain, submission_id: str) -> MintedToken | None:
    """Return the token that a submission has now: those of earlier tries are in nobody's hands."""
    its = MINTED_TOKENS.c.submission_id == submission_id, MINTED_TOKENS.c.state.in_(_ON_ITS_WAY)
    query = select_left().where(*its).with_for_update()
    tokens = read_tokens(connection, chain, query, LeftToOthers())
    return tokens[-1] if tokens else None
