"""What a gateway starts: the stories, and the way on which Slack's payloads reach them."""

import logging
from contextlib import AsyncExitStack

from bot.clients import slack_app_token, slack_signers
from bot.roles.base import Base, Way
from bot.roles.fleet import room_of
from bot.roles.slack_side import SlackSide
from bot.roles.worker import Refresher
from bot.slack.checks.transport import http_check, socket_check
from bot.slack.inbound.bolt import build_bolt_app
from bot.slack.inbound.http import HttpIngress
from bot.slack.inbound.ingress import Ingress
from bot.slack.inbound.owner import Owner
from bot.slack.inbound.routes import Routes
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.startup import open_first_connection
from bot.slack.stories.approve import DecideRequest
from bot.slack.stories.enable import EnableCatalog
from bot.slack.stories.fleet import RotateMany
from bot.slack.stories.help import Help
from bot.slack.stories.history import History
from bot.slack.stories.home import AppHome
from bot.slack.stories.live_table import LiveTables
from bot.slack.stories.masked_reason import MaskedReasons
from bot.slack.stories.open_form import StoreForm
from bot.slack.stories.parts import Parts
from bot.slack.stories.rotate import RotateCredential
from bot.slack.stories.search import BucketSearch
from bot.slack.stories.status import Status
from bot.slack.stories.store import StoreCredential
from bot.slack.stories.try_again import TryAgain
from bot.slack.stories.visibility import Visibility
from bot.storage.approvals import Approvals
from bot.storage.fleets import Fleets


async def start_gateway(base: Base, side: SlackSide, catalogs: Refresher, fleets: Fleets, stack: AsyncExitStack) -> Way:
    """Start what accepts Slack's payloads; `stack` lets those end that were accepted."""
    parts = _parts(base, side, catalogs, fleets)
    tables = LiveTables(parts)
    stack.push_async_callback(tables.stop)
    ingress = Ingress(
        build_bolt_app(routes_of(parts, tables), side.gate.home),
        base.store.sealing,
        base.settings.cloudflare_account_id,
        base.store.clock,
        owner=Owner(side.slack),
        fingerprint=base.store.submissions.chain.authenticity.fingerprint,
        metrics=base.metrics,
        right_of_way=base.right_of_way,
    )
    app_token = slack_app_token(side.settings)
    if app_token is None:
        return _listen(base, side, ingress, stack)
    return await _connect(base, side, ingress, app_token, stack)


def routes_of(parts: Parts, tables: LiveTables) -> Routes:
    """Return the routes of all stories."""
    routes, opener = Routes(), StoreForm(parts)
    masked_reasons, many = MaskedReasons(parts.clock), RotateMany(parts)
    StoreCredential(parts, opener, masked_reasons).register(routes)
    RotateCredential(parts, masked_reasons, tables, many).register(routes)
    many.register(routes)
    BucketSearch(parts).register(routes)
    TryAgain(parts, opener).register(routes)
    EnableCatalog(parts).register(routes)
    DecideRequest(parts).register(routes)
    Status(parts, tables).register(routes)
    History(parts).register(routes)
    AppHome(parts, tables).register(routes)
    Help().register(routes)
    return routes


def _parts(base: Base, side: SlackSide, catalogs: Refresher, fleets: Fleets) -> Parts:
    """Return the parts that stories use."""
    store = base.store
    return Parts(
        account_id=base.settings.cloudflare_account_id,
        ttl=base.settings.ttl,
        contact=side.contact,
        gate=side.gate,
        submissions=store.submissions,
        approvals=Approvals(store.database),
        authenticity=store.submissions.chain.authenticity,
        catalogs=store.catalogs,
        web=side.slack,
        channels=side.channels,
        slack_post=side.slack_post,
        want_snapshot=catalogs.want,
        clock=store.clock,
        visibility=Visibility(store.catalogs, store.clock, base.scheduled),
        rotations=side.rotations,
        fleets=fleets,
        room=room_of(base, side.rotations.tokens),
        may_enable=base.policy.offers_enabling,
    )


def _listen(base: Base, side: SlackSide, ingress: Ingress, stack: AsyncExitStack) -> Way:
    """Take Slack's signed requests at the HTTP port."""
    signers = slack_signers(side.settings)
    base.conditions.add(http_check(len(signers)))
    base.server.attach(HttpIngress(ingress, signers, metrics=base.metrics).handle, base.is_ready)
    stack.push_async_callback(ingress.drain)  # answers need the clients, which are closed after this
    stack.push_async_callback(base.server.stop_after_notice)
    return Way(name="http")


async def _connect(base: Base, side: SlackSide, ingress: Ingress, app_token: str, stack: AsyncExitStack) -> Way:
    """Take what comes by WebSockets, after checking that Slack accepts the app token."""
    is_alone = base.store.jobs is None
    address = await open_first_connection(side.slack, app_token, base.conditions.note)
    socket = SocketModeIngress(
        ingress,
        app_token=app_token,
        web_client=side.web_client,
        logger=logging.getLogger("slack_sdk"),
        network=base.settings.network,
        is_alone=is_alone,
        metrics=base.metrics,
        traffic=side.traffic,
    )
    socket.wss_uri = address
    stack.push_async_callback(socket.close)
    await socket.connect()
    base.keep_running(socket.watch())
    base.conditions.add(socket_check(socket, side.slack, is_alone=is_alone))
    base.server.attach(None, base.is_ready)
    stack.push_async_callback(ingress.drain)  # answers need the clients, which are closed after this
    stack.push_async_callback(socket.stop_taking)
    stack.callback(base.server.begin_stop)
    return Way(name="socket_mode", sockets=lambda: socket.open_connections)
