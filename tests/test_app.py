"""The composition root, in this process: what a start needs, that the parts work together, and a clean stop."""

import asyncio
import gc
import io
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiohttp
import psycopg
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from bot.app import RunningBot, run, running
from bot.catalogs.refresh import REFRESH_EVERY, TEST_EVERY
from bot.catalogs.reminders import WATCH_EVERY
from bot.model.clock import SteadyClock, steady_clock
from bot.model.errors import StartRefused
from bot.model.right_of_way import RightOfWay
from bot.operations.clock_watch import LOOK_EVERY as LOOK_AT_CLOCK_EVERY
from bot.operations.conditions import EXAMINE_EVERY
from bot.sandbox.cloudflare import FakeCloudflare, ReceivedRequest
from bot.sandbox.process import bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Message
from bot.sealing.hpke import generate_private_key
from bot.sealing.key_files import KEY_LIFETIME, write_key_file
from bot.settings import Settings, load_settings
from bot.storage.ring import KEY_DIRECTORY
from tests.between import stand_between
from tests.clock import Clock
from tests.tls import make_authority, open_proxy, terminate_tls

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
BUCKET = "analytics-events"
PATIENCE = timedelta(seconds=60)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
PassTime = Callable[[timedelta], None]
Way = Literal["socket", "http"]


@dataclass(slots=True, kw_only=True)
class Scene:
    """The doubles, and the settings of a bot between them."""

    slack: FakeSlack
    cloudflare: FakeCloudflare
    directory: Path
    monkeypatch: pytest.MonkeyPatch

    def settings(self, way: Way = "http", changes: Mapping[str, str] | None = None) -> Settings:
        """Return settings as a process would read them."""
        environment = bot_environment(self.slack, self.cloudflare, self.directory / "data", way, 0)
        for name in [name for name in os.environ if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_"))]:
            self.monkeypatch.delenv(name)
        for name, value in (environment | dict(changes or {})).items():
            if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")):
                self.monkeypatch.setenv(name, value)
        return load_settings(self.directory / "no.env").settings

    def meet(self, bot: RunningBot) -> None:
        """Let the fake Slack know where the bot listens."""
        if bot.transport == "http":
            self.slack.request_url = f"http://{bot.http_address}/slack/events"

    def probes(self) -> list[ReceivedRequest]:
        """Return the tests of stored credentials that Cloudflare was asked for."""
        return [request for request in self.cloudflare.requests if request.path.endswith("/credential/status")]

    async def submit(self, token: str = make_token(Behaviour.GOOD, 1)) -> None:
        """Submit a token: from the command to the Store button."""
        outcome = await self.slack.type_command(ADA, PLATFORM, f"/r2-credential {BUCKET}")
        assert (outcome.failure, outcome.message) == (None, None)
        await self.slack.fill(ADA, "token", token)
        assert (await self.slack.submit(ADA)).kind == "updated"

    async def wait_for_result(self) -> Message:
        """Return the message with the result."""
        return await self.slack.wait_for_message(PLATFORM, lambda message: f"`{BUCKET}`" in message.text)


@pytest_asyncio.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> AsyncIterator[Scene]:
    """Start the doubles, but not the bot."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack:
        cloudflare.add_bucket(BUCKET)
        yield Scene(slack=slack, cloudflare=cloudflare, directory=tmp_path, monkeypatch=monkeypatch)


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the handlers of signals that a run replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def _get(bot: RunningBot, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://{bot.http_address}{path}") as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(("way", "transport"), [("http", "http"), ("socket", "socket_mode")])
async def test_a_token_is_stored(scene: Scene, way: Way, transport: str) -> None:
    """All parts work together, from the command to the slot and the message, over either transport."""
    async with running(scene.settings(way)) as bot:
        scene.meet(bot)
        await scene.submit()
        await scene.wait_for_result()

        assert bot.transport == transport
        assert await _get(bot, "/healthz") == (200, "ok\n")
        assert await _get(bot, "/readyz") == (200, "ready\n")
    assert scene.cloudflare.stored_token(BUCKET) == make_token(Behaviour.GOOD, 1)


async def test_all_parts_share_one_right_of_way(scene: Scene) -> None:
    """A part that is not given it makes one of its own, and then gives way to nothing."""
    before = _count_rights_of_way()
    async with running(scene.settings()):
        assert _count_rights_of_way() - before == 1


def _count_rights_of_way() -> int:
    gc.collect()
    return sum(isinstance(each, RightOfWay) for each in gc.get_objects())


async def test_the_port_for_metrics_is_open_only_if_it_is_asked_for(scene: Scene) -> None:
    """Slack's port never shows metrics: it may be open to the world."""
    async with running(scene.settings()) as bot:
        assert bot.metrics_address is None
        assert (await _get(bot, "/metrics"))[0] == 404
    async with (
        running(scene.settings(changes={"R2_CREDENTIAL_METRICS_PORT": "0"})) as bot,
        aiohttp.ClientSession() as http,
    ):
        assert (await _get(bot, "/metrics"))[0] == 404
        async with http.get(f"http://{bot.metrics_address}/readyz") as answer:
            said = await answer.json()
        assert (answer.status, said["ready"]) == (200, True)
        assert {"database", "keys"} <= set(said["parts"])
        assert said["parts"]["database"]["reason"] == "database_answers"


async def test_the_audit_is_sent_while_the_bot_runs(scene: Scene) -> None:
    """What was recorded of a delivery, in order; the port shows how much waits."""
    events: list[str] = []
    has_ended = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        events.extend(entry["event"] for entry in await request.json())
        if "ended" in events:
            has_ended.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/audit", take)
    async with TestServer(app, host="127.0.0.1") as receiver, aiohttp.ClientSession() as http:
        changes = {"R2_CREDENTIAL_METRICS_PORT": "0", "R2_CREDENTIAL_AUDIT_WEBHOOK": str(receiver.make_url("/audit"))}
        async with running(scene.settings(changes=changes)) as bot:
            scene.meet(bot)
            await scene.submit()
            await has_ended.wait()
            async with http.get(f"http://{bot.metrics_address}/metrics") as answer:
                assert "r2_credential_bot_audit_webhook_lag " in await answer.text()
    assert events == ["chain_begun", "submitted", "write_sent", "written", "ended"]


async def test_the_port_without_a_login_names_no_one(scene: Scene) -> None:
    """Its reasons say what is wrong, and neither where nor with whom: no id of Slack's or of Cloudflare's account."""
    changes = {
        "R2_CREDENTIAL_METRICS_PORT": "0",
        "R2_CREDENTIAL_ALLOWED_CHANNELS": f"{PLATFORM},C0NOPE1234",
        "R2_CREDENTIAL_ALLOWED_USERGROUPS": "S0DATAENG,S0NOPE1234",
    }
    async with (
        running(scene.settings(changes=changes)) as bot,
        aiohttp.ClientSession() as http,
        http.get(f"http://{bot.metrics_address}/readyz") as answer,
    ):
        text = await answer.text()

    assert json.loads(text)["parts"]["channels"]["reason"] == "channel_not_found"
    assert re.findall(r"\b[A-Z][A-Z0-9]{6,}\b|\b[0-9a-f]{32}\b", text) == []


@pytest.mark.parametrize("exceptions", ["", "localhost"])
async def test_every_client_of_a_process_goes_one_way(scene: Scene, exceptions: str) -> None:
    """Cloudflare, the Web API and Socket Mode, over TLS: all through the proxy, or none."""
    authority = make_authority(scene.directory)
    async with (
        stand_between(f"http://127.0.0.1:{scene.slack.port}") as between,
        terminate_tls(authority, URL(between.address).port or 0) as slack,
        terminate_tls(authority, scene.slack.port) as socket,
        terminate_tls(authority, URL(scene.cloudflare.base_url).port or 0) as cloudflare,
        open_proxy() as proxy,
    ):
        link = f"wss://localhost:{socket}{URL(await _ask_for_link(scene)).path_qs}"
        between.tamper = lambda request: _tell_link(request, link)
        for name, value in {
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
            "NO_PROXY": exceptions,
            "SSL_CERT_FILE": str(authority.ca_file),
        }.items():
            scene.monkeypatch.setenv(name, value)
        changes = {
            "SLACK_API_URL": f"https://localhost:{slack}/api/",
            "CLOUDFLARE_BASE_URL": f"https://localhost:{cloudflare}{URL(scene.cloudflare.base_url).path}",
        }
        async with running(scene.settings("socket", changes)):
            await _wait_until(lambda: bool(scene.cloudflare.requests))
            await _wait_until(lambda: bool(scene.slack.transport.connections))
    wanted = set() if exceptions else {f"localhost:{port}" for port in (slack, socket, cloudflare)}
    assert set(proxy.tunnels) == wanted


async def _ask_for_link(scene: Scene) -> str:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {scene.slack.config.app_token}"}) as http:
        answer = await http.post(f"{scene.slack.api_url}apps.connections.open")
        return str((await answer.json())["url"])


def _tell_link(request: web.Request, link: str) -> web.Response | None:
    is_asked_for = request.path.endswith("/apps.connections.open")
    return web.json_response({"ok": True, "url": link}) if is_asked_for else None


async def test_a_bot_that_slack_cannot_reach_is_not_ready(scene: Scene) -> None:
    """A load balancer or supervisor can see it, although the process is alive."""
    async with running(scene.settings("socket")) as bot:
        scene.slack.transport.refuses_connections = True
        await scene.slack.transport.drop_connections()

        assert await _get(bot, "/readyz") == (503, "not ready\n")
        assert await _get(bot, "/healthz") == (200, "ok\n")


async def test_a_bot_whose_database_is_away_is_not_ready(scene: Scene, pass_time: Callable[[timedelta], None]) -> None:
    """While another process locks the database, no submission can be recorded; the next check asks again."""
    settings = scene.settings()
    async with running(settings) as bot:
        with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await _get(bot, "/readyz") == (503, "not ready\n")
            other.execute("ROLLBACK")
        pass_time(timedelta(seconds=1))
        await _wait_for_status(bot, 200)


async def test_a_bot_whose_jobs_stand_still_is_not_ready(scene: Scene, postgres_url: str) -> None:
    """Its database answers, but the submissions in it would not be delivered."""
    changes = {"R2_CREDENTIAL_DATABASE_URL": postgres_url, "R2_CREDENTIAL_SEALING_KEY": generate_private_key()}
    async with running(scene.settings(changes=changes)) as bot:
        await _wait_for_status(bot, 200)
        with psycopg.connect(postgres_url) as other:
            other.execute("LOCK TABLE procrastinate_workers IN ACCESS EXCLUSIVE MODE")
            await _wait_for_status(bot, 503)
        await _wait_for_status(bot, 200)


async def test_a_bot_token_that_is_revoked_and_put_back_is_noticed(
    scene: Scene, log: io.StringIO, pass_time: PassTime
) -> None:
    """Within a minute each: the bot is not ready, says so once with the fix, and recovers by itself."""
    async with running(scene.settings("socket")) as bot:
        await _wait_for_status(bot, 200)
        scene.slack.refuse_bot_token("token_revoked")
        for _ in range(2):
            await _pass_until_examined(scene, pass_time)
        await _wait_for_status(bot, 503)
        assert await _get(bot, "/healthz") == (200, "ok\n")
        scene.slack.refuse_bot_token(None)
        await _pass_until_examined(scene, pass_time)
        await _wait_for_status(bot, 200)

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    [refused] = [line for line in lines if line["event"] == "slack_token_refused"]
    assert (refused["level"], refused["slack_error"], refused["setting"]) == (
        "error",
        "token_revoked",
        "SLACK_BOT_TOKEN",
    )
    assert "install the app again" in refused["fix"]
    ends = [line for line in lines if line["event"] == "recovered" and line["part"] == "slack"]
    assert [line["was"] for line in ends] == ["slack_token_refused"]


async def _pass_until_examined(scene: Scene, pass_time: PassTime) -> None:
    """Let time pass until the bot token is examined again, in steps that end no call."""
    before = len(scene.slack.calls_of("auth.test"))
    while len(scene.slack.calls_of("auth.test")) == before:
        await asyncio.sleep(0.002)  # no event says that the conditions wait
        pass_time(SECOND / 4)


async def _wait_for_status(bot: RunningBot, wanted: int) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while (await _get(bot, "/readyz"))[0] != wanted:  # noqa: ASYNC110 - a port sends no event
            await asyncio.sleep(0.1)


async def test_what_was_left_unfinished_is_resumed(scene: Scene) -> None:
    """A stop in the middle only costs time, and no message is posted twice."""
    scene.cloudflare.fail_next("credential", status=503, retry_after=1)
    settings = scene.settings()
    async with running(settings) as bot:
        scene.meet(bot)
        await scene.submit()
        await _wait_until(lambda: any(request.method == "POST" for request in scene.cloudflare.requests))
    async with running(settings):
        await scene.wait_for_result()

    assert len([message for message in scene.slack.workspace.messages if message.bot_id]) == 1


async def test_a_result_that_was_not_shown_is_shown_after_a_restart(scene: Scene) -> None:
    """Otherwise the modal would say "Storing..." forever, though the token is stored and reported."""
    scene.slack.fail_next("views.update", status=503, times=1_000)
    settings = scene.settings()
    async with running(settings) as bot:
        scene.meet(bot)
        await scene.submit()
        await scene.wait_for_result()
    scene.slack.faults._next.clear()
    async with running(settings):
        view = await scene.slack.wait_for_view(ADA, lambda view: view.title == "Credential stored")

    assert "Storing" not in view.text
    assert len([message for message in scene.slack.workspace.messages if message.bot_id]) == 1


async def _wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not is_so():  # noqa: ASYNC110 - the double has no event for this
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="both"),
        pytest.param({"R2_CREDENTIAL_DATA_DIR": "elsewhere"}, id="the same database only"),
        pytest.param({"R2_CREDENTIAL_DATABASE_URL": "sqlite:///other.sqlite"}, id="the same data directory only"),
    ],
)
async def test_a_second_bot_on_the_same_data_is_refused(scene: Scene, changes: dict[str, str]) -> None:
    """Two bots would send each submission twice; the refusal names the fix."""
    scene.monkeypatch.chdir(scene.directory)
    shared = {
        "R2_CREDENTIAL_DATABASE_URL": f"sqlite:///{scene.directory / 'shared' / 'bot.sqlite'}",
        "R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8,
    }
    async with running(scene.settings(changes=shared)):
        with pytest.raises(StartRefused, match="another process uses"):
            await _start(scene.settings(changes=shared | changes))
    (scene.directory / "data" / "high-water-mark").unlink(missing_ok=True)  # else the database counts as lost
    await _start(scene.settings(changes=shared | changes))


async def _start(settings: Settings) -> None:
    async with running(settings):
        pass


def _spoil_bot_token(scene: Scene) -> dict[str, str]:
    return {"SLACK_BOT_TOKEN": "xoxb-made-up-and-unknown"}


def _spoil_app_token(scene: Scene) -> dict[str, str]:
    scene.slack.fail_next("apps.connections.open", error="missing_scope")
    return {"SLACK_APP_TOKEN": "xapp-made-up"}


def _spoil_sealing_key(scene: Scene) -> dict[str, str]:
    return {"R2_CREDENTIAL_SEALING_KEY": "-----BEGIN PRIVATE KEY-----\nmade up\n-----END PRIVATE KEY-----"}


def _spoil_key_file(scene: Scene) -> dict[str, str]:
    keys = scene.directory / "data" / "sealing-keys"
    keys.mkdir(parents=True)
    write_key_file(keys / "made-up.pem", generate_private_key())
    return {}


def _spoil_data_dir(scene: Scene) -> dict[str, str]:
    (scene.directory / "data").write_text("not a directory")
    return {}


def _spoil_database(scene: Scene) -> dict[str, str]:
    (scene.directory / "data").mkdir()
    (scene.directory / "data" / "bot.sqlite").write_text("no database, " * 1000)
    return {}


def _spoil_port(scene: Scene) -> dict[str, str]:
    return {"R2_CREDENTIAL_HTTP_PORT": str(scene.slack.port)}


def _spoil_metrics_port(scene: Scene) -> dict[str, str]:
    return {"R2_CREDENTIAL_METRICS_PORT": str(scene.slack.port)}


REFUSED: dict[str, tuple[Callable[[Scene], dict[str, str]], str]] = {
    "unknown bot token": (_spoil_bot_token, "SLACK_BOT_TOKEN: Slack does not know this bot token"),
    "app token without its scope": (
        _spoil_app_token,
        "SLACK_APP_TOKEN: the app-level token lacks the scope connections:write",
    ),
    "no sealing key": (_spoil_sealing_key, "R2_CREDENTIAL_SEALING_KEY: "),
    "a strange key file": (_spoil_key_file, "its name is not one that the bot gave"),
    "no data directory": (_spoil_data_dir, "R2_CREDENTIAL_DATA_DIR: .* cannot be used"),
    "no database": (_spoil_database, "R2_CREDENTIAL_DATABASE_URL: .* is damaged, or no database at all"),
    "a port that is taken": (_spoil_port, "R2_CREDENTIAL_HTTP_PORT: cannot listen on"),
    "a port for metrics that is taken": (_spoil_metrics_port, "R2_CREDENTIAL_METRICS_PORT: cannot listen on"),
}


@pytest.mark.parametrize(("spoil", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_start_that_cannot_work_names_the_setting(
    scene: Scene, spoil: Callable[[Scene], dict[str, str]], words: str
) -> None:
    """It is refused before any work is accepted, and releases everything that it held."""
    settings = scene.settings("socket", spoil(scene))

    with pytest.raises(StartRefused, match=words):
        await _start(settings)

    assert scene.slack.transport.connections == []


async def test_an_install_in_a_whole_organization_is_refused(scene: Scene) -> None:
    """Each workspace in it would be foreign, so people would be asked for tokens and then refused."""

    def answer(request: web.Request) -> web.Response | None:
        wide = {"ok": True, "team_id": "T0SANDBOX", "enterprise_id": "E0NORTHWD", "is_enterprise_install": True}
        return web.json_response(wide) if request.path.endswith("auth.test") else None

    async with stand_between(scene.slack.api_url.removesuffix("/api/")) as between:
        between.tamper = answer
        settings = scene.settings(changes={"SLACK_API_URL": f"{between.address}/api/"})
        with pytest.raises(StartRefused, match=r"whole organization, .*; install it in one workspace"):
            await _start(settings)


async def test_slack_is_waited_for(scene: Scene, log: io.StringIO, pass_time: PassTime) -> None:
    """A bot that starts while Slack is down asks again every two seconds, and says once why it waits."""
    scene.slack.fail_next("auth.test", status=503, times=2)
    starting = asyncio.create_task(_start(scene.settings()))

    while not starting.done():
        await asyncio.sleep(0.01)  # no event says that it waits
        pass_time(SECOND / 4)

    await starting
    assert len(scene.slack.calls_of("auth.test")) > 2
    [line] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "slack_not_reached"]
    assert line["found"] == "Slack gave no usable answer: it has a problem (HTTP 503)"


async def test_the_operators_own_key_is_left_alone(scene: Scene) -> None:
    """With the operator's key there are no key files and no rotation; a token is still stored."""
    path = scene.directory / "key.pem"
    write_key_file(path, generate_private_key())
    changes = {
        "R2_CREDENTIAL_SEALING_KEY_FILE": str(path),
        "CLOUDFLARE_API_TOKEN": "",
        "CLOUDFLARE_EMAIL": "ada@northwind.test",
        "CLOUDFLARE_API_KEY": "made-up",
    }
    settings = scene.settings(changes=changes)
    async with running(settings) as bot:
        assert bot.background
    assert not (settings.data_dir / KEY_DIRECTORY).exists()


async def test_keys_are_rotated_while_the_bot_runs(
    scene: Scene, clock: Clock, log: io.StringIO, pass_time: PassTime
) -> None:
    """A new key every day; the old one is destroyed once nothing is sealed with it."""
    settings = scene.settings()
    keys = settings.data_dir / "sealing-keys"
    async with running(settings, clock):
        [first] = keys.glob("*.pem")
        for _ in range(3):
            clock.advance(KEY_LIFETIME)
            await asyncio.sleep(0.05)  # no event says that the housekeeping waits
            pass_time(WATCH_EVERY)
            await asyncio.sleep(0.05)

    assert not first.exists()
    assert "sealing_keys_destroyed" in log.getvalue()


async def test_housekeeping_survives_a_database_that_is_away(
    scene: Scene, log: io.StringIO, pass_time: PassTime
) -> None:
    """The failure is logged, and the work is done a minute later."""
    settings = scene.settings()
    async with running(settings) as bot:
        with closing(sqlite3.connect(settings.database_path)) as other, other:
            other.execute("ALTER TABLE submissions RENAME TO elsewhere")
        await asyncio.sleep(0.05)  # no event says that the housekeeping waits
        pass_time(WATCH_EVERY)
        await _wait_until(lambda: "housekeeping_failed" in log.getvalue())

        assert not any(task.done() for task in bot.background)


async def test_an_expiry_is_reminded_of_while_the_bot_runs(scene: Scene, clock: Clock, pass_time: PassTime) -> None:
    """Three days before and at the expiry, once each, in the result's channel, with a button that opens the form."""
    async with running(scene.settings(), clock) as bot:
        scene.meet(bot)
        await scene.submit(token=make_token(Behaviour.EXPIRES_SOON))
        result = await scene.wait_for_result()
        shown = [result.ts]
        for days, words in ((6, None), (2, "expires soon"), (0, None), (3, "has expired"), (9, None)):
            clock.advance(timedelta(days=days))
            await asyncio.sleep(0.05)  # no event says that the housekeeping waits
            pass_time(WATCH_EVERY)
            if words is None:
                await asyncio.sleep(0.05)
            else:
                reminder = await scene.slack.wait_for_message(PLATFORM, _is_new(shown))
                shown.append(reminder.ts)
                assert words in reminder.text
        assert [message.ts for message in scene.slack.messages(PLATFORM)] == shown

        await scene.slack.close(ADA)
        await scene.slack.click(ADA, reminder, "try_again")

        form = scene.slack.modal(ADA)
        assert form is not None
        assert form.values["bucket"]["bucket"]["selected_option"]["value"] == BUCKET


async def test_a_credential_that_breaks_is_announced_while_the_bot_runs(
    scene: Scene, clock: Clock, pass_time: PassTime
) -> None:
    """The daily test finds it, and it is announced once."""
    async with running(scene.settings(), clock) as bot:
        scene.meet(bot)
        await scene.submit()
        shown = [(await scene.wait_for_result()).ts]
        scene.cloudflare.revoke(make_token(Behaviour.GOOD, 1))
        for _ in range(3):
            clock.advance(TEST_EVERY)
            probes = len(scene.probes())
            await asyncio.sleep(0.05)  # no event says that the keeper waits
            pass_time(REFRESH_EVERY)
            await _wait_until(lambda before=probes: len(scene.probes()) > before)  # type: ignore[misc]  # its default
            await asyncio.sleep(0.05)
            pass_time(WATCH_EVERY)
            if len(shown) == 1:
                shown.append((await scene.slack.wait_for_message(PLATFORM, _is_new(shown))).ts)

        [_, notice] = scene.slack.messages(PLATFORM)
        assert [message.ts for message in scene.slack.messages(PLATFORM)] == shown
        assert f"the credential of the catalog of `{BUCKET}` no longer works" in notice.text


def _is_new(shown: list[str]) -> Callable[[Message], bool]:
    return lambda message: message.ts not in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("way", ["http", "socket"])
async def test_a_signal_ends_a_run(
    scene: Scene, log: io.StringIO, signals: None, way: Way, number: signal.Signals
) -> None:
    """It stops cleanly and returns; its port and data can be used again at once."""
    settings = scene.settings(way)
    life = asyncio.create_task(run(settings))
    await _wait_until(lambda: '"ready"' in log.getvalue())

    os.kill(os.getpid(), number)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await life

    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert [event for event in events if event.startswith("stop")] == ["stopping", "stopped"]
    await _start(settings)


def _is_logged(log: io.StringIO, event: str) -> bool:
    return f'"event": "{event}"' in log.getvalue()


async def test_the_log_of_a_start_says_what_runs_and_who_is_let_in(
    scene: Scene, log: io.StringIO, signals: None
) -> None:
    """Role, database, transport, allowlists, people let in, missing scopes, and each call at level debug."""
    scene.slack.workspace.config = replace(scene.slack.config, scopes=("commands", "usergroups:read"))
    life = asyncio.create_task(run(scene.settings(changes={"R2_CREDENTIAL_ALLOWED_BUCKETS": "analytics-*"})))
    for event in ("ready", "allowlist_lets_in", "allowlist_serves"):
        await _wait_until(partial(_is_logged, log, event))
    os.kill(os.getpid(), signal.SIGTERM)
    await life

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    by_event = {line["event"]: line for line in lines}
    ready = by_event["ready"]
    assert (ready["role"], ready["database"], ready["transport"]) == ("all", "sqlite", "http")
    assert ready["metrics"] == "off"
    assert (ready["users"], ready["usergroups"], ready["channels"], ready["buckets"]) == (0, 1, "any", 1)
    members = len(scene.slack.config.user_groups[0].members)
    assert by_event["allowlist_lets_in"]["people"] == members
    assert (by_event["allowlist_serves"]["buckets"], by_event["allowlist_serves"]["of"]) == (1, 1)
    missing = [line for line in lines if line["event"] == "slack_scope_missing"]
    assert [line["scope"] for line in missing] == ["chat:write", "channels:read", "groups:read", "users:read"]
    assert [line["level"] for line in missing] == ["error", "error", "error", "warning"]
    asked = {line["path"] for line in lines if line["event"].endswith("_request")}
    assert asked >= {"auth.test", "usergroups.users.list", "accounts/{account}/r2-catalog"}
    assert BUCKET not in str(asked)


async def _pass_minutes(pass_time: PassTime, until: Callable[[], bool]) -> None:
    """Let a minute pass whenever the bot waits for the next examination: in the middle of one, it would time out."""
    while not until():
        if _find_asleep("Conditions.run") is not None:
            pass_time(EXAMINE_EVERY)
        await asyncio.sleep(0.01)  # no event says that it waits


async def test_a_token_that_is_disabled_and_enabled_again(scene: Scene, log: io.StringIO, pass_time: PassTime) -> None:
    """Not ready, with one error that names the fix; ready again by itself, and both are said once."""
    async with running(scene.settings()) as bot:
        assert (await _get(bot, "/readyz"))[0] == 200
        scene.cloudflare.own_behaviour = Behaviour.DISABLED
        await _pass_minutes(pass_time, lambda: _is_logged(log, "not_ready"))
        assert (await _get(bot, "/readyz"))[0] == 503
        scene.cloudflare.own_behaviour = Behaviour.GOOD
        await _pass_minutes(pass_time, lambda: _is_logged(log, "recovered"))
        pass_time(SECOND)
        assert (await _get(bot, "/readyz"))[0] == 200

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    [bad] = [line for line in lines if line["level"] in ("error", "critical")]
    assert (bad["event"], bad["part"], bad["setting"]) == (
        "cloudflare_token_disabled",
        "cloudflare",
        "CLOUDFLARE_API_TOKEN",
    )
    assert "enable it again" in bad["fix"]
    assert [line["was"] for line in lines if line["event"] == "recovered"] == ["cloudflare_token_disabled"]
    assert {request.method for request in scene.cloudflare.requests} == {"GET"}


async def test_a_clock_that_was_wrong_at_the_start_is_set_while_the_bot_runs(
    scene: Scene, log: io.StringIO, pass_time: PassTime
) -> None:
    """Without a restart; the next submission has the right time, and counts as the newest."""
    clock = SteadyClock(datetime.now(UTC) + timedelta(days=60))
    async with running(scene.settings(), clock) as bot:
        scene.meet(bot)
        await scene.submit(make_token(Behaviour.GOOD, 1))
        await _wait_until(lambda: '"ending": "stored"' in log.getvalue())
        while "clock_was_off" not in log.getvalue():
            await asyncio.sleep(0.01)  # no event says that it waits
            pass_time(LOOK_AT_CLOCK_EVERY)
        assert abs(clock() - datetime.now(UTC)) < PATIENCE

        await scene.submit(newer := make_token(Behaviour.GOOD, 2))
        await _wait_until(lambda: log.getvalue().count('"ending": "stored"') == 2)
    assert scene.cloudflare.stored_token(BUCKET) == newer


async def test_a_signal_ends_a_start_that_waits_for_slack(scene: Scene, log: io.StringIO, signals: None) -> None:
    """A bot that cannot reach Slack does not need SIGKILL."""
    scene.slack.fail_next("auth.test", status=503, times=100)
    life = asyncio.create_task(run(scene.settings()))
    await _wait_until(lambda: "slack_not_reached" in log.getvalue())

    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await life

    assert '"ready"' not in log.getvalue()


async def test_a_start_that_is_refused_ends_a_run(scene: Scene, signals: None) -> None:
    """The command line gets the refusal."""
    with pytest.raises(StartRefused):
        await run(scene.settings(changes={"SLACK_BOT_TOKEN": "xoxb-made-up"}))


def _find_asleep(name: str) -> asyncio.Task[Any] | None:
    """Return the task of a function that is sleeping."""
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        if (
            name in (coroutine.__name__, coroutine.__qualname__)
            and getattr(coroutine.cr_await, "__name__", "") == "sleep"
        ):
            return task
    return None


async def test_what_breaks_in_the_background_ends_a_run(scene: Scene, log: io.StringIO, signals: None) -> None:
    """A bot that only half works ends, so that its supervisor restarts it."""
    life = asyncio.create_task(run(scene.settings(changes={"R2_CREDENTIAL_HTTP_PORT": str(find_free_port())})))
    await _wait_until(lambda: '"ready"' in log.getvalue() and _find_asleep("keep_house_forever") is not None)

    keeper: Any = _find_asleep("keep_house_forever")
    keeper._fut_waiter.set_exception(ValueError("made up"))  # no known fault does this

    with pytest.raises(ValueError, match="made up"):
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await life


def test_the_steady_clock_goes_with_the_wall_clock() -> None:
    """It starts at the machine's time, has a time zone and never goes back."""
    clock = steady_clock()

    told = [clock() for _ in range(1000)]

    assert told == sorted(told)
    assert told[-1].tzinfo is UTC


def test_the_steady_clock_starts_with_the_machines_time() -> None:
    """Its time lies between the machine's times before and after."""
    before = datetime.now(UTC)
    clock = steady_clock()
    after = datetime.now(UTC)

    assert before <= clock()
    assert steady_clock(after)() >= after


def test_the_steady_clock_goes_on() -> None:
    """At the speed of time: its difference lies between those measured within and around it."""
    clock = steady_clock()
    around_from = time.monotonic()
    told_from = clock()
    within_from = time.monotonic()
    while time.monotonic() == within_from:
        pass
    within = time.monotonic() - within_from
    told = clock() - told_from
    around = time.monotonic() - around_from

    assert timedelta(seconds=within) - MICROSECOND <= told <= timedelta(seconds=around) + MICROSECOND


OF_GROUP = '[[rule]]\nusergroups = ["S0DATAENG"]\n'


async def test_a_policy_is_read_again_at_a_signal(scene: Scene, log: io.StringIO, signals: None) -> None:
    """In a running process; a broken file leaves the rules as they were, which log and readiness say."""
    policy = scene.directory / "policy.toml"
    policy.write_text(OF_GROUP)
    policy.chmod(0o600)
    port = find_free_port()
    lists = dict.fromkeys(("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE"), "")
    changes = {"R2_CREDENTIAL_POLICY": str(policy), "R2_CREDENTIAL_METRICS_PORT": str(port), **lists}
    life = asyncio.create_task(run(scene.settings("socket", changes)))
    await _wait_until(partial(_is_logged, log, "ready"))
    assert (await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {BUCKET}")).message is None

    policy.write_text("[[rule]]\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await _wait_until(partial(_is_logged, log, "policy_not_loaded"))
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as answer:
        said = await answer.json()
    assert (answer.status, said["parts"]["policy"]["reason"]) == (200, "policy_broken")
    assert (await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {BUCKET}")).message is None

    policy.write_text('[[rule]]\nusers = ["U0NOBODY"]\n')
    os.kill(os.getpid(), signal.SIGHUP)
    await _wait_until(lambda: log.getvalue().count('"policy_loaded"') == 2)
    refused = await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {BUCKET}")
    assert refused.message is not None
    assert "You are not on the list" in refused.message.text

    os.kill(os.getpid(), signal.SIGTERM)
    await life


async def test_a_broken_policy_refuses_the_start(scene: Scene) -> None:
    """Before anything is opened, with each line and the fix."""
    policy = scene.directory / "policy.toml"
    policy.write_text(f"{OF_GROUP}approvals = 1\n")
    policy.chmod(0o600)
    lists = dict.fromkeys(("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE"), "")
    settings = scene.settings(changes={"R2_CREDENTIAL_POLICY": str(policy), **lists})
    with pytest.raises(StartRefused, match="line 3: `approvals`: could be given by no one"):
        async with running(settings):
            pass
