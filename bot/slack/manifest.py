"""The Slack app manifest: one template, with the few lines that differ between Socket Mode and HTTP.

`manifest.yml` is the output for Socket Mode; a test keeps them equal and validates both against Slack's schema.
"""

import re
from functools import partial
from typing import Final

from bot.slack.subcommands import COMMAND, usage_hint

_PUBLIC_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~/-]*)?")
_EVENTS_PATH: Final = "/slack/events"

_MANIFEST: Final = """\
_metadata:
  major_version: 2
display_information:
  name: R2 Credential
  description: Stores the credential of an R2 Data Catalog (Basin Catalog) without showing it to anyone.
features:
  app_home:
    home_tab_enabled: true # the state of all catalogs, and a button that no other app's command can shadow
    messages_tab_enabled: true # the bot writes to you if it cannot post in the channel
    messages_tab_read_only_enabled: true
  bot_user:
    display_name: r2-credential
    always_online: true
  slash_commands:
    - command: {command}
      description: Store the credential of an R2 Data Catalog
      usage_hint: "{usage_hint}"
      should_escape: false{command_url}
oauth_config:
  scopes:
    bot:
      - commands # {command}
      - chat:write # the result
      - channels:read # is the result channel archived, or shared with another company?
      - groups:read # the same for private channels that the bot is in
      - usergroups:read # who is in R2_CREDENTIAL_ALLOWED_USERGROUPS
      - users:read # is a person a guest, a bot or deactivated?
settings:
  event_subscriptions:{event_url}
    bot_events:
      - app_home_opened
  interactivity:
    is_enabled: true{interactivity_urls}
  org_deploy_enabled: false
  socket_mode_enabled: {socket_mode}
  token_rotation_enabled: false
"""


def wanted_scopes() -> frozenset[str]:
    """Return the scopes that the manifest requests."""
    asked = _MANIFEST.partition("    bot:\n")[2].partition("settings:")[0]
    return frozenset(re.findall(r"- (\S+)", asked))


def events_url(url: str) -> str:
    """Return where Slack sends payloads, for the bot's public address with or without the path; raises ValueError."""
    if not _PUBLIC_URL.fullmatch(url):
        message = "the URL must be https://HOST, where Slack reaches the bot"
        raise ValueError(message)
    return url.rstrip("/").removesuffix(_EVENTS_PATH) + _EVENTS_PATH


def build_manifest(url: str | None) -> str:
    """Return the manifest as YAML: for Socket Mode, or with the bot's public address for HTTP.

    Raises ValueError for an address that Slack would not accept.
    """
    manifest = partial(_MANIFEST.format, command=COMMAND, usage_hint=usage_hint())
    if url is None:
        return manifest(command_url="", event_url="", interactivity_urls="", socket_mode="true")
    events = events_url(url)
    return manifest(
        command_url=f"\n      url: {events}",
        event_url=f"\n    request_url: {events}",
        interactivity_urls=f"\n    request_url: {events}\n    message_menu_options_url: {events}",
        socket_mode="false",
    )
