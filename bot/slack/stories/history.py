"""`history`: lists the last submissions for buckets that the person may see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bot.model.errors import BotError, DatabaseTrouble
from bot.model.submission import Submission
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
            most = MOST_SHOWN if bucket else _MOST_READ
            submissions = await parts.submissions.history(parts.account_id, bucket or None, most)
            broken = await self._find_broken(submissions)
        except BotError as error:
            return refuse_lookup(error, command.actor, parts.contact)
        seen = [each for each in submissions if permit.sees(each.key)]
        return history_message(seen, bucket, parts.clock(), steps_of, broken=broken)

    async def _find_broken(self, submissions: Iterable[Submission]) -> frozenset[str]:
        """Return the submissions whose credential no longer works: a tick beside them would be untrue."""
        try:
            known = await self.parts.catalogs.catch_up()
        except DatabaseTrouble:  # the list itself could be read, and shows how each one ended
            return frozenset()
        in_slots = filter(None, (known.credential(key) for key in {each.key for each in submissions}))
        return frozenset(each.submission_id for each in in_slots if known.is_broken(each))
