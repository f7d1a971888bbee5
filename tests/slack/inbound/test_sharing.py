"""Another bot on the same Slack app is noticed by Slack's count of connections, once two counts agree."""

from datetime import timedelta

import pytest

from bot.slack.inbound.sharing import COUNT_AGAIN_AFTER, Sharing

LATER = COUNT_AGAIN_AFTER.total_seconds()
Count = tuple[int, int, float]

COUNTS: dict[str, tuple[list[Count], int, bool]] = {
    "none yet": ([], 0, False),
    "as expected": ([(1, 1, 0), (2, 2, 1)], 0, False),
    "fewer, while Slack is slow": ([(1, 2, 0)], 0, False),
    "more, just once": ([(3, 1, 0)], 0, True),
    "more, twice at a start": ([(3, 1, 0), (4, 2, 1)], 0, True),
    "more, and more later": ([(3, 1, 0), (5, 3, LATER)], 2, True),
    "more, then as expected": ([(3, 1, 0), (3, 3, LATER)], 0, False),
    "more, until the other one stops": ([(3, 1, 0), (5, 3, LATER), (3, 3, 2 * LATER)], 0, False),
    "more, again after a good count": ([(3, 1, 0), (2, 2, LATER), (4, 2, LATER + 1)], 0, True),
}


@pytest.mark.parametrize(("counts", "others", "is_suspected"), COUNTS.values(), ids=COUNTS)
def test_a_high_count_is_believed_when_a_later_one_is_high(
    counts: list[Count], others: int, *, is_suspected: bool
) -> None:
    """After a crash, Slack still counts the connections of the process before."""
    sharing = Sharing()
    for total, own, now in counts:
        sharing.note(total, own, now)

    assert sharing.others == others
    assert (sharing.count_again_after is not None) == is_suspected


def test_slack_is_asked_less_often_once_it_is_certain() -> None:
    """Each count costs a connection."""
    sharing = Sharing()
    sharing.note(3, 1, 0)
    assert sharing.count_again_after == COUNT_AGAIN_AFTER
    sharing.note(3, 1, LATER)
    assert sharing.count_again_after is not None
    assert sharing.count_again_after > COUNT_AGAIN_AFTER
    assert timedelta(minutes=1) < COUNT_AGAIN_AFTER
