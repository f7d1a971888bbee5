"""A view with what is typed in it: its fields, its values, and what Slack says of it, wherever it is shown."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from bot.sandbox.blocks import Field, JsonObject, complete, fields_of
from bot.sandbox.workspace import FakeSlackConfig, ImpossibleStepError, User, reject_step

# What Slack itself calls a view that can have no title.
_UNTITLED: JsonObject = {"type": "plain_text", "text": "View Title", "emoji": True}


def _no_conversation(_: Field) -> str | None:
    return None


@dataclass(slots=True, kw_only=True)
class View:
    """A view as it stands in front of a person, with what was typed so far; it changes in place.

    `channel_id` is where the person was when it opened, if anywhere.
    """

    id: str
    user: User
    channel_id: str | None = None
    root_view_id: str
    previous_view_id: str | None = None
    definition: JsonObject = field(default_factory=dict)
    hash: str = ""
    values: dict[tuple[str, str], JsonObject] = field(default_factory=dict)
    offered: dict[tuple[str, str], list[JsonObject]] = field(default_factory=dict)

    @property
    def blocks(self) -> list[JsonObject]:
        """The blocks, each with its ids."""
        blocks: list[JsonObject] = self.definition["blocks"]
        return blocks

    @property
    def fields(self) -> list[Field]:
        """What a person can fill."""
        return fields_of(self.blocks)

    def fields_at(self, name: str) -> list[Field]:
        """Return the fields with this block_id or action_id."""
        return [one for one in self.fields if name in {one.block_id, one.action_id}]

    def field_at(self, name: str) -> Field:
        """Return the field with this block_id or action_id; raise ImpossibleStepError when there is none."""
        found = self.fields_at(name)
        if not found:
            reject_step(f"no field {name!r} in the view; there are {[one.block_id for one in self.fields]}")
        return found[0]

    def state(self) -> JsonObject:
        """Return `state` as Slack sends it, with every field of the view, filled or not."""
        values: dict[str, JsonObject] = {}
        for one in self.fields:
            values.setdefault(one.block_id, {})[one.action_id] = self.values[one.block_id, one.action_id]
        return {"values": deepcopy(values)}

    def define(
        self,
        definition: JsonObject,
        new_hash: str,
        default_conversation: Callable[[Field], str | None] = _no_conversation,
    ) -> None:
        """Replace what the view shows; what was typed stays where block_id, action_id and type are the same."""
        typed = self.values
        self.definition = {**definition, "blocks": complete(definition["blocks"])}
        self.hash = new_hash
        self.values = {
            (one.block_id, one.action_id): {"type": one.kind, **_initial_value(one, default_conversation)}
            for one in self.fields
        }
        for key, value in typed.items():
            if self.values.get(key, {}).get("type") == value["type"]:
                self.values[key] = value

    def fill(self, one: Field, value: str | Sequence[str]) -> None:
        """Put a person's input into a field; an option is named by its value or text."""
        self.values[one.block_id, one.action_id] = {"type": one.kind, **_state_of(self, one, value)}

    def as_json(self, config: FakeSlackConfig) -> JsonObject:
        """Return the view as Slack sends it in payloads and answers."""
        definition = self.definition
        return {
            "id": self.id,
            "team_id": self.user.team_id or config.team_id,
            "type": definition["type"],
            "blocks": deepcopy(self.blocks),
            "private_metadata": definition.get("private_metadata") or "",
            "callback_id": definition.get("callback_id") or "",
            "state": self.state(),
            "hash": self.hash,
            "title": definition.get("title") or dict(_UNTITLED),
            "clear_on_close": bool(definition.get("clear_on_close")),
            "notify_on_close": bool(definition.get("notify_on_close")),
            "close": definition.get("close"),
            "submit": definition.get("submit"),
            "previous_view_id": self.previous_view_id,
            "root_view_id": self.root_view_id,
            "app_id": config.app_id,
            "external_id": definition.get("external_id") or "",
            "app_installed_team_id": config.team_id,
            "bot_id": config.bot_id,
        }


def options_of(part: JsonObject) -> list[JsonObject]:
    """Return the options of a select, checkboxes or an options answer, those in groups included."""
    groups = part.get("option_groups") or []
    return list(part.get("options") or []) + [option for group in groups for option in group["options"]]


def _initial_value(one: Field, default_conversation: Callable[[Field], str | None]) -> JsonObject:
    element = one.element
    if one.kind == "plain_text_input":
        return {"value": element.get("initial_value")}
    if one.kind == "conversations_select":
        chosen = element.get("initial_conversation")
        if chosen is None and element.get("default_to_current_conversation"):
            chosen = default_conversation(one)
        return {"selected_conversation": chosen}
    if one.kind == "checkboxes":
        return {"selected_options": list(element.get("initial_options") or [])}
    return {"selected_option": element.get("initial_option")}


def _state_of(view: View, one: Field, value: str | Sequence[str]) -> JsonObject:
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


def _option(view: View, one: Field, name: str) -> JsonObject:
    key = one.block_id, one.action_id
    chosen = view.values[key].get("selected_option")
    offered: list[JsonObject] = options_of(one.element) + view.offered.get(key, []) + ([chosen] if chosen else [])
    for option in offered:
        if name in {option["value"], option["text"]["text"]}:
            return option
    why = f"{name!r} is not offered in {one.block_id!r}; offered are {[option['value'] for option in offered]}"
    raise ImpossibleStepError(why)
