"""Slack's way in over Socket Mode (https://docs.slack.dev/apis/events-api/using-socket-mode), on top of Slack's SDK.

Three steps of the SDK are replaced: how it connects (it tries a dead address for ever), how it receives and how it
takes from its queue (both keep the last payload, with whatever was pasted, in a frame).
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import ClientWebSocketResponse, WSMsgType
from slack_bolt.adapter.socket_mode.async_internals import send_async_response
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import BotError
from bot.slack.ingress import Ingress, parse_json_object
from bot.slack.web import SlackWeb

_PING_EVERY: Final = timedelta(seconds=5)
_HANDSHAKE: Final = timedelta(seconds=4)
_WATCH_EVERY: Final = timedelta(seconds=10)
_PASSING: Final = (BotError, aiohttp.ClientError, TimeoutError, OSError)
_LAST_WORDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})

_log = structlog.get_logger()


class SocketModeIngress(SocketModeClient):
    """Takes Slack's frames over a WebSocket and seals them before anything is done with them."""

    def __init__(self, ingress: Ingress, *, app_token: str, web_client: AsyncWebClient, logger: logging.Logger) -> None:
        super().__init__(app_token, logger=logger, web_client=web_client, ping_interval=_PING_EVERY.total_seconds())
        self.proxy = web_client.proxy
        self._ingress = ingress
        self._tasks: set[asyncio.Task[None]] = set()
        self.socket_mode_request_listeners.append(self._answer)

    async def connect(self) -> None:
        """Connect, however long it takes. An address is good for one try: the SDK asks for one when it has none."""
        while not self.closed:
            try:
                async with asyncio.timeout(_HANDSHAKE.total_seconds()):  # the SDK would try this one for ever
                    await super().connect()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it
            except TimeoutError:
                _log.warning("socket_mode_not_connected")
            else:
                return
            finally:
                self.wss_uri = None

    async def issue_new_wss_url(self) -> str:
        """Ask for an address. The SDK's own way breaks on an answer that is no JSON, as a proxy gives it."""
        return await SlackWeb(self.web_client).open_connection(self.app_token)

    async def connect_to_new_endpoint(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - the SDK's signature
        """Connect anew, unless somebody else was faster. The SDK would ask for one address more, and not try again."""
        async with self.connect_operation_lock:
            if force or not await self.is_connected():
                await self.connect()

    async def watch(self) -> None:
        """Rebuild the connection when it is down and nothing in the SDK has noticed; runs for ever."""
        while True:
            await asyncio.sleep(_WATCH_EVERY.total_seconds())
            if not await self.is_connected():
                _log.warning("socket_mode_down")
                await self._reconnect()

    async def receive_messages(self) -> None:
        """Hand each frame on and keep nothing of it while waiting for the next one, which can take hours."""
        session = self.current_session
        while session is not None and session is self.current_session and not self.closed:
            if not await self._receive_one(session):
                self._start(self._reconnect())
                return

    async def process_message(self) -> None:
        """Take one frame from the queue; no raw text lives as long as its listeners run."""
        message = parse_json_object(await self.message_queue.get())
        if message is not None:
            self._start(self.run_message_listeners(message, ""))

    async def _receive_one(self, session: ClientWebSocketResponse) -> bool:
        """Say whether the connection is still open."""
        message = await session.receive()
        if message.type is WSMsgType.TEXT:
            await self.enqueue_message(message.data)
        elif message.type is WSMsgType.PING:
            await session.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self.last_ping_pong_time = time.time()
        return message.type not in _LAST_WORDS

    async def _reconnect(self) -> None:
        if not self.closed and self.auto_reconnect_enabled:
            await self.connect_to_new_endpoint()

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        started_at = time.time()
        response = await self._ingress.dispatch(request.payload)
        await send_async_response(client, request, response, started_at)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
