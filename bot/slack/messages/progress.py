"""Keeps the open modal in step with its submission. Best effort: it may be closed, and the channel message counts."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.errors import BotError
from bot.model.move import Change
from bot.model.submission import Submission, Task
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.messages.outcome import ProgressStep
from bot.slack.messages.render import submission_view

AFTER_ACKNOWLEDGEMENT: Final = timedelta(seconds=1.2)
"""Slack may overwrite an update within 1 s of the acknowledgement with the acknowledged view."""

_STALE: Final = timedelta(minutes=30)
_STOP_PATIENCE: Final = timedelta(seconds=2)

_log = structlog.get_logger()


class ModalProgress:
    """Shows the latest state of each submission; states that follow each other quickly are shown as one.

    `steps_of` gives the lines of a task's progress.
    """

    def __init__(
        self,
        web: SlackWeb,
        clock: Callable[[], datetime],
        contact: str,
        steps_of: Callable[[Task], tuple[ProgressStep, ...]],
    ) -> None:
        self._web = web
        self._clock = clock
        self._contact = contact
        self._steps_of = steps_of
        self._latest: dict[str, Submission] = {}
        self._updates = Background("modal_update_broke")

    def watch(self, change: Change) -> None:
        """Bring its modal up to date soon, unless it shows the end already; returns at once."""
        if change.is_new_state or not change.submission.is_ended:
            self.show(change.submission)

    def show(self, submission: Submission) -> None:
        """Bring a modal up to date soon; returns at once."""
        if self._clock() - submission.accepted_at > _STALE:
            return
        is_new = submission.id not in self._latest
        self._latest[submission.id] = submission
        if is_new:
            self._updates.start(self._keep_in_step(submission))

    async def drain(self) -> None:
        """Wait until every modal shows the latest, for two seconds at most."""
        await self._updates.drain(_STOP_PATIENCE)

    async def _keep_in_step(self, submission: Submission) -> None:
        await asyncio.sleep(AFTER_ACKNOWLEDGEMENT.total_seconds())  # it is acknowledged in this very moment
        known, shown = None, None
        try:
            while (latest := self._latest[submission.id]) is not known:
                steps = self._steps_of(latest.task)
                view = submission_view(latest, now=self._clock(), steps=steps, contact=self._contact)
                known = latest
                if view != shown:
                    await self._update(latest, view)
                shown = view
        finally:
            del self._latest[submission.id]

    async def _update(self, submission: Submission, view: Json) -> None:
        try:
            await self._web.update_view(submission.id, view)
        except BotError as error:
            _log.info("modal_not_updated", submission=submission.id, error=str(error))
