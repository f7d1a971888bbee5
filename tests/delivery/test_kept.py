"""Moves that could not be recorded: kept while they are still true, and no longer."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.delivery.kept import KeptMoves
from bot.model.move import Changes, Move
from bot.model.submission import Lease, State
from tests.make import LAKE, make_submission

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SUBMISSION = make_submission(id="V1", revision=3)
STORED = Move(to=State.CONFIRMING, at=NOW, changes=Changes(confirm_until=NOW + 15 * SECOND))
REPORTED = Move(to=State.STORED, at=NOW, changes=Changes(reported_at=NOW))


def _lease(epoch: int) -> Lease:
    return Lease(key=LAKE, epoch=epoch)


@pytest.mark.parametrize("epochs", [(8,), (8, 9, 10)], ids=["at once", "after some more tries"])
def test_a_write_is_kept_while_the_same_process_holds_the_bucket(epochs: tuple[int, ...]) -> None:
    """However often the database fails: each attempt takes a new lease."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    for epoch in epochs:
        kept.note_taken(_lease(epoch))
    assert kept.find(SUBMISSION, NOW) == STORED


def test_a_write_is_dropped_once_another_process_held_the_bucket() -> None:
    """That one may have written a newer token; a posted result stays posted."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    kept.keep_report(make_submission(id="V2"), REPORTED)
    kept.note_taken(_lease(9))
    assert kept.find(SUBMISSION, NOW) is None
    assert kept.find(make_submission(id="V2"), NOW) == REPORTED


def test_a_newer_request_ends_what_was_known_of_the_slot() -> None:
    """A posted result stays posted."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    kept.keep_report(make_submission(id="V2"), REPORTED)
    kept.forget_writes(LAKE)
    assert kept.find(SUBMISSION, NOW) is None
    assert kept.find(make_submission(id="V2"), NOW) == REPORTED


def test_a_kept_move_of_a_changed_submission_is_dropped() -> None:
    """It was recorded after all, or another process has moved it."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    assert kept.find(make_submission(id="V1", revision=4), NOW) is None


def test_a_late_record_gets_its_full_time() -> None:
    """The slot is tested for as long as after a success that was recorded at once."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    late = NOW + 60 * SECOND
    assert kept.find(SUBMISSION, late) == Move(
        to=State.CONFIRMING, at=late, changes=Changes(confirm_until=late + 15 * SECOND)
    )


def test_nothing_is_kept_of_what_is_recorded_or_of_a_bucket_at_rest() -> None:
    """Memory is bounded by the work in progress."""
    kept = KeptMoves()
    kept.keep_write(_lease(7), SUBMISSION, STORED)
    kept.drop(SUBMISSION)
    assert kept.find(SUBMISSION, NOW) is None
    kept.keep_report(SUBMISSION, REPORTED)
    kept.forget(LAKE)
    assert kept._of_bucket == {}
