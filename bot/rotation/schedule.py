"""Has buckets rotated every R2_CREDENTIAL_ROTATE_EVERY: only those whose slot holds a token of the bot's own.

What is due is found in memory, and asked of the signed rows before a rotation begins. Several workers may do this at
once: a turn has one id.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.catalogs.authentic import IsAuthentic, report_forged
from bot.model.catalog import StoredCredential
from bot.model.errors import BotError
from bot.model.in_turns import in_turns
from bot.model.known_catalogs import KnownCatalogs
from bot.model.minted import MintedState, MintedToken, find_busy_until, is_minter_present
from bot.model.origin import id_of_scheduled
from bot.model.reference import about
from bot.policy.scheduled import Scheduled
from bot.rotation.ask import new_rotation
from bot.storage.catalogs import Catalogs
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens
from bot.storage.submissions import Submissions

MOST_AT_ONCE: Final = 50
"""In a minute, somewhat more than the pace allows. What is left has its next moment in four hours."""

_log = structlog.get_logger()


class RotationSchedule:
    """Begins what is due, once a minute. Where nobody can mint, it waits: one alarm instead of one for each bucket."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        scheduled: Scheduled,
        catalogs: Catalogs,
        submissions: Submissions,
        tokens: MintedTokens,
        installations: Installations,
        is_authentic: IsAuthentic,
        team_id: str,
        ttl: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        """Store the dependencies."""
        self._scheduled = scheduled
        self._catalogs = catalogs
        self._submissions = submissions
        self._tokens = tokens
        self._installations = installations
        self._is_authentic = report_forged(is_authentic)
        self._team_id = team_id
        self._ttl = ttl
        self._clock = clock

    async def begin_due(self) -> None:
        """Begin what is due now. Raises DatabaseTrouble; a bucket that fails does not hold up the others."""
        if self._scheduled.timetable is None:
            return
        due = await self._find_due(await self._catalogs.catch_up())
        if not due or not await self._can_mint():
            return
        for credential, turn in due[:MOST_AT_ONCE]:
            with about(id_of_scheduled(credential.bucket, turn)):
                await self._try_to_begin(credential, turn)

    async def _find_due(self, known: KnownCatalogs) -> list[tuple[StoredCredential, int]]:
        """Return what is due and its turn, the oldest credential first."""
        now, timetable = self._clock(), self._scheduled.timetable
        assert timetable is not None  # noqa: S101 - the caller looked
        due = []
        async for credential in in_turns(known.credentials.values()):
            if timetable.may_be_due(credential, now) and known.is_ours(credential):
                turn = timetable.turn(credential, known.failures.get(credential.bucket), now)
                if turn is not None and self._scheduled.timetable_of(credential, known):
                    due.append((credential, turn))
        return sorted(due, key=lambda each: (each[0].stored_at, each[0].bucket))

    async def _can_mint(self) -> bool:
        standing = await self._installations.standing()
        return standing is not None and standing.trouble is None and is_minter_present(standing, self._clock())

    async def _try_to_begin(self, credential: StoredCredential, turn: int) -> None:
        try:
            if _is_at_rest(credential, await self._tokens.of_bucket(credential.key)):
                await self._begin(credential, turn)
        except BotError as error:
            _log.warning("scheduled_rotation_not_begun", bucket=credential.bucket, error=str(error))

    async def _begin(self, credential: StoredCredential, turn: int) -> None:
        """Ask for it in the name of who stored the last one, to whom the result goes if no channel takes it."""
        if not await self._is_authentic(credential):
            return
        new = new_rotation(
            submission_id=id_of_scheduled(credential.bucket, turn),
            key=credential.key,
            team_id=self._team_id,
            user_id=credential.stored_by,
            channel_id=credential.channel_id,
            now=self._clock(),
            ttl=self._ttl,
        )
        acceptance = await self._submissions.add_if_idle(new)
        if acceptance.is_recorded:
            _log.info("scheduled_rotation_begun", bucket=credential.bucket)


def _is_at_rest(credential: StoredCredential, left: list[MintedToken]) -> bool:
    """Return whether the slot's token is a proven one of ours, untouched by others, and no earlier one is in use still.

    One that somebody has disabled by hand may have been meant to stop what uses it: a person decides on that.
    """
    is_ours = any(
        token.state is MintedState.PROVEN and token.token_id == credential.token_id and token.trouble is None
        for token in left
    )
    return is_ours and find_busy_until(left) is None
