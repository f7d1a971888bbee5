"""Rotating many buckets: the sums first, then one press, and one message with a button that stops it."""

import re
import secrets
from dataclasses import dataclass
from typing import Final

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.model.fleet import MOST_BUCKETS, Fleet, FleetState
from bot.model.fleet_plan import FleetPlan, Wanted
from bot.model.foreign_text import one_line
from bot.model.place import is_channel_id
from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack.blocks import Json, escape
from bot.slack.inbound.payloads import Command, Press
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.messages.fleet_count import STOP
from bot.slack.messages.fleet_dry_run import START, START_ALL, dry_run_message, running_text
from bot.slack.stories.fleet_plan import make_plan, may_rotate, work_out
from bot.slack.stories.parts import Parts
from bot.slack.stories.refusal import refuse_lookup
from bot.slack.stories.tell import tell_presser
from bot.storage.fleets import Started

_ID: Final = re.compile(r"[0-9a-f]{10}")
_MOST_SHOWN: Final = 80
_MOST_ASKED: Final = 300
"""Characters of what was typed that the messages show; the buckets that it meant are recorded whole."""

_NO_GLOB: Final = (
    "`{typed}` names no buckets: write names and globs of a-z, 0-9, hyphens, `*`, `?` and `[sets]`, with a blank "
    "between two and a leading `!` where buckets are not to be rotated."
)
_NOT_HERE: Final = "Many buckets are rotated in a channel only: their message counts for all who look after them."
_TOO_MANY: Final = "That would be {number} buckets, and {most} at a time are the most: narrow it down by a glob."
_TOO_OLD: Final = "These sums are too old, or were begun already. Type the command again."
_NOT_YOURS: Final = "Only who typed the command can press this button. Type it yourself."
_MAY_NOT_STOP: Final = "Only who began it, or may rotate all of its buckets, can stop it. Ask one of them."
_OVER: Final = "This is over, or is being stopped already."
_BEGUN: Final = "It begins: a message in this channel counts, and has a button to stop it."

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RotateMany:
    """What a single bucket's story passes on to `answer`: a text that is no single name."""

    parts: Parts

    def register(self, routes: Routes) -> None:
        """Take the buttons; the command is taken by the story of a single bucket."""
        routes.on_press(START, self.start, in_view=False)
        routes.on_press(START_ALL, self.start, in_view=False)
        routes.on_press(STOP, self.stop, in_view=False)

    async def answer_instead(self, command: Command) -> str | Json | None:
        """Return what answers a command that is about many buckets, or comes while many are rotated; else None."""
        wanted = Wanted.read(command.bucket)
        if wanted.is_many:
            return await self.answer(command)
        return None if wanted.globs else await self._say_running(command)

    async def _say_running(self, command: Command) -> str | None:
        try:
            (await self.parts.gate.permit(command.actor)).require(Verb.ROTATE, None, command.channel_id)
            current = await self.parts.fleets.current()
        except BotError:
            return None  # the form says why
        return None if current is None else running_text(current)

    async def answer(self, command: Command) -> str | Json:
        """Return the sums of what was typed, or why there are none."""
        try:
            permit = await self.parts.gate.permit(command.actor)
            permit.require(Verb.ROTATE, None, command.channel_id)
            current = await self.parts.fleets.current()
            if current is not None:
                return running_text(current)
            problem = await self._find_problem(command)
            return problem or await self._propose(command, permit)
        except BotError as error:
            return refuse_lookup(error, command.actor, self.parts.contact)

    async def _find_problem(self, command: Command) -> str | None:
        """Return what is wrong with the text or the place, or None."""
        wanted = Wanted.read(command.bucket)
        if not wanted.is_valid:
            typed = escape(one_line(command.bucket)[:_MOST_SHOWN]).replace("`", "")
            return _NO_GLOB.format(typed=typed)
        if command.is_in_group_message or not is_channel_id(command.channel_id):
            return _NOT_HERE
        return await self.parts.channels.explain_problem(command.channel_id)

    async def _propose(self, command: Command, permit: Permit) -> str | Json:
        wanted = Wanted.read(command.bucket)
        plan = await make_plan(self.parts, wanted, permit, command.channel_id)
        number = len(plan.own) + len(plan.others)
        if number > MOST_BUCKETS:
            return _TOO_MANY.format(number=number, most=MOST_BUCKETS)
        fleet = self._fleet(command, plan)
        if number:
            await self.parts.fleets.propose(fleet)
        return dry_run_message(plan, fleet, *await work_out(self.parts, plan))

    def _fleet(self, command: Command, plan: FleetPlan) -> Fleet:
        return Fleet(
            id=secrets.token_hex(5),
            account_id=self.parts.account_id,
            team_id=self.parts.gate.home.team_id,
            user_id=command.actor.user_id,
            channel_id=command.channel_id,
            asked=_shorten(str(plan.wanted)),
            state=FleetState.PROPOSED,
            buckets=tuple(plan.own),
            others=tuple(plan.others),
            proposed_at=self.parts.clock(),
        )

    async def start(self, press: Press) -> None:
        """Begin it, or say why not. Each rotation is permitted anew when it is delivered."""
        try:
            problem = await self._start(press)
        except BotError as error:
            _log.warning("fleet_refused", user=press.actor.user_id, error=error.code)
            problem = render.refusal(error, contact=self.parts.contact)
        if problem:
            await tell_presser(self.parts.web, press, problem)
        elif press.answer_url is not None:
            await self.parts.slack_post.post(press.answer_url, {"text": _BEGUN, "replace_original": True})

    async def _start(self, press: Press) -> str:
        """Return what the person reads; "" if it has begun."""
        fleets, fleet = self.parts.fleets, await self._find(press)
        permit = await self.parts.gate.permit(press.actor)
        if fleet is None:
            return _TOO_OLD
        if fleet.user_id != press.actor.user_id:
            return _NOT_YOURS
        permit.require(Verb.ROTATE, None, fleet.channel_id)
        started = await fleets.start(fleet, with_others=press.action_id == START_ALL)
        _log.info("fleet_received", user=fleet.user_id, fleet=fleet.id, outcome=started.value)
        if started is Started.ANOTHER_RUNS:
            current = await fleets.current()
            return running_text(current) if current is not None else _TOO_OLD
        return "" if started is Started.STARTED else _TOO_OLD

    async def stop(self, press: Press) -> None:
        """Stop it, or say why not; its message follows."""
        try:
            problem = await self._stop(press)
        except BotError as error:
            _log.warning("fleet_refused", user=press.actor.user_id, error=error.code)
            problem = render.refusal(error, contact=self.parts.contact)
        if problem:
            await tell_presser(self.parts.web, press, problem)

    async def _stop(self, press: Press) -> str:
        """Return what the person reads; "" if it stops."""
        fleets, fleet = self.parts.fleets, await self._find(press)
        permit = await self.parts.gate.permit(press.actor)
        if fleet is None:
            return _OVER
        if fleet.user_id != press.actor.user_id and not self._may_rotate_all(permit, fleet):
            return _MAY_NOT_STOP
        stopped = await fleets.stop(fleet, by=press.actor.user_id)
        if stopped is None:  # changed since it was read: its message was noted, or it has ended
            again = await fleets.find(fleet.id)
            stopped = None if again is None else await fleets.stop(again, by=press.actor.user_id)
        if stopped is None:
            return _OVER
        _log.info("fleet_stopped_by_person", user=press.actor.user_id, fleet=fleet.id)
        return ""

    async def _find(self, press: Press) -> Fleet | None:
        return await self.parts.fleets.find(press.value) if _ID.fullmatch(press.value) else None

    @staticmethod
    def _may_rotate_all(permit: Permit, fleet: Fleet) -> bool:
        keys = (BucketKey(account_id=fleet.account_id, bucket=bucket) for bucket in fleet.buckets)
        return all(may_rotate(permit, key, fleet.channel_id) for key in keys)


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_ASKED else f"{text[:_MOST_ASKED]}\u2026"
