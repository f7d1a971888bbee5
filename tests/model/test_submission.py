"""The states of a submission, and the steps between them."""

from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from bot.model.submission import ENDINGS, RESPONSE_URL_LIFETIME, STEPS, State
from tests.make import make_submission

SUBMISSION = make_submission()


APPROVED = frozenset({(State.AWAITING_APPROVAL, State.VERIFYING), (State.AWAITING_APPROVAL, State.MINTING)})
"""The steps after an approval: a pasted token is verified once more, and a token of the bot's own is made."""


def reachable_from(state: State, *, without: frozenset[tuple[State, State]] = frozenset()) -> set[State]:
    """Return every state that can follow, directly or later."""
    found: set[State] = set()
    ahead = {state}
    while ahead:
        found |= ahead
        steps = {(each, following) for each in ahead for following in STEPS.get(each, frozenset())}
        ahead = {following for _, following in steps - without} - found
    return found - {state}


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_an_ending_has_no_next_step(ending: State) -> None:
    """A final state stays final."""
    assert ending not in STEPS


@pytest.mark.parametrize("state", sorted(set(State) - ENDINGS))
def test_every_other_state_can_end(state: State) -> None:
    """No state is a trap: each has a step, and can reach an ending."""
    assert STEPS[state]
    assert reachable_from(state) & ENDINGS


def test_every_state_is_reachable() -> None:
    """All start at `accepted`, and no step goes back to it."""
    assert reachable_from(State.ACCEPTED) == set(State) - {State.ACCEPTED}


@pytest.mark.parametrize("state", list(State))
def test_no_state_can_come_again(state: State) -> None:
    """Steps go forward only: a repeated delivery cannot loop. What was approved is verified once more."""
    steps = {following for following in STEPS.get(state, frozenset()) if (state, following) not in APPROVED}
    assert state not in {far for near in steps for far in reachable_from(near, without=APPROVED) | {near}}


@pytest.mark.parametrize(
    ("state", "step"),
    [
        pytest.param(State.ACCEPTED, State.STORED, id="stored without a write"),
        pytest.param(State.ACCEPTED, State.CONFIRMING, id="confirmed without a write"),
        pytest.param(State.ACCEPTED, State.UNCERTAIN, id="uncertain without a write"),
        pytest.param(State.ACCEPTED, State.STORING, id="sent without a check"),
        pytest.param(State.VERIFYING, State.ACCEPTED, id="not checked, after a check"),
        pytest.param(State.VERIFYING, State.STORED, id="stored, though only checked"),
        pytest.param(State.VERIFYING, State.CONFIRMING, id="confirmed, though only checked"),
        pytest.param(State.VERIFYING, State.UNCERTAIN, id="uncertain, though only checked"),
        pytest.param(State.VERIFYING, State.ENABLED, id="enabled by a token's check"),
        pytest.param(State.STORING, State.STORED, id="stored without a test"),
        pytest.param(State.STORING, State.EXPIRED, id="expired, though it may be written"),
        pytest.param(State.STORING, State.CHECKED, id="only checked, though it may be written"),
        pytest.param(State.STORING, State.ENABLED, id="enabled by a write"),
        pytest.param(State.CONFIRMING, State.SUPERSEDED, id="superseded after a success"),
        pytest.param(State.CONFIRMING, State.REFUSED, id="refused after a success"),
        pytest.param(State.CONFIRMING, State.FAILED, id="failed after a success"),
        pytest.param(State.CONFIRMING, State.UNCERTAIN, id="uncertain after a success"),
    ],
)
def test_a_step_that_would_report_an_untruth_is_not_allowed(state: State, step: State) -> None:
    """Success needs a write, and a successful write is not taken back."""
    assert step not in STEPS[state]


@pytest.mark.parametrize("state", [State.ACCEPTED, State.VERIFYING, State.STORING])
def test_any_state_that_may_still_send_can_be_superseded(state: State) -> None:
    """A newer credential replaces one that waits, whether or not it was tried."""
    assert State.SUPERSEDED in STEPS[state]


@pytest.mark.parametrize("state", list(State))
def test_a_submission_knows_whether_it_has_ended(state: State) -> None:
    """A submission has ended in the states that have no next step."""
    assert replace(SUBMISSION, state=state).is_ended == (state not in STEPS)


def test_a_submission_does_not_change() -> None:
    """A step makes a new value, so no two parts of the program can disagree about one."""
    with pytest.raises(FrozenInstanceError):
        SUBMISSION.state = State.STORED  # type: ignore[misc]  # what is tested


def test_a_response_url_lives_as_long_as_slack_says() -> None:
    """Thirty minutes, according to Slack's page on handling interactions."""
    assert timedelta(minutes=30) == RESPONSE_URL_LIFETIME
