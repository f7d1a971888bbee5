"""Slack's rules for Block Kit: each limit refuses one more than it allows."""

from typing import Any

import pytest
from slack_sdk.models import blocks as sdk_blocks
from slack_sdk.models.views import View

from bot.sandbox.block_rules import home_problems, message_problems, options_problems, view_problems
from bot.sandbox.blocks import complete, elements_of, fields_of, texts_of

JsonObject = dict[str, Any]


def plain(text: str = "x") -> JsonObject:
    """Return a plain text object."""
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str = "x") -> JsonObject:
    """Return a mrkdwn text object."""
    return {"type": "mrkdwn", "text": text}


def option(text: str = "x", value: str = "v", **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return an option."""
    return {"text": plain(text), "value": value, **more}


def field(element: JsonObject, **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return an input block around an element."""
    return {"type": "input", "label": plain("Label"), "element": element, **more}


def modal(*blocks: JsonObject, **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return a view with these blocks."""
    return {"type": "modal", "title": plain("Title"), "submit": plain("Go"), "blocks": list(blocks), **more}


SECTION = {"type": "section", "text": mrkdwn("hello")}
BUTTON = {"type": "button", "text": plain("Press"), "action_id": "b"}
TEXT_INPUT = {"type": "plain_text_input", "action_id": "t"}
CONFIRM = {"title": plain("Sure?"), "text": mrkdwn("Really"), "confirm": plain("Yes"), "deny": plain("No")}
EVERYTHING = modal(
    {"type": "header", "text": plain("Head")},
    {"type": "section", "fields": [mrkdwn("a"), plain("b")], "accessory": {**BUTTON, "confirm": CONFIRM}},
    {"type": "divider"},
    {"type": "context", "elements": [mrkdwn("small")]},
    {"type": "actions", "elements": [BUTTON, {"type": "static_select", "action_id": "s", "options": [option()]}]},
    field({**TEXT_INPUT, "multiline": True, "max_length": 100, "placeholder": plain(), "focus_on_load": True}),
    field({"type": "external_select", "action_id": "e", "min_query_length": 0, "initial_option": option()}),
    field({"type": "static_select", "option_groups": [{"label": plain(), "options": [option()]}]}, optional=True),
    field(
        {
            "type": "conversations_select",
            "default_to_current_conversation": True,
            "response_url_enabled": True,
            "filter": {"include": ["public", "private"]},
        }
    ),
    field({"type": "checkboxes", "options": [option(description=plain())], "initial_options": None}, hint=plain()),
    private_metadata="m" * 3000,
    callback_id="c",
    close=None,
)


def test_a_view_with_every_kind_of_block_is_valid() -> None:
    """Everything that Slack documents as allowed is accepted."""
    assert view_problems(EVERYTHING) == []


def test_views_of_the_official_sdk_are_valid() -> None:
    """A view built with the official models is accepted as it is."""
    view = View(
        type="modal",
        title="Title",
        submit="Go",
        blocks=[
            sdk_blocks.SectionBlock(text="*hello*"),
            sdk_blocks.InputBlock(
                label="Token", element=sdk_blocks.PlainTextInputElement(action_id="t", placeholder="Paste it")
            ),
            sdk_blocks.InputBlock(
                label="Where", element=sdk_blocks.ConversationSelectElement(default_to_current_conversation=True)
            ),
        ],
    )

    assert view_problems(view.to_dict()) == []


BAD_VIEWS: dict[str, tuple[object, str]] = {
    "no object": ("view", "must be an object [json-pointer:/view]"),
    "not a modal": (modal(SECTION) | {"type": "home"}, "must be one of modal [json-pointer:/view/type]"),
    "long title": (modal(SECTION, title=plain("x" * 25)), "less than 25 characters [json-pointer:/view/title/text]"),
    "empty title": (modal(SECTION, title=plain("")), "more than 0 characters [json-pointer:/view/title/text]"),
    "mrkdwn title": (modal(SECTION, title=mrkdwn()), "unsupported type: mrkdwn"),
    "text as a string": (modal(SECTION, title="Title"), "must be an object [json-pointer:/view/title]"),
    "long submit": (modal(SECTION, submit=plain("x" * 25)), "/view/submit/text"),
    "long close": (modal(SECTION, close=plain("x" * 25)), "/view/close/text"),
    "long metadata": (modal(SECTION, private_metadata="x" * 3001), "less than 3001"),
    "metadata of a wrong type": (modal(SECTION, private_metadata={}), "must be a string"),
    "unknown field": (modal(SECTION, colour="red"), "invalid additional property: colour"),
    "no blocks": (modal(), "no less than 1 items allowed [json-pointer:/view/blocks]"),
    "blocks not a list": (modal() | {"blocks": {}}, "must be a list"),
    "101 blocks": (modal(*[SECTION] * 101), "no more than 100 items allowed"),
    "missing title": ({"type": "modal", "blocks": [SECTION]}, "missing required field: title"),
    "input without submit": (modal(field(TEXT_INPUT), submit=None), "missing required field: submit"),
    "unknown block": (modal({"type": "carousel"}), "unsupported type: carousel [json-pointer:/view/blocks/0/type]"),
    "block without type": (modal({"text": plain()}), "unsupported type: None"),
    "block not an object": (modal(SECTION) | {"blocks": ["text"]}, "must be an object"),
    "unknown element": (modal(field({"type": "file_input"})), "unsupported type: file_input"),
    "text input in actions": (modal({"type": "actions", "elements": [TEXT_INPUT]}), "unsupported type"),
    "button as an input": (modal(field(BUTTON)), "unsupported type: button"),
    "input without label": (modal({"type": "input", "element": TEXT_INPUT}), "missing required field: label"),
    "optional of a wrong type": (modal(field(TEXT_INPUT, optional="yes")), "must be a boolean"),
    "long header": (modal({"type": "header", "text": plain("x" * 151)}), "less than 151"),
    "long section": (modal({"type": "section", "text": mrkdwn("x" * 3001)}), "less than 3001"),
    "empty section": (modal({"type": "section"}), "missing one of the fields: text, fields"),
    "11 fields": (modal({"type": "section", "fields": [plain()] * 11}), "no more than 10"),
    "11 context elements": (modal({"type": "context", "elements": [plain()] * 11}), "no more than 10"),
    "26 buttons": (modal({"type": "actions", "elements": [{"type": "button", "text": plain()}] * 26}), "than 25"),
    "long button": (modal({"type": "actions", "elements": [BUTTON | {"text": plain("x" * 76)}]}), "less than 76"),
    "unknown style": (modal({"type": "actions", "elements": [BUTTON | {"style": "pink"}]}), "primary, danger"),
    "long placeholder": (modal(field(TEXT_INPUT | {"placeholder": plain("x" * 151)})), "less than 151"),
    "max_length 3001": (modal(field(TEXT_INPUT | {"max_length": 3001})), "between 1 and 3000"),
    "max_length true": (modal(field(TEXT_INPUT | {"max_length": True})), "must be an integer"),
    "101 options": (
        modal(field({"type": "static_select", "options": [option()] * 101})),
        "no more than 100 items allowed",
    ),
    "select without options": (modal(field({"type": "static_select"})), "options, option_groups"),
    "long option": (modal(field({"type": "static_select", "options": [option("x" * 76)]})), "less than 76"),
    "long value": (modal(field({"type": "static_select", "options": [option("x", "v" * 151)]})), "less than 151"),
    "long description": (
        modal(field({"type": "static_select", "options": [option(description=plain("x" * 76))]})),
        "less than 76",
    ),
    "initial option not offered": (
        modal(field({"type": "static_select", "options": [option()], "initial_option": option("y", "w")})),
        "initial option must match",
    ),
    "element not an object": (modal(field({}) | {"element": "text"}), "must be an object"),
    "select in a list": (modal(field({"type": "static_select", "options": "all"})), "must be a list"),
    "empty filter": (modal(field({"type": "conversations_select", "filter": {}})), "missing one of the fields"),
    "response url in actions": (
        modal({"type": "actions", "elements": [{"type": "conversations_select", "response_url_enabled": True}]}),
        "invalid additional property: response_url_enabled",
    ),
    "duplicate block_id": (
        modal(SECTION | {"block_id": "a"}, SECTION | {"block_id": "a"}),
        "block_id must be unique: 'a' is used 2 times",
    ),
    "duplicate action_id": (modal({"type": "actions", "elements": [BUTTON, BUTTON]}), "action_id must be unique"),
    "two focused": (
        modal(*[field({"type": "plain_text_input", "focus_on_load": True})] * 2),
        "only one element can have focus_on_load",
    ),
}


@pytest.mark.parametrize(("view", "problem"), BAD_VIEWS.values(), ids=BAD_VIEWS)
def test_a_bad_view_is_refused_with_the_reason(view: object, problem: str) -> None:
    """Each limit and each shape is checked, and the answer points at the place."""
    assert any(problem in found for found in view_problems(view)), view_problems(view)


def home(*blocks: JsonObject, **more: Any) -> JsonObject:  # noqa: ANN401 - any field at all
    """Return a Home tab view with these blocks."""
    return {"type": "home", "blocks": list(blocks), **more}


def test_a_home_view_accepts_every_kind_of_block() -> None:
    """Input blocks need no submit button there, and the official models are accepted."""
    everything = home(*EVERYTHING["blocks"], private_metadata="m" * 3000, callback_id="c", external_id="e")
    official = View(type="home", callback_id="home", blocks=[sdk_blocks.SectionBlock(text="*hello*")])

    assert home_problems(everything) == []
    assert home_problems(home(*[SECTION] * 100)) == []
    assert home_problems(official.to_dict()) == []


BAD_HOMES: dict[str, tuple[object, str]] = {
    "no object": (None, "must be an object [json-pointer:/view]"),
    "a modal": (home(SECTION) | {"type": "modal"}, "must be one of home [json-pointer:/view/type]"),
    "no blocks": (home(), "no less than 1 items allowed [json-pointer:/view/blocks]"),
    "101 blocks": (home(*[SECTION] * 101), "no more than 100 items allowed"),
    "a title": (home(SECTION, title=plain()), "invalid additional property: title"),
    "a submit button": (home(SECTION, submit=plain()), "invalid additional property: submit"),
    "a close button": (home(SECTION, close=plain()), "invalid additional property: close"),
    "a note when it is closed": (home(SECTION, notify_on_close=True), "invalid additional property: notify_on_close"),
    "long metadata": (home(SECTION, private_metadata="x" * 3001), "less than 3001"),
    "long callback_id": (home(SECTION, callback_id="x" * 256), "less than 256"),
    "long external_id": (home(SECTION, external_id="x" * 256), "less than 256"),
    "unknown block": (home({"type": "carousel"}), "unsupported type: carousel [json-pointer:/view/blocks/0/type]"),
    "long section": (home({"type": "section", "text": mrkdwn("x" * 3001)}), "less than 3001"),
    "duplicate block_id": (home(*[SECTION | {"block_id": "a"}] * 2), "block_id must be unique"),
    "duplicate action_id": (home({"type": "actions", "elements": [BUTTON, BUTTON]}), "action_id must be unique"),
    "two focused": (home(*[field({"type": "plain_text_input", "focus_on_load": True})] * 2), "only one element can"),
}


@pytest.mark.parametrize(("view", "problem"), BAD_HOMES.values(), ids=BAD_HOMES)
def test_a_bad_home_view_is_refused_with_the_reason(view: object, problem: str) -> None:
    """Fields that only a modal has are refused there, and the limits of both apply."""
    assert any(problem in found for found in home_problems(view)), home_problems(view)


BAD_MESSAGES: dict[str, tuple[object, str]] = {
    "51 blocks": ([SECTION] * 51, "no more than 50"),
    "an input": ([field(TEXT_INPUT)], "unsupported type: input"),
    "no list": ({"type": "section"}, "must be a list"),
    "duplicate block_id": ([SECTION | {"block_id": "a"}] * 2, "block_id must be unique"),
}


@pytest.mark.parametrize(("blocks", "problem"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_bad_blocks_of_a_message_are_refused(blocks: object, problem: str) -> None:
    """A message has limits of its own."""
    assert any(problem in found for found in message_problems(blocks))
    assert message_problems([SECTION]) == []


BAD_OPTIONS: dict[str, object] = {
    "nothing": None,
    "neither": {},
    "no list": {"options": "all"},
    "101": {"options": [option()] * 101},
    "an option without value": {"options": [{"text": plain()}]},
}


@pytest.mark.parametrize("answer", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_refused(answer: object) -> None:
    """The options in an answer to an options request must have the right shape; an empty list is allowed."""
    assert options_problems(answer)
    assert options_problems({"options": []}) == []
    assert options_problems({"option_groups": [{"label": plain(), "options": [option()]}]}) == []


def test_completing_adds_what_slack_adds_and_keeps_the_original() -> None:
    """Missing ids are generated, texts get their defaults, and given ids stay."""
    original = EVERYTHING["blocks"]

    blocks = complete(original)

    assert all(block["block_id"] for block in blocks)
    assert all(element["action_id"] for block in blocks for element in elements_of(block))
    assert "block_id" not in original[0]
    assert blocks[0]["text"] == {**plain("Head"), "emoji": True}
    assert blocks[3]["elements"][0]["verbatim"] is False
    kinds = [one.kind for one in fields_of(blocks)]
    assert kinds == [
        "static_select",
        "plain_text_input",
        "external_select",
        "static_select",
        "conversations_select",
        "checkboxes",
    ]
    assert [text for text in texts_of(blocks) if text in {"Head", "small", "Press"}] == [
        "Head",
        "Press",
        "small",
        "Press",
    ]
