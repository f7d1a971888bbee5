"""The final message: posted, recorded, and retried until Slack accepts it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from bot.delivery.report import Report
from bot.model.errors import SlackUnavailable
from bot.model.move import Changes, Move
from bot.model.origin import id_in_fleet
from bot.model.submission import (
    RESPONSE_URL_LIFETIME,
    Pending,
    Posted,
    Sealed,
    SealedResponseUrl,
    State,
    Submission,
    Way,
)
from tests.make import make_submission

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ENDED = Pending(
    submission=replace(make_submission(), state=State.DENIED, ended_at=NOW, accepted_at=NOW),
    sealed=Sealed(response_url=SealedResponseUrl("sealed.v1.aaaa.MADEUPURL")),
)


class SmallPoster:
    """Records what is posted, or fails as ordered."""

    def __init__(self, error: SlackUnavailable | None = None) -> None:
        self.posted: list[Pending] = []
        self.error = error

    async def post_result(self, pending: Pending) -> Posted:
        """Record it."""
        if self.error is not None:
            raise self.error
        self.posted.append(pending)
        return Posted(place="C1", way=Way.RESPONSE_URL)


async def nobody_was_asked(_: Submission) -> None:
    """Close no request for an approval."""


async def test_a_result_is_posted_and_recorded() -> None:
    """With all that the poster needs; the log says where, how and how long that took."""
    poster = SmallPoster()
    with capture_logs() as log:
        move = await Report(poster, lambda: NOW, nobody_was_asked).take(ENDED)
    assert poster.posted == [ENDED]
    assert move == Move(to=State.DENIED, at=NOW, changes=Changes(reported_at=NOW))
    [line] = log
    known = {"bucket": "lake", "ending": "denied", "channel": "C1", "way": "response_url", "seconds": 0.0}
    assert line == {"event": "result_posted", "log_level": "info"} | known


async def test_a_result_that_a_fleet_counts_has_no_message_of_its_own() -> None:
    """It counts as reported; an approver's message about it is closed all the same."""
    poster, closed = SmallPoster(), list[Submission]()

    async def close(submission: Submission) -> None:
        closed.append(submission)

    of_fleet = replace(ENDED, submission=replace(ENDED.submission, id=id_in_fleet("f7", "lake")))
    with capture_logs() as log:
        move = await Report(poster, lambda: NOW, close).take(of_fleet)
    assert (poster.posted, closed, log) == ([], [of_fleet.submission], [])
    assert move == Move(to=State.DENIED, at=NOW, changes=Changes(reported_at=NOW))


async def test_what_people_know_already_is_not_posted_again() -> None:
    """It counts as reported, and the log says why there is no message."""
    poster = SmallPoster()

    async def is_repeated(submission: Submission) -> bool:
        return submission is ENDED.submission

    with capture_logs() as log:
        move = await Report(poster, lambda: NOW, nobody_was_asked, is_repeated=is_repeated).take(ENDED)
    assert poster.posted == []
    assert move == Move(to=State.DENIED, at=NOW, changes=Changes(reported_at=NOW))
    assert log == [{"event": "failure_told_before", "bucket": "lake", "log_level": "info"}]


@pytest.mark.parametrize(
    ("since_end", "retry_after", "pause"),
    [
        pytest.param(0 * SECOND, None, 2 * SECOND, id="at once"),
        pytest.param(40 * SECOND, None, 40 * SECOND, id="as long as it has waited"),
        pytest.param(timedelta(hours=9), None, timedelta(minutes=5), id="five minutes at most"),
        pytest.param(0 * SECOND, 90 * SECOND, 90 * SECOND, id="as Slack says"),
        pytest.param(timedelta(hours=-9), None, 2 * SECOND, id="after the clock was set back"),
    ],
)
async def test_while_slack_is_down_it_waits(
    since_end: timedelta, retry_after: timedelta | None, pause: timedelta
) -> None:
    """With growing pauses, and forever: its state does not change."""
    report = Report(SmallPoster(SlackUnavailable(retry_after=retry_after)), lambda: NOW + since_end, nobody_was_asked)
    move = await report.take(ENDED)
    assert (move.to, move.at, move.changes) == (State.DENIED, NOW + since_end + pause, Changes())


@pytest.mark.parametrize("is_dead", [True, False])
async def test_a_response_url_is_erased_when_it_will_be_too_old(*, is_dead: bool) -> None:
    """Slack accepts it for 30 minutes; a useless one is not kept."""
    now = NOW + RESPONSE_URL_LIFETIME - (10 if is_dead else 11) * SECOND
    report = Report(SmallPoster(SlackUnavailable(retry_after=10 * SECOND)), lambda: now, nobody_was_asked)
    assert (await report.take(ENDED)).forgets_response_url is is_dead
