"""What the bot's own app manifest says of it, so that the fake Slack installs the app as Slack would.

It reads the few lines that it needs of one text that we print ourselves: this is no YAML parser.
"""

import re
from dataclasses import replace

from bot.sandbox.workspace import FakeSlackConfig, SlashCommand

_NAME = re.compile(r"^display_information:\n +name: (?P<name>.+)$", re.MULTILINE)
_COMMAND = re.compile(
    r'- command: (?P<command>\S+)\n +description: (?P<description>.+)\n +usage_hint: "(?P<usage_hint>.*)"$',
    re.MULTILINE,
)
_ENTRY = re.compile(r"^ *- (\S+)", re.MULTILINE)


def install(manifest: str) -> FakeSlackConfig:
    """Return a workspace in which the app of this manifest is installed, with its scopes and no others.

    Raises ValueError when the text is no manifest of ours.
    """
    name = _NAME.search(manifest)
    commands = tuple(SlashCommand(**found.groupdict()) for found in _COMMAND.finditer(manifest))
    if name is None or not commands:
        message = "the app's manifest cannot be read"
        raise ValueError(message)
    return replace(
        FakeSlackConfig(),
        app_name=name["name"],
        commands=commands,
        scopes=_entries(manifest, "bot"),
        bot_events=_entries(manifest, "bot_events"),
        home_tab_enabled="home_tab_enabled: true" in manifest,
    )


def _entries(manifest: str, key: str) -> tuple[str, ...]:
    listed = re.search(rf"^ +{key}:\n((?: +- .+\n)+)", manifest, re.MULTILINE)
    return tuple(_ENTRY.findall(listed[1])) if listed else ()
