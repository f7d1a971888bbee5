"""Everything at once that makes a port slow, from a process of its own, so that the attacked bot has the other core.

    python -m tests.attack.crowd PORT SIGNING_SECRET

Prints a line for each round of bodies, and goes on until it is killed.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final

from slack_sdk.signature import SignatureVerifier

from tests.attack.bodies import FORM_TYPE, hard_bodies

_IDLE: Final = 500
_SLOW: Final = 20
_UNSIGNED: Final = 4
_PATIENCE: Final = 20.0


async def _visit(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _again(visit: Coroutine[Any, Any, None]) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await visit


async def _idle(port: int) -> None:
    """Connect, say nothing, and come back when the bot has closed."""
    while True:
        await _again(_wait(port, b""))
        await asyncio.sleep(0.1)


async def _wait(port: int, data: bytes) -> None:
    reader, writer = await _visit(port)
    writer.write(data)
    await reader.read()
    writer.close()


async def _slow(port: int) -> None:
    """Send a body one byte a second."""
    while True:
        await _again(_trickle(port))
        await asyncio.sleep(0.1)


async def _trickle(port: int) -> None:
    _, writer = await _visit(port)
    writer.write(_head(FORM_TYPE, 1000, "v0=made-up"))
    while not writer.is_closing():
        await asyncio.sleep(1)
        writer.write(b"x")
        await writer.drain()


async def _send_all(port: int, secret: str) -> None:
    """Send every body, one after the other, again and again."""
    for number in itertools.count(1):
        statuses = [await _send(port, request) for request in _requests(secret)]
        print(f"round {number}: {statuses}", flush=True)


async def _send(port: int, request: bytes) -> int:
    answered: list[int] = []

    async def send() -> None:
        reader, writer = await _visit(port)
        writer.write(request)
        answered.append(int((await reader.readline()).split()[1]))
        writer.close()

    with suppress(IndexError):  # closed without an answer
        await _again(send())
    return answered[0] if answered else 0


def _requests(secret: str) -> Iterator[bytes]:
    for kind, body in hard_bodies().values():
        stamp = str(int(time.time()))
        with suppress(UnicodeDecodeError):  # Slack signs text only
            signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
            yield _head(kind, len(body), signature or "") + body


def _head(kind: str, length: int, signature: str) -> bytes:
    return (
        f"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"X-Slack-Request-Timestamp: {int(time.time())}\r\nX-Slack-Signature: {signature}\r\n\r\n"
    ).encode()


async def main(port: int, secret: str) -> None:
    """Do all of it until the process is killed."""
    async with asyncio.TaskGroup() as group:
        for _ in range(_IDLE):
            group.create_task(_idle(port))
        for _ in range(_SLOW):
            group.create_task(_slow(port))
        for _ in range(_UNSIGNED):
            group.create_task(_send_all(port, "not-the-secret"))
        group.create_task(_send_all(port, secret))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
