"""Works through the buckets whose tokens have to be made or taken back, in one process at a time for each bucket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.background import Background
from bot.model.catalog import BucketKey
from bot.model.errors import BotError, LeaseLost
from bot.model.minted import SETTLE_AFTER, MintedState, MintedToken, MintingWork
from bot.rotation.housekeeping import Housekeeping
from bot.rotation.make import Making
from bot.rotation.take_back import TakingBack
from bot.storage.minted_tokens import MintedTokens

CONCURRENCY: Final = 16
"""So many buckets at a time: each has one request in flight, and the pace allows four a second."""

POLL: Final = timedelta(seconds=1)
"""How often a process looks for what others have left to it: it has no other sign of that."""

_HOUSE: Final = "housekeeping"
_LONGEST_SLEEP: Final = timedelta(seconds=60)
_AFTER_TROUBLE: Final = timedelta(seconds=1)
_AFTER_FAULT: Final = timedelta(seconds=60)
_STOP_PATIENCE: Final = timedelta(seconds=4)

_log = structlog.get_logger()


class Minter:
    """Finds its work in the database. `polls`: whether other processes leave work there without a sign."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        tokens: MintedTokens,
        making: Making,
        taking_back: TakingBack,
        house: Housekeeping,
        is_on: Callable[[], bool],
        clock: Callable[[], datetime],
        polls: bool,
    ) -> None:
        self._tokens = tokens
        self._making = making
        self._taking_back = taking_back
        self._house = house
        self._is_on = is_on
        self._clock = clock
        self._longest_sleep = POLL if polls else _LONGEST_SLEEP
        self._woken = asyncio.Event()
        self._tasks = Background("minting_broke")
        self._at_work: set[BucketKey] = set()
        self._woken_at_work: set[BucketKey] = set()
        self._resume_at: dict[BucketKey, datetime] = {}

    def wake(self, key: BucketKey) -> None:
        """Look at once: there is something to do in this bucket."""
        self._resume_at.pop(key, None)
        if key in self._at_work:  # which may be past the place where it would have found that
            self._woken_at_work.add(key)
        self._woken.set()

    async def run(self) -> None:
        """Run forever, through outages of the database; on cancellation, let running steps finish."""
        try:
            while True:
                self._woken.clear()
                await self._sleep_until(await self._look())
        finally:
            await self._tasks.drain(_STOP_PATIENCE)

    async def _look(self) -> datetime:
        """Start what is due, and return when to look again at the latest. Asks nobody while rotation is off."""
        now = self._clock()
        if not self._is_on():
            return now + _LONGEST_SLEEP
        if self._tasks.find(_HOUSE) is None:
            self._tasks.start(self._house.look_if_due(), _HOUSE)
        try:
            due = await self._tokens.due(now)
            next_at = await self._tokens.next_due()
        except BotError as error:
            _log.error("minting_stopped", error=str(error))
            return now + _AFTER_TROUBLE
        self._resume_at = {key: at for key, at in self._resume_at.items() if at > now}
        for key in due:
            if key not in self._at_work and key not in self._resume_at and len(self._at_work) < CONCURRENCY:
                self._start(key)
        return self._choose_next(now, next_at)

    def _choose_next(self, now: datetime, next_at: datetime | None) -> datetime:
        """Return the earliest of what is known; what is due now and not begun waits for another task or process."""
        known = [at for at in (next_at, *self._resume_at.values()) if at is not None and at > now]
        is_waiting = next_at is not None and next_at <= now
        return min([now + (POLL if is_waiting else self._longest_sleep), *known])

    def _start(self, key: BucketKey) -> None:
        self._at_work.add(key)
        self._tasks.start(self._work_guarded(key)).add_done_callback(lambda _: self._end(key))

    def _end(self, key: BucketKey) -> None:
        self._at_work.discard(key)
        if key in self._woken_at_work:
            self._woken_at_work.discard(key)
            self._resume_at.pop(key, None)
        self._woken.set()

    async def _work_guarded(self, key: BucketKey) -> None:
        """Work a bucket off; whatever goes wrong in it must not stop the others."""
        pause = _AFTER_TROUBLE
        try:
            resume_at = await self.work_off(key)
        except LeaseLost:
            _log.warning("minting_lease_lost", bucket=key.bucket)
        except BotError as error:
            _log.error("minting_stopped", bucket=key.bucket, error=str(error))
        except Exception as error:  # noqa: BLE001 - a damaged row or a bug
            _log.critical("minting_broke", bucket=key.bucket, error=type(error).__name__)
            pause = _AFTER_FAULT
        else:
            self._resume_at[key] = resume_at
            return
        self._resume_at[key] = self._clock() + pause

    async def work_off(self, key: BucketKey) -> datetime:
        """Take every step that is due; return when the next one is, at the latest in a minute."""
        work = await self._tokens.take(key)
        if work is None:
            return self._clock() + POLL
        try:
            while await self._take_step(work):
                work = await self._tokens.work(work.lease)
            return self._next_at(work)
        finally:
            with suppress(BotError):
                await self._tokens.let_go(work.lease)

    async def _take_step(self, work: MintingWork) -> bool:
        """Take the first step that is due, a waiting person's first; return whether there was one."""
        now = self._clock()
        for token in work.tokens:
            if token.state is MintedState.INTENDED and token.epoch != work.lease.epoch:
                await self._lose(work, token)
                return True
        make_at = self._making.due_at(work, now)
        if work.waiting is not None and make_at is not None and make_at <= now:
            await self._making.make(work, work.waiting)
            return True
        due = [token for token in work.tokens if self._taking_back.takes(token) and token.due_at <= now]
        if due:
            await self._taking_back.act(work.lease, due[0])
        return bool(due)

    async def _lose(self, work: MintingWork, token: MintedToken) -> None:
        """Note that another process was stopped between the name and the answer: the value, if any, is lost."""
        lost = replace(token, state=MintedState.LOST, due_at=self._clock() + SETTLE_AFTER)
        await self._tokens.change(token, lost, lease=work.lease)
        _log.warning("token_lost", bucket=token.key.bucket, name=token.name)

    def _next_at(self, work: MintingWork) -> datetime:
        now = self._clock()
        known = [
            self._making.due_at(work, now),
            *(each.due_at for each in work.tokens if self._taking_back.takes(each)),
        ]
        return min([now + self._longest_sleep, *(at for at in known if at is not None)])

    async def _sleep_until(self, at: datetime) -> None:
        wait = max((at - self._clock()).total_seconds(), 0)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._woken.wait()
