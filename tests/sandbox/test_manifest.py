"""The fake Slack installs the app that the bot's own manifest describes."""

from typing import Any

import pytest
import yaml

from bot.sandbox.manifest import install
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack.manifest import build_manifest

MANIFESTS = {"Socket Mode": build_manifest(None), "HTTP": build_manifest("https://bot.example.com")}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_the_app_is_installed_as_its_manifest_says(text: str) -> None:
    """A YAML parser reads the same from it."""
    manifest: dict[str, Any] = yaml.safe_load(text)
    [command] = manifest["features"]["slash_commands"]
    config = install(text)
    [installed] = config.commands
    assert installed.usage_hint == command["usage_hint"]
    assert (installed.command, installed.description) == (command["command"], command["description"])
    assert config.app_name == manifest["display_information"]["name"]
    assert list(config.scopes) == manifest["oauth_config"]["scopes"]["bot"]
    assert list(config.bot_events) == manifest["settings"]["event_subscriptions"]["bot_events"]
    assert config.home_tab_enabled is manifest["features"]["app_home"]["home_tab_enabled"]


def test_an_app_without_a_home_tab_or_events_is_installed_so() -> None:
    """Only what the manifest asks for is granted."""
    text = build_manifest(None).replace("home_tab_enabled: true", "home_tab_enabled: false").partition("settings:")[0]
    config = install(text)
    assert (config.home_tab_enabled, config.bot_events) == (False, ())


def test_the_tests_own_workspace_grants_what_the_manifest_asks_for() -> None:
    """With more, a call that lacks its scope would fail only at the real Slack."""
    config, manifest = FakeSlackConfig(), install(build_manifest(None))
    assert (config.scopes, config.bot_events) == (manifest.scopes, manifest.bot_events)


@pytest.mark.parametrize("text", ["", "display_information:\n  name: Other\n"], ids=["empty", "no command"])
def test_a_text_that_is_no_manifest_is_refused(text: str) -> None:
    """At the start, not later with a page that knows no command."""
    with pytest.raises(ValueError, match="manifest"):
        install(text)
