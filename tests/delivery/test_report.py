"""The final message: posted once as far as that can be known, and tried as long as it takes."""

from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.delivery.report import Reporting
from bot.model.errors import DatabaseUnavailable, LeaseLost, SlackUnavailable
from bot.model.submission import (
    RESPONSE_URL_LIFETIME,
    BucketKey,
    NewSubmission,
    SealedResponseUrl,
    State,
    Submission,
    TokenKind,
)
from bot.storage.submissions import Records
from tests.conftest import Clock

SECOND = timedelta(seconds=1)
LAKE = BucketKey(account_id="5a4db0c0000000000000000000000001", bucket="lake")


class SmallReporter:
    """Notes what is posted, or fails as told."""

    def __init__(self) -> None:
        self.posted: list[str] = []
        self.error: SlackUnavailable | None = None

    def show_progress(self, submission: Submission) -> None:
        """Show nothing."""

    async def post_result(self, submission: Submission) -> None:
        """Note it."""
        if self.error is not None:
            raise self.error
        self.posted.append(submission.id)


@pytest.fixture
def reporter() -> SmallReporter:
    """Return one that posts."""
    return SmallReporter()


@pytest.fixture
def reporting(records: Records, reporter: SmallReporter, clock: Clock) -> Reporting:
    """Build what is tested, on a real database."""
    return Reporting(records, reporter, clock)


@pytest_asyncio.fixture
async def ended(records: Records, clock: Clock) -> Submission:
    """Record a submission that ends at once, and take its bucket over."""
    new = NewSubmission(
        id="V1",
        team_id="T1",
        user_id="U1",
        key=LAKE,
        channel_id="C1",
        reason="",
        token_kind=TokenKind.ACCOUNT,
        last_four="four",
        sealed_token=None,
        sealed_response_url=SealedResponseUrl("sealed.v1.aaaa.MADEUPURL"),
        accepted_at=clock(),
        expires_at=clock() + timedelta(hours=1),
    )
    await records.add(new)
    await records.take(LAKE)
    await records.end(await _read(records), State.DENIED, clock())
    return await _read(records)


async def _read(records: Records) -> Submission:
    found = await records.find("V1")
    assert found is not None
    return found


def _take_away(path: Path) -> None:
    path.rename(path.with_name("away"))


def _bring_back(path: Path) -> None:
    path.with_name("away").rename(path)


async def test_a_result_is_posted_and_noted(
    records: Records, reporting: Reporting, reporter: SmallReporter, ended: Submission, clock: Clock
) -> None:
    """With the response URL erased."""
    await reporting.report(ended)
    assert reporter.posted == ["V1"]
    told = await _read(records)
    assert (told.reported_at, told.sealed_response_url) == (clock(), None)


async def test_where_only_the_noting_fails_only_that_is_repeated(
    records: Records, reporting: Reporting, reporter: SmallReporter, ended: Submission, database_path: Path
) -> None:
    """The channel gets no second message for a database that was away."""

    async def post_and_lose_the_database(submission: Submission) -> None:
        reporter.posted.append(submission.id)
        _take_away(database_path)

    reporter.post_result = post_and_lose_the_database  # type: ignore[method-assign]  # the double's own
    with pytest.raises(DatabaseUnavailable):
        await reporting.report(ended)
    _bring_back(database_path)
    await reporting.report(ended)
    assert reporter.posted == ["V1"]
    assert (await _read(records)).reported_at is not None


async def test_who_lost_the_bucket_posts_nothing(
    records: Records, reporting: Reporting, reporter: SmallReporter, ended: Submission
) -> None:
    """Whoever has it now does."""
    await records.take(LAKE)
    with pytest.raises(LeaseLost):
        await reporting.report(ended)
    assert reporter.posted == []
    assert (await _read(records)).reported_at is None


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
async def test_while_slack_is_away_it_waits(  # noqa: PLR0917 - a table and its scene
    records: Records,
    reporting: Reporting,
    reporter: SmallReporter,
    ended: Submission,
    clock: Clock,
    since_end: timedelta,
    retry_after: timedelta | None,
    pause: timedelta,
) -> None:
    """With growing pauses, and for ever; afterwards it is posted."""
    reporter.error = SlackUnavailable(retry_after=retry_after)
    clock.advance(since_end)
    await reporting.report(ended)
    waiting = await _read(records)
    assert (waiting.next_attempt_at, waiting.reported_at) == (clock() + pause, None)

    reporter.error = None
    await reporting.report(waiting)
    assert reporter.posted == ["V1"]
    assert (await _read(records)).reported_at == clock()


@pytest.mark.parametrize("is_dead", [True, False])
async def test_a_response_url_is_erased_when_it_will_be_too_old(
    records: Records, reporting: Reporting, reporter: SmallReporter, ended: Submission, clock: Clock, *, is_dead: bool
) -> None:
    """Slack takes it for 30 minutes; what is of no use is not kept."""
    reporter.error = SlackUnavailable(retry_after=10 * SECOND)
    clock.advance(RESPONSE_URL_LIFETIME - (10 if is_dead else 11) * SECOND)
    await reporting.report(ended)
    assert ((await _read(records)).sealed_response_url is None) is is_dead
