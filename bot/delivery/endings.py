"""How a submission ends without a success. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from bot.cloudflare.errors import Refusal
from bot.model.errors import BotError, NeverSent, NotApprovedInTime, NotMintedInTime, error_of_code
from bot.model.move import Changes, Move
from bot.model.submission import State, Submission

_WAITED_FOR: Final[Mapping[State, type[BotError]]] = {
    State.AWAITING_APPROVAL: NotApprovedInTime,
    State.MINTING: NotMintedInTime,
}
"""What did not come in time."""


def end_unwritten(
    submission: Submission, ending: State, error: BotError, now: datetime, *, landed: bool | None = None
) -> Move:
    """End as `ending`, or as UNCERTAIN if a request may have reached Cloudflare (`landed`; default: as recorded).

    An uncertain end supersedes older submissions, unless Cloudflare refused this token: then the older ones go on.
    """
    landed = submission.possibly_written if landed is None else landed
    return Move(
        to=State.UNCERTAIN if landed else ending,
        at=now,
        changes=Changes(possibly_written=landed),
        because=error.with_traceback(None),
        supersedes=landed and not isinstance(error, Refusal),
    )


def give_up(submission: Submission, now: datetime) -> Move:
    """End what has run out of time, with the error it was waiting on."""
    cause = error_of_code(submission.error_code) if submission.error_code else None
    landed = submission.possibly_written
    if submission.attempts == 0 and cause is None:
        return Move(to=State.EXPIRED, at=now, because=_WAITED_FOR.get(submission.state, NeverSent)())
    is_refused = cause is not None and issubclass(cause, Refusal)
    ending = State.UNCERTAIN if landed else State.REFUSED if is_refused else State.FAILED
    return Move(to=ending, at=now, supersedes=landed)
