"""What a step is: it looks at a submission and returns a Move. A plan is a tuple of steps."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import ClassVar, Protocol

from bot.cloudflare.client import Turn
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission

MaySend = Callable[[], Awaitable[bool]]
"""Whether nobody has taken the bucket over and there is still time: asked as a request is about to go out."""


class Step(Protocol):
    """One thing that has to be done about a submission. It can be killed anywhere and taken again."""

    state: ClassVar[State]
    """Where a submission stands while this is being done."""

    label: ClassVar[str]
    """What the modal calls it; a step without a label is not shown."""

    def is_done(self, submission: Submission, now: datetime) -> bool:
        """Whether there is nothing left to do here, as far as that is recorded."""

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Do it, and return what becomes of the submission; None: nothing stands in the way of the next step.

        It waits for no event: what has to wait returns a move that says until when. Raises the errors that
        `bot.delivery.retry` knows what to make of, and LeaseLost.
        """
