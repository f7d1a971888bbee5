"""What a step is: it takes a submission and returns a Move. A plan is a tuple of steps."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.exchange import Turn
from bot.delivery.asking import Asking
from bot.delivery.opener import Opener
from bot.delivery.retry import Retry
from bot.model.move import Move
from bot.model.submission import Pending, State, Submission
from bot.policy.gate import Gate
from bot.storage.catalogs import Catalogs

MaySend = Callable[[], Awaitable[bool]]
"""Whether the lease still holds and there is still time; asked when a request's headers are about to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What steps work with."""

    gate: Gate
    cloudflare: CloudflareClient
    opener: Opener
    catalogs: Catalogs
    asking: Asking
    retry: Retry
    clock: Callable[[], datetime]
    fresh_token_patience: timedelta
    rotate_grace: Callable[[], timedelta | None] = lambda: None
    """How long after a newer token is proven the one before it stays; None while no tokens are made."""


class Step(ABC):
    """One thing to be done for a submission. It can be killed anywhere and taken again."""

    state: ClassVar[State] = State.VERIFYING
    """The state at which the modal marks this step as running."""

    name: ClassVar[str]
    """What the log calls it."""

    label: ClassVar[str] = ""
    """What the modal calls it; a step without a label is not shown."""

    waits_for_others: ClassVar[bool] = False
    """Whether it sends nothing, and always leaves it to another process to go on: then it needs no turn."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def is_done(self, submission: Submission, now: datetime) -> bool:  # noqa: ARG002 - for steps that are done once
        """Return whether, by the records, nothing is left to do here."""
        return False

    @abstractmethod
    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Do it and return the resulting move; None means: continue with the next step.

        A step never waits for an event. It returns a move whose `at` says when to come back, and is taken again then,
        or as soon as the submission is moved from outside. Raises the errors that `Retry` decides on, and LeaseLost.
        """
