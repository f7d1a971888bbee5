"""The app manifest: one text for two transports, valid by Slack's own schema, without unused scopes."""

import ast
import copy
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import bot.slack.api
from bot.slack.manifest import build_manifest
from bot.slack.subcommands import COMMAND

HERE = Path(__file__).parents[1]
SCHEMA = json.loads((HERE / "data" / "slack-manifest.schema.json").read_text())
URL = "https://bot.example.com"
EVENTS = f"{URL}/slack/events"
Manifest = dict[str, Any]


def read(url: str | None) -> Manifest:
    """Build a manifest and parse it as Slack does."""
    manifest: Manifest = yaml.safe_load(build_manifest(url))
    return manifest


def validate(manifest: Manifest) -> None:
    """Validate it with Slack's schema."""
    judge = jsonschema.validators.validator_for(SCHEMA)
    judge.check_schema(SCHEMA)
    judge(SCHEMA).validate(manifest)


def test_the_file_in_the_repository_matches_the_command() -> None:
    """`manifest.yml` is the Socket Mode manifest, character by character."""
    assert (HERE.parent / "manifest.yml").read_text() == build_manifest(None)


@pytest.mark.parametrize("url", [None, URL, f"{URL}:8443/bot"], ids=["socket mode", "http", "http with port and path"])
def test_slack_accepts_the_manifest(url: str | None) -> None:
    """Slack's own schema finds no error, and the manifest names its version of the schema."""
    manifest = read(url)
    validate(manifest)
    assert manifest["_metadata"]["major_version"] == 2


BROKEN: dict[str, Callable[[Manifest], object]] = {
    "no name": lambda manifest: manifest["display_information"].pop("name"),
    "a name too long": lambda manifest: manifest["display_information"].update(name="x" * 36),
    "a description too long": lambda manifest: manifest["display_information"].update(description="x" * 141),
    "no command": lambda manifest: manifest["features"]["slash_commands"][0].pop("command"),
    "no description of the command": lambda manifest: manifest["features"]["slash_commands"][0].pop("description"),
    "scopes that are no list": lambda manifest: manifest["oauth_config"]["scopes"].update(bot="commands"),
    "a flag that is a text": lambda manifest: manifest["settings"].update(socket_mode_enabled="yes"),
    "an unknown setting": lambda manifest: manifest["settings"].update(made_up=True),
}


@pytest.mark.parametrize("break_it", BROKEN.values(), ids=BROKEN.keys())
def test_the_schema_can_reject(break_it: Callable[[Manifest], object]) -> None:
    """It rejects what Slack would refuse, so that a pass above means something."""
    manifest = copy.deepcopy(read(URL))
    break_it(manifest)
    with pytest.raises(jsonschema.ValidationError):
        validate(manifest)


def flatten(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every leaf with its path."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def test_http_differs_only_in_the_addresses_and_the_flag() -> None:
    """Six lines of the text: four addresses, which Slack calls at one path, and the flag's two values."""
    socket, http = dict(flatten(read(None))), dict(flatten(read(URL)))
    changed = {name: (socket.get(name), http.get(name)) for name in socket | http if socket.get(name) != http.get(name)}
    assert changed == {
        "features.slash_commands.0.url": (None, EVENTS),
        "settings.event_subscriptions.request_url": (None, EVENTS),
        "settings.interactivity.request_url": (None, EVENTS),
        "settings.interactivity.message_menu_options_url": (None, EVENTS),
        "settings.socket_mode_enabled": (True, False),
    }
    lines = Counter(build_manifest(None).splitlines()), Counter(build_manifest(URL).splitlines())
    assert ((lines[0] - lines[1]) + (lines[1] - lines[0])).total() == 6


def test_what_the_bot_needs_is_enabled() -> None:
    """A command that the listeners know, modals, an App Home, and messages that people can open but not answer."""
    manifest = read(None)
    (command,) = manifest["features"]["slash_commands"]
    assert command["command"] == COMMAND
    assert command["should_escape"] is False
    assert manifest["settings"]["interactivity"]["is_enabled"] is True
    assert manifest["features"]["app_home"]["messages_tab_enabled"] is True
    assert manifest["features"]["app_home"]["home_tab_enabled"] is True
    assert manifest["settings"]["event_subscriptions"]["bot_events"] == ["app_home_opened"]
    assert list(manifest["oauth_config"]["scopes"]) == ["bot"]


SCOPES_OF_CALLS = {
    # From each method's page at https://docs.slack.dev/reference/methods, for a bot in public and private channels.
    "auth_test": set[str](),
    "apps_connections_open": set[str](),  # connections:write of the app-level token, which no manifest asks for
    "views_open": set[str](),
    "views_publish": set[str](),
    "views_update": set[str](),
    "chat_postMessage": {"chat:write"},
    "chat_update": {"chat:write"},
    "conversations_info": {"channels:read", "groups:read"},
    "usergroups_users_list": {"usergroups:read"},
    "users_info": {"users:read"},
}


def calls_to_slack() -> set[str]:
    """Return the methods of Slack's client that the bot's own module calls."""
    nodes = ast.walk(ast.parse(inspect.getsource(bot.slack.api)))
    return {
        node.func.attr
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) in {"client", "self._patient_client"}
    }


def test_every_scope_is_used_and_every_call_has_its_scope() -> None:
    """A scope without a call asks for too much; Slack would refuse a call without its scope."""
    needed = set().union(*(SCOPES_OF_CALLS[call] for call in calls_to_slack()))
    scopes = read(None)["oauth_config"]["scopes"]["bot"]
    assert len(scopes) == len(set(scopes))
    assert set(scopes) == needed | {"commands"}


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}/",
        f"{URL}///",
        EVENTS,
        f"{EVENTS}/",
    ],
)
def test_an_address_may_have_several_endings(url: str) -> None:
    """With or without the slash or the path: Slack gets the one path that the bot serves."""
    assert build_manifest(url) == build_manifest(URL)


def test_a_path_before_the_bots_is_kept() -> None:
    """Behind a proxy the bot may have a path prefix."""
    assert f"request_url: {URL}/bots/r2/slack/events\n" in build_manifest(f"{URL}/bots/r2/")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("bot.example.com", id="no protocol"),
        pytest.param("http://bot.example.com", id="in the clear"),
        pytest.param("HTTPS://bot.example.com", id="capitals, which Slack refuses"),
        pytest.param("https://", id="no host"),
        pytest.param("https:///slack/events", id="an empty host"),
        pytest.param("https://user:pass@bot.example.com", id="with a password"),
        pytest.param("https://bot.example.com?x=1", id="with a query"),
        pytest.param("https://bot.example.com/#x", id="with a fragment"),
        pytest.param("https://bot.example.com:port", id="a malformed port"),
        pytest.param("https://bot example.com", id="with a blank"),
        pytest.param("https://bot.example.com\n", id="with a line end"),
        pytest.param("https://bot.example.com\n  evil: true", id="followed by YAML"),
        pytest.param("https://bot.example.com # x", id="followed by a comment"),
        pytest.param("https://{command_url}", id="with a field of ours"),
        pytest.param("https://b\u00f6t.example.com", id="letters beyond ASCII"),
        pytest.param("ftp://bot.example.com", id="another protocol"),
        pytest.param(" https://bot.example.com", id="a blank before it"),
    ],
)
def test_an_address_that_slack_would_refuse_is_refused(url: str) -> None:
    """The message says what is wanted."""
    with pytest.raises(ValueError, match=r"\Athe URL must be https://HOST, where Slack reaches the bot\Z"):
        build_manifest(url)


@given(st.text() | st.text(alphabet="/.:-#&{}\n a1").map(URL.__add__))
def test_no_address_breaks_the_manifest(url: str) -> None:
    """It is refused, or the manifest keeps its structure with that address in three places."""
    try:
        manifest = read(url)
    except ValueError:
        return
    validate(manifest)
    assert dict(flatten(manifest)).keys() == dict(flatten(read(URL))).keys()
    assert manifest["features"]["slash_commands"][0]["url"].startswith(url.rstrip("/"))
