"""The calls that the bot makes to Slack, typed (the only user of Slack's Web client outside the composition root).

Does not retry: delivery schedules its own retries, and a person presses again. The exception is a broken connection:
calls that are safe to repeat are made once more over a new one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.model.clock import steady_clock
from bot.model.errors import SlackConnectionBroke, SlackRefused, SlackTimedOut, SlackTrouble, SlackUnavailable
from bot.model.memory import Memory
from bot.model.no_answer import NoAnswer
from bot.model.slack_ids import SlackId
from bot.policy.profile import Profile
from bot.slack.blocks import Json
from bot.slack.identity import Identity, read_id, read_identity, read_object
from bot.slack.profile import read_profile
from bot.slack.session import AnswerRefused
from bot.slack.silence import explain_silence

LONGEST_RETRY_AFTER: Final = timedelta(minutes=5)
CHANNEL_LIFETIME: Final = timedelta(minutes=1)

TIMEOUT: Final = timedelta(seconds=2)
"""A trigger lives 3 s and an acknowledgement has 3 s."""

PATIENT_TIMEOUT: Final = timedelta(seconds=15)
"""For calls without a waiting person: a message that is given up too early would be posted twice."""

_PASSING: Final = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)


_SCOPE_OF_GROUP_MESSAGES: Final = "mpim:read"
"""The bot does not request it: if Slack names it as missing, the conversation is a group message."""

_SCOPES_OF_CHANNELS: Final = frozenset({"channels:read", "groups:read"})

_SHARED_OUTSIDE: Final = ("is_ext_shared", "is_pending_ext_shared", "pending_shared", "pending_connected_team_ids")

_TRIGGER_USED: Final = "exchanged_trigger_id"

_TROUBLE_STATUSES: Final = frozenset({429, *range(500, 600)})
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{1,63}")
"""The shape of Slack's error codes. They are logged and shown, so no sentence or token may pass as one."""

_TS: Final = re.compile(r"[0-9]{1,16}\.[0-9]{1,16}")

_Call = Callable[[AsyncWebClient], Awaitable[AsyncSlackResponse]]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What the bot can know of a channel. `is_visible` is False if Slack does not show it to this bot.

    `is_group_message`: not a channel, but a direct message between several people.
    `is_member`: whether the bot is in it.
    """

    is_visible: bool
    is_archived: bool = False
    is_shared_outside: bool = False
    is_group_message: bool = False
    is_member: bool = False

    @property
    def is_good(self) -> bool:
        """Whether a result may go there."""
        return self.is_visible and not (self.is_archived or self.is_shared_outside or self.is_group_message)


class SlackWeb:
    """Every method raises SlackRefused for a refusal and SlackTrouble for a transient error."""

    def __init__(
        self,
        client: AsyncWebClient,
        clock: Callable[[], datetime] | None = None,
        *,
        patient_client: AsyncWebClient | None = None,
        patient_kept_client: AsyncWebClient | None = None,
    ) -> None:
        """Take a client that gives up within `TIMEOUT`, and two for calls without a waiting person.

        `patient_client` opens a connection for each call, so a call that broke on a kept one can be repeated over it.
        `patient_kept_client` keeps them: without, each update of a modal cost a handshake.
        """
        self._client = client
        self._patient_client = patient_client or client
        self._patient_kept_client = patient_kept_client or self._patient_client
        self._good_channels = Memory[str, Channel](clock or steady_clock())
        self.app_id = ""
        """The app that the bot token belongs to, once Slack has told with a view: auth.test does not tell."""
        self.bot_id = ""
        """The bot that Slack names as that of this app's views, once it has."""

    async def identify(self) -> Identity:
        """Return what this bot token is, and where it is installed (auth.test)."""
        return read_identity(await self._ask(lambda client: client.auth_test()))

    async def open_connection(self, app_token: str) -> str:
        """Return the address of a new Socket Mode connection (apps.connections.open)."""
        response = await self._ask(lambda client: client.apps_connections_open(app_token=app_token))
        return str(response.get("url"))

    async def open_view(self, trigger_id: str, view: Json, *, in_modal: bool = False) -> str | None:
        """Open a modal (views.open), and return the view's id; the trigger lives 3 s.

        `in_modal`: the trigger is that of a button in a modal, onto which the view is pushed (views.push).
        None: it has opened, but the answer that names it was lost.
        """
        until = _within(TIMEOUT)

        def call(client: AsyncWebClient) -> Awaitable[AsyncSlackResponse]:
            method = client.views_push if in_modal else client.views_open
            return method(trigger_id=trigger_id, view=view)

        response = await _try_once(call(self._client), until)
        if response is None:
            try:
                response = await _translated(call(self._patient_client), until)
            except SlackRefused as refusal:
                if refusal.slack_error == _TRIGGER_USED:  # by the first attempt: the form is open
                    return None
                raise
        return read_id(SlackId.VIEW, self._read_view(response).get("id"))

    async def publish_home(self, user_id: str, view: Json) -> None:
        """Replace what a user sees in the App Home (views.publish)."""
        self._read_view(
            await self._ask(lambda client: client.views_publish(user_id=user_id, view=view), is_patient=True)
        )

    async def update_view(self, view_id: str, view: Json) -> None:
        """Replace an open modal (views.update); SlackRefused("not_found") means that its user closed it."""
        await self._ask(lambda client: client.views_update(view_id=view_id, view=view), is_patient=True)

    async def post(self, channel_id: str, message: Json, client_msg_id: str) -> str | None:
        """Post a message (chat.postMessage) to a channel, or to a user as a direct message; return its `ts`.

        The only call that is not repeated here: it may have been posted, and only the caller knows if twice does harm.
        """
        response = await _translated(
            self._patient_client.chat_postMessage(
                channel=channel_id, client_msg_id=client_msg_id, unfurl_links=False, unfurl_media=False, **message
            ),
            _within(PATIENT_TIMEOUT),
        )
        return _read_ts(response.get("ts"))

    async def update_message(self, channel_id: str, message_ts: str, message: Json, *, is_patient: bool = True) -> None:
        """Replace a message that the bot has posted (chat.update)."""
        await self._ask(
            lambda client: client.chat_update(channel=channel_id, ts=message_ts, **message), is_patient=is_patient
        )

    async def channel(self, channel_id: str) -> Channel:
        """Look up a channel (conversations.info); a good one is remembered for a minute, others are not."""
        known = self._good_channels.get(channel_id)
        if known is not None:
            return known
        channel = await self._look_up_channel(channel_id)
        if channel.is_good:
            self._good_channels.keep(channel_id, channel, CHANNEL_LIFETIME)
        return channel

    def _read_view(self, response: AsyncSlackResponse) -> Json:
        view = response.get("view")
        known = view if isinstance(view, dict) else {}
        app_id, bot_id = known.get("app_id"), known.get("bot_id")
        self.app_id = app_id if isinstance(app_id, str) and SlackId.APP.fits(app_id) else self.app_id
        self.bot_id = bot_id if isinstance(bot_id, str) and SlackId.BOT.fits(bot_id) else self.bot_id
        return known

    async def _look_up_channel(self, channel_id: str) -> Channel:
        try:
            response = await self._ask(lambda client: client.conversations_info(channel=channel_id))
        except SlackRefused as refusal:
            if refusal.slack_error == "channel_not_found":
                return Channel(is_visible=False)
            if _is_of_group_message(refusal):
                return Channel(is_visible=False, is_group_message=True)
            raise
        channel = read_object(response.get("channel"))
        return Channel(
            is_visible=True,
            is_archived=bool(channel.get("is_archived")),
            is_shared_outside=_is_shared_outside(channel),
            is_group_message=bool(channel.get("is_mpim")),
            is_member=bool(channel.get("is_member")),
        )

    async def usergroup_members(self, usergroup: str) -> frozenset[str]:
        """Return who is in a user group (usergroups.users.list)."""
        response = await self._ask(lambda client: client.usergroups_users_list(usergroup=usergroup))
        users = response.get("users")
        if not isinstance(users, list):
            raise SlackUnavailable  # not an empty group: that would be an answer
        return frozenset(user for user in users if isinstance(user, str) and SlackId.USER.fits(user))

    async def person(self, user_id: str) -> Profile | None:
        """Return what Slack says of a user (users.info), or None for an answer that describes nobody."""
        return read_profile(await self._ask(lambda client: client.users_info(user=user_id)), user_id)

    async def _ask(self, call: _Call, *, is_patient: bool = False) -> AsyncSlackResponse:
        """Make a call that is safe to repeat; if the connection broke, make it once more over a new one.

        A peer may close an idle connection while a request is on its way. Both attempts share one time limit.
        """
        until = _within(PATIENT_TIMEOUT if is_patient else TIMEOUT)
        response = await _try_once(call(self._patient_kept_client if is_patient else self._client), until)
        return await _translated(call(self._patient_client), until) if response is None else response


def _is_shared_outside(channel: Mapping[str, object]) -> bool:
    """Return whether another company reads a channel, or is invited to; a channel shared in one organization is not.

    Fields: https://docs.slack.dev/reference/objects/conversation-object. A channel that is shared, and Slack does not
    say with whom, counts.
    """
    is_shared_somehow = bool(channel.get("is_shared")) and not channel.get("is_org_shared")
    return is_shared_somehow or any(channel.get(sign) for sign in _SHARED_OUTSIDE)


def _within(timeout: timedelta) -> float:
    return asyncio.get_running_loop().time() + timeout.total_seconds()


async def _try_once(call: Awaitable[AsyncSlackResponse], until: float) -> AsyncSlackResponse | None:
    """Return None if the connection broke, so that the call can be repeated."""
    try:
        return await _translated(call, until)
    except SlackConnectionBroke:
        _log.debug("slack_call_repeated")
        return None


async def _translated(call: Awaitable[AsyncSlackResponse], until: float) -> AsyncSlackResponse:
    """Await one call and translate its errors; slack_sdk's own errors hold the whole answer."""
    failure: SlackRefused | SlackTrouble
    try:
        async with asyncio.timeout_at(until):
            response = await call
    except SlackApiError as error:
        failure = _translate(error)
    except TimeoutError as error:  # aiohttp's are among its connection errors too
        failure = SlackTimedOut(why=explain_silence(error))
    except (AnswerRefused, aiohttp.ClientResponseError) as error:
        failure = SlackUnavailable(why=explain_silence(error))
    except (aiohttp.ClientError, OSError) as error:
        failure = SlackConnectionBroke(why=explain_silence(error))
    except (SlackClientError, AttributeError, ValueError, RecursionError) as error:
        failure = SlackUnavailable(why=explain_silence(error))  # a 200 whose body is not a JSON object
    else:
        if isinstance(response.data, dict):
            return response
        failure = SlackUnavailable(why=explain_silence(ValueError()))
    raise failure


def _translate(error: SlackApiError) -> SlackRefused | SlackUnavailable:
    response = error.response  # an AsyncSlackResponse, or aiohttp's own if the body was not JSON
    if not isinstance(response, AsyncSlackResponse):
        return SlackUnavailable(why=explain_silence(error), status=getattr(response, "status", None))
    data = response.data if isinstance(response.data, dict) else {}  # a proxy's 503 is plain text
    code = data.get("error")
    if response.status_code in _TROUBLE_STATUSES or not isinstance(code, str) or not _WORD.fullmatch(code):
        return SlackUnavailable(_retry_after(response), explain_silence(error), status=response.status_code)
    if code in _PASSING:
        return SlackUnavailable(_retry_after(response), NoAnswer(because=f"it has a problem ({code})"))
    return SlackRefused(code, _lacking(data))


def _lacking(data: Mapping[str, object]) -> frozenset[str]:
    """Return the needed scopes that are missing; Slack may list those of every type of conversation as needed."""
    needed, provided = (
        frozenset(scope.strip() for scope in listed.split(",")) if isinstance(listed, str) else frozenset[str]()
        for listed in (data.get("needed"), data.get("provided"))
    )
    return needed - provided - {""}


def _is_of_group_message(refusal: SlackRefused) -> bool:
    """Return whether only the scope of group messages is missing: the app could look up a channel."""
    lacking = refusal.lacking_scopes
    return _SCOPE_OF_GROUP_MESSAGES in lacking and not lacking & _SCOPES_OF_CHANNELS


def _read_ts(value: object) -> str | None:
    return value if isinstance(value, str) and _TS.fullmatch(value) else None


def _retry_after(response: AsyncSlackResponse) -> timedelta | None:
    header = {name.lower(): value for name, value in response.headers.items()}.get("retry-after")
    if not isinstance(header, str) or not re.fullmatch(r"[0-9]{1,6}", header):
        return None
    return min(timedelta(seconds=int(header)), LONGEST_RETRY_AFTER)
