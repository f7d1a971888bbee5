"""Sends the audit's entries to R2_CREDENTIAL_AUDIT_WEBHOOK, in order and at least once, as the Standard Webhooks say.

In a task of its own: no delivery waits for it. It never gives up; while the receiver fails, the pauses grow.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import structlog

from bot.model.errors import DatabaseTrouble
from bot.model.finding import Check, Finding, Mark, Part
from bot.model.no_answer import NoAnswer, explain_error
from bot.network import Network
from bot.operations.gauges import AUDIT_WEBHOOK_LAG, Reading, Source
from bot.sealing.authenticity import Authenticity
from bot.storage.audit_export import as_json
from bot.storage.audit_outbox import AuditOutbox
from bot.storage.audit_reading import EntryRow

SETTING: Final = "R2_CREDENTIAL_AUDIT_WEBHOOK"
MOST: Final = 100
MOST_BYTES: Final = 256 * 1024
"""A request has so many entries and bytes at most, or one entry."""

TIMEOUT: Final = timedelta(seconds=10)
POLL_EVERY: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(minutes=5)
LAGS_AFTER: Final = timedelta(minutes=5)

_RECEIVER: Final = "the receiver of the audit"

_log = structlog.get_logger()


class Receiver:
    """Who gets the entries. Nothing of an answer but its status is read."""

    def __init__(
        self,
        url: str,
        authenticity: Authenticity,
        network: Network,
        clock: Callable[[], datetime],
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._authenticity = authenticity
        self._clock = clock
        self._network = network

    async def post(self, content: str, message_id: str) -> NoAnswer | None:
        """Send signed JSON; return why it was not accepted, or None. A redirect is not followed."""
        body = content.encode()
        url = urlsplit(self._url)
        proxy = self._network.proxy_for(url.scheme, url.hostname or "", url.port)
        try:
            async with (
                self._session() as session,
                session.post(
                    self._url,
                    data=body,
                    headers=self._sign(body, message_id),
                    allow_redirects=False,
                    proxy=proxy.address if proxy else None,
                    proxy_headers=proxy.headers() if proxy else None,
                ) as answer,
            ):
                return _judge(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return explain_error(error, _RECEIVER)

    def _session(self) -> aiohttp.ClientSession:
        """Return a session for one request: they are rare, and a kept connection is often a closed one."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._network.tls_context(), force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._timeout.total_seconds()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _sign(self, body: bytes, message_id: str) -> dict[str, str]:
        """Return the headers of the Standard Webhooks: of this attempt, so that an old one cannot be replayed."""
        timestamp = str(int(self._clock().timestamp()))
        signature = self._authenticity.sign_webhook(f"{message_id}.{timestamp}.".encode() + body)
        return {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }


class AuditWebhook:
    """Sends what waits, for as long as the process runs."""

    def __init__(self, receiver: Receiver, outbox: AuditOutbox, clock: Callable[[], datetime]) -> None:
        self._receiver = receiver
        self._outbox = outbox
        self._clock = clock
        self._failures = 0
        self._failure: NoAnswer | None = None

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Send until cancelled."""
        try:
            while True:
                await sleep((await self._try_to_send()).total_seconds())
        finally:
            with suppress(DatabaseTrouble):  # then another process waits until the lease ends
                await self._outbox.let_go()

    async def send_next(self) -> timedelta:
        """Send the next entries, if there are any; return when to go on. Raises DatabaseTrouble."""
        entries = await self._outbox.take(MOST)
        if not entries:
            return POLL_EVERY
        count, content = _join(entries)
        sent = entries[:count]
        self._note(await self._receiver.post(content, _id_of(sent)))
        if self._failure is not None:
            return min(timedelta(seconds=2.0 ** min(self._failures, 20)), LONGEST_PAUSE)
        await self._outbox.note_delivered(sent[-1])
        return timedelta(0)

    async def _try_to_send(self) -> timedelta:
        try:
            return await self.send_next()
        except DatabaseTrouble:  # the database's own check says why
            return POLL_EVERY
        except Exception as error:  # noqa: BLE001 - an error of ours must end neither the bot nor the sending
            _log.critical("audit_webhook_broke", error=type(error).__name__)
            return LONGEST_PAUSE

    def _note(self, failure: NoAnswer | None) -> None:
        """Log a new failure once, and not each attempt."""
        if failure is not None and (self._failure is None or self._failure.because != failure.because):
            _log.warning("audit_webhook_failed", because=failure.because, setting=SETTING, fix=_fix_of(failure))
        self._failures = 0 if failure is None else self._failures + 1
        self._failure = failure

    def check(self) -> Check:
        """Return the check that the receiver has got what is older than a few minutes."""
        return Check(part=Part.WEBHOOK, examine=self._examine)

    async def _examine(self) -> Sequence[Finding]:
        backlog = await self._outbox.backlog()
        oldest, known = backlog.oldest_at, {"waiting": backlog.waiting}
        waiting = f"{backlog.waiting} entries of the audit"
        if oldest is None or self._clock() - oldest < LAGS_AFTER:
            text = f"{waiting} wait to be sent"
            return [Finding(part=Part.WEBHOOK, event="audit_webhook_keeps_up", text=text, known=known)]
        why = f": {self._failure.because}" if self._failure else ""
        return [
            Finding(
                part=Part.WEBHOOK,
                event="audit_webhook_lags",
                text=f"{waiting} are not delivered, the oldest of {oldest:%Y-%m-%d %H:%M}{why}",
                mark=Mark.WARNING,
                setting=SETTING,
                fix=_fix_of(self._failure),
                known=known,
            )
        ]


def of_audit_webhook(outbox: AuditOutbox) -> Source:
    """Return how many entries wait."""

    async def read() -> Reading:
        return {AUDIT_WEBHOOK_LAG: {(): float((await outbox.backlog()).waiting)}}

    return Source(name="audit_webhook", read=read)


def receiver_check(receiver: Receiver) -> Check:
    """Return the check of the command `check`: a signed request without an entry, which a receiver accepts."""

    async def examine() -> Sequence[Finding]:
        failure = await receiver.post("[]", f"check_{uuid4().hex}")
        if failure is None:
            text = "the receiver of the audit accepts a signed request"
            return [Finding(part=Part.WEBHOOK, event="audit_webhook_answers", text=text)]
        return [
            Finding(
                part=Part.WEBHOOK,
                event="audit_webhook_refuses",
                text=f"the receiver of the audit accepts nothing: {failure.because}",
                mark=Mark.FAILED,
                setting=failure.setting or SETTING,
                fix=_fix_of(failure),
            )
        ]

    return Check(part=Part.WEBHOOK, examine=examine)


def unsigned_check(why: str) -> Check:
    """Return the check of a process that has no key yet, as before the first start: it can sign no request."""

    async def examine() -> Sequence[Finding]:
        text = f"the webhook of the audit is not asked, since nothing can be signed: {why}"
        event = "audit_webhook_not_asked"
        return [Finding(part=Part.WEBHOOK, event=event, text=text, mark=Mark.WARNING)]

    return Check(part=Part.WEBHOOK, examine=examine)


def _judge(status: int) -> NoAnswer | None:
    if 200 <= status < 300:  # noqa: PLR2004 - successful (RFC 9110, 15.3)
        return None
    if 300 <= status < 400:  # noqa: PLR2004 - a redirect (RFC 9110, 15.4)
        return NoAnswer(because=f"it redirects (HTTP {status}), which is not followed", setting=SETTING)
    return NoAnswer(because=f"it answers with HTTP {status}", setting=SETTING)


def _fix_of(failure: NoAnswer | None) -> str:
    return (failure.fix if failure else "") or "see the receiver's log; nothing is lost meanwhile, all is sent later"


def _join(entries: Sequence[EntryRow]) -> tuple[int, str]:
    """Return how many entries fit into a request, and the JSON array of these."""
    texts: list[str] = []
    size = 0
    for entry in entries:
        text = as_json(entry)
        size += len(text) + 1
        if texts and size > MOST_BYTES:
            break
        texts.append(text)
    return len(texts), f"[{','.join(texts)}]"


def _id_of(entries: Sequence[EntryRow]) -> str:
    """Return the same id for the same entries, however often they are sent."""
    return f"audit_{entries[0]['number']}_{entries[-1]['number']}_{entries[-1]['signature'][-16:]}"
