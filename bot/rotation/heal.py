"""Has a bucket's credential made anew when its slot did not work without a token that was to be taken back."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from bot.catalogs.authentic import report_forged
from bot.model.catalog import StoredCredential
from bot.model.minted import MintedToken
from bot.model.origin import id_of_healing
from bot.rotation.ask import new_rotation
from bot.storage.catalogs import Catalogs
from bot.storage.submissions import Submissions

_log = structlog.get_logger()


class Healing:
    """Asks for a rotation as the bot itself; its result is posted where that of the last one was, as the audit says."""

    def __init__(
        self, submissions: Submissions, catalogs: Catalogs, clock: Callable[[], datetime], ttl: timedelta
    ) -> None:
        self._submissions = submissions
        self._is_authentic = report_forged(submissions.is_stored_by_the_bot)
        self._catalogs = catalogs
        self._clock = clock
        self._ttl = ttl

    async def _find_stored(self, token: MintedToken) -> StoredCredential | None:
        stored = (await self._catalogs.catch_up()).credentials.get(token.key.bucket)
        return stored if stored is not None and await self._is_authentic(stored) else None

    async def heal(self, token: MintedToken) -> bool:
        """Ask for it once for each time the token was enabled again; return False where nobody could be told."""
        stored = await self._find_stored(token)
        last = None if stored is None else await self._submissions.find(stored.submission_id)
        if stored is None or last is None:
            return False
        new = new_rotation(
            submission_id=id_of_healing(token.name, token.undone),
            key=token.key,
            team_id=last.team_id,
            user_id=stored.stored_by,
            channel_id=stored.channel_id,
            now=self._clock(),
            ttl=self._ttl,
        )
        acceptance = await self._submissions.add(new)
        _log.warning("rotation_asked_again", bucket=token.key.bucket, verdict=acceptance.verdict.value)
        return True
