"""Opens a form from a button, filled in with what the button stands for: a submission, a bucket, or a notice's."""

from dataclasses import dataclass
from typing import Final

from bot.cloudflare.errors import CatalogRefusal
from bot.model.errors import DatabaseTrouble, RecordDamaged, leaves
from bot.model.place import DIRECT, is_channel_id
from bot.model.submission import State, Submission, Task
from bot.slack.button_values import read_bucket_value, read_place_value
from bot.slack.form import Filling
from bot.slack.inbound.payloads import Press
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.stories.open_form import FormOpener
from bot.slack.stories.parts import Parts
from bot.slack.stories.tell import tell_presser

_WITHOUT_CATALOG: Final = frozenset(leaf.code for leaf in leaves(CatalogRefusal))


@dataclass(frozen=True, slots=True)
class FilledIn:
    """Anyone can see the buttons, so each press is checked again."""

    parts: Parts
    opener: FormOpener

    def register(self, routes: Routes, *, filled_in: str, empty: str, in_place: tuple[str, ...]) -> None:
        """Take the buttons with these action ids: those in views are replaced by the form."""
        routes.on_press(filled_in, self.open_filled_in)
        routes.on_press(empty, self.open_empty)
        for action_id in in_place:
            routes.on_press(action_id, self.open_in_place, in_view=True)

    async def open_filled_in(self, press: Press) -> None:
        """Open the form, prefilled from the button's submission or bucket with everything but the token."""
        key = read_bucket_value(press.value, self.parts.account_id)
        try:
            known = None if key else await self.parts.submissions.find(press.value)
        except (DatabaseTrouble, RecordDamaged) as error:
            await tell_presser(self.parts.web, press, render.refusal(error, contact=self.parts.contact))
            return
        filling = _fill_in(known) if known else Filling(key=key, channel_id=self.opener.place_of(press))
        await self._open(press, filling)

    async def open_empty(self, press: Press) -> None:
        """Open the empty form from the App Home, which is in no channel."""
        await self._open(press, Filling(channel_id=self.opener.place_of(press)))

    async def open_in_place(self, press: Press) -> None:
        """Replace the view with the button by the form, for the bucket that the button names."""
        wanted = read_place_value(press.value, self.parts.account_id)
        if wanted is None:
            return
        key, place = wanted
        problem = await self.opener.open_in_place(press.actor, press.view_id, Filling(key=key, channel_id=place))
        if problem:
            await tell_presser(self.parts.web, press, problem)

    async def _open(self, press: Press, filling: Filling) -> None:
        """Check the channel of the result, which may differ from where the button is: the bot may not post there.

        A direct message with the bot is in no channel, like the App Home.
        """
        asked_in = filling.channel_id if is_channel_id(filling.channel_id) else press.channel_id
        in_channel = asked_in if asked_in and is_channel_id(asked_in) else None
        problem = await self.opener.open(press.actor, press.trigger_id, filling, in_channel, in_modal=press.is_in_modal)
        if problem:
            await tell_presser(self.parts.web, press, problem)


def _fill_in(known: Submission) -> Filling:
    """Prefill from a submission. If it failed because of its token, its catalog exists, even if not listed yet."""
    channel_id = known.channel_id if is_channel_id(known.channel_id) else DIRECT
    check_again = known.task is Task.CHECK and known.state is not State.CHECKED
    return Filling(
        key=known.key,
        channel_id=channel_id,
        reason=known.reason,
        check_only=check_again,
        knows_better=known.error_code not in _WITHOUT_CATALOG,
    )
