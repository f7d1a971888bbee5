"""The same search where the bot is a gateway and a worker on a PostgreSQL of their own; its files are searched too.

Thorough: the talkative processes take half a minute of both cores.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from bot.sandbox.process import Role, Transport
from tests.aftermath import PARTS, SETTINGS, Aftermath, Marked, Watch, give_policy, go_all_ways, read_files
from tests.e2e.conftest import ONE_WAY
from tests.e2e.test_leaks import OF_SLACK, PLACES, TALKATIVE
from tests.e2e.test_replicas import PRIVATE_KEY, running_fleet
from tests.leaks import find_leaks
from tests.postgres import execute, running_postgres
from tests.scene import Scene, SetScene
from tests.talkative import talkative

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.thorough, ONE_WAY]

METRICS_PORT, HTTP_PORT = "R2_CREDENTIAL_METRICS_PORT", "R2_CREDENTIAL_HTTP_PORT"
PASSWORD = "MADEUP-database-password"
SEALING_KEY = "".join(PRIVATE_KEY.splitlines()[1:-1])
"""The key itself, without the words around it."""


@pytest.fixture(
    scope="module",
    params=[("gateway", "worker"), ("all",)],
    ids=["gateway and worker", "all"],
)
def roles(request: pytest.FixtureRequest) -> tuple[Role, ...]:
    """Parametrize over who does what."""
    chosen: tuple[Role, ...] = request.param
    return chosen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aftermath(
    set_scene: SetScene, transport: Transport, roles: tuple[Role, ...], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aftermath]:
    """Take tokens through success and every failure, then stop all processes."""
    directory = tmp_path_factory.mktemp("leaks-of-roles")

    @asynccontextmanager
    async def set_talkative(transport: Transport, directory: Path, settings: object = None) -> AsyncIterator[Scene]:
        async with set_scene(transport, directory, SETTINGS | {"R2_CREDENTIAL_LOG_FORMAT": "json"}) as scene:
            give_policy(scene.environment, directory)
            scene.environment = talkative(scene.environment, directory / "notes")
            yield scene

    with ExitStack() as stack:
        postgres = Path(stack.enter_context(TemporaryDirectory(prefix="postgres-")))
        postgres.chmod(0o755)  # noqa: ASYNC240 - setting up; as root the server runs as nobody
        url = stack.enter_context(running_postgres(postgres / "server")).replace("@", f":{PASSWORD}@")
        async with running_fleet(set_talkative, transport, directory, url, roles) as fleet:
            execute(url, "ALTER SYSTEM SET log_statement = 'all'")
            execute(url, "SELECT pg_reload_conf()")
            marked = Marked()
            await go_all_ways(fleet.scene, marked)
            ports = {each.environment[METRICS_PORT]: each.environment[HTTP_PORT] for each in fleet.replicas}
            watch = Watch(fleet.scene, ports, [], [directory / "notes"])
            await watch.look()
            assert [await each.bot.stop() for each in fleet.replicas] == [0] * len(roles)
            printed = b"".join(each.log() for each in fleet.replicas)
            left = watch.report(marked, {"database password": PASSWORD, "sealing key": SEALING_KEY}, printed)
        execute(url, "CHECKPOINT")
        left.database = read_files([postgres / "server" / "data", postgres / "server" / "log"])
        yield left


@pytest.mark.parametrize("place", [place for place in PLACES if not place.startswith("data")])
async def test_no_token_and_no_secret_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """In no encoding, not even in part; Slack gets its own in a header, and the places of files are the next test's."""
    own = {name: secret for name, secret in aftermath.secrets.items() if place != "traffic" or name not in OF_SLACK}

    assert aftermath.find(place, aftermath.tokens) == []
    assert aftermath.find(place, [*PARTS, *own.values()]) == []


async def test_neither_the_files_nor_the_log_of_the_database_hold_any(aftermath: Aftermath) -> None:
    """Although it logs each statement with its values. All tokens and the password begin with the same word."""
    assert b"sealed.v1." in aftermath.database
    assert b"INSERT INTO submissions" in aftermath.database

    assert b"MADEUP" not in aftermath.database
    assert aftermath.find("database", ["MADEUPGOOD", "MADEUPSLOW", PASSWORD, SEALING_KEY, "/response/"]) == []


async def test_the_processes_show_no_secret(aftermath: Aftermath, roles: tuple[Role, ...]) -> None:
    """What `ps` shows are the roles. A library of Procrastinate runs `file` at its import, which inherits no secret."""
    assert [role for role in roles if f"\0{role}\0".encode() not in aftermath.processes] == []
    started = aftermath.children.splitlines()
    assert [line for line in started if not line.startswith(b"subprocess.Popen ('file',")] == []
    assert [name for name, secret in aftermath.secrets.items() if find_leaks(aftermath.children, secret)] == []


async def test_the_libraries_spoke(aftermath: Aftermath) -> None:
    """Those of PostgreSQL too."""
    assert aftermath.loggers >= TALKATIVE | {"procrastinate.worker", "psycopg.pool"}
    assert b"\nbot.delivery." in aftermath.tracker
