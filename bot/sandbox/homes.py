"""What the app has published on people's Home tabs, and what a person sees there.

Home views: https://docs.slack.dev/reference/views/home-tab-views and https://docs.slack.dev/surfaces/app-home
"""

from copy import deepcopy
from dataclasses import dataclass, field

from bot.sandbox.blocks import JsonObject, texts_of
from bot.sandbox.views import View
from bot.sandbox.workspace import Changes, FakeSlackConfig, User, new_hash, new_id


@dataclass(slots=True, kw_only=True)
class HomeView(View):
    """The view on one person's Home tab."""

    def snapshot(self) -> "Home":
        """Return what the person sees now."""
        return Home(
            id=self.id,
            user_id=self.user.id,
            hash=self.hash,
            callback_id=self.definition.get("callback_id") or "",
            private_metadata=self.definition.get("private_metadata") or "",
            blocks=tuple(deepcopy(self.blocks)),
            values=self.state()["values"],
            text="\n".join(texts_of(self.blocks)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What a person sees on the Home tab at one moment; `text` is everything readable in it, line by line."""

    id: str
    user_id: str
    hash: str
    callback_id: str
    private_metadata: str
    blocks: tuple[JsonObject, ...]
    values: JsonObject
    text: str

    @property
    def block_ids(self) -> tuple[str, ...]:
        """The ids of its blocks, in order."""
        return tuple(block["block_id"] for block in self.blocks)


@dataclass(slots=True)
class Homes:
    """Every person's Home tab; all changes are announced."""

    config: FakeSlackConfig
    changes: Changes
    _views: dict[str, HomeView] = field(default_factory=dict)

    def of(self, user_id: str) -> HomeView | None:
        """Return the view that was published to the user."""
        return self._views.get(user_id)

    def find_external(self, external_id: str) -> HomeView | None:
        """Return the view to which the app gave this id of its own."""
        views = self._views.values()
        return next((view for view in views if view.definition.get("external_id") == external_id), None)

    def publish(self, user: User, definition: JsonObject) -> HomeView:
        """Show a view on the user's Home tab; the first one gives it the id that it keeps."""
        view = self._views.get(user.id)
        if view is None:
            view_id = new_id("V")
            view = self._views[user.id] = HomeView(id=view_id, user=user, root_view_id=view_id)
        view.define(definition, new_hash(self.config))
        self.changes.announce()
        return view
