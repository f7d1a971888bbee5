"""Keeps the open modal in step with its submission: it may be closed, but must not say "Storing..." of what has ended.

What Slack does not take is tried again until nobody sits before it any more. The channel message waits for none of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.move import Change
from bot.model.submission import Submission, Task
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.messages.outcome import ProgressStep
from bot.slack.messages.render import submission_view

AFTER_ACKNOWLEDGEMENT: Final = timedelta(seconds=1.2)
"""Slack may overwrite an update within 1 s of the acknowledgement with the acknowledged view."""

_STALE: Final = timedelta(minutes=30)
_FIRST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=1)
_CLOSED: Final = "not_found"
_STOP_PATIENCE: Final = timedelta(seconds=2)

_log = structlog.get_logger()


@dataclass(slots=True)
class _Modal:
    """What a modal has to show, and whether that has changed since somebody looked."""

    latest: Submission
    news: asyncio.Event = field(default_factory=asyncio.Event)


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
        *,
        may_enable: bool = False,
    ) -> None:
        self._web = web
        self._clock = clock
        self._contact = contact
        self._steps_of = steps_of
        self._may_enable = may_enable
        self._modals: dict[str, _Modal] = {}
        self._updates = Background("modal_update_broke")

    def watch(self, change: Change) -> None:
        """Bring its modal up to date soon, unless it shows the end already; returns at once."""
        if change.is_new_state or not change.submission.is_ended:
            self.show(change.submission)

    def show(self, submission: Submission) -> None:
        """Bring a modal up to date soon; returns at once."""
        if self._is_stale(submission):
            return
        known = self._modals.get(submission.id)
        if known is None:
            known = self._modals[submission.id] = _Modal(submission)
            self._updates.start(self._keep_in_step(known))
        known.latest = submission
        known.news.set()

    def catch_up(self, recent: Iterable[Submission]) -> None:
        """Show the ends of what was submitted lately: the process that recorded them may have stopped before it did."""
        for submission in recent:
            if submission.is_ended:
                self.show(submission)

    async def drain(self) -> None:
        """Wait until every modal shows the latest, for two seconds at most."""
        await self._updates.drain(_STOP_PATIENCE)

    def _is_stale(self, submission: Submission) -> bool:
        return self._clock() - submission.accepted_at > _STALE

    async def _keep_in_step(self, modal: _Modal) -> None:
        await asyncio.sleep(AFTER_ACKNOWLEDGEMENT.total_seconds())  # it is acknowledged in this very moment
        shown, pause = None, _FIRST_PAUSE
        try:
            while modal.news.is_set() and not self._is_stale(modal.latest):
                modal.news.clear()
                view = self._view_of(modal.latest)
                trouble = None if view == shown else await self._update(modal.latest, view, pause)
                if trouble is None:
                    shown, pause = view, _FIRST_PAUSE
                else:
                    shown = None  # it may show this one or that one
                    await _wait_out(trouble, pause, modal.news)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            del self._modals[modal.latest.id]

    def _view_of(self, submission: Submission) -> Json:
        steps = self._steps_of(submission.task)
        return submission_view(
            submission, now=self._clock(), steps=steps, contact=self._contact, may_enable=self._may_enable
        )

    async def _update(self, submission: Submission, view: Json, pause: timedelta) -> SlackTrouble | None:
        """Return what was in the way, if that passes. A definite no is for good: mostly, its user has closed it."""
        try:
            await self._web.update_view(submission.id, view)
        except SlackTrouble as trouble:
            seconds = (trouble.retry_after or pause).total_seconds()
            _log.info("modal_update_waits", submission=submission.id, error=str(trouble), next_try_in_seconds=seconds)
            return trouble
        except SlackRefused as refusal:
            log = _log.info if refusal.slack_error == _CLOSED else _log.warning
            log("modal_not_updated", submission=submission.id, error=str(refusal))
        return None


async def _wait_out(trouble: SlackTrouble, pause: timedelta, news: asyncio.Event) -> None:
    """Wait as long as Slack asks for, whatever is new; else no longer than until there is something new to show."""
    if trouble.retry_after is not None:
        await asyncio.sleep(trouble.retry_after.total_seconds())
    else:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await news.wait()
    news.set()
