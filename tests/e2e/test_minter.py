"""The process that makes tokens: it starts without Slack, speaks to nobody but Cloudflare, and holds nothing more."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, Role, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import PATIENCE
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from tests.leaks import find_leaks
from tests.postgres import execute
from tests.process_memory import MemoryDoor, ProcessMemory
from tests.scene import ADA, PLATFORM

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

PRIVATE_KEY = generate_private_key()
HEART = "".join(PRIVATE_KEY.splitlines()[1:-1])
"""The key itself, without the words around it."""

POLICY = '[[rule]]\nusergroups = ["S0DATAENG"]\nverbs = ["store", "rotate"]\n'
WITHOUT_ROTATE = POLICY.replace(', "rotate"', "")
OF_OTHERS = {
    "SLACK_BOT_TOKEN": "xoxb-MADEUP-of-others-1",
    "SLACK_APP_TOKEN": "xapp-MADEUP-of-others-2",
    "SLACK_SIGNING_SECRET": "5ec2e75ec2e75ec2e75ec2e75ec2e700",
    "CLOUDFLARE_API_TOKEN": "cfat_MADEUPofothers3",
    "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY.replace("\n", "\\n"),
}
"""Secrets that a minter has no use for."""


@dataclass(slots=True, kw_only=True)
class Minting:
    """A minter between the fakes; no other process runs."""

    slack: FakeSlack
    cloudflare: FakeCloudflare
    directory: Path
    environment: Mapping[str, str]
    bot: BotProcess

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        await self.bot.start()
        assert await self.bot.wait_until_ready(), self.log()

    def log(self) -> str:
        """Return what it printed."""
        return (self.directory / "printed").read_text()

    def lines(self, event: str) -> list[Any]:
        """Return the lines of the log with this event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == event]

    async def wait_for_line(self, event: str) -> Any:  # noqa: ANN401 - JSON
        """Return the first line with this event."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not (found := self.lines(event)):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
        return found[0]

    async def ask(self, path: str) -> tuple[int, str]:
        """Return what the metrics port says."""
        url = f"http://127.0.0.1:{self.environment['R2_CREDENTIAL_METRICS_PORT']}{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, await answer.text()

    def write_policy(self, text: str) -> None:
        """Write the rules, for the bot's user alone."""
        path = Path(self.environment["R2_CREDENTIAL_POLICY"])
        path.write_text(text)
        path.chmod(0o600)


@asynccontextmanager
async def minting(
    url: str, directory: Path, more: Mapping[str, str] | None = None, door: MemoryDoor | None = None
) -> AsyncIterator[Minting]:
    """Prepare a minter; it is not started yet."""
    async with FakeCloudflare() as cloudflare, FakeSlack() as slack:
        usual = bot_environment(slack, cloudflare, directory / "data", "socket", find_free_port())
        of_everybody = ("PATH", "PYTHONPATH", "CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_BASE_URL", "SLACK_API_URL")
        environment = {
            **{name: usual[name] for name in of_everybody},
            "CLOUDFLARE_MINTING_TOKEN": cloudflare.minting_token,
            "R2_CREDENTIAL_POLICY": str(directory / "policy.toml"),
            "R2_CREDENTIAL_DATABASE_URL": url,
            "R2_CREDENTIAL_DATA_DIR": usual["R2_CREDENTIAL_DATA_DIR"],
            "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(PRIVATE_KEY)[0]),
            "R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8,
            "R2_CREDENTIAL_HTTP_PORT": usual["R2_CREDENTIAL_HTTP_PORT"],
            "R2_CREDENTIAL_METRICS_PORT": str(find_free_port()),
            "R2_CREDENTIAL_LOG_FORMAT": "json",
            **(more or {}),
        }
        with (directory / "printed").open("ab") as output:
            started = environment if door is None else door.environment(environment)
            bot = BotProcess(started, directory, output, "minter", stop_patience=PATIENCE)
            scene = Minting(slack=slack, cloudflare=cloudflare, directory=directory, environment=environment, bot=bot)
            scene.write_policy(POLICY)
            try:
                yield scene
            finally:
                if bot.is_running:
                    await bot.stop()


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """Return the URL of a new, empty database."""
    name = f"test_{uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mistaken(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Minting, ProcessMemory]]:
    """Run a minter that was given, by mistake, all secrets of the others; return its memory as well."""
    directory = tmp_path_factory.mktemp("minter")
    (directory / "door").mkdir()
    door = MemoryDoor(directory / "door")
    async with minting(database, directory, OF_OTHERS, door) as scene:
        await scene.start()
        memory = door.receive()
        yield scene, memory
        memory.close()


async def test_it_starts_without_slack_and_calls_nothing_but_the_token_endpoints(
    mistaken: tuple[Minting, ProcessMemory],
) -> None:
    """Not even with a Slack token at hand; and each request of it carries the minting token."""
    scene, _ = mistaken

    [ready] = scene.lines("ready")
    assert (ready["role"], ready["transport"], ready["database"]) == ("minter", "none", "postgresql")
    assert (scene.slack.calls, scene.slack.problems) == ([], [])
    asked = {
        (request.method, request.path.partition("/accounts/")[2].partition("/")[2])
        for request in scene.cloudflare.requests
    }
    assert asked
    assert {method for method, _ in asked} == {"GET"}
    assert {path.split("?")[0].split("/")[0] for _, path in asked} == {"tokens"}
    carried = {request.headers["authorization"] for request in scene.cloudflare.requests}
    assert carried == {f"Bearer {scene.cloudflare.minting_token}"}


async def test_it_says_whether_it_can_mint(mistaken: tuple[Minting, ProcessMemory]) -> None:
    """On the port for the operator, with what it lacks: here, a worker that would open what it seals."""
    scene, _ = mistaken

    status, text = await scene.ask("/readyz")
    parts = json.loads(text)["parts"]
    _, page = await scene.ask("/metrics")

    assert status == 200
    assert parts["rotation"]["mark"] == "ok"
    assert "minting_token_active" in parts["rotation"]["reason"]
    assert parts["keys"]["reason"] == "workers_not_seen"
    assert {"slack", "people", "channels", "transport", "cloudflare", "catalogs"}.isdisjoint(parts)
    assert 'role="minter"' in page
    assert "r2_credential_bot_cloudflare_allowance_remaining " in page


async def test_secrets_of_others_are_ignored_with_a_warning(mistaken: tuple[Minting, ProcessMemory]) -> None:
    """By name, and never by value."""
    scene, _ = mistaken

    found = {line["found"].partition(":")[0] for line in scene.lines("setting_questionable")}
    assert found >= set(OF_OTHERS)
    assert [name for name, value in OF_OTHERS.items() if value in scene.log()] == []


@pytest.mark.skipif(sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="reads /proc")
async def test_its_memory_holds_neither_key_nor_slack_token(mistaken: tuple[Minting, ProcessMemory]) -> None:
    """Neither in an object nor in freed memory, although it was started with them; its own token is there."""
    scene, memory = mistaken
    secrets = {**OF_OTHERS, "R2_CREDENTIAL_SEALING_KEY": HEART}

    found = memory.count([scene.cloudflare.minting_token, *secrets.values()])

    assert found.pop(scene.cloudflare.minting_token) >= 1
    assert {name: found[value] for name, value in secrets.items()} == dict.fromkeys(secrets, 0)


async def test_it_is_checked_without_slack(mistaken: tuple[Minting, ProcessMemory]) -> None:
    """Beside the running process: its token, its database, its keys; nothing that it does not have."""
    scene, _ = mistaken
    environment = {**scene.environment, "PYTHONIOENCODING": "utf-8"}

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "check", "--role", "minter", "--json"),
        env={name: value for name, value in environment.items() if name not in OF_OTHERS},
        cwd=scene.directory,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    found = json.loads(out)["findings"]
    assert [each["text"] for each in found if each["mark"] == "failed"] == []
    assert process.returncode == 0
    assert {each["part"] for each in found} >= {"rotation", "database", "keys", "audit", "network", "ports", "clock"}
    assert {each["part"] for each in found}.isdisjoint({"slack", "people", "channels", "transport", "cloudflare"})
    assert [each["event"] for each in found if each["part"] == "rotation"] == [
        "rotation_on",
        "minting_token_active",
        "minting_rights_enough",
        "room_for_tokens",
    ]
    assert [each["known"]["client"] for each in found if each["part"] == "network"] == ["Cloudflare's API"]
    assert scene.slack.calls == []


async def test_a_policy_is_explained_by_those_who_may_ask_slack(mistaken: tuple[Minting, ProcessMemory]) -> None:
    """A minter may not: it says so, instead of looking for a token that it must not have."""
    scene, _ = mistaken

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "check", "--role", "minter", "--policy", "U0ADA0001", "lake"),
        env={name: value for name, value in scene.environment.items() if name not in OF_OTHERS},
        cwd=scene.directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()

    assert process.returncode == 2
    assert b"--policy asks Slack about the user, which a minter does not" in err


HELD: Mapping[Role, tuple[str, ...]] = {
    "gateway": ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"),
    "worker": ("SLACK_BOT_TOKEN", "CLOUDFLARE_API_TOKEN"),
}
"""What each of the others has, beside what all have and its half of the key."""


@asynccontextmanager
async def beside(scene: Minting, role: Role) -> AsyncIterator[None]:
    """Run a process of another role on the same database."""
    directory = scene.directory / role
    directory.mkdir()
    usual = bot_environment(scene.slack, scene.cloudflare, directory / "data", "socket", find_free_port())
    own = (*HELD[role], "R2_CREDENTIAL_DATA_DIR", "R2_CREDENTIAL_HTTP_PORT")
    shared = {name: value for name, value in scene.environment.items() if name != "CLOUDFLARE_MINTING_TOKEN"}
    environment = {**shared, **{name: usual[name] for name in own}, "R2_CREDENTIAL_METRICS_PORT": "off"}
    if role == "worker":
        del environment["R2_CREDENTIAL_SEALING_PUBLIC_KEY"]
        environment["R2_CREDENTIAL_SEALING_KEY"] = PRIVATE_KEY
    with (directory / "printed").open("ab") as output:
        bot = BotProcess(environment, directory, output, role, stop_patience=PATIENCE)
        await bot.start()
        try:
            assert await bot.wait_until_ready(), (directory / "printed").read_text()
            yield
        finally:
            assert await bot.stop() == 0


def dump(url: str) -> str:
    """Return all rows of all tables, as text."""
    names = execute(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [execute(url, f'SELECT each::text FROM "{name}" AS each') for (name,) in names]  # noqa: S608 - our own tables
    return repr(rows)


async def test_a_rotation_takes_three_processes(postgres_url: str, tmp_path: Path) -> None:
    """They meet in the database alone: one is pressed, one makes, one stores; the value is left nowhere."""
    async with minting(postgres_url, tmp_path) as scene:
        scene.cloudflare.add_bucket("lake")
        await scene.start()
        async with beside(scene, "worker"), beside(scene, "gateway"):
            await scene.slack.wait_for_connections()
            await scene.slack.type_command(ADA, PLATFORM, "/r2-credential rotate lake")
            await scene.slack.wait_for_view(ADA, lambda view: view.has_submit)
            assert (await scene.slack.submit(ADA)).kind == "updated"
            await scene.slack.wait_for_message(PLATFORM, lambda message: "`lake`" in message.text)

            [token] = scene.cloudflare.tokens.tokens.values()
            stored = scene.cloudflare.stored_token("lake")

        minting_token = f"Bearer {scene.cloudflare.minting_token}"
        made = [each for each in scene.cloudflare.requests if each.headers["authorization"] == minting_token]
        others = [each for each in scene.cloudflare.requests if each.headers["authorization"] != minting_token]
        printed = {role: (scene.directory / role / "printed").read_text() for role in ("worker", "gateway")}
        left = {
            **printed,
            "minter": scene.log(),
            "Slack": repr(scene.slack.calls),
            "database": await asyncio.to_thread(dump, postgres_url),
        }
        assert stored == token.value
        assert [each.method for each in made if each.method != "GET"] == ["POST"]
        assert {each.path.partition("/tokens")[1] for each in made} == {"/tokens"}
        assert {each.method for each in others if "/tokens" in each.path} == {"GET"}
        assert [place for place, text in left.items() if find_leaks(text.encode(), token.value)] == []
        assert all(word in left["database"] for word in (token.name, token.id))
        assert "token_minted" in left["minter"]
        assert "token_minted" not in printed["worker"] + printed["gateway"]


async def test_a_minter_that_no_rule_gives_work_does_not_start(postgres_url: str, tmp_path: Path) -> None:
    """It says which verb is missing, and ends like for any setting that has to be fixed."""
    async with minting(postgres_url, tmp_path) as scene:
        scene.write_policy(WITHOUT_ROTATE)
        await scene.bot.start()
        assert await scene.bot.wait() == 2

        assert "R2_CREDENTIAL_POLICY: no rule grants the verb rotate" in scene.log()
        assert scene.cloudflare.requests == []


async def test_the_verb_can_be_taken_away_while_it_runs(postgres_url: str, tmp_path: Path) -> None:
    """SIGHUP is enough, and it goes on running: the verb may come back, and a start would need it."""
    async with minting(postgres_url, tmp_path) as scene:
        await scene.start()
        scene.write_policy(WITHOUT_ROTATE)
        os.kill(scene.bot.pid, signal.SIGHUP)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while len(scene.lines("policy_loaded")) < 2:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)

        assert await scene.bot.stop() == 0
        assert [line["rules"] for line in scene.lines("policy_loaded")] == [1, 1]


async def test_a_token_that_cannot_mint_makes_it_not_ready(postgres_url: str, tmp_path: Path) -> None:
    """It has no other work. The log names the setting and the fix."""
    async with minting(postgres_url, tmp_path) as scene:
        scene.cloudflare.minting_state = "disabled"
        await scene.bot.start()
        line = await scene.wait_for_line("minting_token_unusable")
        await scene.wait_for_line("not_ready")

        assert line["level"] == "error"
        assert line["setting"] == "CLOUDFLARE_MINTING_TOKEN"
        assert "find out who did it" in line["fix"]
