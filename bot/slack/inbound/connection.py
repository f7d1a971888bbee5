"""One Socket Mode connection, on top of Slack's SDK: opened once, read until it ends, keeps no frame."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog
from aiohttp import ClientWebSocketResponse, WSMsgType
from slack_bolt.adapter.socket_mode.async_internals import send_async_response
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.model.background import Background
from bot.model.slack_ids import SlackId
from bot.network import DIRECT, Network
from bot.slack.blocks import Json
from bot.slack.inbound.ingress import Ingress, parse_json_object
from bot.slack.session import NO_PROXY_OF_ITS_OWN, open_session
from bot.slack.traffic import SlackTraffic

EARLY_NOTICES: Final = frozenset({"warning", "refresh_requested"})
"""Reasons of a `disconnect` frame after which the connection stays open for a while."""

RENEWAL: Final = "renewal"
"""The reason if the bot itself wants another connection: this one stays open until then."""

_PING_EVERY: Final = timedelta(seconds=5)
"""After this long without a frame aiohttp sends a ping; half as long after that it gives up the connection."""

_HANDSHAKE: Final = timedelta(seconds=4)
_QUIET_PATIENCE: Final = timedelta(seconds=1)
_ANSWER_PATIENCE: Final = timedelta(seconds=3)
_CLOSE_PATIENCE: Final = timedelta(seconds=1)
_LAST_WORDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
_REASONS: Final = EARLY_NOTICES | {"link_disabled", "too_many_websockets"}

_log = structlog.get_logger()


class SocketModeConnection(SocketModeClient):
    """One WebSocket, opened once. It accepts payloads until it ends, and answers each of them itself."""

    def __init__(  # noqa: PLR0913 - its surroundings, by name
        self,
        ingress: Ingress,
        *,
        feel_pulse: Callable[[], None],
        app_token: str,
        web_client: AsyncWebClient,
        logger: logging.Logger,
        network: Network = DIRECT,
        traffic: SlackTraffic | None = None,
    ) -> None:
        """Take `feel_pulse`, called before each payload; it calls `doubt` if this process stood still.

        Slack's hello fills `app_id`, and `counted`: how many connections the app had then, of all processes.
        """
        super().__init__(
            app_token,
            logger=logger,
            web_client=web_client,
            auto_reconnect_enabled=False,
            ping_interval=_PING_EVERY.total_seconds(),
            proxy=NO_PROXY_OF_ITS_OWN,
        )
        self.aiohttp_client_session.detach()  # the SDK's session follows redirects and keeps cookies
        self.aiohttp_client_session = open_session(_HANDSHAKE, network, traffic)
        self.proxy = None
        self.over = asyncio.Event()
        self.reason = "closed"
        self.app_id = ""
        self.counted = 0
        self._ingress = ingress
        self._opened_at = asyncio.get_running_loop().time()
        self._greeted = asyncio.Event()
        self._takes = True
        self._feel_pulse = feel_pulse
        self._doubts_until: bytes | None = None
        self._pings = Background("ping_broke")
        self._under_way = Background("socket_mode_not_answered")

    @property
    def is_open(self) -> bool:
        """Whether Slack has said hello and neither side has closed."""
        session = self.current_session
        return self._greeted.is_set() and not self.closed and session is not None and not session.closed

    @property
    def age(self) -> timedelta:
        """The time since it was created."""
        return timedelta(seconds=asyncio.get_running_loop().time() - self._opened_at)

    async def open(self, address: str) -> None:
        """Return when Slack has said hello; raises TimeoutError."""
        self.wss_uri = address
        try:
            async with asyncio.timeout(_HANDSHAKE.total_seconds()):  # the SDK would try this address forever
                await self.connect()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it
                await self._greeted.wait()
        except BaseException:
            await self.close()
            raise

    def renew(self) -> None:
        """Ask to be replaced by another connection."""
        self.reason = RENEWAL
        self.over.set()

    def doubt(self) -> None:
        """Accept no Submit until Slack has answered a ping: one read before that may have waited in the socket.

        Slack may have given up on it, and Socket Mode does not say when it was sent.
        """
        self._doubts_until = secrets.token_hex(4).encode()
        self._pings.start(self._ping(self._doubts_until))

    async def retire(self) -> None:
        """Close when idle; if it does not become idle, accept nothing more, and first answer what was accepted."""
        await self._wait_until_quiet(_QUIET_PATIENCE)
        self._takes = False
        await self._wait_until_quiet(_ANSWER_PATIENCE)
        await self.close()

    async def close(self) -> None:
        """Close at once."""
        self._takes = False
        self._under_way.cancel()
        self._pings.cancel()
        await super().close()  # type: ignore[no-untyped-call]  # as above

    async def disconnect(self) -> None:
        """Send a closing frame, and do not wait long for the answer: a dead connection gives none."""
        if self.current_session is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_PATIENCE.total_seconds()):
                    await self.current_session.close()

    async def receive_messages(self) -> None:
        """Pass each frame on, and keep nothing of it while waiting for the next one, which can take hours."""
        session = self.current_session
        try:
            with suppress(ConnectionError):  # from answering a ping
                while session is not None and await self._receive_one(session):
                    pass
        finally:
            self.over.set()

    async def _receive_one(self, session: ClientWebSocketResponse) -> bool:
        """Receive one frame; return whether the connection is still open."""
        frame = await session.receive()
        if frame.type is WSMsgType.TEXT:
            self._take(parse_json_object(frame.data) or {})
        elif frame.type is WSMsgType.PING:
            await session.pong(frame.data)
        elif frame.type is WSMsgType.PONG:
            self.last_ping_pong_time = time.time()
            self._doubts_until = None if frame.data == self._doubts_until else self._doubts_until
        return frame.type not in _LAST_WORDS

    def _take(self, message: Json) -> None:
        """Process a message without the SDK's queue, which loses accepted payloads at a close."""
        kind = message.get("type")
        if kind == "hello":
            self._read_hello(message)
        elif kind == "disconnect":
            reason = message.get("reason")
            self.reason = reason if reason in _REASONS else "unknown"
            self.over.set()
        elif self._takes and isinstance(message.get("payload"), dict):  # the SDK raises for any other
            request = SocketModeRequest.from_dict(message)
            if request is not None:
                self._feel_pulse()
                self._under_way.start(self._answer(request, is_given_up=self._doubts_until is not None))

    def _read_hello(self, message: Json) -> None:
        counted, info = message.get("num_connections"), message.get("connection_info")
        self.counted = counted if isinstance(counted, int) else 0
        app_id = info.get("app_id") if isinstance(info, dict) else None
        self.app_id = app_id if isinstance(app_id, str) and SlackId.APP.fits(app_id) else ""
        self._greeted.set()

    async def _answer(self, request: SocketModeRequest, *, is_given_up: bool) -> None:
        response = await self._ingress.dispatch(request.payload, is_given_up=is_given_up)
        await send_async_response(self, request, response, time.time())

    async def _ping(self, word: bytes) -> None:
        with suppress(ConnectionError):  # it has ended: nothing more is read
            if self.current_session is not None:
                await self.current_session.ping(word)

    async def _wait_until_quiet(self, patience: timedelta) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                while (answering := self._under_way.tasks) and self.is_open:
                    await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
