"""Answers who asks how things stand, by `status`, `history` or the App Home: at once, and once more with fresh news.

Waits for the database and for Slack, and for nothing else: Cloudflare is asked by somebody else.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

import aiohttp
import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext

from bot.catalogs.freshness import is_listed_lately, is_tested_lately
from bot.model.catalog import Snapshot
from bot.model.errors import BotError, DatabaseTrouble
from bot.model.secret import Secret
from bot.policy.gate import Actor, Gate
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.inbound.ingress import ANSWER_URL
from bot.slack.messages import render as replies
from bot.slack.response_url import post_by_response_url
from bot.slack.stories.history import MOST_SHOWN, history_message
from bot.slack.stories.status import (
    NEXT_PAGE,
    PREVIOUS_PAGE,
    Freshness,
    Look,
    Table,
    build_table,
    home_view,
    notice_home,
    status_message,
)
from bot.storage.catalogs import Catalogs
from bot.storage.submissions import Records

PATIENCE: Final = timedelta(seconds=60)
"""How long a fresh table is waited for; then the same one says that Cloudflare could not be asked."""

_MOST_READ: Final = 500
"""Submissions that are looked through for those that somebody may see."""

_LOOK_AGAIN: Final = timedelta(milliseconds=250)
_LOOK_AGAIN_AT_LAST: Final = timedelta(seconds=2)
_DATABASE_TROUBLE: Final = (
    "The bot's database did not answer, so there is nothing to show. Your move: try again in a minute. If it happens "
    "again, tell the operator of the bot."
)

_log = structlog.get_logger()

_Show = Callable[[Table], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What Bolt calls for a look. `want_snapshot` has Cloudflare asked again, tests included, unless that is fresh."""

    account_id: str
    contact: str
    gate: Gate
    records: Records
    inventory: Catalogs
    web: SlackWeb
    http: aiohttp.ClientSession
    want_snapshot: Callable[[], None]
    clock: Callable[[], datetime]
    _follow_ups: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def register(self, app: AsyncApp) -> None:
        """Attach the App Home and the buttons that turn pages to Bolt."""
        app.event("app_home_opened")(self.handle_home_opened)
        app.action(PREVIOUS_PAGE)(self.handle_page)
        app.action(NEXT_PAGE)(self.handle_page)

    async def answer_command(
        self, kind: Literal["status", "history"], bucket: str, body: Json, context: AsyncBoltContext
    ) -> str | Json:
        """Return what the person reads at once; a fresh table follows by the command's response URL."""
        actor = Actor.of_command(body)
        try:
            await self.gate.check_actor(actor)
            self.gate.check_channel(str(body.get("channel_id", "")))
            if bucket:
                self.gate.check_bucket(bucket)
            if kind == "history":
                return await self._history(bucket)
            look = Look(id=secrets.token_hex(4), bucket=bucket)
            show = self._replace_by(context.get(ANSWER_URL), look)
            return status_message(await self._begin_table(look.id, actor, show), look)
        except BotError as error:
            return self._refuse(actor, error)

    async def handle_home_opened(self, ack: AsyncAck, body: Json) -> None:
        """Fill the App Home of whoever opens it: with what this person may see, or with why that is nothing."""
        await ack()
        if (body.get("event") or {}).get("tab") == "home":
            await self._fill_home(Actor.of_event(body), page=0)

    async def handle_page(self, ack: AsyncAck, body: Json, context: AsyncBoltContext) -> None:
        """Turn a page, of the App Home or of an answer to `status`."""
        await ack()
        actor = Actor.of_interaction(body)
        look = Look.of_value(str(next(iter(body.get("actions") or [{}])).get("value", "")))
        if look is None:
            return
        if "view" in body:
            await self._fill_home(actor, look.page)
            return
        show, url = self._replace_by(context.get(ANSWER_URL), look), context.get(ANSWER_URL)
        try:
            await self.gate.check_actor(actor)
            self.gate.check_channel(str((body.get("channel") or {}).get("id", "")))
            table = await self._begin_table(look.id, actor, show)
        except BotError as error:
            await self._post(url, {"text": self._refuse(actor, error)})
        else:
            await show(table)

    async def stop(self) -> None:
        """Let nothing follow any more."""
        follow_ups = list(self._follow_ups.values())
        for follow_up in follow_ups:
            follow_up.cancel()
        await asyncio.gather(*follow_ups, return_exceptions=True)

    async def _history(self, bucket: str) -> Json:
        submissions = await self.records.history(self.account_id, bucket or None, MOST_SHOWN if bucket else _MOST_READ)
        allowed = [submission for submission in submissions if self.gate.allows_bucket(submission.key.bucket)]
        return history_message(allowed, bucket, self.clock())

    async def _fill_home(self, actor: Actor, page: int) -> None:
        look = Look(id="0" * 8, page=page)

        async def show(table: Table) -> None:
            await self._publish(actor, home_view(table, look))

        try:
            await self.gate.check_actor(actor)
            table = await self._begin_table(f"home of {actor.user_id}", actor, show)
        except BotError as error:
            await self._publish(actor, notice_home(self._refuse(actor, error)))
        else:
            await show(table)

    async def _begin_table(self, name: str, actor: Actor, show: _Show) -> Table:
        """Return the table as it is known, and have a fresh one shown when there is one, unless this one is fresh.

        Whoever looks anew under the same name does not want the earlier answer any more.
        """
        earlier = self._follow_ups.pop(name, None)
        if earlier is not None:
            earlier.cancel()
        snapshot = await self.inventory.snapshot()
        if _is_fresh(snapshot, self.clock()):
            return await self._read_table(snapshot, Freshness.FRESH)
        table = await self._read_table(snapshot, Freshness.BEING_ASKED)
        self.want_snapshot()
        follow_up = self._follow_ups[name] = asyncio.create_task(self._follow(snapshot, actor, show))
        follow_up.add_done_callback(lambda task: self._forget(name, task))
        return table

    def _forget(self, name: str, follow_up: asyncio.Task[None]) -> None:
        if self._follow_ups.get(name) is follow_up:
            del self._follow_ups[name]

    async def _follow(self, shown: Snapshot | None, actor: Actor, show: _Show) -> None:
        """Show the table once more: as soon as it is fresh, or saying that it could not be had."""
        try:
            snapshot, freshness = await self._wait_for_news(shown)
            await self.gate.check_actor(actor)  # a minute may have passed
            await show(await self._read_table(snapshot, freshness))
        except BotError as error:
            _log.warning("fresh_table_not_shown", error=str(error))
        except Exception as error:  # noqa: BLE001 - nobody awaits this, and a traceback would know the response URL
            _log.critical("fresh_table_broke", error=type(error).__name__)

    async def _wait_for_news(self, shown: Snapshot | None) -> tuple[Snapshot | None, Freshness]:
        """Look into the database now and then: the news may come from another process."""
        until, pause = self.clock() + PATIENCE, _LOOK_AGAIN
        snapshot = shown
        while self.clock() < until:
            await asyncio.sleep(pause.total_seconds())
            snapshot, pause = await self.inventory.snapshot(), min(pause * 1.5, _LOOK_AGAIN_AT_LAST)
            if _is_news(snapshot, shown, self.clock()):
                return snapshot, Freshness.FRESH
        return snapshot, Freshness.NOT_ANSWERED

    async def _read_table(self, snapshot: Snapshot | None, freshness: Freshness) -> Table:
        allowed = snapshot and replace(
            snapshot, catalogs=tuple(each for each in snapshot.catalogs if self.gate.allows_bucket(each.bucket))
        )
        return build_table(allowed, await self.inventory.stored_credentials(), self.clock(), freshness)

    def _replace_by(self, url: Secret | None, look: Look) -> _Show:
        async def show(table: Table) -> None:
            await self._post(url, status_message(table, look))

        return show

    async def _post(self, url: Secret | None, message: Json) -> None:
        """Put a message in the place of the one that was answered with, or that the pressed button is in."""
        if url is not None and not await post_by_response_url(self.http, url, message | {"replace_original": True}):
            _log.warning("look_not_answered")

    async def _publish(self, actor: Actor, view: Json) -> None:
        try:
            await self.web.publish_home(actor.user_id, view)
        except BotError as error:
            _log.warning("home_not_published", user=actor.user_id, error=str(error))

    def _refuse(self, actor: Actor, error: BotError) -> str:
        _log.warning("look_refused", user=actor.user_id, error=error.code)
        return _DATABASE_TROUBLE if isinstance(error, DatabaseTrouble) else replies.refusal(error, contact=self.contact)


def _is_fresh(snapshot: Snapshot | None, now: datetime) -> bool:
    return snapshot is not None and is_listed_lately(snapshot, now) and is_tested_lately(snapshot, now)


def _is_news(snapshot: Snapshot | None, shown: Snapshot | None, now: datetime) -> bool:
    """Whether it was listed and tested since the one that was shown, as far as that one was not fresh."""
    if snapshot is None:
        return False
    is_listed = shown is None or snapshot.refreshed_at > shown.refreshed_at or is_listed_lately(snapshot, now)
    is_tested = snapshot.tested_at != (shown.tested_at if shown else None) or is_tested_lately(snapshot, now)
    return is_listed and is_tested
