"""What the database says of the token that a rotation has replaced, and of a rotation that is submitted twice."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.model.catalog import CredentialStatus
from bot.model.minted import MintedState
from bot.model.move import Move
from bot.model.predecessor import Fate, Predecessor
from bot.model.submission import Opening, Sealed, State, Task
from bot.storage.accepting import Verdict
from bot.storage.minted_rows import add_token
from bot.storage.minted_tokens import MintedTokens
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import (
    ACCOUNT,
    CHAIN,
    FINDINGS,
    NOW,
    make_ended_submission,
    make_key,
    make_minted_token,
    make_new_submission,
)

GRACE = timedelta(hours=1)
ROTATED = make_ended_submission(
    task=Task.ROTATE,
    confirmation=CredentialStatus.VALID,
    findings=replace(FINDINGS, credential=CredentialStatus.VALID),
    ended_at=NOW,
)
OLDER = make_minted_token(due_at=NOW + GRACE)

FOUND: dict[str, tuple[dict[str, Any], Predecessor]] = {
    "to be revoked": ({}, Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=NOW + GRACE)),
    "over by now": ({"state": MintedState.DEAD}, Predecessor(fate=Fate.REVOKED)),
    "of another bucket": ({"key": make_key("pond")}, Predecessor(fate=Fate.FOREIGN)),
}


@pytest.mark.parametrize(("changes", "expected"), FOUND.values(), ids=FOUND)
async def test_it_is_found_whatever_became_of_it(
    database: SqliteDatabase, changes: dict[str, Any], expected: Predecessor
) -> None:
    """Among the tokens of the bucket, also those of which nothing is left."""
    tokens = MintedTokens(database, Submissions(database, CHAIN), ACCOUNT, lambda: NOW)
    await database.run(lambda connection: add_token(connection, CHAIN, replace(OLDER, **changes)))

    assert await tokens.predecessor_of(ROTATED) == expected


@pytest.mark.parametrize("submission", [replace(ROTATED, task=Task.STORE), replace(ROTATED, state=State.FAILED)])
async def test_only_a_rotation_that_ended_well_has_one(database: SqliteDatabase, submission: Any) -> None:  # noqa: ANN401 - a Submission
    """Nothing is read for the others."""
    tokens = MintedTokens(database, Submissions(database, CHAIN), ACCOUNT, lambda: NOW)
    assert await tokens.predecessor_of(submission) is None


async def test_a_rotation_that_is_submitted_again_is_not_begun_anew(database: SqliteDatabase) -> None:
    """A token may be on its way to it; a pasted one would replace the first."""
    submissions = Submissions(database, CHAIN)
    opening = Opening(nonce="0f" * 16, team_id="T0SANDBOX", user_id="U0ADA0001", expires_at=NOW + GRACE)
    await submissions.add_opening(opening)
    new = make_new_submission(task=Task.ROTATE, last_four="", sealed=Sealed())
    assert (await submissions.accept(new, opening.nonce, opened_in="T0SANDBOX")).verdict is Verdict.RECORDED
    first = await submissions.find(new.id)
    assert first is not None
    await submissions.apply(first, Move(to=State.MINTING, at=NOW))

    again = await submissions.accept(new, opening.nonce, opened_in="T0SANDBOX")

    assert again.verdict is Verdict.ALREADY_UNDER_WAY
    assert again.submission is not None
    assert again.submission.state is State.MINTING
