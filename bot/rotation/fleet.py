"""Works a fleet off: one bucket first, and once that is proven the others, some at a time; stops at the first alarm.

It only asks for rotations, as a person would, and reads how they end: whatever kills it, the next holder goes on from
the submissions that are recorded.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import BotError, LeaseLost, RecordDamaged, SlackRefused, SlackTrouble, error_of_code
from bot.model.fleet import MOST_OPEN, Alarm, Count, Fleet, FleetState, Outcome, Result
from bot.model.origin import Origin, id_in_fleet
from bot.model.reference import about
from bot.model.submission import NewSubmission, Submission
from bot.rotation.ask import new_rotation
from bot.rotation.fleet_progress import Progress
from bot.rotation.fleet_results import find_alarm, judge
from bot.rotation.fleet_room import FleetRoom
from bot.storage.fleets import Fleets

POLL: Final = timedelta(seconds=2)
"""How often a process looks for a fleet that another one has recorded."""

LOOK_EVERY: Final = timedelta(seconds=1)
EDIT_EVERY: Final = timedelta(seconds=5)
"""Slack takes an edit a second in a channel, for all apps together."""

_IDLE: Final = timedelta(seconds=60)
_AFTER_TROUBLE: Final = timedelta(seconds=2)
_AFTER_FAULT: Final = timedelta(seconds=60)
_FIX: Final = (
    "the message in the channel says what happened; begin the rest with `/r2-credential rotate` when it is solved"
)

_log = structlog.get_logger()


class FleetPoster(Protocol):
    """Shows how a fleet stands. Both raise SlackTrouble for what passes, and SlackRefused."""

    async def post_fleet(self, count: Count) -> str | None:
        """Post its message, once however often this is called, and return its `ts`; None if it was deleted."""

    async def update_fleet(self, count: Count) -> None:
        """Replace it."""

    async def tell_fleet_ended(self, count: Count) -> None:
        """Tell the person who began it how it ended, where its message cannot be changed."""


class FleetEngine:
    """Works on the current fleet of the account, unless another process does. `polls`: others may have recorded it."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        fleets: Fleets,
        room: FleetRoom,
        poster: FleetPoster,
        clock: Callable[[], datetime],
        ttl: timedelta,
        polls: bool,
        most_open: int = MOST_OPEN,
    ) -> None:
        self._fleets = fleets
        self._room = room
        self._poster = poster
        self._clock = clock
        self._ttl = ttl
        self._most_open = most_open
        self._idle = POLL if polls else _IDLE
        self._woken = asyncio.Event()
        self._progress: Progress | None = None

    def wake(self) -> None:
        """Look at once: a fleet was begun, or stopped."""
        self._woken.set()

    async def run(self) -> None:
        """Run forever; on cancellation, let another process go on at once."""
        try:
            while True:
                self._woken.clear()
                pause = await self._work_guarded()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause.total_seconds()):
                        await self._woken.wait()
        finally:
            with suppress(BotError):
                await self._fleets.let_go()

    async def _work_guarded(self) -> timedelta:
        """Do what can be done now, and return how long to wait."""
        try:
            return await self.work()
        except LeaseLost:
            return LOOK_EVERY  # stopped or taken meanwhile: the next look knows
        except BotError as error:
            _log.warning("fleet_interrupted", error=str(error))
            return _AFTER_TROUBLE
        except Exception as error:  # noqa: BLE001 - a bug: the process has other things to do
            _log.critical("fleet_broke", error=type(error).__name__)
            return _AFTER_FAULT

    async def work(self) -> timedelta:
        """Do once what can be done now, and return how long to wait. Raises BotError."""
        fleet = await self._fleets.take()
        if fleet is None:
            self._progress = None
            return self._idle
        if self._progress is None or self._progress.fleet_id != fleet.id:
            self._progress = Progress(fleet)
        with about(f"{Origin.FLEET}.{fleet.id}"):
            await self._work_on(fleet, self._progress)
        return LOOK_EVERY

    async def _work_on(self, fleet: Fleet, progress: Progress) -> None:
        await self._read(fleet, progress)
        if fleet.message_ts is None and fleet.state is FleetState.RUNNING:
            fleet = await self._announce(fleet, progress)
        if fleet.state is FleetState.RUNNING:
            fleet = await self._stop_at_an_alarm(fleet, progress)
        if fleet.state is FleetState.RUNNING:
            await self._begin_more(fleet, progress)
        await self._tell(fleet, progress)

    async def _read(self, fleet: Fleet, progress: Progress) -> None:
        """Read what has become of the open ones; of all of them after this process has taken the fleet."""
        for buckets in progress.to_read():
            found = await self._fleets.submissions_of(fleet, buckets)
            for bucket in buckets:
                submission = found.get(bucket)
                if submission is None and bucket in progress.open:  # recorded, and unreadable: nobody knows what it did
                    why, now = RecordDamaged.code, self._clock()
                    progress.end(Result(bucket=bucket, outcome=Outcome.ALARM, why=why, ended_at=now))
                elif submission is not None:
                    _note(progress, submission)
        progress.is_read = True

    async def _announce(self, fleet: Fleet, progress: Progress) -> Fleet:
        """Post the message before anything else is done: it has the button that stops the fleet."""
        count = progress.count(fleet)
        try:
            message_ts = await self._poster.post_fleet(count)
        except SlackRefused as refusal:
            _log.error("fleet_not_posted", channel=fleet.channel_id, slack_error=refusal.slack_error)
            message_ts = None
        if message_ts is None:
            return _unless_changed(await self._fleets.stop(fleet, alarm=Alarm.NO_MESSAGE))
        progress.note_shown(count, self._clock(), EDIT_EVERY)
        return _unless_changed(await self._fleets.note_message(fleet, message_ts))

    async def _stop_at_an_alarm(self, fleet: Fleet, progress: Progress) -> Fleet:
        found = find_alarm(progress.ended)
        if found is None and not (progress.has_begun_all and not progress.open):
            found = await self._room.find_alarm(fleet, has_open=bool(progress.open) or progress.has_begun_all)
        if found is None:
            return fleet
        alarm, bucket = found
        fix = error_of_code(alarm).operator_fix or _FIX
        _log.error("fleet_stopped", alarm=alarm, bucket=bucket or "", fix=fix)
        return _unless_changed(await self._fleets.stop(fleet, alarm=alarm, bucket=bucket))

    async def _begin_more(self, fleet: Fleet, progress: Progress) -> None:
        """Begin as many as may be under way; as long as none is proven, that is one."""
        most = self._most_open if progress.is_proven else 1
        wanted = progress.next(most - len(progress.open))
        room = await self._room.left(fleet, progress.open) if wanted else 1
        progress.waits_for_room = room <= 0
        for bucket in wanted[: max(0, room)]:
            await self._fleets.begin(fleet, self._rotation(fleet, bucket))
            progress.begin(bucket)

    def _rotation(self, fleet: Fleet, bucket: str) -> NewSubmission:
        return new_rotation(
            submission_id=id_in_fleet(fleet.id, bucket),
            key=BucketKey(account_id=fleet.account_id, bucket=bucket),
            team_id=fleet.team_id,
            channel_id=fleet.channel_id,
            now=self._clock(),
            ttl=self._ttl,
            user_id=fleet.user_id,
            asked_at=fleet.started_at,
        )

    async def _tell(self, fleet: Fleet, progress: Progress) -> None:
        """Show how it stands, if that has changed; the last words are said before the end is recorded."""
        is_over = not progress.open and (fleet.state is FleetState.STOPPING or progress.has_begun_all)
        count, now = progress.count(fleet, is_over=is_over), self._clock()
        if progress.needs_showing(count, now):
            try:
                await self._show(count)
            except SlackTrouble as trouble:
                progress.note_shown(None, now, max(trouble.retry_after or EDIT_EVERY, EDIT_EVERY))
                _log.info("fleet_message_postponed", error=str(trouble))
                return
            progress.note_shown(count, now, EDIT_EVERY)
        if is_over and progress.is_shown(count) and await self._fleets.end(fleet) is not None:
            outcomes = {outcome.value: len(count.of(outcome)) for outcome in Outcome}
            _log.info("fleet_ended", buckets=len(fleet.buckets), waiting=count.waiting, **outcomes)

    async def _show(self, count: Count) -> None:
        """Edit the message; where that is not possible, the end at least reaches the person who began it."""
        if count.fleet.message_ts is not None:
            try:
                await self._poster.update_fleet(count)
            except SlackRefused as refusal:
                _log.warning("fleet_message_not_updated", slack_error=refusal.slack_error)
            else:
                return
        if count.is_over:
            try:
                await self._poster.tell_fleet_ended(count)
            except SlackRefused as refusal:
                _log.error("fleet_end_not_told", slack_error=refusal.slack_error)


def _note(progress: Progress, submission: Submission) -> None:
    result = judge(submission)
    if result is None:
        progress.begin(submission.key.bucket)
    else:
        progress.end(result)


def _unless_changed(changed: Fleet | None) -> Fleet:
    """Return the fleet as it is recorded; raises LeaseLost if somebody else has changed it since it was read."""
    if changed is None:
        raise LeaseLost
    return changed
