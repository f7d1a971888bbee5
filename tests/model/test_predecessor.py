"""What becomes of the token that a rotation has replaced."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.model.catalog import CredentialStatus
from bot.model.minted import TAKEN_BACK, MintedState, MintedToken
from bot.model.predecessor import Fate, Predecessor, find_predecessor
from bot.model.submission import State, Submission, Task
from tests.make import FINDINGS, NOW, make_ended_submission, make_minted_token

SOON = NOW + timedelta(hours=1)


def rotated(before: CredentialStatus = CredentialStatus.VALID, **changes: Any) -> Submission:  # noqa: ANN401 - its fields
    """Return a rotation that is proven; `before` is what the slot held."""
    fields: dict[str, Any] = {
        "task": Task.ROTATE,
        "confirmation": CredentialStatus.VALID,
        "findings": replace(FINDINGS, credential=before),
        "ended_at": NOW,
    }
    return make_ended_submission(**(fields | changes))


def token(state: MintedState, **changes: Any) -> MintedToken:  # noqa: ANN401 - its fields
    """Return an older token of the bucket."""
    return replace(make_minted_token(state=state, due_at=SOON), **changes)


@pytest.mark.parametrize("state", sorted(TAKEN_BACK))
def test_a_token_on_its_way_to_the_end_is_named_with_its_time(state: MintedState) -> None:
    """However far it is when the message is posted: that may be late."""
    assert find_predecessor(rotated(), [token(state)]) == Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=SOON)


def test_of_two_the_later_time_is_named() -> None:
    """Everything of before is over then."""
    older = [token(MintedState.RETIRED), token(MintedState.RETIRED, due_at=SOON + timedelta(minutes=5))]
    found = find_predecessor(rotated(), older)
    assert found is not None
    assert found.revoked_at == SOON + timedelta(minutes=5)


def test_a_message_that_is_late_says_that_it_is_revoked() -> None:
    """Slack may not have taken it for an hour."""
    assert find_predecessor(rotated(), [token(MintedState.DEAD)]) == Predecessor(fate=Fate.REVOKED)


OTHERS = {
    "none of the bot's": (CredentialStatus.VALID, [], Fate.FOREIGN),
    "not tested before, and none of the bot's": (CredentialStatus.PRESENT, [], Fate.FOREIGN),
    "one of the bot's was over long ago": (
        CredentialStatus.VALID,
        [token(MintedState.DEAD, changed_at=NOW - timedelta(days=1))],
        Fate.FOREIGN,
    ),
    "perhaps the one that was over long ago": (
        CredentialStatus.PRESENT,
        [token(MintedState.DEAD, changed_at=NOW - timedelta(days=1))],
        Fate.NOT_KNOWN,
    ),
    "one that was never sent": (CredentialStatus.VALID, [token(MintedState.RETIRED, was_sent=False)], Fate.FOREIGN),
    "its own": (CredentialStatus.VALID, [token(MintedState.PROVEN, submission_id="V0MADEUP")], Fate.FOREIGN),
}


@pytest.mark.parametrize(("before", "tokens", "fate"), OTHERS.values(), ids=OTHERS)
def test_another_token_is_left_alone(before: CredentialStatus, tokens: list[MintedToken], fate: Fate) -> None:
    """It is called foreign only where the slot surely held one that works, or the bot never had another."""
    assert find_predecessor(rotated(before), tokens) == Predecessor(fate=fate)


@pytest.mark.parametrize("before", [CredentialStatus.ABSENT, CredentialStatus.INVALID])
def test_there_was_nothing_to_revoke(before: CredentialStatus) -> None:
    """The result says what was there."""
    assert find_predecessor(rotated(before), []) is None


UNPROVEN = {
    "no test": {"confirmation": CredentialStatus.PRESENT},
    "it does not work": {"confirmation": CredentialStatus.INVALID},
    "not stored": {"state": State.FAILED, "confirmation": None},
}


@pytest.mark.parametrize("changes", UNPROVEN.values(), ids=UNPROVEN)
def test_nothing_is_said_of_it_before_the_new_one_is_proven(changes: dict[str, Any]) -> None:
    """Nothing is revoked then, whatever else is on its way."""
    assert find_predecessor(replace(rotated(), **changes), [token(MintedState.RETIRED)]) is None
