"""Opens the form for anyone who may use it, from every entrance."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from bot.model.catalog import BucketKey, is_bucket_name
from bot.model.errors import BotError, CommitUnknown, DatabaseUnavailable, SlackRefused
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import Opening
from bot.policy.gate import Actor
from bot.policy.permit import Permit
from bot.policy.rules import Rule, Verb
from bot.slack import form as modal
from bot.slack.blocks import Json, context
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Choice, Command, Press
from bot.slack.messages import render
from bot.slack.stories.no_catalog import no_catalog_view, offer_enabling
from bot.slack.stories.parts import Parts
from bot.slack.stories.slot import Slot, describe_slot, find_slot
from bot.slack.token_advice import advise

OPENING_LIFETIME: Final = timedelta(hours=1)

_TRIGGER_ERRORS: Final = frozenset({"expired_trigger_id", "exchanged_trigger_id", "invalid_trigger_id"})
_NOT_OPENED: Final = (
    "Slack did not open the form: it waits three seconds for the bot, and the bot was too late. Please try again."
)
_STACK_FULL: Final = (
    "Slack shows at most three windows on top of each other. Close them, and type `/r2-credential` again."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Whether there is a list of catalogs, and what is known of the form's bucket."""

    is_listed: bool
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class FormOpener:
    """Checks the person, records the opening, and opens the form."""

    parts: Parts

    def place_of(self, entrance: Command | Press) -> str:
        """Return where a result goes by default: to the channel that the person is in, else to them alone.

        A group message looks like a channel at Submit, so it is remembered.
        """
        channel_id = entrance.channel_id or ""
        if entrance.is_in_group_message:
            self.parts.channels.note_group_message(channel_id)
            return DIRECT
        return "" if is_channel_id(channel_id) else DIRECT

    async def open(
        self, actor: Actor, trigger_id: str, filling: Filling, asked_in: str | None, *, in_modal: bool = False
    ) -> str:
        """Return what the person reads instead of the form, or "" when it (or a notice) has opened.

        `asked_in` is the channel of the request, or None. A bucket without a usable catalog gets a notice, not a form.
        `in_modal`: requested by a button in a modal.
        """

        async def show(permit: Permit) -> None:
            known, placed = await asyncio.gather(
                self._look(filling.key, permit), self._leave_group_message(filling, asked_in)
            )
            slot = known.slot
            if slot is not None and slot.needs_enabling and not filling.knows_better:
                place = placed.channel_id or asked_in or DIRECT
                view = no_catalog_view(slot, place if is_channel_id(place) else DIRECT, permit)
            else:
                view = self._build(await self._record_opening(actor), placed, permit, known)
            await self.parts.web.open_view(trigger_id, view, in_modal=in_modal)

        return await self._admit(actor, filling.key, asked_in, show)

    async def open_in_place(self, actor: Actor, view_id: str, filling: Filling) -> str:
        """Replace another view by the form, whatever is known of the catalog; return the same as `open`."""

        async def show(permit: Permit) -> None:
            known = await self._look(filling.key, permit)
            view = self._build(await self._record_opening(actor), filling, permit, known)
            await self.parts.web.update_view(view_id, view)

        return await self._admit(actor, filling.key, None, show)

    async def show_choice(self, choice: Choice) -> None:
        """Show in an open form what is known of the bucket just chosen; what was typed stays."""
        form = choice.form
        key = self.parts.key(form.bucket) if is_bucket_name(form.bucket) else None
        filling = Filling(key=key, channel_id=form.channel_id, reason=form.reason, check_only=form.check_only)

        async def show(permit: Permit) -> None:
            known = replace(await self._look(key, permit), is_listed=True)  # it stays a type-ahead
            await self.parts.web.update_view(choice.view_id, self._build(form.nonce, filling, permit, known))

        await self._admit(choice.actor, key, None, show)

    async def _admit(
        self, actor: Actor, key: BucketKey | None, asked_in: str | None, show: Callable[[Permit], Awaitable[None]]
    ) -> str:
        """Show a view if the person may store, or check; else return what they read instead."""
        try:
            permit = await self.parts.gate.permit(actor)
            if permit.refusal(Verb.CHECK, key, asked_in) is not None:  # its tick is in the same form
                permit.require(Verb.STORE, key, asked_in)
            await show(permit)
        except SlackRefused as refusal:
            _log.warning("form_not_opened", slack_error=refusal.slack_error)
            if refusal.slack_error in _TRIGGER_ERRORS:
                return _NOT_OPENED
            if refusal.slack_error == "push_limit_reached":  # three views are stacked
                return _STACK_FULL
            return f"Slack did not open the form ({refusal.slack_error}). Please report it to the operator of the bot."
        except BotError as error:
            _log.warning("form_refused", user=actor.user_id, channel=asked_in, error=error.code)
            return render.refusal(error, contact=self.parts.contact)
        return ""

    async def _look(self, key: BucketKey | None, permit: Permit) -> _Known:
        """Return whether there is a list of catalogs, and what is known of the bucket if this person may see it."""
        parts = self.parts
        seen = await parts.visibility.of(permit, Verb.STORE, Verb.CHECK)
        parts.want_snapshot()
        slot = find_slot(parts, seen, key) if key is not None and permit.sees(key, Verb.STORE, Verb.CHECK) else None
        return _Known(is_listed=parts.catalogs.known.listing is not None, slot=slot)

    def _build(self, nonce: str, filling: Filling, permit: Permit, known: _Known) -> Json:
        place, slot, terms = filling.channel_id or DIRECT, known.slot, _find_terms(filling, permit)
        return modal.build_form(
            nonce=nonce,
            filling=filling,
            catalogs=[slot.catalog] if slot and slot.catalog else [] if known.is_listed else None,
            offers_direct=permit.refusal(Verb.STORE, filling.key, DIRECT) is None,
            remarks=modal.Remarks(
                known=_describe_known(slot, place, permit) if slot else (),
                token=advise(self.parts.account_id, _find_limit(terms), is_approved=_is_approved(filling, terms)),
                needs_reason=bool(terms) and all(rule.require_reason for rule in terms),
            ),
        )

    async def _leave_group_message(self, filling: Filling, asked_in: str | None) -> Filling:
        """Preselect the direct message if the current conversation is a group message, whatever its name."""
        begins_here = asked_in is not None and not filling.channel_id
        if begins_here and await self.parts.channels.is_group_message(asked_in or ""):
            return replace(filling, channel_id=DIRECT)
        return filling

    async def _record_opening(self, actor: Actor) -> str:
        nonce = secrets.token_hex(16)  # 32 hex digits: never masked as a token on the way back
        team_id = self.parts.gate.home.team_id
        expires_at = self.parts.clock() + OPENING_LIFETIME
        opening = Opening(nonce=nonce, team_id=team_id, user_id=actor.user_id, expires_at=expires_at)
        try:
            await self.parts.submissions.add_opening(opening)
        except CommitUnknown:  # an unused opening is harmless, so it counts as not recorded
            raise DatabaseUnavailable from None
        return nonce


def _find_terms(filling: Filling, permit: Permit) -> Sequence[Rule]:
    """Return the rules of which one will decide, by what the form holds now."""
    verb = Verb.CHECK if filling.check_only else Verb.STORE
    return permit.find_rules(verb, filling.key, filling.channel_id or None)


def _find_limit(rules: Sequence[Rule]) -> timedelta | None:
    """Return how long a token may live, if that is certain."""
    limits = {rule.max_token_lifetime for rule in rules}
    return limits.pop() if len(limits) == 1 else None


def _is_approved(filling: Filling, rules: Sequence[Rule]) -> bool:
    """Return whether it is certain that somebody else has to agree; a dry run waits for nobody."""
    return bool(rules) and not filling.check_only and all(rule.approvals for rule in rules)


def _describe_known(slot: Slot, place: str, permit: Permit) -> list[Json]:
    return offer_enabling(slot, place, permit, in_form=True) if slot.needs_enabling else [context(describe_slot(slot))]
