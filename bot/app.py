"""The composition root: the only place that builds clients and joins the parts. `run` is the life of a process."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import structlog
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot import __version__
from bot.allowlist import Allowlist
from bot.cloudflare.client import ApiKey, ApiToken, CloudflareClient
from bot.database.schema import METADATA
from bot.database.sqlite import SqliteDatabase
from bot.delivery import Delivery
from bot.dispatch.inline import AlreadyRunning, InlineDispatcher, ProcessLock
from bot.errors import BotError, DatabaseUnavailable, KeyFileUnusable, SlackRefused, SlackUnavailable
from bot.keyring import KeyFiles
from bot.records import Records
from bot.sealing import KeyRing, load_private_keys
from bot.secret import Secret
from bot.server import Server
from bot.settings import Settings
from bot.slack.access import Gate, Home, Memberships
from bot.slack.http import HttpIngress
from bot.slack.ingress import Ingress
from bot.slack.listeners import Listeners
from bot.slack.posting import Poster
from bot.slack.progress import ModalProgress
from bot.slack.socket_mode import SocketModeIngress
from bot.slack.web import PATIENT_TIMEOUT, TIMEOUT, SlackWeb
from bot.snapshot import SnapshotKeeper

KEY_DIRECTORY: Final = "sealing-keys"
HOUSEKEEPING_EVERY: Final = timedelta(minutes=10)

_SLACK_PAUSE: Final = timedelta(seconds=2)

_T = TypeVar("_T")
_log = structlog.get_logger()


class StartRefused(Exception):  # noqa: N818 - reads as what it says
    """The bot cannot start; the message says why and how to mend it."""


def steady_clock() -> Callable[[], datetime]:
    """Return a clock that starts with the machine's time and cannot be set: no jump holds a delivery or ends one early.

    It goes on while the machine sleeps, where the system can tell (CLOCK_BOOTTIME).
    """
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    started_at, started = datetime.now(UTC), time.clock_gettime(source)
    return lambda: started_at + timedelta(seconds=time.clock_gettime(source) - started)


async def run(settings: Settings) -> None:
    """Run the bot until SIGTERM or SIGINT; raises StartRefused or a BotError when it cannot start."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    stop, life = asyncio.create_task(stopped.wait()), asyncio.create_task(_live(settings))
    await asyncio.wait({stop, life}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        _log.info("stopping")
        life.cancel()  # also while it starts: it may be waiting for Slack
    with suppress(asyncio.CancelledError):
        await life
    _log.info("stopped")


async def _live(settings: Settings) -> None:
    async with running(settings) as bot:
        _log.info("ready", version=__version__, transport=bot.transport, http=bot.http_address)
        done, _ = await asyncio.wait(bot.background, return_when=asyncio.FIRST_COMPLETED)
        for broken in done:
            broken.result()  # nothing in the background ends by itself: this raises what broke it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBot:
    """A started bot: what `run` waits for, and where it listens."""

    transport: str
    http_address: str
    background: tuple[asyncio.Task[None], ...]


@asynccontextmanager
async def running(settings: Settings, clock: Callable[[], datetime] | None = None) -> AsyncIterator[RunningBot]:
    """Start everything, and stop it in the reverse order: first what takes, last what keeps.

    Raises StartRefused, with the mend, before anything is taken.
    """
    clock = clock or steady_clock()
    async with AsyncExitStack() as stack:
        records, key_files, key_ring = _open_data(settings, clock, stack)
        cloudflare = _cloudflare_client(settings)
        stack.push_async_callback(cloudflare.aclose)
        http = await stack.enter_async_context(_http_session(TIMEOUT))
        patient_http = await stack.enter_async_context(_http_session(PATIENT_TIMEOUT))
        web_client = _web_client(settings, http)
        slack = SlackWeb(web_client, patient_client=_web_client(settings, patient_http))
        gate = Gate(_allowlist(settings), await _identify(slack), Memberships(slack, clock))
        contact = settings.contact or ""
        progress = ModalProgress(slack, clock, contact)
        stack.push_async_callback(progress.drain)
        poster = Poster(web=slack, http=http, key_ring=key_ring, clock=clock, contact=contact)
        delivery = Delivery(
            records=records,
            cloudflare=cloudflare,
            key_ring=key_ring,
            gate=gate,
            reporter=_Reporter(progress, poster),
            clock=clock,
        )
        dispatcher = InlineDispatcher(delivery, records, clock)
        stack.push_async_callback(dispatcher.stop)
        keeper = SnapshotKeeper(cloudflare, records, settings.cloudflare_account_id, clock)
        listeners = Listeners(
            account_id=settings.cloudflare_account_id,
            ttl=settings.ttl,
            contact=contact,
            gate=gate,
            records=records,
            web=slack,
            dispatch=dispatcher.dispatch,
            want_snapshot=keeper.want,
            clock=clock,
        )
        ingress = Ingress(_bolt_app(listeners, gate.home), key_ring, settings.cloudflare_account_id, clock)
        socket = await _socket_mode(settings, ingress, slack, web_client)
        if socket is not None:
            stack.push_async_callback(socket.close)  # for a start that ends before the socket is connected
        server = Server(
            _http_ingress(settings, ingress) if socket is None else None, lambda: _is_ready(records, socket)
        )
        stack.push_async_callback(server.stop)
        address = await _listen(server, settings)
        await dispatcher.start()
        background = [asyncio.create_task(keeper.run())]
        if key_files is not None:
            background.append(asyncio.create_task(_keep_house(records, key_files, key_ring, clock)))
        stack.push_async_callback(_cancel, background)
        if socket is not None:
            stack.push_async_callback(socket.close)
            await socket.connect()
            background.append(asyncio.create_task(socket.watch()))
        stack.push_async_callback(ingress.drain)  # first of all: answers go back over what is closed afterwards
        yield RunningBot(
            transport="socket_mode" if socket else "http", http_address=address, background=tuple(background)
        )


class _Reporter:
    """Joins the modal and the channel for `delivery`."""

    def __init__(self, progress: ModalProgress, poster: Poster) -> None:
        self.show_progress = progress.show
        self.post_result = poster.post_result


def _open_data(
    settings: Settings, clock: Callable[[], datetime], stack: AsyncExitStack
) -> tuple[Records, KeyFiles | None, KeyRing]:
    """Take the data directory, and open the key ring and the database in it."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        database_lock = Path(f"{settings.database_path}.lock")
        settings.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (
            settings.data_dir / "lock",
            database_lock,
        ):
            stack.callback(ProcessLock(path).release)
        key_files, key_ring = _key_ring(settings, clock())
        database = SqliteDatabase(settings.database_path, METADATA)
        stack.callback(database.stop)
        database.start()
    except AlreadyRunning:
        message = (
            f"another process uses {settings.data_dir} or {settings.database_path}: stop it, or set "
            "R2_CREDENTIAL_DATA_DIR and R2_CREDENTIAL_DATABASE_URL to others"
        )
        raise StartRefused(message) from None
    except OSError as error:
        message = f"R2_CREDENTIAL_DATA_DIR: {settings.data_dir} cannot be used ({error.strerror})"
        raise StartRefused(message) from None
    except DatabaseUnavailable:
        message = f"R2_CREDENTIAL_DATABASE_URL: {settings.database_path} cannot be opened as a database of this bot"
        raise StartRefused(message) from None
    return Records(database), key_files, key_ring


def _key_ring(settings: Settings, now: datetime) -> tuple[KeyFiles | None, KeyRing]:
    """Return the operator's key ring, which only the operator changes, or the bot's own with the files behind it."""
    try:
        if settings.sealing_key is not None:
            return None, KeyRing(*load_private_keys(settings.sealing_key.reveal()))
        key_files = KeyFiles(settings.data_dir / KEY_DIRECTORY)
        return key_files, key_files.load(now)
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None
    except ValueError as error:
        message = f"R2_CREDENTIAL_SEALING_KEY: {error}"
        raise StartRefused(message) from None


def _cloudflare_client(settings: Settings) -> CloudflareClient:
    if settings.cloudflare_api_token is not None:
        auth: ApiToken | ApiKey = ApiToken(token=settings.cloudflare_api_token)
    else:
        auth = ApiKey(email=settings.cloudflare_email or "", key=settings.cloudflare_api_key or Secret(""))
    return CloudflareClient(
        account_id=settings.cloudflare_account_id,
        base_url=settings.cloudflare_base_url,
        auth=auth,
        catalog_api=settings.catalog_api,
    )


def _http_session(timeout: timedelta) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout.total_seconds()))


def _web_client(settings: Settings, http: aiohttp.ClientSession) -> AsyncWebClient:
    client = AsyncWebClient(
        token=settings.slack_bot_token.reveal(),
        base_url=settings.slack_api_url.rstrip("/") + "/",
        session=http,
        retry_handlers=[],  # the SDK would repeat a message that may have been posted
        logger=logging.getLogger("slack_sdk"),
    )
    if settings.slack_api_url.startswith("http://"):
        client.proxy = None  # loopback; the SDK would take the environment's proxy even there
    return client


def _allowlist(settings: Settings) -> Allowlist:
    return Allowlist(
        users=frozenset(settings.allowed_users),
        usergroups=frozenset(settings.allowed_usergroups),
        channels=frozenset(settings.allowed_channels),
        buckets=settings.allowed_buckets,
    )


async def _identify(slack: SlackWeb) -> Home:
    """Ask Slack where the bot is installed."""
    identity = await _ask_slack(slack.identify, "SLACK_BOT_TOKEN", "copy it again from OAuth & Permissions")
    return Home(team_id=identity.team_id, enterprise_id=identity.enterprise_id)


async def _ask_slack(ask: Callable[[], Awaitable[_T]], setting: str, mend: str) -> _T:
    """Ask as long as Slack is down, since the bot can do nothing without; a definite no refuses the start."""
    while True:
        try:
            return await ask()
        except SlackRefused as refusal:
            message = f"{setting}: Slack refused it ({refusal.slack_error}); {mend}"
            raise StartRefused(message) from None
        except SlackUnavailable:
            _log.warning("slack_not_reached", next_try_in_seconds=_SLACK_PAUSE.total_seconds())
            await asyncio.sleep(_SLACK_PAUSE.total_seconds())


def _bolt_app(listeners: Listeners, home: Home) -> AsyncApp:
    """Build Bolt without any secret: the ingress has verified, and `SlackWeb` makes our own calls."""
    for trap in ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET"):
        os.environ.pop(trap, None)  # both together would switch Bolt to OAuth with files of its own

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id=home.team_id, enterprise_id=home.enterprise_id)

    app = AsyncApp(
        name="r2-credential-bot",
        client=AsyncWebClient(token=None, logger=logging.getLogger("slack_sdk")),
        authorize=authorize,
        request_verification_enabled=False,  # these are the ingress's part, or nobody's
        ssl_check_enabled=False,
        url_verification_enabled=False,
        ignoring_self_events_enabled=False,
        attaching_function_token_enabled=False,
        process_before_response=True,
        logger=logging.getLogger("slack_bolt"),
    )
    listeners.register(app)
    return app


async def _socket_mode(
    settings: Settings, ingress: Ingress, slack: SlackWeb, web_client: AsyncWebClient
) -> SocketModeIngress | None:
    """Return the way in over Socket Mode, not connected yet, after asking whether Slack takes the app token at all."""
    if settings.slack_app_token is None:
        return None
    app_token = settings.slack_app_token.reveal()
    address = await _ask_slack(
        lambda: slack.open_connection(app_token), "SLACK_APP_TOKEN", "it needs the scope connections:write"
    )
    logger = logging.getLogger("slack_sdk")
    socket = SocketModeIngress(ingress, app_token=app_token, web_client=web_client, logger=logger)
    socket.wss_uri = address
    return socket


def _http_ingress(settings: Settings, ingress: Ingress) -> HttpIngress:
    return HttpIngress(ingress, [SignatureVerifier(secret.reveal()) for secret in settings.slack_signing_secrets])


async def _listen(server: Server, settings: Settings) -> str:
    try:
        return await server.listen(settings.http_host, settings.http_port)
    except OSError as error:
        message = (
            f"R2_CREDENTIAL_HTTP_HOST, R2_CREDENTIAL_HTTP_PORT: cannot listen on {settings.http_host}:"
            f"{settings.http_port} ({error.strerror or error})"
        )
        raise StartRefused(message) from None


async def _is_ready(records: Records, socket: SocketModeIngress | None) -> bool:
    """Whether the database answers within a second, and Slack is connected where it has to be."""
    try:
        async with asyncio.timeout(1):
            await records.ping()
    except (TimeoutError, DatabaseUnavailable):
        return False
    return socket is None or await socket.is_connected()


async def _keep_house(records: Records, key_files: KeyFiles, key_ring: KeyRing, clock: Callable[[], datetime]) -> None:
    """Rotate and destroy keys, and forget old openings, every ten minutes."""
    while True:
        try:
            now = clock()
            destroyed = key_files.rotate(key_ring, now, await records.key_ids_in_use())
            if destroyed:
                _log.info("sealing_keys_destroyed", key_ids=destroyed)
            await records.forget_openings(now - HOUSEKEEPING_EVERY)
        except (BotError, OSError) as error:
            _log.error("housekeeping_failed", error=str(error))
        await asyncio.sleep(HOUSEKEEPING_EVERY.total_seconds())


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
