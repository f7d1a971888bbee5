"""`history`: lists the last submissions for buckets that the person may see."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bot.model.catalog import BucketKey
from bot.model.errors import BotError, DatabaseTrouble, RecordDamaged
from bot.model.submission import Submission
from bot.policy.permit import Outlook, Permit
from bot.policy.rules import Verb
from bot.slack.blocks import Json
from bot.slack.inbound.payloads import Command
from bot.slack.inbound.routes import Routes
from bot.slack.messages.history import MOST_SHOWN, history_message
from bot.slack.progress_steps import steps_of
from bot.slack.stories.parts import Parts
from bot.slack.stories.refusal import refuse_lookup
from bot.slack.subcommands import HISTORY

_MOST_READ: Final = 500
"""How many submissions are searched for those that the person may see."""


@dataclass(frozen=True, slots=True)
class History:
    """Reads the list from the database each time, and asks Cloudflare nothing."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take the subcommand."""
        routes.on_command(HISTORY, self.answer)

    async def answer(self, command: Command) -> str | Json:
        """Return what the person reads."""
        parts, bucket = self.parts, command.bucket
        try:
            permit = await parts.gate.permit(command.actor)
            permit.require(Verb.HISTORY, parts.key(bucket) if bucket else None, command.channel_id)
            seen = await self._find_seen(permit.outlook(Verb.HISTORY, channel_id=command.channel_id), bucket)
            broken = await self._find_broken(seen)
            rotatable = await self._find_rotatable(permit, command)
        except BotError as error:
            return refuse_lookup(error, command.actor, parts.contact)
        return history_message(seen, bucket, parts.clock(), steps_of, broken=broken, rotatable=rotatable)

    async def _find_rotatable(self, permit: Permit, command: Command) -> BucketKey | None:
        """Return the one bucket that was asked about, if a rotation of it is offered to this person."""
        if not command.bucket:
            return None
        key, outlook = self.parts.key(command.bucket), await self.parts.rotations.offered_to(permit, command.channel_id)
        return key if outlook.sees(key) else None

    async def _find_seen(self, outlook: Outlook, bucket: str) -> list[Submission]:
        """Return the last ones that this person may see.

        Mostly these are simply the last ones: reading and parsing 500 of them took 15 ms, those that are shown 1 ms.
        """
        history, account_id = self.parts.submissions.history, self.parts.account_id
        if bucket:
            return _seen(outlook, await history(account_id, bucket, MOST_SHOWN))
        with suppress(RecordDamaged):  # an older one may be readable
            found = _seen(outlook, await history(account_id, None, MOST_SHOWN))
            if len(found) == MOST_SHOWN:
                return found
        return _seen(outlook, await history(account_id, None, _MOST_READ))

    async def _find_broken(self, submissions: Iterable[Submission]) -> frozenset[str]:
        """Return the submissions whose credential no longer works: a tick beside them would be untrue."""
        try:
            known = await self.parts.catalogs.catch_up()
        except DatabaseTrouble:  # the list itself could be read, and shows how each one ended
            return frozenset()
        in_slots = filter(None, (known.credential(key) for key in {each.key for each in submissions}))
        return frozenset(each.submission_id for each in in_slots if known.is_broken(each))


def _seen(outlook: Outlook, submissions: Iterable[Submission]) -> list[Submission]:
    return [each for each in submissions if outlook.sees(each.key)]
