"""Has a token made for a submission, by the process that may make tokens (`bot.rotation`). Makes none itself."""

from datetime import datetime
from typing import Final

from bot.cloudflare.exchange import Turn
from bot.delivery.step import MaySend, Step
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission

_BEFORE: Final = (State.ACCEPTED, State.AWAITING_APPROVAL, State.MINTING)


class Mint(Step):
    """Waits until there is a token: what makes it moves the submission on, and so wakes its delivery."""

    name = "mint"
    state = State.MINTING
    label = "Make a token for this bucket"
    waits_for_others = True

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - it is done once
        """Return whether the token is there."""
        return submission.state not in _BEFORE

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:  # noqa: ARG002 - asks nobody
        """Ask for it by the state, and come back when the time is over."""
        return Move(to=State.MINTING, at=pending.submission.expires_at)
