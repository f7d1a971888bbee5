"""Whether the bot itself recorded what a slot holds: nothing is said or done in the name of anybody else."""

from collections.abc import Awaitable, Callable

import structlog

from bot.model.catalog import StoredCredential

_log = structlog.get_logger()

IsAuthentic = Callable[[StoredCredential], Awaitable[bool]]
"""Returns whether the bot itself recorded a credential; raises DatabaseTrouble."""


def report_forged(is_authentic: IsAuthentic) -> IsAuthentic:
    """Return the same, which also reports each record of somebody else's once."""
    forged = set[str]()

    async def is_ours(credential: StoredCredential) -> bool:
        if await is_authentic(credential):
            return True
        if credential.submission_id not in forged:
            forged.add(credential.submission_id)
            row = f"{credential.key.account_id} {credential.bucket}"
            _log.critical("record_not_authentic", table="credentials", row=row, column="submission_id")
        return False

    return is_ours
