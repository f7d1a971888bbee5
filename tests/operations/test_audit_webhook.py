"""The webhook of the audit: in order, at least once, signed, and whatever its receiver does."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import update

from bot.model.audit import PERSONAL, Entry, Event, Who
from bot.model.finding import Mark
from bot.model.secret import Secret
from bot.network import DIRECT, Network, Proxy
from bot.operations.audit_webhook import (
    LONGEST_PAUSE,
    MOST,
    POLL_EVERY,
    AuditWebhook,
    Receiver,
    of_audit_webhook,
    receiver_check,
    unsigned_check,
)
from bot.operations.gauges import AUDIT_WEBHOOK_LAG
from bot.storage.audit_outbox import HELD_FOR, AuditOutbox
from bot.storage.database import Database
from bot.storage.schema import AUDIT
from bot.storage.sqlite import SqliteDatabase
from tests.clock import Clock
from tests.make import CHAIN, LAKE

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
[SAMPLE] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECRET = CHAIN.authenticity.webhook_secret().reveal()

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _read_as_documented() -> Callable[..., list[dict[str, Any]]]:
    names: dict[str, Any] = {}
    exec(SAMPLE, names)  # noqa: S102 - our own page
    read: Callable[..., list[dict[str, Any]]] = names["read_entries"]
    return read


READ = _read_as_documented()


class Hook:
    """A receiver that verifies as the documents say, and answers as it is told."""

    def __init__(self, clock: Clock) -> None:
        self.numbers: list[list[int]] = []
        self.ids: list[str] = []
        self.entries: list[dict[str, Any]] = []
        self.answers: list[Answer] = []
        self.url = ""
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keep what was sent, unless another answer was asked for."""
        body = await request.read()
        entries = READ(SECRET, request.headers, body, now=lambda: self._clock().timestamp())
        self.ids.append(request.headers["webhook-id"])
        self.numbers.append([entry["number"] for entry in entries])
        if self.answers:
            return await self.answers.pop(0)(request)
        self.entries += entries
        return web.Response(status=204)


@pytest_asyncio.fixture
async def hook(clock: Clock) -> AsyncIterator[Hook]:
    """Start a receiver."""
    hook = Hook(clock)
    app = web.Application(client_max_size=10**8)
    app.router.add_route("*", "/{path:.*}", hook.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        hook.url = str(server.make_url("/audit"))
        yield hook


def _webhook(tables: Database, hook: Hook, clock: Clock, timeout: timedelta = timedelta(seconds=10)) -> AuditWebhook:
    receiver = Receiver(hook.url, CHAIN.authenticity, DIRECT, clock, timeout)
    return AuditWebhook(receiver, AuditOutbox(tables, clock), clock)


async def _fill(tables: Database, count: int, reason: str = "a new lake", clock: Clock | None = None) -> None:
    at = (clock or Clock())()
    entries = [Entry(event=Event.SUBMITTED, at=at, key=LAKE, who=Who(user_id="U0ADA0001", reason=reason))] * count
    await tables.run(lambda connection: CHAIN.append(connection, entries))


async def _send_all(webhook: AuditWebhook) -> None:
    while await webhook.send_next() == timedelta(0):
        pass


async def test_each_entry_is_sent_once_in_order(tables: Database, hook: Hook, clock: Clock) -> None:
    """In full batches, signed as the documents say; later ones when there are some."""
    await _fill(tables, 2 * MOST + 1)
    webhook = _webhook(tables, hook, clock)
    await _send_all(webhook)
    await _send_all(webhook)
    assert [len(numbers) for numbers in hook.numbers] == [MOST, MOST, 1]
    await _fill(tables, 1)
    await _send_all(webhook)
    assert [entry["number"] for entry in hook.entries] == [*range(1, 2 * MOST + 3)]
    assert hook.entries[0]["reason"] == "a new lake"
    assert set(hook.entries[0]) == {column.name for column in AUDIT.columns}


async def _hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": "/elsewhere"})


async def _fail(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="x" * 10**6)


async def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


FAILURES = {
    "it fails": (_fail, "it answers with HTTP 500"),
    "it redirects": (_redirect, "it redirects (HTTP 307), which is not followed"),
    "it is slow": (_hang, "no answer came in time"),
    "it hangs up": (_hang_up, "the connection broke"),
}


@pytest.mark.parametrize(("answer", "because"), FAILURES.values(), ids=FAILURES)
async def test_what_was_not_taken_is_sent_again(
    tables: Database, hook: Hook, clock: Clock, *, answer: Answer, because: str, log: io.StringIO
) -> None:
    """With the same id, after pauses that grow; the log says so once."""
    await _fill(tables, 3)
    webhook = _webhook(tables, hook, clock, timedelta(seconds=0.2) if answer is _hang else timedelta(seconds=10))
    hook.answers = [answer] * 3
    assert [await webhook.send_next() for _ in range(3)] == [timedelta(seconds=2**n) for n in (1, 2, 3)]
    assert hook.entries == []
    await _send_all(webhook)
    assert hook.numbers == [[1, 2, 3]] * 4
    assert len(set(hook.ids)) == 1
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    [said] = [line for line in lines if line["event"] == "audit_webhook_failed"]
    assert said["because"].startswith(because)


async def test_pauses_are_bounded(tables: Database, clock: Clock) -> None:
    """A receiver that was away for days gets all within minutes of its return."""
    await _fill(tables, 1)
    hook = Hook(clock)
    hook.url = "http://127.0.0.1:1/audit"
    webhook = _webhook(tables, hook, clock)
    pauses = [await webhook.send_next() for _ in range(25)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


async def test_an_answer_is_not_read(tables: Database, hook: Hook, clock: Clock) -> None:
    """One that goes on for a long time holds up nothing."""
    is_sent = asyncio.Event()

    async def begin_a_long_one(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(10**9)})
        await answer.prepare(request)
        await answer.write(b"x" * 1000)
        await is_sent.wait()
        return answer

    await _fill(tables, 1)
    hook.answers = [begin_a_long_one]
    assert await _webhook(tables, hook, clock).send_next() == timedelta(0)
    is_sent.set()


async def test_a_killed_process_is_followed_by_another(tables: Database, hook: Hook, clock: Clock) -> None:
    """It had sent, and not yet noted it: the same entries come again, once its lease has ended."""
    await _fill(tables, 3)
    killed = AuditOutbox(tables, clock)
    assert len(await killed.take(MOST)) == 3
    webhook = _webhook(tables, hook, clock)
    assert await webhook.send_next() == POLL_EVERY
    assert hook.numbers == []
    clock.advance(HELD_FOR)
    await _send_all(webhook)
    assert hook.numbers == [[1, 2, 3]]


async def test_a_process_that_was_frozen_notes_nothing(tables: Database, hook: Hook, clock: Clock) -> None:
    """Another one has gone on since: what it noted is not taken back."""
    await _fill(tables, 2)
    frozen = AuditOutbox(tables, clock)
    [first, _] = await frozen.take(MOST)
    clock.advance(HELD_FOR)
    await _send_all(_webhook(tables, hook, clock))
    await frozen.note_delivered(first)
    assert (await frozen.backlog()).waiting == 0


async def test_two_workers_send_nothing_twice(tables: Database, hook: Hook, clock: Clock) -> None:
    """At the same time, and while more is recorded."""
    workers = [_webhook(tables, hook, clock) for _ in range(2)]
    for _ in range(5):
        await _fill(tables, 30)
        await asyncio.gather(*map(_send_all, workers))
    numbers = [number for batch in hook.numbers for number in batch]
    assert numbers == [*range(1, 151)]


async def test_a_stop_lets_the_next_process_send_at_once(tables: Database, hook: Hook, clock: Clock) -> None:
    """Without waiting for the lease to end; the pauses are those that each attempt asks for."""
    await _fill(tables, 1)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if seconds:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await _webhook(tables, hook, clock).run(sleep)
    assert slept == [0, POLL_EVERY.total_seconds()]
    await _fill(tables, 1)
    await _send_all(_webhook(tables, hook, clock))
    assert hook.numbers == [[1], [2]]


async def test_a_rewritten_chain_is_sent_again(tables: Database, hook: Hook, clock: Clock, log: io.StringIO) -> None:
    """Entries that were cut off and written anew have numbers that were delivered: none may be left out."""
    await _fill(tables, 3)
    webhook = _webhook(tables, hook, clock)
    await _send_all(webhook)
    await tables.run(lambda connection: connection.execute(AUDIT.delete().where(AUDIT.c.number > 1)).rowcount)
    await _fill(tables, 4)
    await _send_all(webhook)
    assert hook.numbers == [[1, 2, 3], [1, 2, 3, 4, 5]]
    assert log.getvalue().count('"audit_rewritten"') == 1


async def test_a_request_is_bounded(tables: Database, hook: Hook, clock: Clock) -> None:
    """Also in bytes; an entry that is larger goes alone."""
    await _fill(tables, 3, reason="r" * 100_000)
    await _fill(tables, 1, reason="r" * 300_000)
    await _fill(tables, 1)
    await _send_all(_webhook(tables, hook, clock))
    assert hook.numbers == [[1, 2], [3], [4], [5]]


async def test_a_person_who_is_forgotten_is_not_sent(tables: Database, hook: Hook, clock: Clock) -> None:
    """What waits goes out as it is at that time."""
    await _fill(tables, 1)
    nobody: dict[Any, Any] = dict.fromkeys((*PERSONAL, "salt"))
    await tables.run(lambda connection: connection.execute(update(AUDIT).values(nobody)).rowcount)
    await _send_all(_webhook(tables, hook, clock))
    assert [hook.entries[0][name] for name in nobody] == [None] * 5


async def test_what_waits_is_a_figure_and_a_warning(tables: Database, hook: Hook, clock: Clock) -> None:
    """At first nobody need act; after five minutes it says what the receiver does."""
    await _fill(tables, 2, clock=clock)
    webhook = _webhook(tables, hook, clock)
    [found] = await webhook.check().examine()
    assert (found.event, found.mark, found.known) == ("audit_webhook_keeps_up", Mark.OK, {"waiting": 2})
    clock.advance(timedelta(minutes=5))
    [found] = await webhook.check().examine()
    assert (found.event, found.mark, found.blocks) == ("audit_webhook_lags", Mark.WARNING, False)
    hook.answers = [_fail]
    await webhook.send_next()
    [found] = await webhook.check().examine()
    assert found.text.endswith(": it answers with HTTP 500")
    reading = await of_audit_webhook(AuditOutbox(tables, clock)).read()
    assert reading == {AUDIT_WEBHOOK_LAG: {(): 2.0}}
    await _send_all(webhook)
    assert (await webhook.check().examine())[0].known == {"waiting": 0}


async def test_no_failure_of_ours_ends_the_sending(
    database: SqliteDatabase, hook: Hook, clock: Clock, log: io.StringIO
) -> None:
    """Neither a database that is away, nor an error that nobody thought of."""

    class Broken(Receiver):
        async def post(self, content: str, message_id: str) -> None:
            raise RuntimeError

    await _fill(database, 1)
    receiver = Broken(hook.url, CHAIN.authenticity, DIRECT, clock)
    webhook = AuditWebhook(receiver, AuditOutbox(database, clock), clock)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError
        await database.close()

    with pytest.raises(asyncio.CancelledError):
        await webhook.run(sleep)
    assert slept == [LONGEST_PAUSE.total_seconds(), POLL_EVERY.total_seconds()]
    assert '"audit_webhook_broke"' in log.getvalue()


async def test_a_proxy_is_used_as_for_every_other_service(clock: Clock) -> None:
    """With its login; what it refuses is said."""
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        network = Network(proxy=Proxy(address=f"http://127.0.0.1:{port}", login=Secret("us:pw")))
        receiver = Receiver("https://audit.example.com/x", CHAIN.authenticity, network, clock)
        [found] = await receiver_check(receiver).examine()
    assert asked[0].startswith(b"CONNECT audit.example.com:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXM6cHc=" in asked[0]
    assert (found.event, found.mark) == ("audit_webhook_refuses", Mark.FAILED)


async def test_the_check_sends_no_entry(hook: Hook, clock: Clock) -> None:
    """It sends an empty array, signed as all others, and says what the receiver answers."""
    receiver = Receiver(hook.url, CHAIN.authenticity, DIRECT, clock)
    [found] = await receiver_check(receiver).examine()
    assert (found.event, found.mark, hook.numbers) == ("audit_webhook_answers", Mark.OK, [[]])
    hook.answers = [_fail]
    [found] = await receiver_check(receiver).examine()
    assert (found.event, found.mark) == ("audit_webhook_refuses", Mark.FAILED)
    assert found.fix
    [found] = await unsigned_check("no key").examine()
    assert (found.event, found.mark) == ("audit_webhook_not_asked", Mark.WARNING)


def test_the_sample_refuses_what_the_bot_did_not_send() -> None:
    """A wrong signature, another body, and a request of before."""
    signature = CHAIN.authenticity.sign_webhook(b"id.1000.[]")
    headers = {"webhook-id": "id", "webhook-timestamp": "1000", "webhook-signature": f"v1,old v1,{signature}"}
    assert READ(SECRET, headers, b"[]", now=lambda: 1000) == []
    for changed, body, now in (
        (headers | {"webhook-signature": "v1,x"}, b"[]", 1000),
        (headers, b"[1]", 1000),
        (headers | {"webhook-id": "other"}, b"[]", 1000),
        (headers, b"[]", 1301),
    ):
        with pytest.raises(ValueError, match="not sent by the bot"):
            READ(SECRET, changed, body, now=lambda now=now: now)


def test_the_page_names_every_event_and_column() -> None:
    """In its tables, in the order of the code, and no other ones."""
    sections = PAGE.partition("## What is recorded")[2].partition("## Verify it")[0].partition("| column |")
    events, columns = (re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in (sections[0], sections[2]))
    assert events == [event.value for event in Event]
    assert columns == [column.name for column in AUDIT.columns]
