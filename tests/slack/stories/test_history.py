"""`history`: who sees which submissions."""

from datetime import timedelta

from bot.model.catalog import BucketKey
from bot.model.submission import (
    NewSubmission,
    Sealed,
    SealedToken,
    Task,
    TokenKind,
)
from tests.desk import (
    ADA,
    BUCKET,
    PLATFORM,
    TTL,
    Desk,
    ask,
    only,
)
from tests.make import ACCOUNT

SEALED = SealedToken("sealed.v1.5a4d.MADEUP")


async def submit(desk: Desk, bucket: str, number: int, reason: str = "") -> None:
    """Record a submission."""
    await desk.submissions.add(
        NewSubmission(
            id=f"V{number}",
            task=Task.STORE,
            team_id="T0SANDBOX",
            user_id=ADA,
            key=BucketKey(account_id=ACCOUNT, bucket=bucket),
            channel_id=PLATFORM,
            reason=reason,
            token_kind=TokenKind.ACCOUNT,
            last_four="0001",
            sealed=Sealed(token=SealedToken("sealed.v1.5a4d.MADEUP")),
            sent_at=desk.clock() + timedelta(milliseconds=number),
            accepted_at=desk.clock() + timedelta(milliseconds=number),
            expires_at=desk.clock() + TTL,
        )
    )


async def test_history_shows_the_last_submissions_of_a_bucket(desk: Desk) -> None:
    """The newest first, and no other bucket's."""
    for number, bucket in enumerate([BUCKET, "billing-exports", BUCKET]):
        await submit(desk, bucket, number, reason=f"ticket {number}")

    answer = await ask(desk, f"history {BUCKET}")

    lines = [line for line in answer.shown_text.splitlines() if line.startswith(">")]
    assert lines == [">ticket 2", ">ticket 0"]


async def test_history_shows_only_what_is_served(desk: Desk) -> None:
    """Even if those of other buckets are newer."""
    await submit(desk, "billing-exports", 0)
    for number in range(1, 40):
        await submit(desk, BUCKET, number)
    desk.serve(only(buckets=("billing-*",)))

    answer = await ask(desk, "history")

    assert "`billing-exports`" in answer.shown_text
    assert BUCKET not in answer.shown_text


async def test_damaged_rows_hide_no_older_ones(desk: Desk) -> None:
    """However many they are, if they are not all."""
    await submit(desk, "billing-exports", 0)
    for number in range(1, 25):
        await submit(desk, BUCKET, number)
    desk.execute(f"UPDATE submissions SET state = 'walking' WHERE bucket = '{BUCKET}'")  # noqa: S608 - our own words

    answer = await ask(desk, "history")

    assert "`billing-exports`" in answer.shown_text


async def test_history_without_submissions_says_so(desk: Desk) -> None:
    """It does not claim that anything happened."""
    assert (await ask(desk, "history")).text.startswith("Nothing was submitted yet for ")
