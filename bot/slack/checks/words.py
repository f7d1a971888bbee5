"""What Slack's refusals and silences mean to the operator: the same words at the start, in the log and in `check`.

The pages in a fix are those of the app at https://api.slack.com/apps; the codes those of
https://docs.slack.dev/reference/methods/auth.test and apps.connections.open.
"""

from typing import Final

from bot.model.errors import SlackTrouble
from bot.model.finding import Finding, Mark, Part

BOT_TOKEN: Final = "SLACK_BOT_TOKEN"  # noqa: S105 - the setting's name
APP_TOKEN: Final = "SLACK_APP_TOKEN"  # noqa: S105 - as above

_COPY: Final = "copy the Bot User OAuth Token again from OAuth & Permissions, and restart"
_INSTALL: Final = "install the app again (Install App), copy the new Bot User OAuth Token, and restart"
_ALLOW_NETWORK: Final = "allow this network's address for the app (OAuth & Permissions)"
_NEW_APP: Final = "token rotation cannot be switched off again: create a new app from manifest.yml, and use its tokens"
_GENERATE: Final = (
    "generate an App-Level Token with the scope connections:write (Basic Information), set it, and restart"
)
_ADMINISTRATOR: Final = "ask an administrator of the workspace"

_BOT_TOKEN_REFUSED: Final = {
    "invalid_auth": ("Slack does not know this bot token, or not from this network", _COPY),
    "not_authed": ("Slack was sent no bot token", _COPY),
    "token_revoked": ("the bot token was revoked, or the app removed from the workspace", _INSTALL),
    "account_inactive": ("the app was removed from the workspace, or the workspace is gone", _INSTALL),
    "token_expired": ("the bot token has expired, since the app rotates its tokens", _NEW_APP),
    "not_allowed_token_type": ("this is a token of another kind", _COPY),
    "accesslimited": ("the app allows no requests from this network", _ALLOW_NETWORK),
    "org_login_required": ("the workspace is being moved into an organization", ""),
    "team_added_to_org": ("the workspace is being moved into an organization", ""),
    "ekm_access_denied": ("administrators have suspended the app", _ADMINISTRATOR),
}
_APP_TOKEN_REFUSED: Final = {
    "invalid_auth": ("Slack does not know this app-level token, or not from this network", _GENERATE),
    "not_authed": ("Slack was sent no app-level token", _GENERATE),
    "token_revoked": ("the app-level token was revoked", _GENERATE),
    "account_inactive": ("the app-level token was revoked, or its app deleted", _GENERATE),
    "missing_scope": ("the app-level token lacks the scope connections:write", _GENERATE),
    "no_permission": ("the app-level token lacks the scope connections:write", _GENERATE),
    "not_allowed_token_type": ("this is a token of another kind", _GENERATE),
    "accesslimited": ("the app allows no requests from this network", _ALLOW_NETWORK),
    "socket_mode_not_enabled": (
        "Socket Mode is switched off in the app",
        "switch it on (Socket Mode, in the app's settings); for HTTP, set SLACK_SIGNING_SECRET instead",
    ),
}


def bot_token_refused(slack_error: str) -> Finding:
    """Say that Slack refuses the bot token, and what to do."""
    text, fix = _BOT_TOKEN_REFUSED.get(slack_error, ("Slack refuses the bot token", _COPY))
    return Finding(
        part=Part.SLACK,
        event="slack_token_refused",
        text=f"{text} ({slack_error})",
        mark=Mark.FAILED,
        setting=BOT_TOKEN,
        fix=fix,
        blocks=True,
        known={"slack_error": slack_error},
    )


def app_token_refused(slack_error: str) -> Finding:
    """Say that Slack refuses the app-level token, and what to do."""
    text, fix = _APP_TOKEN_REFUSED.get(slack_error, ("Slack refuses the app-level token", _GENERATE))
    return Finding(
        part=Part.TRANSPORT,
        event="slack_app_token_refused",
        text=f"{text} ({slack_error})",
        mark=Mark.FAILED,
        setting=APP_TOKEN,
        fix=fix,
        blocks=True,
        known={"slack_error": slack_error},
    )


def installed_org_wide() -> Finding:
    """Say that an install in a whole organization is not supported."""
    return Finding(
        part=Part.SLACK,
        event="slack_installed_org_wide",
        text="the app is installed in the whole organization, which is not supported",
        mark=Mark.FAILED,
        setting=BOT_TOKEN,
        fix="install it in one workspace (Install App), and take the bot token of that",
        blocks=True,
    )


def slack_not_reached(trouble: SlackTrouble, part: Part = Part.SLACK) -> Finding:
    """Say that Slack gave no usable answer, and why."""
    return Finding(
        part=part,
        event="slack_not_reached",
        text=f"Slack gave no usable answer: {trouble.why.because}",
        mark=Mark.FAILED,
        setting=trouble.why.setting,
        fix=trouble.why.fix,
        blocks=True,
    )
