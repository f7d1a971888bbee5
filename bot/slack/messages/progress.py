"""Keeps the open modal up to date with its submission, so that it never says "Storing..." after the end.

Failed updates are retried until the modal is stale. The channel message waits for none of this.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.enabling import MayEnable, nobody_may
from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.move import Change
from bot.model.origin import Origin, origin_of
from bot.model.predecessor import FindPredecessor, find_if_possible, know_nothing
from bot.model.right_of_way import LAST_IN_LINE, RightOfWay
from bot.model.submission import Submission, Task
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.messages.outcome import ProgressStep
from bot.slack.messages.render import submission_view

AFTER_ACKNOWLEDGEMENT: Final = timedelta(seconds=1.2)
"""Within 1 s of the acknowledgement, Slack may overwrite an update with the acknowledged view."""

MANY: Final = 10
FOR_EACH_MORE: Final = timedelta(seconds=0.25)
"""While more than `MANY` modals have something to show, one without an end waits this long for each that is too many.

Slack takes some hundred updates a minute. Of 250 submissions at once, each modal was updated 2.5 times, mostly with
states that were over a moment later. This and the kept connections together spare 9 % of the CPU of a delivery.
"""

_STALE: Final = timedelta(minutes=30)
_FIRST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(minutes=1)
_CLOSED: Final = "not_found"
_STOP_PATIENCE: Final = timedelta(seconds=2)

_log = structlog.get_logger()


@dataclass(slots=True)
class _Modal:
    """What a modal has to show; `news` is set while that is not shown yet, `end` once it is the last, or at a stop."""

    latest: Submission
    news: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)


class ModalProgress:
    """Shows the latest state of each submission, and skips states that are already superseded; ends go first.

    `steps_of` returns the lines of a task's progress.
    """

    def __init__(  # noqa: PLR0913 - the composition root fills this
        self,
        web: SlackWeb,
        clock: Callable[[], datetime],
        contact: str,
        steps_of: Callable[[Task], tuple[ProgressStep, ...]],
        *,
        may_enable: MayEnable = nobody_may,
        find_predecessor: FindPredecessor = know_nothing,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        self._right_of_way = right_of_way or RightOfWay()
        self._web = web
        self._clock = clock
        self._contact = contact
        self._steps_of = steps_of
        self._may_enable = may_enable
        self._find_predecessor = find_predecessor
        self._modals: dict[str, _Modal] = {}
        self._updates = Background("modal_update_broke")

    def watch(self, change: Change) -> None:
        """Schedule an update of the submission's modal, unless it already shows the end."""
        if change.is_new_state or not change.submission.is_ended:
            self.show(change.submission)

    def show(self, submission: Submission) -> None:
        """Schedule an update of a modal, unless it is stale; what no person submitted has none."""
        if self._is_stale(submission) or origin_of(submission.id) is not Origin.PERSON:
            return
        known = self._modals.get(submission.id)
        if known is None:
            known = self._modals[submission.id] = _Modal(submission)
            self._updates.start(self._keep_in_step(known), reference=submission.id)
        known.latest = submission
        known.news.set()
        if submission.is_ended:
            known.end.set()

    def catch_up(self, recent: Iterable[Submission]) -> None:
        """Show the ends of recent submissions: the process that recorded them may have stopped before showing them."""
        for submission in recent:
            if submission.is_ended:
                self.show(submission)

    async def drain(self) -> None:
        """Wait until every modal is up to date, for two seconds at most; no end is waited for that will not come."""
        for modal in self._modals.values():
            modal.end.set()
        await self._updates.drain(_STOP_PATIENCE)

    def _is_stale(self, submission: Submission) -> bool:
        return self._clock() - submission.accepted_at > _STALE

    async def _keep_in_step(self, modal: _Modal) -> None:
        await asyncio.sleep(AFTER_ACKNOWLEDGEMENT.total_seconds())  # the acknowledgement is being sent
        shown, pause = None, _FIRST_PAUSE
        try:
            while modal.news.is_set() and not self._is_stale(modal.latest):
                await _wait(modal.end, (len(self._modals) - MANY) * FOR_EACH_MORE)
                await self._right_of_way.give_way(LAST_IN_LINE)
                modal.news.clear()
                view = await self._view_of(modal.latest)
                trouble = None if view == shown else await self._update(modal.latest, view, pause)
                if trouble is None:
                    shown, pause = view, _FIRST_PAUSE
                else:
                    shown = None  # it may show either view
                    await _wait_out(trouble, pause, modal.news)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            del self._modals[modal.latest.id]

    async def _view_of(self, submission: Submission) -> Json:
        return submission_view(
            submission,
            now=self._clock(),
            steps=self._steps_of(submission.task),
            contact=self._contact,
            may_enable=self._may_enable(submission.key, submission.channel_id),
            predecessor=await find_if_possible(self._find_predecessor, submission),
        )

    async def _update(self, submission: Submission, view: Json, pause: timedelta) -> SlackTrouble | None:
        """Return the error if it is transient. A refusal is final: usually the user has closed the modal."""
        try:
            await self._web.update_view(submission.id, view)
        except SlackTrouble as trouble:
            seconds = (trouble.retry_after or pause).total_seconds()
            _log.info("modal_update_postponed", error=str(trouble), next_try_in_seconds=seconds)
            return trouble
        except SlackRefused as refusal:
            level = logging.DEBUG if refusal.slack_error == _CLOSED else logging.WARNING
            _log.log(level, "modal_not_updated", error=str(refusal))
        return None


async def _wait_out(trouble: SlackTrouble, pause: timedelta, news: asyncio.Event) -> None:
    """Wait as long as Slack asked; if it did not ask, wait for `pause`, or until there is something new to show."""
    if trouble.retry_after is not None:
        await asyncio.sleep(trouble.retry_after.total_seconds())
    else:
        await _wait(news, pause)
    news.set()


async def _wait(event: asyncio.Event, longest: timedelta) -> None:
    """Wait for an event, but at most so long and at most a minute."""
    seconds = min(longest, _LONGEST_PAUSE).total_seconds()
    if seconds > 0 and not event.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
