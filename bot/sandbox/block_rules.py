"""Slack's rules for Block Kit: what a view, a message or a list of options may hold, as tables of shapes and limits.

Limits: https://docs.slack.dev/reference/block-kit, https://docs.slack.dev/reference/views/modal-views
and https://docs.slack.dev/reference/views/home-tab-views
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from bot.sandbox.blocks import JsonObject, elements_of

Check = Callable[[object, str], Iterator[str]]


def view_problems(view: object) -> list[str]:
    """Say all that Slack would refuse in a modal view, in its wording, with JSON pointers; empty when it is fine."""
    problems = list(_VIEW(view, "/view"))
    if problems or not isinstance(view, dict):
        return problems
    blocks: list[JsonObject] = view["blocks"]
    if any(block["type"] == "input" for block in blocks) and not view.get("submit"):
        problems.append(_problem("missing required field: submit", "/view"))
    return problems + list(_clashes(blocks))


def home_problems(view: object) -> list[str]:
    """Say all that Slack would refuse in a view for the Home tab; empty when it is fine."""
    problems = list(_HOME(view, "/view"))
    if problems or not isinstance(view, dict):
        return problems
    return list(_clashes(view["blocks"]))


def message_problems(blocks: object) -> list[str]:
    """Say all that Slack would refuse in a message's blocks; empty when they are fine."""
    problems = list(_MESSAGE_BLOCKS(blocks, "/blocks"))
    if problems or not isinstance(blocks, list):
        return problems
    return list(_duplicates(blocks, "/blocks"))


def options_problems(answer: object) -> list[str]:
    """Say all that Slack would refuse in the answer to an options request; empty when it is fine."""
    return list(_OPTIONS_ANSWER(answer, ""))


def _problem(what: str, pointer: str) -> str:
    return f"[ERROR] {what} [json-pointer:{pointer}]"


def _clashes(blocks: list[JsonObject]) -> Iterator[str]:
    if sum(bool(element.get("focus_on_load")) for block in blocks for element in elements_of(block)) > 1:
        yield _problem("only one element can have focus_on_load", "/view/blocks")
    yield from _duplicates(blocks, "/view/blocks")


def _duplicates(blocks: list[JsonObject], pointer: str) -> Iterator[str]:
    for block_id, count in Counter(block["block_id"] for block in blocks if "block_id" in block).items():
        if count > 1:
            yield _problem(f"block_id must be unique: {block_id!r} is used {count} times", pointer)
    for number, block in enumerate(blocks):
        ids = Counter(element["action_id"] for element in elements_of(block) if "action_id" in element)
        for action_id, count in ids.items():
            if count > 1:
                yield _problem(f"action_id must be unique: {action_id!r} is used {count} times", f"{pointer}/{number}")


def _string(longest: int, shortest: int = 1) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield _problem("must be a string", pointer)
        elif len(value) > longest:
            yield _problem(f"must be less than {longest + 1} characters", pointer)
        elif len(value) < shortest:
            yield _problem(f"must be more than {shortest - 1} characters", pointer)

    return check


def _boolean(value: object, pointer: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield _problem("must be a boolean", pointer)


def _integer(low: int, high: int) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if not isinstance(value, int) or isinstance(value, bool):
            yield _problem("must be an integer", pointer)
        elif not low <= value <= high:
            yield _problem(f"must be between {low} and {high}", pointer)

    return check


def _one_of(*allowed: str) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if value not in allowed:
            yield _problem(f"must be one of {', '.join(allowed)}", pointer)

    return check


def _items(check_item: Check, most: int, least: int = 1) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield _problem("must be a list", pointer)
            return
        if len(value) > most:
            yield _problem(f"no more than {most} items allowed", pointer)
        if len(value) < least:
            yield _problem(f"no less than {least} items allowed", pointer)
        for number, item in enumerate(value):
            yield from check_item(item, f"{pointer}/{number}")

    return check


def _shape(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    allowed = {**required, **(optional or {})}

    def check(value: object, pointer: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _problem("must be an object", pointer)
            return
        for name in required:
            if name not in value:
                yield _problem(f"missing required field: {name}", pointer)
        for name, part in value.items():
            if name not in allowed:
                yield _problem(f"invalid additional property: {name}", pointer)
            elif part is not None or name in required:
                yield from allowed[name](part, f"{pointer}/{name}")

    return check


def _kind(shapes: Mapping[str, Check]) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _problem("must be an object", pointer)
        elif value.get("type") not in shapes:
            yield _problem(f"unsupported type: {value.get('type')}", f"{pointer}/type")
        else:
            yield from shapes[value["type"]](value, pointer)

    return check


def _both(*checks: Check) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        for one in checks:
            yield from one(value, pointer)

    return check


def _at_least_one(*names: str) -> Check:
    def check(value: object, pointer: str) -> Iterator[str]:
        if isinstance(value, dict) and not any(value.get(name) for name in names):
            yield _problem(f"missing one of the fields: {', '.join(names)}", pointer)

    return check


def _initial_is_offered(value: object, pointer: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    offered = [option for group in value.get("option_groups") or [] for option in group.get("options", [])]
    offered += value.get("options") or []
    chosen = [value["initial_option"]] if value.get("initial_option") else value.get("initial_options") or []
    if any(option not in offered for option in chosen):
        yield _problem("initial option must match one of the options", pointer)


_TYPE: Mapping[str, Check] = {"type": _string(50)}


def _plain(longest: int) -> Check:
    return _kind({"plain_text": _shape({**_TYPE, "text": _string(longest)}, {"emoji": _boolean})})


def _rich(longest: int) -> Check:
    return _kind(
        {
            "plain_text": _shape({**_TYPE, "text": _string(longest)}, {"emoji": _boolean}),
            "mrkdwn": _shape({**_TYPE, "text": _string(longest)}, {"verbatim": _boolean}),
        }
    )


_ACTION_ID: Mapping[str, Check] = {"action_id": _string(255)}
_PLACEHOLDER: Mapping[str, Check] = {"placeholder": _plain(150)}
_FOCUS: Mapping[str, Check] = {"focus_on_load": _boolean}
_CONFIRM: Mapping[str, Check] = {
    "confirm": _shape(
        {"title": _plain(100), "text": _rich(300), "confirm": _plain(30), "deny": _plain(30)},
        {"style": _one_of("primary", "danger")},
    )
}
_OPTION = _shape({"text": _plain(75), "value": _string(150)}, {"description": _plain(75)})
_RICH_OPTION = _shape({"text": _rich(75), "value": _string(150)}, {"description": _rich(75)})


def _option_group(least: int) -> Check:
    return _shape({"label": _plain(75), "options": _items(_OPTION, 100, least)})


_OPTIONS_ANSWER = _both(
    _shape({}, {"options": _items(_OPTION, 100, 0), "option_groups": _items(_option_group(0), 100, 0)}),
    # An empty list is a list: "no results" is a fine answer, none of the two is not.
    lambda value, pointer: (
        iter(())
        if not isinstance(value, dict) or "options" in value or "option_groups" in value
        else iter([_problem("missing one of the fields: options, option_groups", pointer)])
    ),
)

_BUTTON = _shape(
    {**_TYPE, "text": _plain(75)},
    {
        **_ACTION_ID,
        **_CONFIRM,
        "value": _string(2000, 0),
        "url": _string(3000),
        "style": _one_of("primary", "danger"),
        "accessibility_label": _string(75),
    },
)
_SELECTS: Mapping[str, Check] = {
    "static_select": _both(
        _shape(
            _TYPE,
            {
                **_ACTION_ID,
                **_PLACEHOLDER,
                **_CONFIRM,
                **_FOCUS,
                "options": _items(_OPTION, 100),
                "option_groups": _items(_option_group(1), 100),
                "initial_option": _OPTION,
            },
        ),
        _at_least_one("options", "option_groups"),
        _initial_is_offered,
    ),
    "external_select": _shape(
        _TYPE,
        {
            **_ACTION_ID,
            **_PLACEHOLDER,
            **_CONFIRM,
            **_FOCUS,
            "initial_option": _OPTION,
            "min_query_length": _integer(0, 1000),
        },
    ),
    "checkboxes": _both(
        _shape(
            {**_TYPE, "options": _items(_RICH_OPTION, 10)},
            {**_ACTION_ID, **_CONFIRM, **_FOCUS, "initial_options": _items(_RICH_OPTION, 10)},
        ),
        _initial_is_offered,
    ),
}
_CONVERSATIONS: Mapping[str, Check] = {
    **_ACTION_ID,
    **_PLACEHOLDER,
    **_CONFIRM,
    **_FOCUS,
    "initial_conversation": _string(255),
    "default_to_current_conversation": _boolean,
    "filter": _both(
        _shape(
            {},
            {
                "include": _items(_one_of("im", "mpim", "private", "public"), 4),
                "exclude_external_shared_channels": _boolean,
                "exclude_bot_users": _boolean,
            },
        ),
        _at_least_one("include", "exclude_external_shared_channels", "exclude_bot_users"),
    ),
}
_PLAIN_TEXT_INPUT = _shape(
    _TYPE,
    {
        **_ACTION_ID,
        **_PLACEHOLDER,
        **_FOCUS,
        "initial_value": _string(3000, 0),
        "multiline": _boolean,
        "min_length": _integer(0, 3000),
        "max_length": _integer(1, 3000),
        "dispatch_action_config": _shape(
            {"trigger_actions_on": _items(_one_of("on_enter_pressed", "on_character_entered"), 2)}
        ),
    },
)
_ACTION_ELEMENT = _kind({"button": _BUTTON, **_SELECTS, "conversations_select": _shape(_TYPE, _CONVERSATIONS)})
_INPUT_ELEMENT = _kind(
    {
        "plain_text_input": _PLAIN_TEXT_INPUT,
        **_SELECTS,
        "conversations_select": _shape(_TYPE, {**_CONVERSATIONS, "response_url_enabled": _boolean}),
    }
)

_BLOCK_ID: Mapping[str, Check] = {"block_id": _string(255)}
_BLOCKS: Mapping[str, Check] = {
    "header": _shape({**_TYPE, "text": _plain(150)}, _BLOCK_ID),
    "section": _both(
        _shape(
            _TYPE,
            {
                **_BLOCK_ID,
                "text": _rich(3000),
                "fields": _items(_rich(2000), 10),
                "accessory": _ACTION_ELEMENT,
                "expand": _boolean,
            },
        ),
        _at_least_one("text", "fields"),
    ),
    "divider": _shape(_TYPE, _BLOCK_ID),
    "context": _shape({**_TYPE, "elements": _items(_rich(3000), 10)}, _BLOCK_ID),
    "actions": _shape({**_TYPE, "elements": _items(_ACTION_ELEMENT, 25)}, _BLOCK_ID),
}
_INPUT_BLOCK = _shape(
    {**_TYPE, "label": _plain(2000), "element": _INPUT_ELEMENT},
    {**_BLOCK_ID, "hint": _plain(2000), "optional": _boolean, "dispatch_action": _boolean},
)
_MESSAGE_BLOCKS = _items(_kind(_BLOCKS), 50, 0)
_VIEW_BLOCKS: Mapping[str, Check] = {"blocks": _items(_kind({**_BLOCKS, "input": _INPUT_BLOCK}), 100)}
_APPS_OWN: Mapping[str, Check] = {
    "private_metadata": _string(3000, 0),
    "callback_id": _string(255, 0),
    "external_id": _string(255, 0),
}
_HOME = _shape({"type": _one_of("home"), **_VIEW_BLOCKS}, _APPS_OWN)
_VIEW = _shape(
    {"type": _one_of("modal"), "title": _plain(24), **_VIEW_BLOCKS},
    {
        **_APPS_OWN,
        "submit": _plain(24),
        "close": _plain(24),
        "clear_on_close": _boolean,
        "notify_on_close": _boolean,
        "submit_disabled": _boolean,
    },
)
