"""Block Kit as data: finds the fields, elements and texts in valid blocks, and adds what Slack adds. Judges nothing."""

import secrets
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]

STATEFUL = frozenset({"plain_text_input", "external_select", "static_select", "conversations_select", "checkboxes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One element of a view that a person can fill, and the block that it stands in."""

    block_id: str
    action_id: str
    kind: str
    element: JsonObject
    label: str
    is_input: bool
    is_optional: bool
    dispatches: bool


def complete(blocks: list[JsonObject]) -> list[JsonObject]:
    """Return a copy of valid blocks with what Slack adds: ids that were left out, `emoji` or `verbatim` of texts."""
    completed: list[JsonObject] = deepcopy(blocks)
    for block in completed:
        block.setdefault("block_id", secrets.token_hex(3))
        for element in elements_of(block):
            element.setdefault("action_id", secrets.token_hex(3))
    _complete_texts(completed)
    return completed


def elements_of(block: JsonObject) -> list[JsonObject]:
    """Return the interactive elements of a block."""
    if block["type"] == "actions":
        return list(block["elements"])
    single = block.get("element") or block.get("accessory")
    return [single] if single else []


def fields_of(blocks: list[JsonObject]) -> list[Field]:
    """Return what a person can fill in a view's completed blocks, in their order."""
    return [
        Field(
            block_id=block["block_id"],
            action_id=element["action_id"],
            kind=element["type"],
            element=element,
            label=block.get("label", {}).get("text", ""),
            is_input=block["type"] == "input",
            is_optional=bool(block.get("optional")),
            dispatches=block["type"] != "input" or bool(block.get("dispatch_action")),
        )
        for block in blocks
        for element in elements_of(block)
        if element["type"] in STATEFUL
    ]


def texts_of(part: object) -> Iterator[str]:
    """Yield every text that a person would see in blocks or a view, in their order."""
    if isinstance(part, list):
        for item in part:
            yield from texts_of(item)
    elif isinstance(part, dict):
        if part.get("type") in {"plain_text", "mrkdwn"} and isinstance(part.get("text"), str):
            yield part["text"]
        else:
            for item in part.values():
                yield from texts_of(item)


def _complete_texts(part: object) -> None:
    if isinstance(part, list):
        for item in part:
            _complete_texts(item)
    elif isinstance(part, dict):
        if part.get("type") == "plain_text":
            part.setdefault("emoji", True)
        elif part.get("type") == "mrkdwn":
            part.setdefault("verbatim", False)
        for item in part.values():
            _complete_texts(item)
