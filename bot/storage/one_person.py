"""The command `person`: prints what is kept of one person, or forgets it, beside the running bot."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from bot.model.errors import StartRefused
from bot.model.slack_ids import SlackId
from bot.settings import DatabaseSettings
from bot.storage.beside import open_beside
from bot.storage.people import StillOpen, find_kept, forget_person


async def export_person(settings: DatabaseSettings, user_id: str, write: Callable[[str], None]) -> None:
    """Write each record that names the person as a line of JSON. Raises StartRefused."""
    _require_person(user_id)
    async with open_beside(settings) as (database, _):
        for record in await database.run(lambda connection: [*find_kept(connection, user_id)]):
            write(json.dumps(record, ensure_ascii=False) + "\n")


async def forget(settings: DatabaseSettings, user_id: str) -> str:
    """Take the person out of every record, and return what was done. Raises StartRefused while something is open."""
    _require_person(user_id)
    async with open_beside(settings) as (database, chain):

        def act(connection: Connection) -> str:
            done = forget_person(connection, chain, user_id, datetime.now(UTC))
            return (
                f"{user_id} is forgotten. Submissions that named this person: {done.submissions}; entries of the "
                f"audit, which stay without the person: {done.entries}"
            )

        try:
            return await database.run(act)
        except StillOpen:
            message = f"{user_id} has a submission that is open, or not reported yet: try again when it has ended"
            raise StartRefused(message) from None


def _require_person(user_id: str) -> None:
    if not SlackId.USER.fits(user_id):
        message = f"{user_id!r} is no id of a person: write it as Slack shows it, such as U0123ABCD"
        raise StartRefused(message)
