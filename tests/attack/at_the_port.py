"""Attacks by anyone who reaches the port and has no secret: silence, floods, and filling the memory and the log."""

import asyncio
import hashlib
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.attack.attack import Arena, Attack, Case
from tests.operations.test_connections import REFUSED
from tests.scene import Scene

_FILES: Final = 1024
_CROWD: Final = 1100
_FORM_WITHIN: Final = 1.0
_SLACK_WAITS: Final = 3.0
_GONE_WITHIN: Final = 12.0
_LOUDEST: Final = 20_000
"""Bytes that one flood may add to the log: a few lines."""
_WRITTEN: Final = 5_000
"""Bytes that a commit writes, with the pages that it changes; the bot itself makes a few commits a second."""
_GROWTH: Final = 32 * 1024 * 1024
_MIB: Final = 1024 * 1024
_PATIENCE: Final = 20.0
_ANSWERED_WITHIN: Final = 4.0
_BUCKET: Final = "analytics-events"


def _signed_now() -> bytes:
    return b"X-Slack-Request-Timestamp: %d\r\nX-Slack-Signature: v0=%s\r\n" % (
        time.time(),
        hashlib.sha256(b"made up").hexdigest().encode(),
    )


def _post(path: bytes, headers: bytes, body: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: bot\r\n%s\r\n%s" % (path, headers, body)


@dataclass(frozen=True, slots=True)
class _Strangers:
    """Connections to the bot's port."""

    address: tuple[str, int]
    sockets: list[socket.socket]

    async def come(self, count: int, data: bytes) -> None:
        """Open connections, and send data over each."""
        loop = asyncio.get_running_loop()
        for number in range(count):
            stranger = socket.socket()
            stranger.settimeout(0)
            self.sockets.append(stranger)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.2):
                    await loop.sock_connect(stranger, self.address)
                    await loop.sock_sendall(stranger, data)
            if number % 50 == 0:
                await asyncio.sleep(0)

    async def send(self, data: bytes) -> None:
        """Send data over all of them at once, as much as the bot accepts."""
        view = memoryview(data)

        async def send(stranger: socket.socket) -> None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await asyncio.get_running_loop().sock_sendall(stranger, view)

        await asyncio.gather(*(send(stranger) for stranger in self.sockets))

    async def read(self) -> bytes:
        """Return everything they were answered, until they are closed or nothing more arrives."""
        answers = await asyncio.gather(*(_read(stranger) for stranger in self.sockets))
        return b"".join(answers)

    def count_open(self) -> int:
        """Count the connections that the bot has not closed."""
        return sum(not _is_closed(stranger) for stranger in self.sockets)


def _is_closed(stranger: socket.socket) -> bool:
    try:
        while stranger.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def _read(stranger: socket.socket) -> bytes:
    answer = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_ANSWERED_WITHIN):
            while piece := await asyncio.get_running_loop().sock_recv(stranger, 65536):
                answer += piece
    return answer


@asynccontextmanager
async def _strangers(scene: Scene) -> AsyncIterator[_Strangers]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    strangers = _Strangers(("127.0.0.1", int(scene.environment["R2_CREDENTIAL_HTTP_PORT"])), [])
    try:
        yield strangers
    finally:
        for stranger in strangers.sockets:
            stranger.close()


async def _seconds_to_open_a_form(scene: Scene) -> float:
    """Let a user type the command; return infinity if no form opens."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            await scene.open_form(_BUCKET)
    except (AssertionError, TimeoutError):
        return float("inf")
    return time.monotonic() - began


def _crowds() -> dict[str, bytes]:
    """Return beginnings of requests that are never finished."""
    head = _post(b"/slack/events", _signed_now() + b"Content-Length: 1000000\r\n")
    return {
        "silent": b"",
        "half a request line": b"POST /slack/events HT",
        "half a head": b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nX-Slack",
        "a body that does not come": head,
        "a body that breaks off": head + b"payload=" * 1000,
        "a chunked body": _post(b"/slack/events", _signed_now() + b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n"),
        "a body for the health check": _post(b"/healthz", b"Content-Length: 1000000\r\n", b"x"),
        "kept alive after an answer": b"GET /healthz HTTP/1.1\r\nHost: bot\r\nConnection: keep-alive\r\n\r\n",
        "kept alive by HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: bot\r\nConnection: keep-alive\r\n\r\n",
        "a request that expects": _post(
            b"/slack/events", _signed_now() + b"Content-Length: 9\r\nExpect: 100-continue\r\n"
        ),
        "an upgrade": b"GET /healthz HTTP/1.1\r\nHost: bot\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    }


async def take_all_places(arena: Arena) -> AsyncIterator[Case]:
    """Open many connections, keep them, and check that a user is still served."""
    async with arena.scene() as scene:
        resource.prlimit(scene.bot.pid, resource.RLIMIT_NOFILE, (_FILES, _FILES))
        for name, data in _crowds().items():
            printed = len(scene.printed())
            async with _strangers(scene) as strangers:
                await strangers.come(_CROWD, data)
                if arena.transport == "socket":  # ended connections must be renewed while the strangers are there
                    await scene.slack.transport.drop_connections()
                    await scene.slack.wait_for_connections()
                seconds = await _seconds_to_open_a_form(scene)
            limit = _SLACK_WAITS if b"\r\n\r\n" in data else _FORM_WITHIN
            yield Case.of(f"{_CROWD} x {name}: a form opens ({seconds:.1f} s)", took_down=seconds > limit)
            yield Case.of(f"{_CROWD} x {name}: the log", took_down=len(scene.printed()) - printed > _LOUDEST)


async def stay_forever(arena: Arena) -> AsyncIterator[Case]:
    """Keep as many connections as the bot has places for, silent or with a byte now and then."""
    async with arena.scene() as scene, AsyncExitStack() as stack:
        groups: dict[str, _Strangers] = {}
        for name, data in _crowds().items():
            for key in (name, f"{name}, a byte now and then"):
                groups[key] = await stack.enter_async_context(_strangers(scene))
                await groups[key].come(5, data)
        end = time.monotonic() + _GONE_WITHIN
        while time.monotonic() < end and any(group.count_open() for group in groups.values()):
            await asyncio.gather(*(group.send(b"x") for name, group in groups.items() if "now and then" in name))
            await asyncio.sleep(0.2)
        for name, group in groups.items():
            yield Case.of(f"stays after {_GONE_WITHIN:g} s: {name}", took_down=group.count_open() > 0)


def _loads() -> dict[str, tuple[int, bytes, bytes]]:
    """Return how many connections to open, how their requests begin, and what they all send afterwards at once."""
    signed = _signed_now()
    short = b"".join(b"a%d:b\r\n" % number for number in range(60))
    return {
        "unsigned bodies": (
            1000,
            _post(b"/slack/events", signed + b"Content-Length: %d\r\n" % _MIB),
            b"x" * (_MIB - 1),
        ),
        "unsigned bodies without a time": (
            1000,
            _post(b"/slack/events", b"Content-Length: %d\r\n" % _MIB),
            b"x" * (_MIB - 1),
        ),
        "unsigned bodies in one chunk": (
            300,
            _post(b"/slack/events", signed + b"Transfer-Encoding: chunked\r\n"),
            b"100000\r\n" + b"x" * (_MIB - 1),
        ),
        "unsigned bodies in tiny chunks": (
            300,
            _post(b"/slack/events", signed + b"Transfer-Encoding: chunked\r\n"),
            b"2\r\nxx\r\n" * 20_000,
        ),
        "bodies for the health check": (300, b"", _post(b"/healthz", b"Content-Length: 9999999\r\n") + b"x" * _MIB),
        "pipelined requests": (300, b"", b"GET /readyz HTTP/1.1\r\nHost: bot\r\n%s\r\n" % short * 200),
        "half heads of short headers": (300, b"", b"GET /readyz HTTP/1.1\r\nHost: bot\r\n" + short),
        "half heads of long headers": (
            300,
            b"",
            b"GET /readyz HTTP/1.1\r\nHost: bot\r\n" + (b"A: " + b"x" * 8000 + b"\r\n") * 60,
        ),
        "an endless upgrade": (
            300,
            b"",
            b"GET /readyz HTTP/1.1\r\nHost: bot\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + b"x" * _MIB,
        ),
    }


async def fill_the_memory(arena: Arena) -> AsyncIterator[Case]:
    """Send a thousand requests that must be kept until they can be judged, and measure the bot's memory."""
    for name in _loads():
        async with arena.scene() as scene, _strangers(scene) as strangers:
            await scene.open_form(_BUCKET)  # the memory that the first form takes is not the strangers' doing
            count, beginning, rest = _loads()[name]
            before = _highest_memory(scene)
            await strangers.come(count, beginning)
            sending = asyncio.create_task(strangers.send(rest))
            seconds = await _seconds_to_open_a_form(scene)
            await sending
            grown = _highest_memory(scene) - before
        yield Case.of(f"{count} x {name}: memory ({grown / 1e6:.0f} MB)", took_down=grown > _GROWTH)
        yield Case.of(f"{count} x {name}: a form opens meanwhile ({seconds:.1f} s)", took_down=seconds > _PATIENCE)


def _highest_memory(scene: Scene) -> int:
    status = Path(f"/proc/{scene.bot.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _rubbish() -> dict[str, bytes]:
    """Return requests that are refused, each with a marker in it."""
    requests = {name: sent for name, (sent, _) in REFUSED.items()}
    return requests | {
        "a bad signature": _post(b"/slack/events", _signed_now() + b"Content-Length: 6\r\n", b"MARKER"),
        "a signature that is the marker": _post(
            b"/slack/events", b"X-Slack-Signature: MARKER\r\nContent-Length: 999\r\n"
        ),
        "a time that is the marker": _post(
            b"/slack/events",
            b"X-Slack-Signature: v0=x\r\nX-Slack-Request-Timestamp: MARKER\r\nContent-Length: 999\r\n",
        ),
        "a body that says it is compressed": _post(
            b"/slack/events", b"Content-Encoding: MARKER\r\nContent-Length: 1\r\n"
        ),
        "a body that is too long": _post(b"/slack/events", b"Content-Type: MARKER\r\nContent-Length: 9999999\r\n"),
        "no such page, with a question": b"GET /readyz/MARKER?MARKER=MARKER HTTP/1.1\r\nHost: MARKER\r\n\r\n",
        "a question to the health check": b"GET /healthz?MARKER HTTP/1.1\r\nHost: MARKER\r\n\r\n",
        "a strange method of no such page": b"DELETE /MARKER HTTP/1.1\r\nHost: bot\r\nOrigin: MARKER\r\n\r\n",
    }


async def be_refused_loudly(arena: Arena) -> AsyncIterator[Case]:
    """Send each of them three hundred times, and measure how much is logged and whether it repeats a marker."""
    async with arena.scene() as scene:
        for name, data in _rubbish().items():
            printed = len(scene.printed())
            answers = b""
            for _ in range(3):
                async with _strangers(scene) as strangers:
                    await strangers.come(100, data)
                    answers += await strangers.read()
            logged = scene.printed()[printed:]
            yield Case.of(
                f"300 x {name}",
                leaked=b"MARKER" in answers + logged or b"Traceback" in logged,
                took_down=len(logged) > _LOUDEST,
                lied=b"HTTP/1." not in answers,
            )


async def ask_for_health(arena: Arena) -> AsyncIterator[Case]:
    """Ask for the health as often as possible, and measure what the database writes for it."""
    asks: dict[str, Callable[[], bytes]] = {
        "/readyz": lambda: b"GET /readyz HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n",
        "/readyz, pipelined": lambda: b"GET /readyz HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n" * 20,
        "/readyz?x=y": lambda: (
            b"GET /readyz?%d HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n" % time.monotonic_ns()
        ),
        "HEAD /readyz": lambda: b"HEAD /readyz HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n",
    }
    async with arena.scene() as scene:
        for name, ask in asks.items():
            began, before = time.monotonic(), _written(scene)
            for _ in range(30):
                async with _strangers(scene) as strangers:
                    await strangers.come(15, ask())
                    await strangers.read()
            written, seconds = _written(scene) - before, time.monotonic() - began
            yield Case.of(f"450 x {name}: {written} bytes", took_down=written > _WRITTEN * (8 + 2 * seconds))


def _written(scene: Scene) -> int:
    """Return how many bytes the bot has written to files."""
    counts = dict(line.split(": ") for line in Path(f"/proc/{scene.bot.pid}/io").read_text().splitlines())
    return int(counts["wchar"])


ATTACKS: Final = (
    Attack(name="strangers take all places", run=take_all_places),
    Attack(name="strangers stay forever", run=stay_forever),
    Attack(name="strangers fill the memory", run=fill_the_memory, over=("http",)),
    Attack(name="strangers are refused loudly", run=be_refused_loudly),
    Attack(name="strangers ask for health", run=ask_for_health, over=("http",)),
)
