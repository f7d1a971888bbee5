"""Requests over Socket Mode (https://docs.slack.dev/apis/events-api/using-socket-mode), on top of Slack's SDK.

Several connections are kept, each rebuilt when it dies and replaced before Slack ends it. The SDK's own reconnection is
not used: it closes before it opens, may answer over another connection, retries a dead address forever, and keeps the
last payload, with the pasted token, in a frame.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final
from weakref import WeakSet

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.metrics import SOCKET_RECONNECTS, Metrics
from bot.model.background import Background
from bot.model.errors import SlackRefused, SlackTrouble
from bot.network import DIRECT, Network
from bot.slack.api import SlackWeb
from bot.slack.inbound.connection import EARLY_NOTICES, RENEWAL, SocketModeConnection
from bot.slack.inbound.ingress import Ingress
from bot.slack.inbound.pulse import Pulse
from bot.slack.inbound.sharing import Sharing
from bot.slack.traffic import SlackTraffic

_FIRST_PAUSE: Final = timedelta(milliseconds=500)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
_LONGEST_PAUSE_REFUSED: Final = timedelta(seconds=30)
_STEADY_AFTER: Final = timedelta(seconds=10)
_SHARING_EVERY: Final = timedelta(minutes=1)

_log = structlog.get_logger()


class SocketModeIngress:
    """Keeps `connections` open and accepts what Slack sends over any of them. `wss_uri` is an address to use first."""

    def __init__(  # noqa: PLR0913 - its surroundings, by name
        self,
        ingress: Ingress,
        *,
        app_token: str,
        web_client: AsyncWebClient,
        logger: logging.Logger,
        connections: int = 2,
        network: Network = DIRECT,
        metrics: Metrics | None = None,
        is_alone: bool = True,
        traffic: SlackTraffic | None = None,
    ) -> None:
        """Take `is_alone`: no other process may have connections of this app."""
        metrics = metrics or Metrics()
        self.wss_uri: str | None = None
        self.app_id = ""
        self.sharing = Sharing()
        self._is_alone = is_alone
        self._ingress = ingress
        self._app_token = app_token
        self._web_client = web_client
        self._logger = logger
        self._network = network
        self._traffic = traffic
        note_end = partial(metrics.count, SOCKET_RECONNECTS)
        self._lanes = [_Lane(number, self._dial, note_end) for number in range(1, connections + 1)]
        self._keepers: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._stopping = False
        self._connections = WeakSet[SocketModeConnection]()
        self._pulse = Pulse(self._doubt)
        self._beating = Background("pulse_broke")

    @property
    def open_connections(self) -> int:
        """The number of connections over which Slack can reach the bot; one is enough."""
        return sum(lane.is_open for lane in self._lanes)

    @property
    def failure(self) -> SlackRefused | SlackTrouble | TimeoutError | None:
        """Why the last attempt at a connection failed, unless one has succeeded since."""
        return next((lane.failure for lane in self._lanes if lane.failure is not None), None)

    @property
    def own_connections(self) -> int:
        """How many connections are open, with those that are being replaced."""
        return sum(connection.is_open for connection in self._connections)

    async def connect(self) -> None:
        """Open the first connection, however long it takes; `watch` opens the others."""
        self._beating.start(self._pulse.beat())
        if not self._stopping:
            await self._lanes[0].fill()

    async def watch(self) -> None:
        """Keep every connection open; runs until `stop_taking` or `close`."""
        work = [] if self._stopping else [*(lane.keep() for lane in self._lanes), self._watch_sharing()]
        async with asyncio.TaskGroup() as group:
            for each in work:
                keeper = group.create_task(each)
                self._keepers.add(keeper)
                keeper.add_done_callback(self._keepers.discard)

    async def stop_taking(self) -> None:
        """Answer what was accepted, then close.

        No acknowledgement can follow a closing frame. So each connection is closed when idle, and what Slack sends
        until it notices is not accepted: Slack delivers it over another connection.
        """
        await self._stop_keeping()
        await asyncio.gather(*(lane.retire() for lane in self._lanes))

    async def close(self) -> None:
        """Close all connections at once, for good."""
        await self._stop_keeping()
        await asyncio.gather(*(lane.close() for lane in self._lanes))
        self._beating.cancel()

    def _doubt(self) -> None:
        _log.warning("socket_mode_stood_still")
        for connection in self._connections:
            connection.doubt()

    async def _watch_sharing(self) -> None:
        """Renew a connection when Slack should count again."""
        waited = timedelta(0)
        while True:
            await asyncio.sleep(_SHARING_EVERY.total_seconds())
            patience = self.sharing.count_again_after if self._is_alone else None
            waited = timedelta(0) if patience is None else waited + _SHARING_EVERY
            if patience is not None and waited >= patience:
                self._lanes[0].renew()
                waited = timedelta(0)

    async def _stop_keeping(self) -> None:
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _dial(self) -> SocketModeConnection:
        """Open one connection; raises SlackRefused, SlackTrouble, or TimeoutError for a dead address."""
        async with self._one_at_a_time:
            address = self.wss_uri or await SlackWeb(self._web_client).open_connection(self._app_token)
            self.wss_uri = None  # an address is valid for one attempt
            connection = SocketModeConnection(
                self._ingress,
                feel_pulse=self._pulse.feel,
                app_token=self._app_token,
                web_client=self._web_client,
                logger=self._logger,
                network=self._network,
                traffic=self._traffic,
            )
            own = self.own_connections + 1
            self._connections.add(connection)
            await connection.open(address)
            self.app_id = connection.app_id
            self.sharing.note(connection.counted, own, asyncio.get_running_loop().time())
            return connection


class _Lane:
    """Keeps one connection open, replacing it as needed."""

    def __init__(
        self, number: int, dial: Callable[[], Awaitable[SocketModeConnection]], note_end: Callable[[str], None]
    ) -> None:
        """Take `note_end`, called with the reason for which a connection is replaced."""
        self._number = number
        self._note_end = note_end
        self._dial = dial
        self._pause = timedelta(0)
        self.failure: SlackRefused | SlackTrouble | TimeoutError | None = None
        self._connection: SocketModeConnection | None = None
        self._retiring: dict[SocketModeConnection, asyncio.Task[None]] = {}

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def keep(self) -> None:
        """Replace the connection whenever it ends or is about to; runs forever."""
        while True:
            if self._connection is not None:
                await self._wait_until_over(self._connection)
            await self.fill()

    async def fill(self) -> None:
        """Open a connection, however long it takes; the old one stays in use until then."""
        while True:
            await asyncio.sleep(self._pause.total_seconds())
            try:
                connection = await self._dial()
            except (SlackRefused, SlackTrouble, TimeoutError) as failure:
                self._pause = _pause_after(failure, self._pause)
                _log_failure(failure, self._pause, self._number, is_news=str(failure) != str(self.failure))
                self.failure = failure
            else:
                break
        self.failure = None
        _log.info("socket_mode_connected", connection=self._number)
        old, self._connection = self._connection, connection
        if old is not None:
            self._retiring[old] = asyncio.create_task(old.retire())
            self._retiring[old].add_done_callback(lambda _: self._retiring.pop(old, None))

    def renew(self) -> None:
        """Replace the connection by another one, if it is open."""
        if self._connection is not None and self.is_open:
            self._connection.renew()

    async def retire(self) -> None:
        """Close what is open, each when idle."""
        if self._connection is not None:
            await self._connection.retire()
        await asyncio.gather(*self._retiring.values())

    async def close(self) -> None:
        """Close what is open, at once."""
        for connection in (self._connection, *self._retiring):
            if connection is not None:
                await connection.close()
        await asyncio.gather(*self._retiring.values())

    async def _wait_until_over(self, connection: SocketModeConnection) -> None:
        await connection.over.wait()
        level = logging.INFO if connection.reason == RENEWAL else logging.WARNING
        _log.log(level, "socket_mode_down", connection=self._number, reason=connection.reason)
        self._note_end(connection.reason)
        self._pause = timedelta(0) if connection.age >= _STEADY_AFTER else _longer(self._pause, _LONGEST_PAUSE)
        if connection.reason not in EARLY_NOTICES | {RENEWAL}:
            await connection.close()  # it is dead, or Slack has too many of ours


def _pause_after(failure: BaseException, pause: timedelta) -> timedelta:
    """Return how long Slack asks to wait, else twice the last pause; longer for a refusal, which needs a person."""
    longest = _LONGEST_PAUSE_REFUSED if isinstance(failure, SlackRefused) else _LONGEST_PAUSE
    asked = failure.retry_after if isinstance(failure, SlackTrouble) else None
    return max(_longer(pause, longest), asked or timedelta(0))


def _longer(pause: timedelta, longest: timedelta) -> timedelta:
    return min(max(pause * 2, _FIRST_PAUSE), longest)


def _log_failure(failure: BaseException, pause: timedelta, number: int, *, is_news: bool) -> None:
    """Log an attempt that failed; one like the last at level debug, since the condition of the part is logged too."""
    known = {"connection": number, "next_try_in_seconds": pause.total_seconds()}
    if isinstance(failure, SlackRefused):
        level = logging.ERROR if is_news else logging.DEBUG
        _log.log(level, "socket_mode_refused", slack_error=failure.slack_error, **known)
    else:
        level = logging.WARNING if is_news else logging.DEBUG
        _log.log(level, "socket_mode_not_connected", error=type(failure).__name__, **known)
