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
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.ingress import Ingress, parse_json_object

_PING_EVERY: Final = timedelta(seconds=5)
_HANDSHAKE: Final = timedelta(seconds=4)
_PAUSE: Final = timedelta(seconds=1)
_WATCH_EVERY: Final = timedelta(seconds=10)
_PASSING: Final = (SlackApiError, aiohttp.ClientError, TimeoutError, OSError)
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
        """Connect, however long it takes; each try asks Slack for a new address, whose ticket is good for one."""
        while not self.closed:
            try:
                self.wss_uri = await self.issue_new_wss_url()
                async with asyncio.timeout(_HANDSHAKE.total_seconds()):  # the SDK itself would not stop trying this one
                    await super().connect()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it
            except _PASSING as error:
                _log.warning("socket_mode_not_connected", error=type(error).__name__)
                await asyncio.sleep(_PAUSE.total_seconds())
            else:
                return

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
        if self.closed or not self.auto_reconnect_enabled:
            return
        try:
            await self.connect_to_new_endpoint()  # does nothing where somebody else is at it, or was faster
        except _PASSING as error:
            _log.warning("socket_mode_not_connected", error=type(error).__name__)

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        started_at = time.time()
        response = await self._ingress.dispatch(request.payload)
        await send_async_response(client, request, response, started_at)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
