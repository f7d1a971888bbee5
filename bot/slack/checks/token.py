"""Examines the bot token: whether Slack accepts it, where it belongs, and what Slack has granted it."""

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.finding import Check, Finding, Mark, Part
from bot.slack.api import SlackWeb
from bot.slack.checks.words import BOT_TOKEN, bot_token_refused, installed_org_wide, slack_not_reached
from bot.slack.identity import Identity
from bot.slack.traffic import SlackTraffic

PAUSE: Final = timedelta(seconds=2)
"""Before Slack is asked a second time: one call that is lost does not make the bot unready."""

PURPOSES: Final[Mapping[str, str]] = {
    "commands": "the command",
    "chat:write": "posting results",
    "channels:read": "seeing whether a public channel is archived or shared with another company",
    "groups:read": "seeing the same of private channels",
    "usergroups:read": "reading who is in a user group",
    "users:read": "refusing guests and deactivated people, whom the bot cannot tell apart without it",
}
"""What each scope of the manifest is for."""

_OF_USERGROUPS: Final = "usergroups:read"
_OF_LATER_VERSIONS: Final = frozenset({"users:read"})
"""Apps that were installed before the bot asked for these go on working."""

_EVERY_TOKEN_HAS: Final = frozenset({"identify"})
_SCOPE: Final = re.compile(r"[a-z][a-z_.:]{1,63}")


def token_check(web: SlackWeb, traffic: SlackTraffic, *, lists_usergroups: bool, pause: timedelta = PAUSE) -> Check:
    """Return the check of the bot token; `traffic` is that of the sessions that `web` uses."""

    async def examine() -> Sequence[Finding]:
        try:
            identity = await _identify(web, pause)
        except SlackRefused as refusal:
            return [bot_token_refused(refusal.slack_error)]
        except SlackTrouble as trouble:
            return [slack_not_reached(trouble)]
        return [*_judge(identity), *find_scopes(traffic.granted_scopes, lists_usergroups=lists_usergroups)]

    return Check(part=Part.SLACK, examine=examine)


async def _identify(web: SlackWeb, pause: timedelta) -> Identity:
    try:
        return await web.identify()
    except SlackTrouble:
        await asyncio.sleep(pause.total_seconds())
    return await web.identify()


def _judge(identity: Identity) -> Iterator[Finding]:
    if identity.home.is_org_wide:
        yield installed_org_wide()
        return
    if not identity.is_bot:
        yield Finding(
            part=Part.SLACK,
            event="slack_token_of_no_bot",
            text="this is not the token of a bot",
            mark=Mark.FAILED,
            setting=BOT_TOKEN,
            fix="copy the Bot User OAuth Token (xoxb-...) from OAuth & Permissions, and restart",
            blocks=True,
        )
        return
    team_id = identity.home.team_id
    text = f"Slack accepts the bot token, of the workspace {team_id} and the bot {identity.user_id or 'without a name'}"
    yield Finding(
        part=Part.SLACK, event="slack_answers", text=text, known={"team": team_id, "bot_user": identity.user_id}
    )


def find_scopes(granted: Collection[str] | None, *, lists_usergroups: bool) -> Iterator[Finding]:
    """Compare the scopes that Slack granted the bot token (None: not known) with those that the bot needs."""
    if granted is None:
        text = "Slack does not say which scopes it granted"
        yield Finding(part=Part.SLACK, event="slack_scopes_unknown", text=text)
        return
    needed = [scope for scope in PURPOSES if scope != _OF_USERGROUPS or lists_usergroups]
    missing = [scope for scope in needed if scope not in granted]
    unneeded = sorted(scope for scope in set(granted) - PURPOSES.keys() - _EVERY_TOKEN_HAS if _SCOPE.fullmatch(scope))
    for scope in missing:
        yield _missing(scope)
    if unneeded:
        yield _unneeded(unneeded)
    if not missing and not unneeded:
        text = f"all {len(needed)} scopes that the bot needs are granted, and no other"
        yield Finding(part=Part.SLACK, event="slack_scopes_granted", text=text, known={"scopes": needed})


def _missing(scope: str) -> Finding:
    return Finding(
        part=Part.SLACK,
        event="slack_scope_missing",
        text=f"the scope {scope} is not granted, which is for {PURPOSES[scope]}",
        mark=Mark.WARNING if scope in _OF_LATER_VERSIONS else Mark.FAILED,
        setting=BOT_TOKEN,
        fix="add it to the app under OAuth & Permissions, as in manifest.yml, and install the app again",
        known={"scope": scope},
        about=scope,
    )


def _unneeded(scopes: Sequence[str]) -> Finding:
    return Finding(
        part=Part.SLACK,
        event="slack_scopes_unneeded",
        text=f"the bot does not need {', '.join(scopes)}",
        mark=Mark.WARNING,
        setting=BOT_TOKEN,
        fix="remove this from the app under OAuth & Permissions, unless something else uses it, and install it again",
        known={"scopes": list(scopes)},
        about=" ".join(scopes),
    )
