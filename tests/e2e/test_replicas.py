"""Gateways and workers on one PostgreSQL: any of them may die, freeze, lose its database or be restarted."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from bot.model.errors import CommitUnknown, DatabaseUnavailable
from bot.sandbox.process import BotProcess, Role, Transport, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE, Message
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys, public_pem
from tests.e2e.conftest import ONE_WAY
from tests.postgres import PostgresProxy, execute
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene, SetScene, is_result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), ONE_WAY]

PRIVATE_KEY = generate_private_key()
PUBLIC_KEY = public_pem(load_private_keys(PRIVATE_KEY)[0])
ROLES: Mapping[Role, tuple[str, ...]] = {
    "all": (),
    "gateway": ("CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_SEALING_KEY"),
    "worker": ("SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"),
}
"""The settings that each role does not get."""

BODY = '{"token"'
"""How the body of a write begins: a worker that has sent it waits for Cloudflare's answer."""


@dataclass(slots=True, kw_only=True)
class Replica:
    """One process with separate proxies to the database and to Cloudflare, which a test can freeze."""

    bot: BotProcess
    environment: Mapping[str, str]
    database: PostgresProxy
    cloudflare: PostgresProxy
    log_path: Path

    @property
    def address(self) -> str:
        """Return the address on which it listens."""
        return f"http://127.0.0.1:{self.environment['R2_CREDENTIAL_HTTP_PORT']}"

    async def scrape(self) -> dict[str, float]:
        """Return the values on the page of metrics, by the text before each."""
        url = f"http://127.0.0.1:{self.environment['R2_CREDENTIAL_METRICS_PORT']}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def status(self, path: str) -> int:
        """Return the status of a health check."""
        async with aiohttp.ClientSession() as http, http.get(self.address + path) as answer:
            return answer.status

    async def has_status(self, path: str, wanted: int) -> bool:
        """Say whether it listens and answers with this status."""
        try:
            return await self.status(path) == wanted
        except aiohttp.ClientConnectorError:
            return False

    def log(self) -> bytes:
        """Return what it logged."""
        return self.log_path.read_bytes()

    def cut_off(self) -> None:
        """Cut its connections to the database."""
        self.database.refuse()
        self.database.cut()

    def freeze(self) -> None:
        """Stop the process where it is; it executes nothing more, whatever arrives for it."""
        os.kill(self.bot.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Resume the process."""
        os.kill(self.bot.pid, signal.SIGCONT)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """A scene whose bot is many processes."""

    scene: Scene
    url: str
    replicas: list[Replica] = field(default_factory=list)
    gateways: list[Replica] = field(default_factory=list)
    workers: list[Replica] = field(default_factory=list)

    def new_bucket(self, name: str) -> str:
        """Add a bucket that no other test uses."""
        bucket = f"{name}-{uuid4().hex[:8]}"
        self.scene.cloudflare.add_bucket(bucket)
        return bucket

    def writes_by(self, replica: Replica, bucket: str) -> int:
        """Count the POSTs that a process sent for a bucket, whatever their outcome."""
        host = urlsplit(replica.cloudflare.url).netloc
        ours = (each for each in self.scene.cloudflare.requests if each.headers.get("host") == host)
        return sum(each.path.endswith(f"/{bucket}/credential") for each in ours)

    async def wait_for_result(self, bucket: str, words: str = "") -> Message:
        """Return the message that reports a bucket's outcome in these words."""
        return await self.scene.slack.wait_for_message(
            PLATFORM, lambda message: is_result(message, bucket) and words in message.text
        )

    async def wait_for_row(self, condition: str) -> tuple[object, ...]:
        """Return the id and the sealed token of the submission that satisfies the condition."""
        query = f"SELECT id, sealed_token FROM submissions WHERE {condition}"  # noqa: S608 - our own words
        found: list[tuple[object, ...]] = []

        async def look() -> bool:
            found[:] = await asyncio.to_thread(execute, self.url, query)
            return bool(found)

        await until(look)
        return found[0]

    async def wait_until_all(self, replicas: Iterable[Replica], path: str, wanted: int) -> None:
        """Wait until all of them answer with this status."""
        waiting = list(replicas)

        async def look() -> bool:
            waiting[:] = [replica for replica in waiting if not await replica.has_status(path, wanted)]
            return not waiting

        await until(look)

    async def wait_until_idle(self) -> None:
        """Wait until no process works on anything, so that what the test meets is its own."""
        query = "SELECT 1 FROM procrastinate_jobs WHERE task_name IN ('deliver', 'wake')"

        async def look() -> bool:
            return not await asyncio.to_thread(execute, self.url, query)

        await until(look)

    async def wait_until_ready(self) -> None:
        """Wait until every process is ready."""
        await self.wait_until_all(self.replicas, "/readyz", 200)
        if self.scene.transport == "socket":
            await self.scene.slack.wait_for_connections(2 * len(self.gateways))


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Poll a condition whose change sets no event."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not await look():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.02)


async def first_frozen(proxies: Iterable[PostgresProxy]) -> PostgresProxy:
    """Return the first proxy to meet what it should freeze on."""
    waits = {asyncio.create_task(proxy.wait_until_frozen()): proxy for proxy in proxies}
    done, pending = await asyncio.wait(waits, timeout=PATIENCE.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    assert done, "no proxy froze"
    return waits[done.pop()]


@asynccontextmanager
async def running_fleet(
    set_scene: SetScene, transport: Transport, directory: Path, server: str, roles: Iterable[Role]
) -> AsyncIterator[Fleet]:
    """Start all of them at once on a new, empty database, and wait until they are ready."""
    name = f"test_{uuid4().hex}"
    execute(server, f"CREATE DATABASE {name}")
    url = urlsplit(server)._replace(path=f"/{name}").geturl()
    async with AsyncExitStack() as stack:
        stack.callback(execute, server, f"DROP DATABASE {name} WITH (FORCE)")
        scene = await stack.enter_async_context(set_scene(transport, directory))
        fleet = Fleet(scene=scene, url=url)
        for number, role in enumerate(roles):
            await add_replica(fleet, role, directory / str(number), stack)
        for replica in fleet.replicas:
            replica.database.refuse()
            await replica.bot.start()
        await fleet.wait_until_all(fleet.replicas, "/healthz", 200)
        assert {await replica.status("/readyz") for replica in fleet.replicas} == {503}
        for replica in fleet.replicas:
            await replica.database.accept()
        await fleet.wait_until_ready()
        yield fleet


async def add_replica(fleet: Fleet, role: Role, directory: Path, stack: AsyncExitStack) -> None:
    """Prepare a process. The second gateway gets settings by mistake that no gateway needs."""
    scene, is_mistaken = fleet.scene, role == "gateway" and len(fleet.gateways) == 1
    directory.mkdir()  # noqa: ASYNC240 - setting up
    database = await stack.enter_async_context(PostgresProxy(fleet.url))
    cloudflare = await stack.enter_async_context(PostgresProxy(scene.cloudflare.base_url))
    everything = scene.environment | {
        "R2_CREDENTIAL_DATABASE_URL": database.url,
        "R2_CREDENTIAL_DATA_DIR": str(directory / "data"),
        "R2_CREDENTIAL_HTTP_PORT": str(find_free_port()),
        "R2_CREDENTIAL_METRICS_PORT": str(find_free_port()),
        "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY,
        "CLOUDFLARE_BASE_URL": cloudflare.url,
    }
    if role == "gateway":
        everything["R2_CREDENTIAL_SEALING_PUBLIC_KEY"] = PUBLIC_KEY
    left_out = () if is_mistaken else ROLES[role]
    environment = {name: value for name, value in everything.items() if name not in left_out}
    output = stack.enter_context((directory / "printed").open("ab"))
    bot = BotProcess(environment, directory, output, role, stop_patience=PATIENCE)
    replica = Replica(
        bot=bot, environment=environment, database=database, cloudflare=cloudflare, log_path=directory / "printed"
    )
    scene.bots.append(bot)
    fleet.replicas.append(replica)
    if role != "worker":
        fleet.gateways.append(replica)
        if scene.transport == "http":
            scene.slack.transport.request_urls.append(f"{replica.address}/slack/events")
    if role != "gateway":
        fleet.workers.append(replica)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    set_scene: SetScene, transport: Transport, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> AsyncIterator[Fleet]:
    """Share two gateways and three workers among the tests of a transport."""
    roles: list[Role] = ["gateway", "gateway", "worker", "worker", "worker"]
    async with running_fleet(set_scene, transport, tmp_path_factory.mktemp("fleet"), postgres_server, roles) as fleet:
        yield fleet


async def test_tokens_are_stored_over_any_gateway(fleet: Fleet) -> None:
    """Both gateways take submissions, and each submission ends with one message and the right slot."""
    tokens = {fleet.new_bucket("many"): make_token(Behaviour.GOOD, number) for number in range(8)}

    for number, (bucket, token) in enumerate(tokens.items()):
        if number == len(tokens) // 2:  # alternate: from now on the other gateway gets the submissions
            await fleet.scene.open_form(bucket, user=ADA)
        assert (await fleet.scene.submit(bucket, token, user=CROWD[number])).kind == "updated"
    for bucket in tokens:
        await fleet.wait_for_result(bucket, "stored a new credential")

    assert {bucket: fleet.scene.cloudflare.stored_token(bucket) for bucket in tokens} == tokens
    assert all(len(fleet.scene.results(bucket)) == 1 for bucket in tokens)
    assert all(b"submission_received" in gateway.log() for gateway in fleet.gateways)
    assert not any(b"submission_ended" in gateway.log() for gateway in fleet.gateways)
    assert fleet.scene.slack.problems == []


async def test_one_reference_finds_the_lines_of_gateway_and_worker(fleet: Fleet) -> None:
    """The gateway logs what it received, a worker the rest."""
    bucket = fleet.new_bucket("logged")
    outcome = await fleet.scene.submit(bucket, make_token(Behaviour.GOOD, 18))
    assert outcome.view is not None
    reference = outcome.view.id
    posted = f'"event": "result_posted", "reference": "{reference}"'.encode()

    async def look() -> bool:
        return any(posted in worker.log() for worker in fleet.workers)

    await until(look)

    by_gateways, by_workers = (
        dict.fromkeys(line["event"] for line in sorted(lines, key=lambda line: line["timestamp"]))
        for lines in (
            [json.loads(line) for each in replicas for line in each.log().splitlines() if reference.encode() in line]
            for replicas in (fleet.gateways, fleet.workers)
        )
    )
    assert list(by_gateways) == ["submission_received"]
    assert list(by_workers) == ["step_taken", "submission_ended", "result_posted"]


async def test_a_gateway_shows_what_the_workers_learn(fleet: Fleet) -> None:
    """It has no token of Cloudflare: a worker asks, and the answer is replaced with what the worker found."""
    bucket, revoked = fleet.new_bucket("looked-at"), make_token(Behaviour.GOOD, 19)
    fleet.scene.cloudflare.add_bucket(bucket, token=revoked)
    fleet.scene.cloudflare.revoke(revoked)

    await fleet.scene.slack.type_command(GRACE, PLATFORM, "/r2-credential status")
    fresh = await fleet.scene.slack.wait_for_message(
        PLATFORM, lambda message: f"`{bucket}`: *the credential does not" in message.shown_text, PATIENCE, as_user=GRACE
    )

    assert fresh.ephemeral_to == GRACE
    hosts = {urlsplit(gateway.cloudflare.url).netloc for gateway in fleet.gateways}
    assert not any(request.headers.get("host") in hosts for request in fleet.scene.cloudflare.requests)


async def test_each_process_counts_for_itself_and_reads_the_shared_rows(fleet: Fleet) -> None:
    """Of gauges from the database the maximum counts; a database that hangs hides those of one process only."""
    await fleet.wait_until_idle()
    gateway, worker = fleet.gateways[0], fleet.workers[0]
    catalogs = 'r2_credential_bot_catalogs{credential="absent",status="active"}'
    up = 'r2_credential_bot_source_up{source="database"}'

    gateway.database.freeze()
    hidden = await _scrape_until(gateway, lambda page: page[up] == 0)
    gateway.database.thaw()
    shown = await _scrape_until(gateway, lambda page: page[up] == 1)
    await fleet.wait_until_ready()
    known = await worker.scrape()

    assert catalogs not in hidden
    assert hidden["r2_credential_bot_ready"] == 0
    assert shown[catalogs] == known[catalogs] > 0
    ended = 'r2_credential_bot_submissions_ended_total{code="none",ending="stored",task="store",who_acts="none"}'
    assert ended not in shown
    assert sum([(await each.scrape()).get(ended, 0) for each in fleet.workers]) > 0
    assert "r2_credential_bot_cloudflare_allowance_remaining" not in shown
    assert known["r2_credential_bot_cloudflare_allowance_remaining"] > 0


async def _scrape_until(replica: Replica, is_seen: Callable[[Mapping[str, float]], bool]) -> Mapping[str, float]:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            page = await replica.scrape()
            if is_seen(page):
                return page
            await asyncio.sleep(0.1)


async def test_a_gateway_cannot_open_what_it_sealed(fleet: Fleet) -> None:
    """It has no private key and no token of Cloudflare; the workers' key opens."""
    gateway, mistaken = fleet.gateways
    bucket, token = fleet.new_bucket("sealed"), make_token(Behaviour.GOOD, 20)
    await fleet.wait_until_idle()
    for worker in fleet.workers:
        worker.cloudflare.freeze_on(BODY)

    await fleet.scene.submit(bucket, token)
    view_id, sealed = await fleet.wait_for_row(f"bucket = '{bucket}' AND sealed_token IS NOT NULL")
    await first_frozen(worker.cloudflare for worker in fleet.workers)
    for worker in fleet.workers:
        worker.cloudflare.thaw()
    await fleet.wait_for_result(bucket)

    known = "\n".join(gateway.environment.values())
    assert "PRIVATE KEY" not in known
    assert fleet.scene.cloudflare.api_token not in known
    with pytest.raises(ValueError, match="holds no PEM private key"):
        load_private_keys(known)
    context = SealingContext(
        purpose=TOKEN,
        task="store",
        team_id=fleet.scene.slack.config.team_id,
        user_id=ADA,
        view_id=str(view_id),
        channel_id=PLATFORM,
        account_id=fleet.scene.cloudflare.account_id,
        bucket=bucket,
    )
    assert KeyRing(*load_private_keys(PRIVATE_KEY)).open(str(sealed), context).reveal() == token
    for name in ("CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_SEALING_KEY"):
        assert f"{name}: a gateway does not need it and ignores it".encode() in mistaken.log()
        assert name.encode() not in gateway.log()


async def test_one_worker_is_killed_and_one_is_frozen(fleet: Fleet) -> None:
    """All work is taken over, each slot holds the newest token, and the frozen worker sends nothing when it resumes."""
    contested = fleet.new_bucket("contested")
    old, new = make_token(Behaviour.GOOD, 30), make_token(Behaviour.GOOD, 31)
    held = {fleet.new_bucket("held"): make_token(Behaviour.GOOD, number) for number in range(32, 36)}

    await fleet.wait_until_idle()
    frozen = await freeze_before_it_sends(fleet, contested, old)
    others = [worker for worker in fleet.workers if worker is not frozen]
    for worker in others:
        worker.cloudflare.freeze_on(BODY)
    for user, (bucket, token) in zip(CROWD, held.items(), strict=False):
        await fleet.scene.submit(bucket, token, user=user)
    caught = await first_frozen(worker.cloudflare for worker in others)
    victim, survivor = sorted(others, key=lambda worker: worker.cloudflare is not caught)
    await victim.bot.kill()
    survivor.cloudflare.thaw()
    await fleet.scene.submit(contested, new, user=GRACE)
    for bucket in (*held, contested):
        await fleet.wait_for_result(bucket, "stored a new credential")
    await fleet.wait_for_result(contested, "replaced by a newer submission")

    frozen.wake()
    await until_said(frozen, contested, "delivery_stopped", "lease_lost")
    victim.cloudflare.cut()
    victim.cloudflare.thaw()
    await victim.bot.start()
    await fleet.wait_until_ready()

    assert fleet.writes_by(frozen, contested) == 0
    assert [write.token for write in fleet.scene.cloudflare.writes if write.bucket == contested] == [new]
    assert {bucket: fleet.scene.cloudflare.stored_token(bucket) for bucket in held} == held
    assert {bucket: len(fleet.scene.results(bucket)) for bucket in held} == dict.fromkeys(held, 1)
    assert len(fleet.scene.results(contested)) == 2


async def freeze_before_it_sends(fleet: Fleet, bucket: str, token: str) -> Replica:
    """Freeze the worker that asks a last time whether it may send, with the answer, a yes, waiting for it."""
    for worker in fleet.workers:
        worker.database.freeze_on("UPDATE submissions")  # to the state `storing`
    await fleet.scene.submit(bucket, token)
    proxy = await first_frozen(worker.database for worker in fleet.workers)
    for worker in fleet.workers:
        worker.database.thaw()
    proxy.freeze_on("SELECT leases.epoch")
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await proxy.wait_until_frozen()
    frozen = next(worker for worker in fleet.workers if worker.database is proxy)
    frozen.freeze()
    proxy.thaw()
    return frozen


async def until_said(replica: Replica, bucket: str, *events: str) -> None:
    """Wait until a process has logged one of these events for a bucket."""

    async def look() -> bool:
        lines = [line for line in replica.log().decode().splitlines() if bucket in line]
        return any(f'"event": "{event}"' in line for line in lines for event in events)

    await until(look)


async def test_a_worker_is_frozen_after_its_request(fleet: Fleet) -> None:
    """A worker that takes over and is refused knows that the slot may hold the token: no one says "nothing changed"."""
    bucket, token, written = fleet.new_bucket("after"), make_token(Behaviour.GOOD, 40), asyncio.Event()
    await fleet.wait_until_idle()
    fleet.scene.cloudflare.on_write = written.set
    for worker in fleet.workers:
        worker.cloudflare.freeze_on(BODY)

    await fleet.scene.submit(bucket, token)
    proxy = await first_frozen(worker.cloudflare for worker in fleet.workers)
    frozen = next(worker for worker in fleet.workers if worker.cloudflare is proxy)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await written.wait()
    frozen.freeze()
    fleet.scene.cloudflare.fail_next("credential", status=400, code=30005)
    for worker in fleet.workers:
        worker.cloudflare.thaw()
    message = await fleet.wait_for_result(bucket)
    frozen.wake()
    await until_said(frozen, bucket, "delivery_stopped", "lease_lost")

    assert message.text.startswith("It is not known whether the credential")
    assert "nothing was changed" not in message.shown_text
    assert fleet.scene.results(bucket) == [message]
    assert fleet.writes_by(frozen, bucket) == 1
    assert fleet.scene.cloudflare.stored_token(bucket) == token


async def test_an_outage_of_the_database_passes(fleet: Fleet) -> None:
    """The form stays open with the truth, no process is ready, and all recover when the database is back."""
    bucket, token = fleet.new_bucket("outage"), make_token(Behaviour.GOOD, 50)
    sent, sent_token = fleet.new_bucket("sent"), make_token(Behaviour.GOOD, 51)
    await fleet.wait_until_idle()
    pids = [replica.bot.pid for replica in fleet.replicas]
    for worker in fleet.workers:
        worker.cloudflare.freeze_on(BODY)
    await fleet.scene.submit(sent, sent_token, user=GRACE)
    await first_frozen(worker.cloudflare for worker in fleet.workers)
    await fleet.scene.open_form(bucket)
    await fleet.scene.slack.fill(ADA, "token", token)

    for replica in fleet.replicas:
        replica.cut_off()
        replica.cloudflare.thaw()
    refused = await fleet.scene.slack.submit(ADA)
    await fleet.wait_until_all(fleet.replicas, "/readyz", 503)
    health = {await replica.status("/healthz") for replica in fleet.replicas}
    for replica in fleet.replicas:
        await replica.database.accept()
    await fleet.wait_until_ready()
    taken = await fleet.scene.slack.submit(ADA)
    for each in (bucket, sent):
        await fleet.wait_for_result(each, "stored a new credential")

    assert refused.kind == "errors"
    assert DatabaseUnavailable.user_message in str(refused.errors)
    assert health == {200}
    assert taken.kind == "updated"
    assert [replica.bot.pid for replica in fleet.replicas] == pids
    assert [len(fleet.scene.results(each)) for each in (bucket, sent)] == [1, 1]
    assert [write.token for write in fleet.scene.cloudflare.writes if write.bucket == bucket] == [token]
    assert fleet.scene.cloudflare.stored_token(sent) == sent_token


async def test_half_open_connections_to_the_database_hold_up_no_one(fleet: Fleet) -> None:
    """As after a failover behind a balancer: old connections fall silent, new ones work, nothing is restarted."""
    bucket, token = fleet.new_bucket("half-open"), make_token(Behaviour.GOOD, 53)
    await fleet.wait_until_idle()
    await fleet.scene.open_form(bucket)
    await fleet.scene.slack.fill(ADA, "token", token)

    for replica in fleet.replicas:
        replica.database.freeze_existing()
    taken = await fleet.scene.slack.submit(ADA)
    await fleet.wait_for_result(bucket, "stored a new credential")
    await fleet.wait_until_ready()
    for replica in fleet.replicas:
        replica.database.thaw()

    assert taken.kind == "updated"
    assert fleet.scene.cloudflare.stored_token(bucket) == token
    assert not any(b"never retrieved" in replica.log() for replica in fleet.replicas)


async def test_a_commit_whose_answer_is_lost_is_not_misreported(fleet: Fleet) -> None:
    """No one says "nothing was sent", since it was; pressing again is safe."""
    bucket, token = fleet.new_bucket("commit"), make_token(Behaviour.GOOD, 52)
    await fleet.wait_until_idle()
    await fleet.scene.open_form(bucket)
    await fleet.scene.slack.fill(ADA, "token", token)
    for gateway in fleet.gateways:
        gateway.database.freeze_on("INSERT INTO submissions")
    for worker in fleet.workers:
        worker.database.freeze()  # for now: they would turn the form into the result

    pressing = asyncio.create_task(fleet.scene.slack.submit(ADA))
    proxy = await first_frozen(gateway.database for gateway in fleet.gateways)
    for gateway in fleet.gateways:
        gateway.database.thaw()
    proxy.freeze_on_commit()
    first = await pressing
    proxy.cut()
    proxy.thaw()
    second = await fleet.scene.slack.submit(ADA)
    for worker in fleet.workers:
        worker.database.thaw()
    await fleet.wait_for_result(bucket, "stored a new credential")

    assert first.kind == "errors"
    assert first.view is not None
    assert CommitUnknown.user_message in str(first.errors)
    assert first.view.id in str(first.errors)
    assert second.kind == "updated"
    assert len(fleet.scene.results(bucket)) == 1
    assert [write.token for write in fleet.scene.cloudflare.writes if write.bucket == bucket] == [token]


@pytest.mark.thorough  # within one process, `test_server.py` and `test_socket_mode.py` do it over both transports
async def test_a_rolling_restart_is_not_noticed(
    set_scene: SetScene, transport: Transport, tmp_path: Path, postgres_server: str
) -> None:
    """Two replicas restart in turn: submitting during a stop, between, and during a start always gives a result."""
    async with running_fleet(set_scene, transport, tmp_path, postgres_server, ["all", "all"]) as fleet:
        tokens: dict[str, str] = {}
        codes = []
        for replica in fleet.replicas:
            async with asyncio.TaskGroup() as during:
                during.create_task(submit_some(fleet, tokens))
                codes.append(await replica.bot.stop())
            await submit_some(fleet, tokens)
            await replica.bot.start()
            async with asyncio.TaskGroup() as during:
                during.create_task(submit_some(fleet, tokens))
                await fleet.wait_until_ready()

        assert codes == [0, 0]
        assert {bucket: fleet.scene.cloudflare.stored_token(bucket) for bucket in tokens} == tokens
        assert {len(fleet.scene.results(bucket)) for bucket in tokens} == {1}
        assert not any(b"Traceback" in replica.log() for replica in fleet.replicas)


async def submit_some(fleet: Fleet, tokens: dict[str, str]) -> None:
    """Let three people submit at once, and wait for the results: few, to stay within the quotas."""
    async with asyncio.TaskGroup() as people:
        for user in CROWD[:3]:
            people.create_task(_submit_one(fleet, user, tokens))


async def _submit_one(fleet: Fleet, user: str, tokens: dict[str, str]) -> None:
    bucket, token = fleet.new_bucket("load"), make_token(Behaviour.GOOD, 60 + len(tokens))
    tokens[bucket] = token
    assert (await fleet.scene.submit(bucket, token, user=user)).kind == "updated"
    await fleet.wait_for_result(bucket, "stored a new credential")
