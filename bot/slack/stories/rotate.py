"""Rotating: the command and the buttons that open the form without a token, its Submit, and "only look"."""

import asyncio
from typing import Final

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.model.known_catalogs import Listing
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import NewSubmission, Sealed, TokenKind
from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack import rotate_form
from bot.slack.ages import Freshness
from bot.slack.blocks import Json, context
from bot.slack.button_values import place_value
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Command, Press, Submit
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.messages.progress import AFTER_ACKNOWLEDGEMENT
from bot.slack.stories.filled_in import FilledIn
from bot.slack.stories.fleet import RotateMany
from bot.slack.stories.in_form import permit_in_form
from bot.slack.stories.live_table import LiveTables, is_fresh
from bot.slack.stories.look import ROTATE_NOW, look_view
from bot.slack.stories.masked_reason import MaskedReasons, confirm_reason
from bot.slack.stories.no_catalog import offer_enabling
from bot.slack.stories.open_form import FormOpener, Known, are_approved, find_terms, need_reason
from bot.slack.stories.parts import Parts
from bot.slack.stories.slot import describe_slot
from bot.slack.stories.submitting import FormStory, update
from bot.slack.stories.table import ROTATE_ANY
from bot.slack.subcommands import COMMAND, ROTATE

OPEN_ANYWAY: Final = "open_rotation_anyway"
USE_SIMILAR: Final = "rotate_similar_bucket"
"""The action ids of the notice's buttons, as those of `no_catalog`."""

_log = structlog.get_logger()


class RotateForm(FormOpener):
    """The form says what will happen, and why it cannot happen now, as far as the database knows."""

    verbs = (Verb.ROTATE,)
    open_anyway = OPEN_ANYWAY
    use_similar = USE_SIMILAR

    async def refuse(self, permit: Permit, key: BucketKey | None, asked_in: str | None) -> str:
        """Return why nobody can rotate now, or ""; raises AccessRefused for a person who may not."""
        return await self.explain_obstacle() or await super().refuse(permit, key, asked_in)

    async def explain_obstacle(self) -> str:
        """Return why nobody can rotate anything now, or ""; raises DatabaseTrouble."""
        obstacle = await self.parts.rotations.find_obstacle()
        if obstacle is None:
            return ""
        return rotate_form.say_obstacle(obstacle, self.parts.clock(), render.ask_whom(self.parts.contact))

    async def explain_wait(self, key: BucketKey) -> str:
        """Return why this bucket cannot be rotated now, or ""; raises DatabaseTrouble."""
        busy_until = await self.parts.rotations.tokens.busy_until(key)
        return rotate_form.say_busy(busy_until) if busy_until is not None else ""

    async def build(self, nonce: str, filling: Filling, permit: Permit, known: Known) -> Json:
        """Return the form as a view."""
        key, slot, place = filling.key, known.slot, filling.channel_id or DIRECT
        terms = find_terms(Verb.ROTATE, filling, permit)
        sees = key is not None and permit.sees(key, Verb.ROTATE)
        problem = await self.explain_obstacle() or (await self.explain_wait(key) if key is not None and sees else "")
        described = [context(describe_slot(slot))] if slot is not None and not slot.needs_enabling else []
        return rotate_form.build_rotate_form(
            nonce=nonce,
            filling=filling,
            catalogs=known.catalogs,
            offers_direct=permit.refusal(Verb.ROTATE, key, DIRECT) is None,
            remarks=rotate_form.RotateRemarks(
                prospect=await self.parts.rotations.prospect(key) if key is not None and sees else None,
                problem=problem,
                known=offer_enabling(slot, place, permit) if slot is not None and slot.needs_enabling else described,
                needs_reason=need_reason(terms),
                is_approved=are_approved(terms),
            ),
        )


class RotateCredential(FormStory):
    """The form has no token in it: the bot makes one. "Only look" records and posts nothing."""

    nothing_sent = (
        f"No token was made, and nothing was sent to Cloudflare. Close this and type `{COMMAND} {ROTATE.name}`."
    )

    def __init__(self, parts: Parts, masked_reasons: MaskedReasons, tables: LiveTables, many: RotateMany) -> None:
        super().__init__(parts, masked_reasons)
        self._many = many
        self._opener = RotateForm(parts)
        self._buttons = FilledIn(parts, self._opener)
        self._tables = tables

    def register(self, routes: Routes) -> None:
        """Take the command, the form and the buttons."""
        routes.on_command(ROTATE, self.open_form)
        routes.on_submit(rotate_form.CALLBACK_ID, self.take)
        routes.on_choice(rotate_form.BUCKET_ACTION, self._opener.show_choice)
        in_place = (OPEN_ANYWAY, USE_SIMILAR)
        self._buttons.register(routes, filled_in=render.ROTATE, empty=ROTATE_ANY, in_place=in_place)
        routes.on_press(ROTATE_NOW, self.rotate_now, in_view=True)

    async def open_form(self, command: Command) -> str | Json:
        """Return what the person reads, or "" when the form has opened."""
        instead = await self._many.answer_instead(command)
        if instead is not None:
            return instead
        key = self.parts.key(command.bucket) if command.bucket else None
        filling = Filling(key=key, channel_id=self._opener.place_of(command))
        return await self._opener.open(command.actor, command.trigger_id, filling, command.channel_id)

    def is_mere_look(self, submit: Submit) -> bool:
        """Return whether "only look" is ticked."""
        return submit.form.check_only

    async def answer_instead(self, submit: Submit, permit: Permit) -> Json | None:
        """Return what "only look" finds, or the form again with the reason why a rotation has to wait."""
        key = self.key(submit)
        if self.is_mere_look(submit):
            return update(await self._look(submit))
        if await self._is_known(submit):  # pressed again: it is shown how far it is
            return None
        is_kept_waiting = await self._opener.explain_obstacle() or await self._opener.explain_wait(key)
        return update(await self._opener.build_again(submit.form, permit)) if is_kept_waiting else None

    async def _is_known(self, submit: Submit) -> bool:
        return await self.parts.submissions.find(submit.view_id) is not None

    async def _look(self, submit: Submit) -> Json:
        """Return what is known, and schedule one refresh of it unless that is fresh."""
        listing = self.parts.catalogs.known.listing
        is_old = not is_fresh(listing, self.parts.clock())
        if is_old:
            self._tables.follow(_name_of(submit.view_id), self._follow(submit, listing))
        return await self._view(submit, Freshness.BEING_ASKED if is_old else Freshness.FRESH)

    async def _view(self, submit: Submit, freshness: Freshness) -> Json:
        prospect = await self.parts.rotations.prospect(self.key(submit))
        place = submit.form.channel_id
        return look_view(prospect, freshness, place_value(self.key(submit), place if is_channel_id(place) else DIRECT))

    async def _follow(self, submit: Submit, shown: Listing | None) -> None:
        """Show it again, once: when the catalogs are fresh, or saying that they could not be refreshed."""
        await asyncio.sleep(AFTER_ACKNOWLEDGEMENT.total_seconds())
        try:
            freshness = await self._tables.wait_for_news(shown)
            permit = await permit_in_form(self.parts, submit.actor, submit.form.nonce)  # a minute may have passed
            permit.require(Verb.ROTATE, self.key(submit), None)
            await self.parts.web.update_view(submit.view_id, await self._view(submit, freshness))
        except BotError as error:
            _log.warning("fresh_table_not_shown", error=str(error))

    async def rotate_now(self, press: Press) -> None:
        """Replace the answer to "only look" by the form, which nothing may replace any more."""
        self._tables.cancel(_name_of(press.view_id))
        await self._buttons.open_in_place(press)

    def new_submission(self, submit: Submit) -> NewSubmission:
        """Return a rotation: the token is made for it later."""
        form = submit.form
        return NewSubmission(
            id=submit.view_id,
            task=form.task,
            team_id=submit.team_id,
            user_id=submit.actor.user_id,
            key=self.key(submit),
            channel_id=form.channel_id,
            reason=confirm_reason(form.reason),
            token_kind=TokenKind.ACCOUNT,
            last_four="",
            sealed=Sealed(response_url=submit.pasted.sealed_response_url),
            sent_at=submit.sent_at,
            accepted_at=submit.received_at,
            expires_at=submit.received_at + self.parts.ttl,
        )


def _name_of(view_id: str) -> str:
    return f"look in {view_id}"
