"""The moments at which something may happen to a process, and a loop that waits for the database but for no timer."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from aiohttp import web
from sqlalchemy import Connection

from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable
from bot.model.submission import Pending, Posted
from bot.sandbox.cloudflare import ReceivedRequest
from bot.sandbox.routes import find_route
from bot.storage.database import Database
from bot.storage.trouble import Trouble
from tests.in_memory import Server
from tests.rotation.rig import Posts

T = TypeVar("T")


class Event(StrEnum):
    """What happens to a process."""

    KILL = "kill"
    FREEZE = "freeze"
    TROUBLE = "trouble"
    """Its database fails, once."""
    COMMIT_LOST = "commit lost"
    """The same, and the process cannot know whether something was written; nothing was."""


class _Selector(selectors.DefaultSelector):
    """Waits only while something real is under way; a timer's time passes at once."""

    passed = 0.0
    under_way = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; without anything, let the time until the next timer pass."""
        if timeout is None or self.under_way:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop in which sleeping takes no time, although a thread or a server answers."""

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time."""
        return self._jumping.passed

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait meanwhile, and do not jump."""
        self._jumping.under_way += 1
        try:
            yield
        finally:
            self._jumping.under_way -= 1


def waiting() -> Any:  # noqa: ANN401 - a context manager
    """Let the running loop wait for something real."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop.waiting()


class Steady:
    """A database whose transactions follow each other in the order of the calls, so that a history can be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._line = asyncio.Lock()

    @property
    def trouble(self) -> Trouble:
        """Return the other database's."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Run it."""
        async with self._line:
            with waiting():
                return await self._database.run(work, afterwards)


class Points:
    """Before and after each transaction, request and message of one process."""

    def __init__(self) -> None:
        self.is_dead = False
        self.froze = asyncio.Event()
        self._thaw: asyncio.Future[None] | None = None
        self._left = 0
        self._where = ""
        self._event: Event | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._thaw is not None

    def plan(self, event: Event, after: int, where: str = "") -> None:
        """Let something happen after so many points, of all or of those of a name."""
        self._event, self._left, self._where = event, after, where

    def forget(self) -> None:
        """Let nothing happen after all."""
        self._event = None

    def kill(self) -> None:
        """Let it do nothing more, whatever it was about to do."""
        self.is_dead = True
        self.thaw()

    def thaw(self) -> None:
        """Let it go on where it was."""
        thaw, self._thaw = self._thaw, None
        self.froze.clear()
        if thaw is not None and not thaw.done():
            thaw.set_result(None)

    async def reach(self, name: str, of_database: type[DatabaseTrouble] | None = None) -> None:
        """Pass a point; raises CancelledError in a process that is dead."""
        await self._stand_still()
        if self._event is None or not name.startswith(self._where):
            return
        self._left -= 1
        if self._left > 0:
            return
        event = self._event
        if event in (Event.KILL, Event.FREEZE):
            self._event = None
            self._happen(event)
            await self._stand_still()
        elif of_database is not None:
            self._event = None
            if event is Event.TROUBLE:
                raise of_database
            if of_database is DatabaseUnavailable:
                raise CommitUnknown

    def _happen(self, event: Event) -> None:
        if event is Event.KILL:
            self.is_dead = True
        else:
            self._thaw = asyncio.get_running_loop().create_future()
            self.froze.set()

    async def _stand_still(self) -> None:
        while self._thaw is not None:
            await asyncio.shield(self._thaw)
        if self.is_dead:
            raise asyncio.CancelledError


class PointedDatabase:
    """The database as one process has it."""

    def __init__(self, database: Steady, points: Points) -> None:
        self._database = database
        self._points = points

    @property
    def trouble(self) -> Trouble:
        """Return the other database's."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Run it between two points: before, nothing is done; after, the process does not know it yet."""
        await self._points.reach("database before", DatabaseUnavailable)
        result = await self._database.run(work, afterwards)
        await self._points.reach("database after", CommitUnknown)
        return result


class CheckedServer(Server, Protocol):
    """Looks at a request as it passes its last fence: nobody can call it back, however long it stays on its way."""

    async def check(self, received: ReceivedRequest) -> None:
        """Note what is wrong with it."""
        ...


class PointedServer:
    """Cloudflare as one process reaches it: a point between the last fence and the wire, and one before the answer."""

    def __init__(self, server: CheckedServer, points: Points) -> None:
        self._server = server
        self._points = points

    def now(self) -> datetime:
        """Return the time there."""
        return self._server.now()

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Let the request go out, and its answer come back."""
        route = find_route(received.method, received.path)
        kind = "" if route is None else route.kind
        await self._server.check(received)
        await self._points.reach(f"wire {kind}")
        try:
            return await self._server.respond(received)
        finally:
            await self._points.reach(f"answer {kind}")


class PointedPosts:
    """Slack as one process reaches it."""

    def __init__(self, posts: Posts, points: Points) -> None:
        self._posts = posts
        self._points = points

    async def post_result(self, pending: Pending) -> Posted:
        """Post it between two points."""
        await self._points.reach("wire post")
        posted = await self._posts.post_result(pending)
        await self._points.reach("answer post")
        return posted
