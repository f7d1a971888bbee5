"""Pauses before a retry: never a busy loop, never longer than requested or needed."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cloudflare.errors import CloudflareUnavailable, Throttled
from bot.delivery.endings import end_unwritten
from bot.delivery.retry import pause_after, pause_for_fresh_token, wait
from bot.model.errors import BotError, DatabaseUnavailable, MembershipUnknown
from bot.model.move import Changes
from bot.model.submission import State, Submission
from tests.make import NOW, make_submission

SECOND = timedelta(seconds=1)
PATIENCE = 60 * SECOND


def having_waited(waited: timedelta = timedelta(0), attempts: int = 0) -> Submission:
    """Return a submission that has waited for that long, with that many attempts."""
    state = State.STORING if attempts else State.ACCEPTED
    return make_submission(accepted_at=NOW - waited, next_attempt_at=NOW, state=state, attempts=attempts)


@pytest.mark.parametrize(
    ("error", "waited", "attempts", "seconds"),
    [
        pytest.param(Throttled(retry_after=7 * SECOND), 0, 3, 7, id="as Cloudflare says"),
        pytest.param(Throttled(retry_after=600 * SECOND), 0, 3, 600, id="as Cloudflare says, though that is long"),
        pytest.param(Throttled(retry_after=SECOND / 1000), 0, 3, 0.1, id="as Cloudflare says, but no busy loop"),
        pytest.param(Throttled(retry_after=timedelta(0)), 0, 3, 8, id="a Retry-After of 0 says nothing"),
        pytest.param(CloudflareUnavailable(), 0, 1, 2, id="after the first try to write"),
        pytest.param(CloudflareUnavailable(), 0, 5, 32, id="after the fifth"),
        pytest.param(CloudflareUnavailable(), 0, 6, 60, id="never more than a minute"),
        pytest.param(CloudflareUnavailable(), 0, 1_000_000, 60, id="however often"),
        pytest.param(CloudflareUnavailable(), 3500, 1, 2, id="a long wait does not count once it was tried"),
        pytest.param(DatabaseUnavailable(), 0, 0, 1, id="before a try, at once"),
        pytest.param(DatabaseUnavailable(), 10, 0, 10, id="before a try, as long as it has waited"),
        pytest.param(DatabaseUnavailable(), 3500, 0, 60, id="before a try, a minute at most"),
        pytest.param(DatabaseUnavailable(), -3500, 0, 1, id="before a try, after the clock was set back"),
        pytest.param(MembershipUnknown(), 0, 0, 2, id="Slack, at once"),
        pytest.param(MembershipUnknown(), 10, 0, 10, id="Slack, as long as it has waited"),
        pytest.param(MembershipUnknown(), 3500, 0, 60, id="Slack, a minute at most"),
    ],
)
def test_a_pause_grows_up_to_a_minute(error: BotError, waited: int, attempts: int, seconds: float) -> None:
    """These are the ceilings; the jitter makes most pauses shorter."""
    pause = pause_after(error, having_waited(waited * SECOND, attempts), NOW, jitter=1.0)
    assert pause.total_seconds() == seconds


@given(jitter=st.floats(0, 1), attempts=st.integers(0, 50), waited=st.integers(-4000, 4000))
def test_the_jitter_only_shortens_a_pause(jitter: float, attempts: int, waited: int) -> None:
    """From a tenth of a second, so that nothing spins, to the ceiling."""
    submission = having_waited(waited * SECOND, attempts)
    error = CloudflareUnavailable()
    longest = pause_after(error, submission, NOW, jitter=1.0)
    assert 0.1 * SECOND <= pause_after(error, submission, NOW, jitter) <= longest <= 60 * SECOND


@pytest.mark.parametrize(
    ("waited", "seconds"),
    [
        pytest.param(0, 1, id="at once"),
        pytest.param(1, 1, id="after one second"),
        pytest.param(8, 8, id="twice as long as before"),
        pytest.param(40, 20, id="not beyond the patience"),
        pytest.param(59.99, 0.1, id="no busy loop at its end"),
        pytest.param(-30, 1, id="after the clock was set back"),
    ],
)
def test_a_fresh_token_is_asked_about_with_growing_pauses(waited: float, seconds: float) -> None:
    """For the last time when the patience ends."""
    now = NOW + waited * SECOND
    assert pause_for_fresh_token(now, NOW + PATIENCE, PATIENCE).total_seconds() == pytest.approx(seconds)


@given(seconds=st.integers(1, 86400))
def test_a_fresh_token_costs_few_requests_and_has_all_the_patience(seconds: int) -> None:
    """The number of requests grows with the logarithm of the patience, and the last is sent at its end."""
    patience = seconds * SECOND
    now, until, questions = NOW, NOW + patience, 0
    while now < until:
        now += pause_for_fresh_token(now, until, patience)
        questions += 1
    assert timedelta(0) <= now - until < SECOND / 10
    assert questions <= 2 + seconds.bit_length()


def _raised(error: BotError) -> BotError:
    try:
        raise error
    except BotError as caught:
        return caught


def test_a_recorded_error_has_no_frame() -> None:
    """A move can wait for hours for its database, and a frame could hold a token."""
    submission = having_waited(attempts=1)
    waiting = wait(submission, NOW, _raised(CloudflareUnavailable()), Changes())
    ended = end_unwritten(submission, State.FAILED, _raised(CloudflareUnavailable()), NOW)
    assert _raised(CloudflareUnavailable()).__traceback__ is not None
    assert [move.because and move.because.__traceback__ for move in (waiting, ended)] == [None, None]
    assert waiting.because is not None
    assert ended.because is not None
