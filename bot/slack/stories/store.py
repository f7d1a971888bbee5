"""Storing: the command that opens the form, and its Submit."""

from typing import Final

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, DatabaseTrouble
from bot.model.submission import NewSubmission, Sealed
from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack import form as modal
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Command, Submit
from bot.slack.inbound.routes import Routes
from bot.slack.stories.masked_reason import MaskedReasons, confirm_reason
from bot.slack.stories.open_form import FormOpener
from bot.slack.stories.parts import Parts
from bot.slack.stories.submitting import FormStory
from bot.slack.subcommands import COMMAND, STORE, ask_back

_ONLY_CHECK: Final = "You may only check tokens for this bucket: tick this."
_ONLY_STORE: Final = "For this bucket you may store tokens, but not only check them: untick this."


class StoreCredential(FormStory):
    """The form has a token in it, which the ingress has sealed."""

    nothing_sent = (
        "Nothing was sent to Cloudflare, and the token you pasted was not kept. Close this and type "
        f"`{COMMAND}` to start again."
    )

    def __init__(self, parts: Parts, opener: FormOpener, masked_reasons: MaskedReasons) -> None:
        super().__init__(parts, masked_reasons)
        self._opener = opener

    def register(self, routes: Routes) -> None:
        """Take the command and the form."""
        routes.on_command(STORE, self.open_form)
        routes.on_submit(modal.CALLBACK_ID, self.take)

    async def open_form(self, command: Command) -> str:
        """Return what the person reads, or "" when the form has opened."""
        key = self.parts.key(command.bucket) if command.bucket else None
        if key is not None and command.guess is not None and not await self._is_known(command, key):
            return ask_back(key.bucket, command.guess)
        filling = Filling(key=key, channel_id=self._opener.place_of(command))
        return await self._opener.open(command.actor, command.trigger_id, filling, command.channel_id)

    async def _is_known(self, command: Command, key: BucketKey) -> bool:
        """Return whether this person may see a catalog of that name: then the word is not a misspelt subcommand."""
        try:
            permit = await self.parts.gate.permit(command.actor)
            known = await self.parts.catalogs.catch_up()
        except (AccessRefused, DatabaseTrouble):
            return True  # the form will report it
        return permit.sees(key, Verb.STORE, Verb.CHECK) and known.catalog(key) is not None

    def find_own_errors(self, submit: Submit) -> dict[str, str | None]:
        """Return what the shape of the token says against it."""
        return {modal.TOKEN_BLOCK: modal.check_token(submit.pasted)}

    def find_other_task(self, permit: Permit, submit: Submit) -> tuple[str, str] | None:
        """Return that the tick makes it a dry run, or that without it this is none, if that is allowed."""
        is_dry_run = submit.form.check_only
        other_verb, advice = (Verb.STORE, _ONLY_STORE) if is_dry_run else (Verb.CHECK, _ONLY_CHECK)
        is_allowed = permit.refusal(other_verb, self.key(submit), None) is None
        return (modal.CHECK_BLOCK, advice) if is_allowed else None

    def new_submission(self, submit: Submit) -> NewSubmission:
        """Return the token, sealed, and all that it was submitted with."""
        form, pasted = submit.form, submit.pasted
        if pasted.sealed is None:
            message = "this kind of token must be a form error"
            raise ValueError(message)
        return NewSubmission(
            id=submit.view_id,
            task=submit.form.task,
            team_id=submit.team_id,
            user_id=submit.actor.user_id,
            key=self.key(submit),
            channel_id=form.channel_id,
            reason=confirm_reason(form.reason),
            token_kind=pasted.kind,
            last_four=pasted.last_four,
            fingerprint=pasted.fingerprint,
            sealed=Sealed(token=pasted.sealed, response_url=pasted.sealed_response_url),
            sent_at=submit.sent_at,
            accepted_at=submit.received_at,
            expires_at=submit.received_at + self.parts.ttl,
        )
