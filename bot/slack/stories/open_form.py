"""Opens a form for anyone who may use it, from every entrance."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar, Final

import structlog

from bot.model.catalog import BucketKey, Catalog, is_bucket_name
from bot.model.errors import BotError, CommitUnknown, DatabaseUnavailable, SlackRefused
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import Opening
from bot.policy.gate import Actor
from bot.policy.permit import Permit
from bot.policy.rules import Rule, Verb
from bot.slack import form as modal
from bot.slack.blocks import Json, context
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Choice, Command, Press, UnverifiedForm
from bot.slack.messages import render
from bot.slack.stories.no_catalog import OPEN_ANYWAY, USE_SIMILAR, no_catalog_view, offer_enabling
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
class Known:
    """Whether there is a list of catalogs, and what is known of the form's bucket."""

    is_listed: bool
    slot: Slot | None = None

    @property
    def catalogs(self) -> list[Catalog] | None:
        """What the form's field begins with: the bucket's catalog, or None if there is nothing to choose from."""
        if self.slot is not None and self.slot.catalog is not None:
            return [self.slot.catalog]
        return [] if self.is_listed else None


class FormOpener(ABC):
    """Checks the person, records the opening, and opens the form."""

    verbs: ClassVar[tuple[Verb, ...]]
    """What the form can be used for, of which one thing is enough; the first is the one that a refusal speaks of."""

    open_anyway: ClassVar[str]
    use_similar: ClassVar[str]
    """The action ids by which the notice of a missing catalog is replaced by the form."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @abstractmethod
    async def build(self, nonce: str, filling: Filling, permit: Permit, known: Known) -> Json:
        """Return the form as a view; raises BotError."""

    async def refuse(self, permit: Permit, key: BucketKey | None, asked_in: str | None) -> str:
        """Return why the form does not open, or ""; raises AccessRefused for a person who may not use it."""
        first, *others = self.verbs
        if all(permit.refusal(verb, key, asked_in) is not None for verb in others):
            permit.require(first, key, asked_in)
        return ""

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
                ids = self.open_anyway, self.use_similar
                view = no_catalog_view(slot, place if is_channel_id(place) else DIRECT, permit, ids)
            else:
                view = await self.build(await self._record_opening(actor), placed, permit, known)
            await self.parts.web.open_view(trigger_id, view, in_modal=in_modal)

        return await self._admit(actor, filling.key, asked_in, show)

    async def open_in_place(self, actor: Actor, view_id: str, filling: Filling) -> str:
        """Replace another view by the form, whatever is known of the catalog; return the same as `open`."""

        async def show(permit: Permit) -> None:
            known = await self._look(filling.key, permit)
            view = await self.build(await self._record_opening(actor), filling, permit, known)
            await self.parts.web.update_view(view_id, view)

        return await self._admit(actor, filling.key, None, show)

    async def show_choice(self, choice: Choice) -> None:
        """Show in an open form what is known of the bucket just chosen; what was typed stays."""
        filling = fill_in(self.parts, choice.form)

        async def show(permit: Permit) -> None:
            known = replace(await self._look(filling.key, permit), is_listed=True)  # it stays a type-ahead
            view = await self.build(choice.form.nonce, filling, permit, known)
            await self.parts.web.update_view(choice.view_id, view)

        await self._admit(choice.actor, filling.key, None, show)

    async def build_again(self, form: UnverifiedForm, permit: Permit) -> Json:
        """Return an open form as it is now, under the same opening; raises BotError."""
        filling = fill_in(self.parts, form)
        return await self.build(form.nonce, filling, permit, await self._look(filling.key, permit))

    async def _admit(
        self, actor: Actor, key: BucketKey | None, asked_in: str | None, show: Callable[[Permit], Awaitable[None]]
    ) -> str:
        """Show a view if the person may use the form; else return what they read instead."""
        try:
            permit = await self.parts.gate.permit(actor)
            problem = await self.refuse(permit, key, asked_in)
            if problem:
                return problem
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

    async def _look(self, key: BucketKey | None, permit: Permit) -> Known:
        """Return whether there is a list of catalogs, and what is known of the bucket if this person may see it."""
        parts = self.parts
        seen = await parts.visibility.of(permit, *self.verbs)
        parts.want_snapshot()
        slot = find_slot(parts, seen, key) if key is not None and permit.sees(key, *self.verbs) else None
        return Known(is_listed=parts.catalogs.known.listing is not None, slot=slot)

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


class StoreForm(FormOpener):
    """The form with a field for a token; its tick makes it a dry run."""

    verbs = (Verb.STORE, Verb.CHECK)
    open_anyway = OPEN_ANYWAY
    use_similar = USE_SIMILAR

    async def build(self, nonce: str, filling: Filling, permit: Permit, known: Known) -> Json:
        """Return the form as a view."""
        verb = Verb.CHECK if filling.check_only else Verb.STORE
        place, slot, terms = filling.channel_id or DIRECT, known.slot, find_terms(verb, filling, permit)
        is_approved = not filling.check_only and are_approved(terms)  # a dry run waits for nobody
        return modal.build_form(
            nonce=nonce,
            filling=filling,
            catalogs=known.catalogs,
            offers_direct=permit.refusal(Verb.STORE, filling.key, DIRECT) is None,
            remarks=modal.Remarks(
                known=_describe_known(slot, place, permit) if slot else (),
                token=advise(self.parts.account_id, _find_limit(terms), is_approved=is_approved),
                needs_reason=need_reason(terms),
            ),
        )


def fill_in(parts: Parts, form: UnverifiedForm) -> Filling:
    """Return what an open form holds now."""
    key = parts.key(form.bucket) if is_bucket_name(form.bucket) else None
    return Filling(key=key, channel_id=form.channel_id, reason=form.reason, check_only=form.check_only)


def find_terms(verb: Verb, filling: Filling, permit: Permit) -> Sequence[Rule]:
    """Return the rules of which one will decide, by what the form holds now."""
    return permit.find_rules(verb, filling.key, filling.channel_id or None)


def need_reason(rules: Sequence[Rule]) -> bool:
    """Return whether it is certain that a reason has to be given."""
    return bool(rules) and all(rule.require_reason for rule in rules)


def are_approved(rules: Sequence[Rule]) -> bool:
    """Return whether it is certain that somebody else has to agree."""
    return bool(rules) and all(rule.approvals for rule in rules)


def _find_limit(rules: Sequence[Rule]) -> timedelta | None:
    """Return how long a token may live, if that is certain."""
    limits = {rule.max_token_lifetime for rule in rules}
    return limits.pop() if len(limits) == 1 else None


def _describe_known(slot: Slot, place: str, permit: Permit) -> list[Json]:
    return offer_enabling(slot, place, permit, in_form=True) if slot.needs_enabling else [context(describe_slot(slot))]
