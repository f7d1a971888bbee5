"""The modals that people have open: their stacks, what is typed in them, and what a view's `state` says about it."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from bot.sandbox.blocks import Field, JsonObject, complete, fields_of, texts_of
from bot.sandbox.workspace import Changes, ImpossibleStepError, SmallSlackConfig, User, new_id, reject_step

MOST_VIEWS = 3
OVERWRITTEN_WITHIN_SECONDS = 1.0
REQUIRED = "Please complete this required field."

_SHOWN_ALWAYS = ("title", "blocks", "submit", "close")


@dataclass(slots=True, kw_only=True)
class OpenView:
    """A view as it stands in front of a person, with what was typed so far; changes under your hands."""

    id: str
    user: User
    channel_id: str | None
    definition: JsonObject
    root_view_id: str
    previous_view_id: str | None = None
    hash: str
    values: dict[tuple[str, str], JsonObject] = field(default_factory=dict)
    offered: dict[tuple[str, str], list[JsonObject]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    notice: str | None = None
    is_busy: bool = False
    acknowledged_at: float | None = None

    @property
    def blocks(self) -> list[JsonObject]:
        """The blocks, each with its ids."""
        blocks: list[JsonObject] = self.definition["blocks"]
        return blocks

    @property
    def fields(self) -> list[Field]:
        """What a person can fill."""
        return fields_of(self.blocks)

    def field_at(self, name: str) -> Field:
        """Return the field with this block_id or action_id; raise ImpossibleStepError when there is none."""
        found = [one for one in self.fields if name in {one.block_id, one.action_id}]
        if not found:
            reject_step(f"no field {name!r} in the view; there are {[one.block_id for one in self.fields]}")
        return found[0]

    def state(self) -> JsonObject:
        """Return `state` as Slack sends it, with every field of the view, filled or not."""
        values: dict[str, JsonObject] = {}
        for one in self.fields:
            values.setdefault(one.block_id, {})[one.action_id] = self.values[one.block_id, one.action_id]
        return {"values": deepcopy(values)}

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

    config: SmallSlackConfig
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
        view = self._new_view(view_id, user, channel_id, definition, root_view_id=view_id)
        self._stacks[user.id] = [view]
        self.changes.announce()
        return view

    def push(self, under: OpenView, definition: JsonObject) -> OpenView:
        """Put a new view on top of one."""
        view = self._new_view(
            new_id("V"), under.user, under.channel_id, definition, root_view_id=under.root_view_id, previous=under.id
        )
        self._stacks[under.user.id].append(view)
        self.changes.announce()
        return view

    def can_push(self, under: OpenView) -> bool:
        """Say whether Slack's limit of three views leaves room for one more."""
        return len(self._stacks[under.user.id]) < MOST_VIEWS

    def update(self, view: OpenView, definition: JsonObject) -> None:
        """Replace what a view shows; what was typed stays where block_id, action_id and type are the same."""
        typed = view.values
        view.definition = {**definition, "blocks": complete(definition["blocks"])}
        view.hash, view.errors, view.notice = self._new_hash(), {}, None
        view.values = self._initial_values(view)
        for key, value in typed.items():
            if view.values.get(key, {}).get("type") == value["type"]:
                view.values[key] = value
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

    def fill(self, view: OpenView, one: Field, value: str | Sequence[str]) -> None:
        """Put a person's input into a field; an option is named by its value or text."""
        view.values[one.block_id, one.action_id] = {"type": one.kind, **_state_of(view, one, value)}
        self.changes.announce()

    def as_json(self, view: OpenView) -> JsonObject:
        """Return the view as Slack sends it in payloads and answers."""
        definition = view.definition
        return {
            "id": view.id,
            "team_id": view.user.team_id or self.config.team_id,
            "type": "modal",
            "blocks": deepcopy(view.blocks),
            "private_metadata": definition.get("private_metadata") or "",
            "callback_id": definition.get("callback_id") or "",
            "state": view.state(),
            "hash": view.hash,
            "title": definition["title"],
            "clear_on_close": bool(definition.get("clear_on_close")),
            "notify_on_close": bool(definition.get("notify_on_close")),
            "close": definition.get("close"),
            "submit": definition.get("submit"),
            "previous_view_id": view.previous_view_id,
            "root_view_id": view.root_view_id,
            "app_id": self.config.app_id,
            "external_id": definition.get("external_id") or "",
            "app_installed_team_id": self.config.team_id,
            "bot_id": self.config.bot_id,
        }

    def _all(self) -> Iterator[OpenView]:
        for stack in self._stacks.values():
            yield from stack

    def _new_hash(self) -> str:
        return f"{int(self.config.clock())}.{secrets.token_hex(4)}"

    def _new_view(  # noqa: PLR0913 - each is one fact of the new view
        self,
        view_id: str,
        user: User,
        channel_id: str | None,
        definition: JsonObject,
        *,
        root_view_id: str,
        previous: str | None = None,
    ) -> OpenView:
        view = OpenView(
            id=view_id,
            user=user,
            channel_id=channel_id,
            definition={**definition, "blocks": complete(definition["blocks"])},
            root_view_id=root_view_id,
            previous_view_id=previous,
            hash=self._new_hash(),
        )
        view.values = self._initial_values(view)
        return view

    def _initial_values(self, view: OpenView) -> dict[tuple[str, str], JsonObject]:
        return {
            (one.block_id, one.action_id): {"type": one.kind, **self._initial_value(view, one)} for one in view.fields
        }

    def _initial_value(self, view: OpenView, one: Field) -> JsonObject:
        element = one.element
        if one.kind == "plain_text_input":
            return {"value": element.get("initial_value")}
        if one.kind == "conversations_select":
            chosen = element.get("initial_conversation")
            if chosen is None and element.get("default_to_current_conversation"):
                chosen = self.default_conversation(one, view)
            return {"selected_conversation": chosen}
        if one.kind == "checkboxes":
            return {"selected_options": list(element.get("initial_options") or [])}
        return {"selected_option": element.get("initial_option")}


def options_of(part: JsonObject) -> list[JsonObject]:
    """Return the options of a select, checkboxes or an options answer, those in groups included."""
    groups = part.get("option_groups") or []
    return list(part.get("options") or []) + [option for group in groups for option in group["options"]]


def _state_of(view: OpenView, one: Field, value: str | Sequence[str]) -> JsonObject:
    if one.kind == "checkboxes":
        wanted = [value] if isinstance(value, str) else value
        return {"selected_options": [_option(view, one, name) for name in wanted]}
    if not isinstance(value, str):
        reject_step(f"the field {one.block_id!r} takes one value")
    if one.kind == "plain_text_input":
        return {"value": value or None}
    if one.kind == "conversations_select":
        return {"selected_conversation": value or None}
    return {"selected_option": _option(view, one, value) if value else None}


def _option(view: OpenView, one: Field, name: str) -> JsonObject:
    key = one.block_id, one.action_id
    chosen = view.values[key].get("selected_option")
    offered: list[JsonObject] = options_of(one.element) + view.offered.get(key, []) + ([chosen] if chosen else [])
    for option in offered:
        if name in {option["value"], option["text"]["text"]}:
            return option
    why = f"{name!r} is not offered in {one.block_id!r}; offered are {[option['value'] for option in offered]}"
    raise ImpossibleStepError(why)
