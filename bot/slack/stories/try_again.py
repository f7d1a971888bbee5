"""The buttons that open the form that stores: "Try again" of a result, "Store a new one" of a table, the App Home's.

Also handles changes in an open view: the form replacing a notice, and another bucket chosen in the form.
"""

from dataclasses import dataclass

from bot.slack import form as modal
from bot.slack.inbound.routes import Routes
from bot.slack.messages import render
from bot.slack.stories.filled_in import FilledIn
from bot.slack.stories.no_catalog import OPEN_ANYWAY, USE_SIMILAR
from bot.slack.stories.open_form import FormOpener
from bot.slack.stories.parts import Parts
from bot.slack.stories.table import STORE


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Each press is checked again."""

    parts: Parts
    opener: FormOpener

    def register(self, routes: Routes) -> None:
        """Take the buttons, and the choice of a bucket."""
        buttons = FilledIn(self.parts, self.opener)
        buttons.register(routes, filled_in=render.TRY_AGAIN, empty=STORE, in_place=(OPEN_ANYWAY, USE_SIMILAR))
        routes.on_choice(modal.BUCKET_ACTION, self.opener.show_choice)
