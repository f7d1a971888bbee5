"""Examines how payloads reach the bot: Socket Mode, as the running bot knows it or with a fresh address, or HTTP."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import aiohttp
from yarl import URL

from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.finding import Check, Finding, Mark, Part
from bot.slack.api import SlackWeb
from bot.slack.checks.words import APP_TOKEN, app_token_refused, slack_not_reached
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.session import AnswerRefused
from bot.slack.silence import explain_silence

_HTTP_OF: Final = {"wss": "https", "ws": "http"}
_ALLOW_SOCKETS: Final = "allow WebSockets to wss-primary.slack.com, also in a proxy"


def socket_check(socket: SocketModeIngress, web: SlackWeb, *, is_alone: bool) -> Check:
    """Return the check of the running bot's connections, which asks nothing of Slack.

    `is_alone`: no other process of this installation has connections of the app.
    """

    async def examine() -> Sequence[Finding]:
        if not socket.open_connections:
            return [_explain_closed(socket.failure)]
        if web.app_id and socket.app_id and web.app_id != socket.app_id:
            return [_tokens_of_two_apps(web.app_id, socket.app_id)]
        return [_count(socket, is_alone=is_alone)]

    return Check(part=Part.TRANSPORT, examine=examine, is_quick=True)


def address_check(web: SlackWeb, http: aiohttp.ClientSession, app_token: str) -> Check:
    """Return the check of the app-level token and of the way to Slack's WebSockets.

    Opens no WebSocket: beside a running bot, it would get a share of the payloads. `http` is one of Slack's sessions.
    """

    async def examine() -> Sequence[Finding]:
        try:
            address = await web.open_connection(app_token)
        except SlackRefused as refusal:
            return [app_token_refused(refusal.slack_error)]
        except SlackTrouble as trouble:
            return [slack_not_reached(trouble, Part.TRANSPORT)]
        return [await _reach(address, http)]

    return Check(part=Part.TRANSPORT, examine=examine)


def http_check(signing_secrets: int) -> Check:
    """Return the check of HTTP mode, which only Slack's requests can prove."""

    async def examine() -> Sequence[Finding]:
        secrets = "a signing secret is set" if signing_secrets == 1 else f"{signing_secrets} signing secrets are set"
        text = f"{secrets}; whether Slack reaches the bot is examined with `check --url https://...`"
        return [Finding(part=Part.TRANSPORT, event="http_expected", text=text, known={"secrets": signing_secrets})]

    return Check(part=Part.TRANSPORT, examine=examine)


def _explain_closed(failure: Exception | None) -> Finding:
    if isinstance(failure, SlackRefused):
        return app_token_refused(failure.slack_error)
    if isinstance(failure, SlackTrouble):
        return slack_not_reached(failure, Part.TRANSPORT)
    because = ": its address for WebSockets does not answer" if failure else ", and connects again"
    return Finding(
        part=Part.TRANSPORT,
        event="socket_closed",
        text=f"Socket Mode is not connected{because}",
        mark=Mark.FAILED,
        fix=_ALLOW_SOCKETS if failure else "",
        blocks=True,
    )


def _tokens_of_two_apps(of_bot_token: str, of_app_token: str) -> Finding:
    return Finding(
        part=Part.TRANSPORT,
        event="slack_tokens_of_two_apps",
        text=f"the bot token belongs to the app {of_bot_token}, and the app-level token to {of_app_token}",
        mark=Mark.FAILED,
        setting=APP_TOKEN,
        fix="copy both tokens from the same app, and restart",
        blocks=True,
        known={"bot_token_of": of_bot_token, "app_token_of": of_app_token},
    )


def _count(socket: SocketModeIngress, *, is_alone: bool) -> Finding:
    own, others, total = socket.own_connections, socket.sharing.others, socket.sharing.total
    known = {"connections": own, "app": socket.app_id}
    if is_alone and others:
        return Finding(
            part=Part.TRANSPORT,
            event="slack_app_shared",
            text=f"another bot uses the same Slack app: it has {others} of the {total} connections, and so a share of "
            "all commands and forms",
            mark=Mark.FAILED,
            setting=APP_TOKEN,
            fix="stop the other bot, or give each its own Slack app",
            known={**known, "of_others": others},
        )
    of_all = f" of the {total} that the app has" if total > own and not is_alone else ""
    text = f"Socket Mode is connected: {own} {'connection' if own == 1 else 'connections'}{of_all}"
    return Finding(part=Part.TRANSPORT, event="socket_open", text=text, known=known)


async def _reach(address: str, http: aiohttp.ClientSession) -> Finding:
    """Ask the WebSockets' host for anything at all: only DNS, firewall, proxy and certificate matter."""
    try:
        url = URL(address)
        with suppress(AnswerRefused):  # a redirect is an answer too
            async with http.get(url.with_scheme(_HTTP_OF[url.scheme]).with_path("/").with_query(None)):
                pass
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        why = explain_silence(error)
        return Finding(
            part=Part.TRANSPORT,
            event="slack_sockets_not_reached",
            text=f"Slack accepts the app-level token, but its WebSockets are not reached: {why.because}",
            mark=Mark.FAILED,
            setting=why.setting,
            fix=why.fix or _ALLOW_SOCKETS,
            blocks=True,
        )
    text = "Slack accepts the app-level token, Socket Mode is switched on, and its WebSockets can be reached"
    return Finding(part=Part.TRANSPORT, event="slack_app_token_accepted", text=text)
