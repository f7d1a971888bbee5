"""The modals that people have open: their stacks, what their own client finds wrong, and what a person sees of them."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from bot.sandbox.blocks import Field, JsonObject, texts_of
from bot.sandbox.views import View
from bot.sandbox.workspace import Changes, FakeSlackConfig, User, new_hash, new_id

MOST_VIEWS = 3
OVERWRITTEN_WITHIN_SECONDS = 1.0
REQUIRED = "Please complete this required field."

_SHOWN_ALWAYS = ("title", "blocks", "submit", "close")


@dataclass(slots=True, kw_only=True)
class OpenView(View):
    """A modal's view in front of a person, and how its submission goes."""

    errors: dict[str, str] = field(default_factory=dict)
    notice: str | None = None
    is_busy: bool = False
    acknowledged_at: float | None = None

    def complaints(self) -> dict[str, str]:
        """Return what Slack's own client finds wrong before it sends anything, by block_id."""
        return {one.block_id: problem for one in self.fields if one.is_input and (problem := self._complaint(one))}

    def snapshot(self) -> "Modal":
        """Return what the person sees now."""
        return Modal(
            id=self.id,
            user_id=self.user.id,
            hash=self.hash,
            callback_id=self.definition.get("callback_id") or "",
            private_metadata=self.definition.get("private_metadata") or "",
            title=self.definition["title"]["text"],
            has_submit=bool(self.definition.get("submit")),
            blocks=tuple(deepcopy(self.blocks)),
            values=self.state()["values"],
            errors=dict(self.errors),
            notice=self.notice,
            is_busy=self.is_busy,
            text="\n".join(texts_of({name: self.definition.get(name) for name in _SHOWN_ALWAYS})),
        )

    def _complaint(self, one: Field) -> str | None:
        state = self.values[one.block_id, one.action_id]
        filled = next(value for name, value in state.items() if name != "type")
        if not filled:
            return None if one.is_optional else REQUIRED
        if one.kind != "plain_text_input":
            return None
        longest, shortest = one.element.get("max_length") or 3000, one.element.get("min_length") or 0
        if len(filled) > longest:
            return f"Must be {longest} characters or fewer."
        return f"Must be at least {shortest} characters." if len(filled) < shortest else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Modal:
    """What a person sees of an open view at one moment; `text` is everything readable in it, line by line."""

    id: str
    user_id: str
    hash: str
    callback_id: str
    private_metadata: str
    title: str
    has_submit: bool
    blocks: tuple[JsonObject, ...]
    values: JsonObject
    errors: dict[str, str]
    notice: str | None
    is_busy: bool
    text: str

    @property
    def block_ids(self) -> tuple[str, ...]:
        """The ids of its blocks, in order."""
        return tuple(block["block_id"] for block in self.blocks)


@dataclass(slots=True)
class Modals:
    """Every person's stack of open views; all changes are announced."""

    config: FakeSlackConfig
    changes: Changes
    default_conversation: Callable[[Field, OpenView], str | None]
    _stacks: dict[str, list[OpenView]] = field(default_factory=dict)

    def top(self, user_id: str) -> OpenView | None:
        """Return the view in front of the user."""
        stack = self._stacks.get(user_id)
        return stack[-1] if stack else None

    def find(self, view_id: str) -> OpenView | None:
        """Return the open view with this id."""
        return next((view for view in self._all() if view.id == view_id), None)

    def find_external(self, external_id: str) -> OpenView | None:
        """Return the open view to which the app gave this id of its own."""
        return next((view for view in self._all() if view.definition.get("external_id") == external_id), None)

    def open(self, user: User, channel_id: str | None, definition: JsonObject) -> OpenView:
        """Open a first view; another one that the user had open goes away."""
        view_id = new_id("V")
        view = OpenView(id=view_id, user=user, channel_id=channel_id, root_view_id=view_id)
        self._define(view, definition)
        self._stacks[user.id] = [view]
        self.changes.announce()
        return view

    def push(self, under: OpenView, definition: JsonObject) -> OpenView:
        """Put a new view on top of one."""
        view = OpenView(
            id=new_id("V"),
            user=under.user,
            channel_id=under.channel_id,
            root_view_id=under.root_view_id,
            previous_view_id=under.id,
        )
        self._define(view, definition)
        self._stacks[under.user.id].append(view)
        self.changes.announce()
        return view

    def can_push(self, under: OpenView) -> bool:
        """Say whether Slack's limit of three views leaves room for one more."""
        return len(self._stacks[under.user.id]) < MOST_VIEWS

    def update(self, view: OpenView, definition: JsonObject) -> None:
        """Replace what a view shows; what was typed stays where block_id, action_id and type are the same."""
        self._define(view, definition)
        view.errors, view.notice = {}, None
        self.changes.announce()

    def close(self, view: OpenView, *, whole_stack: bool = False) -> list[OpenView]:
        """Take away a view and what lies on it, or the whole stack; return what went away, the topmost first."""
        stack = self._stacks.get(view.user.id, [])
        if view not in stack:
            return []
        first = 0 if whole_stack else stack.index(view)
        closed = stack[first:][::-1]
        del stack[first:]
        self.changes.announce()
        return closed

    def is_overwritten(self, view: OpenView) -> bool:
        """Say whether a `views.update` comes so soon after an `update` answer that the answer wins over it."""
        return (
            view.acknowledged_at is not None and self.config.clock() - view.acknowledged_at < OVERWRITTEN_WITHIN_SECONDS
        )

    def fill(self, view: View, one: Field, value: str | Sequence[str]) -> None:
        """Put a person's input into a field; an option is named by its value or text."""
        view.fill(one, value)
        self.changes.announce()

    def _all(self) -> Iterator[OpenView]:
        for stack in self._stacks.values():
            yield from stack

    def _define(self, view: OpenView, definition: JsonObject) -> None:
        view.define(definition, new_hash(self.config), lambda one: self.default_conversation(one, view))
