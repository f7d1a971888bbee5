"""What a start opens and waits for, and every refusal with its sentence."""

import asyncio
import io
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from bot.model.catalog import BucketKey
from bot.model.clock import steady_clock
from bot.model.errors import SealedValueUnreadable, StartRefused
from bot.model.finding import log_finding
from bot.model.role import Role
from bot.model.submission import NewSubmission, Opening, Sealed, SealedToken, TokenKind
from bot.sealing.hpke import (
    TOKEN,
    KeyRing,
    PublicRing,
    SealingContext,
    generate_private_key,
    load_private_keys,
    load_public_key,
    public_pem,
)
from bot.sealing.key_files import write_key_file
from bot.settings import LoadedSettings, load_settings
from bot.storage.chain_start import HEAD_FILE
from bot.storage.opening import Store, end_after_a_restore, open_store
from bot.storage.ring import KEY_DIRECTORY
from bot.storage.start_clock import wait_for_the_clock
from tests.postgres import PostgresProxy, execute, running_postgres
from tests.virtual_time import run_in_virtual_time

PRIVATE_KEY = generate_private_key()
PUBLIC_KEY = public_pem(load_private_keys(PRIVATE_KEY)[0])
PASSWORD = "MADEUPPASSWORD"
PATIENCE = timedelta(seconds=60)
IN_THE_WAY = "a file is in its place: name another place, or move that file away"
CONTEXT = SealingContext(
    purpose=TOKEN,
    task="store",
    team_id="T1",
    user_id="U1",
    view_id="V1",
    channel_id="C1",
    account_id="made-up",
    bucket="analytics-events",
)
_NAMES = ("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")
LoadSettings = Callable[..., LoadedSettings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSettings:
    """Return a function that loads settings for a role, from a sufficient environment with changes."""

    def load(changes: Mapping[str, str] | None = None, role: Role = Role.ALL) -> LoadedSettings:
        environment = {
            "SLACK_BOT_TOKEN": "xoxb-made-up",
            "SLACK_SIGNING_SECRET": "5a4d" * 8,
            "CLOUDFLARE_ACCOUNT_ID": "0" * 32,
            "CLOUDFLARE_API_TOKEN": "made-up",
            "R2_CREDENTIAL_ALLOWED_USERS": "U1",
            "R2_CREDENTIAL_DATA_DIR": str(tmp_path / "data"),
            **(changes or {}),
        }
        with monkeypatch.context() as patch:
            import os  # noqa: PLC0415 - only here

            for name in [name for name in os.environ if name.startswith(_NAMES)]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            return load_settings(tmp_path / "no.env", role)

    return load


@asynccontextmanager
async def opened(loaded: LoadedSettings, clock: Callable[[], datetime] | None = None) -> AsyncIterator[Store]:
    """Open a store and close it again."""
    async with AsyncExitStack() as stack:
        yield await open_store(loaded.settings, stack, clock)


async def refusal(loaded: LoadedSettings) -> str:
    """Return the sentence with which a start is refused."""
    with pytest.raises(StartRefused) as refused:
        async with asyncio.timeout(PATIENCE.total_seconds()), opened(loaded):
            pass
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return str(refused.value)


async def record(
    store: Store, view_id: str, accepted_at: datetime, sealed: str = "sealed.v1.0000000000facade.madeup"
) -> None:
    """Record a submission with that time."""
    expires_at = accepted_at + timedelta(hours=1)
    await store.submissions.add_opening(Opening(nonce=view_id, team_id="T1", user_id="U1", expires_at=expires_at))
    new = NewSubmission(
        id=view_id,
        team_id="T1",
        user_id="U1",
        key=BucketKey(account_id="made-up", bucket="lake"),
        channel_id="C1",
        reason="",
        token_kind=TokenKind.ACCOUNT,
        last_four="four",
        sealed=Sealed(token=SealedToken(sealed)),
        sent_at=accepted_at,
        accepted_at=accepted_at,
        expires_at=expires_at,
    )
    await store.submissions.accept(new, view_id)


# One process, SQLite.


async def test_a_first_start_creates_everything(load: LoadSettings, tmp_path: Path) -> None:
    """The directory, the database and a key, which opens what it seals; no jobs."""
    async with opened(load()) as store:
        assert (tmp_path / "data" / "bot.sqlite").exists()
        assert len(list((tmp_path / "data" / KEY_DIRECTORY).glob("*.pem"))) == 1
        assert store.jobs is None
        assert store.sealing is store.key_ring
        assert store.key_ring is not None
        sealed = store.sealing.sealing_key.seal("MADEUP", CONTEXT)
        assert store.key_ring.open(sealed, CONTEXT).reveal() == "MADEUP"
        assert await store.submissions.unreported_keys() == []


@pytest.mark.parametrize("shared", ["data directory", "database"])
async def test_a_second_process_is_refused(load: LoadSettings, tmp_path: Path, shared: str) -> None:
    """With the same directory or only the same database; it may start once the first one is gone."""
    key = {"R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8}
    first = load({"R2_CREDENTIAL_DATABASE_URL": f"sqlite:///{tmp_path}/shared/bot.sqlite"} | key)
    other = (
        load(key)
        if shared == "data directory"
        else load(
            {
                "R2_CREDENTIAL_DATA_DIR": str(tmp_path / "other"),
                "R2_CREDENTIAL_DATABASE_URL": f"sqlite:///{tmp_path}/shared/bot.sqlite",
            }
            | key
        )
    )
    async with opened(first):
        said = await refusal(other)
    async with opened(other):
        pass

    assert said == (
        f"another process uses {other.settings.data_dir} or {other.settings.database_path}: stop it, or set "
        "R2_CREDENTIAL_DATA_DIR and R2_CREDENTIAL_DATABASE_URL to others"
    )


def _file_in_the_way(data: Path) -> None:
    data.write_text("a file")


def _damaged_database(data: Path) -> None:
    data.mkdir()
    (data / "bot.sqlite").write_bytes(b"no database" * 1000)


def _newer_database(data: Path) -> None:
    data.mkdir()
    with closing(sqlite3.connect(data / "bot.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999_of_tomorrow')")


def _directory_in_place_of_the_database(data: Path) -> None:
    (data / "bot.sqlite").mkdir(parents=True)


def _no_key(data: Path) -> None:
    (data / KEY_DIRECTORY).mkdir(parents=True)
    (data / KEY_DIRECTORY / "20261120T120000.000000Z-madeup.pem").touch(mode=0o600)


def _exposed_key(data: Path) -> None:
    (data / KEY_DIRECTORY).mkdir(parents=True)
    path = data / KEY_DIRECTORY / "20261120T120000.000000Z-madeup.pem"
    write_key_file(path, generate_private_key())
    path.chmod(0o644)


def _open_directory(data: Path) -> None:
    data.mkdir()
    data.chmod(0o775)


def _open_key_directory(data: Path) -> None:
    (data / KEY_DIRECTORY).mkdir(parents=True)
    (data / KEY_DIRECTORY).chmod(0o777)


def _open_database(data: Path) -> None:
    data.mkdir()
    (data / "bot.sqlite").touch()
    (data / "bot.sqlite").chmod(0o666)


def _open_wal(data: Path) -> None:
    data.mkdir()
    (data / "bot.sqlite-wal").touch()
    (data / "bot.sqlite-wal").chmod(0o666)


def _link_for_a_lock(data: Path) -> None:
    data.mkdir()
    (data / "lock").symlink_to(data / "elsewhere")


def _key_of_tomorrow(data: Path) -> None:
    (data / KEY_DIRECTORY).mkdir(parents=True)
    write_key_file(data / KEY_DIRECTORY / "20990101T000000.000000Z-madeup.pem", generate_private_key())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(
            _open_directory,
            "R2_CREDENTIAL_DATA_DIR: {data} cannot be used: others can write to it: run `chmod go-w {data}`",
            id="others can write the directory",
        ),
        pytest.param(
            _open_key_directory,
            "{data}/sealing-keys: others can write to it: run `chmod go-w {data}/sealing-keys`",
            id="others can write the keys",
        ),
        pytest.param(
            _open_database,
            "R2_CREDENTIAL_DATABASE_URL: {data}/bot.sqlite cannot be used: others can write to it",
            id="others can write the database",
        ),
        pytest.param(
            _open_wal,
            "R2_CREDENTIAL_DATABASE_URL: {data}/bot.sqlite-wal cannot be used: others can write to it",
            id="others can write the WAL",
        ),
        pytest.param(
            _link_for_a_lock,
            "R2_CREDENTIAL_DATA_DIR: {data}/lock cannot be used (Too many levels of symbolic links): a link is "
            "in its place: remove it",
            id="a link for a lock",
        ),
        pytest.param(
            _key_of_tomorrow, "20990101T000000.000000Z-madeup.pem: its name says that it is made days", id="2099"
        ),
        pytest.param(
            _file_in_the_way, "R2_CREDENTIAL_DATA_DIR: {data} cannot be used (File exists)", id="file in the way"
        ),
        pytest.param(
            _damaged_database,
            "R2_CREDENTIAL_DATABASE_URL: {data}/bot.sqlite is damaged, or no database at all, and was left as it is. "
            "Put a backup in its place, or move it away to begin with an empty one",
            id="no database",
        ),
        pytest.param(
            _newer_database,
            "R2_CREDENTIAL_DATABASE_URL: {data}/bot.sqlite belongs to a newer version of the bot and was left as it "
            "is. Run that version",
            id="newer version",
        ),
        pytest.param(
            _directory_in_place_of_the_database,
            "R2_CREDENTIAL_DATA_DIR: {data}/bot.sqlite cannot be used (Is a directory): a directory is in its place",
            id="a directory",
        ),
        pytest.param(_no_key, "holds no PEM private key", id="no key"),
        pytest.param(_exposed_key, "others can read it: run `chmod 600", id="exposed key"),
    ],
)
async def test_an_unusable_path_is_refused_and_left_unchanged(
    load: LoadSettings, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """The sentence names the setting or the file, and the fix."""
    data = tmp_path / "data"
    spoil(data)
    before = {path: path.read_bytes() for path in data.rglob("bot.sqlite") if path.is_file()}

    assert said.format(data=data) in await refusal(load())

    assert {path: path.read_bytes() for path in before} == before


def test_a_clock_of_1970_is_waited_for(log: io.StringIO) -> None:
    """The network sets it a moment later; until then no certificate is valid."""
    told = iter([datetime(1970, 1, 1, tzinfo=UTC)] * 3 + [datetime(2026, 11, 30, tzinfo=UTC)])
    run_in_virtual_time(wait_for_the_clock(log_finding, lambda: next(told)))
    assert log.getvalue().count("clock_not_set") == 3
    assert list(told) == []


async def test_a_database_elsewhere_is_refused_by_its_own_setting(load: LoadSettings, tmp_path: Path) -> None:
    """Nothing is wrong with the data directory, which is not named."""
    (tmp_path / "occupied").touch()
    path = tmp_path / "occupied" / "bot.sqlite"

    said = await refusal(load({"R2_CREDENTIAL_DATABASE_URL": f"sqlite:///{path}"}))

    assert said == f"R2_CREDENTIAL_DATABASE_URL: {tmp_path}/occupied cannot be used (File exists): {IN_THE_WAY}"


async def test_a_path_without_a_name_is_refused(load: LoadSettings) -> None:
    """The sentence names the setting."""
    said = await refusal(load({"R2_CREDENTIAL_DATABASE_URL": "sqlite:////"}))

    assert said.startswith(("R2_CREDENTIAL_DATABASE_URL: ", "R2_CREDENTIAL_DATA_DIR: "))


async def test_an_invalid_sealing_key_is_refused(load: LoadSettings) -> None:
    """The sentence names the setting and does not quote the key."""
    broken = PRIVATE_KEY.replace("-----END", "MADEUP\n-----END")

    said = await refusal(load({"R2_CREDENTIAL_SEALING_KEY": broken}))

    assert said.startswith("R2_CREDENTIAL_SEALING_KEY: is not an X25519 private key")
    assert "MADEUP" not in said


async def test_the_operators_key_is_used_and_no_other_is_created(load: LoadSettings, tmp_path: Path) -> None:
    """An operator who sets a key also rotates it."""
    async with opened(load({"R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY})) as store:
        sealed = store.sealing.sealing_key.seal("MADEUP", CONTEXT)
        assert store.key_files is None

    assert KeyRing(*load_private_keys(PRIVATE_KEY)).open(sealed, CONTEXT).reveal() == "MADEUP"
    assert not (tmp_path / "data" / KEY_DIRECTORY).exists()


# The clock.


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_clock_that_was_set_back_starts_where_the_last_run_ended(
    load: LoadSettings, request: pytest.FixtureRequest, engine: str
) -> None:
    """Nothing waits for the clock to catch up; a difference of days is not a corrected clock."""
    url = {"R2_CREDENTIAL_DATABASE_URL": str(request.getfixturevalue("postgres_url"))} if engine == "postgresql" else {}
    loaded = load({**url, "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY})
    now = datetime.now(UTC)
    async with opened(loaded) as store:
        assert abs(store.clock() - now) < timedelta(seconds=5)
        await record(store, "V1", now + timedelta(hours=3))

    with capture_logs() as logged:
        async with opened(loaded) as store:
            assert timedelta(0) <= store.clock() - (now + timedelta(hours=3)) < timedelta(seconds=5)
            await record(store, "V2", now + timedelta(days=3))
    async with opened(loaded) as store:
        assert timedelta(0) <= store.clock() - (now + timedelta(hours=3)) < timedelta(seconds=10)

    assert [line["event"] for line in logged] == ["clock_was_set_back"]
    assert 10_000 < logged[0]["seconds"] <= 10_800


async def test_a_steady_clock_continues_from_its_start() -> None:
    """It runs, and only forwards."""
    start = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    clock = steady_clock(start)
    first, second = clock(), clock()

    assert start <= first <= second < start + timedelta(minutes=1)


async def test_a_given_clock_is_used(load: LoadSettings) -> None:
    """Tests and benchmarks pass their clock."""
    async with opened(load(), lambda: datetime(2000, 1, 1, tzinfo=UTC)) as store:
        assert store.clock() == datetime(2000, 1, 1, tzinfo=UTC)


# Several processes, PostgreSQL.


def _worker(load: LoadSettings, url: str, changes: Mapping[str, str] | None = None) -> LoadedSettings:
    return load(
        {"R2_CREDENTIAL_DATABASE_URL": url, "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY, **(changes or {})}, Role.WORKER
    )


def _gateway(load: LoadSettings, url: str, changes: Mapping[str, str] | None = None) -> LoadedSettings:
    return load(
        {
            "R2_CREDENTIAL_DATABASE_URL": url,
            "R2_CREDENTIAL_SEALING_PUBLIC_KEY": PUBLIC_KEY,
            "R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8,
            **(changes or {}),
        },
        Role.GATEWAY,
    )


@pytest_asyncio.fixture
async def proxy(postgres_url: str) -> AsyncIterator[PostgresProxy]:
    """Start a proxy in front of the database."""
    async with PostgresProxy(postgres_url) as started:
        yield started


async def test_a_gateway_cannot_open_what_it_sealed(load: LoadSettings, postgres_url: str) -> None:
    """It holds no key that opens it; the workers' key does."""
    loaded = _gateway(load, postgres_url)
    async with opened(loaded) as store:
        sealed = store.sealing.sealing_key.seal("MADEUP", CONTEXT)
        assert type(store.sealing) is PublicRing
        assert (store.key_ring, store.key_files) == (None, None)
        assert not hasattr(store.sealing, "open")

    assert KeyRing(*load_private_keys(PRIVATE_KEY)).open(sealed, CONTEXT).reveal() == "MADEUP"
    with pytest.raises(SealedValueUnreadable):
        KeyRing(*load_private_keys(generate_private_key())).open(sealed, CONTEXT)
    with pytest.raises(ValueError, match="holds no PEM private key"):
        load_private_keys(PUBLIC_KEY)
    assert load_public_key(PUBLIC_KEY)


async def test_a_gateway_that_is_given_too_much_discards_it(load: LoadSettings, postgres_url: str) -> None:
    """It warns of each setting by name, and holds neither the key nor Cloudflare's credentials."""
    given = {
        "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY,
        "CLOUDFLARE_API_TOKEN": "MADEUPTOKEN",
        "CLOUDFLARE_EMAIL": "operator@example.com",
        "CLOUDFLARE_API_KEY": "MADEUPKEY",
    }
    loaded = _gateway(load, postgres_url, given)
    settings = loaded.settings

    assert loaded.warnings == [
        f"{name}: a gateway does not need it and ignores it; keep it away from this process"
        for name in ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY", "R2_CREDENTIAL_SEALING_KEY")
    ]
    assert (settings.sealing_key, settings.cloudflare_api_token) == (None, None)
    assert (settings.cloudflare_email, settings.cloudflare_api_key) == (None, None)
    async with opened(loaded) as store:
        assert store.key_ring is None


@pytest.mark.parametrize(
    "public_key",
    [
        pytest.param(PUBLIC_KEY.replace("\n-----END", "MADEUP\n-----END"), id="damaged"),
        pytest.param(
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
            id="of another kind",
        ),
    ],
)
async def test_an_invalid_public_key_is_refused(load: LoadSettings, postgres_url: str, public_key: str) -> None:
    """The sentence says what is expected and quotes nothing."""
    said = await refusal(_gateway(load, postgres_url, {"R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_key}))

    assert said == (
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY: is not an X25519 public key in PEM (`r2-credential-bot keygen PATH` prints "
        "one)"
    )


async def test_a_worker_has_the_key_and_the_jobs(load: LoadSettings, postgres_url: str) -> None:
    """Any number of workers, with a shared data directory or none."""
    async with opened(_worker(load, postgres_url)) as first, opened(_worker(load, postgres_url)) as second:
        sealed = first.sealing.sealing_key.seal("MADEUP", CONTEXT)
        assert second.key_ring is not None
        assert second.key_ring.open(sealed, CONTEXT).reveal() == "MADEUP"
        assert first.jobs is not None


async def test_generated_keys_are_for_one_process(load: LoadSettings, postgres_url: str) -> None:
    """Without the operator's key, a second process on the data directory is refused, also on PostgreSQL."""
    loaded = load({"R2_CREDENTIAL_DATABASE_URL": postgres_url})
    async with opened(loaded) as store:
        assert store.key_files is not None
        said = await refusal(loaded)

    assert said.startswith(f"another process uses {loaded.settings.data_dir} or ")
    assert any(warning.startswith("R2_CREDENTIAL_SEALING_KEY: is not set") for warning in loaded.warnings)


async def test_a_data_directory_that_cannot_be_used_is_refused_on_postgresql_too(
    load: LoadSettings, postgres_url: str, tmp_path: Path
) -> None:
    """The keys would be stored there."""
    _file_in_the_way(tmp_path / "data")

    said = await refusal(load({"R2_CREDENTIAL_DATABASE_URL": postgres_url}))

    assert said == f"R2_CREDENTIAL_DATA_DIR: {tmp_path}/data cannot be used (File exists): {IN_THE_WAY}"


async def test_a_newer_postgresql_is_refused(load: LoadSettings, postgres_url: str) -> None:
    """It is left unchanged."""
    execute(postgres_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    execute(postgres_url, "INSERT INTO alembic_version VALUES ('9999_of_tomorrow')")

    said = await refusal(_worker(load, postgres_url))

    assert said == (
        "R2_CREDENTIAL_DATABASE_URL: the database belongs to a newer version of the bot. Run that version or, to go "
        "back to this one, restore the backup that was made before the upgrade"
    )
    assert execute(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [
        ("alembic_version",)
    ]


async def test_an_invalid_url_is_refused_without_its_password(load: LoadSettings) -> None:
    """Waiting for it would last forever."""
    said = await refusal(_worker(load, f"postgresql://bot:{PASSWORD}@[::1/bot"))

    assert said.startswith("R2_CREDENTIAL_DATABASE_URL: ")
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        pytest.param(
            "?sslmod=require",
            "R2_CREDENTIAL_DATABASE_URL: PostgreSQL knows no parameter `sslmod`; correct it, or remove it",
            id="misspelt",
        ),
        pytest.param(
            f":made@up?{PASSWORD}=@127.0.0.1/bot",
            "R2_CREDENTIAL_DATABASE_URL: is not an address that PostgreSQL's own programs understand",
            id="rather a password with a question mark",
        ),
    ],
)
async def test_an_unknown_parameter_of_the_url_is_named(load: LoadSettings, ending: str, said: str) -> None:
    """Unless it may be the rest of an unescaped password."""
    assert await refusal(_worker(load, f"postgresql://bot{ending}")) == said


@pytest.fixture
def role(postgres_server: str) -> Iterator[str]:
    """Create a role that may only log in."""
    name = f"role_{uuid4().hex}"
    execute(postgres_server, f"CREATE ROLE {name} LOGIN")
    yield name
    execute(postgres_server, f"DROP ROLE {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _No:
    """A change at the server, to the URL or to the role, and the refusal that it causes."""

    statement: str = "SELECT 1"
    ending: str = ""
    as_role: bool = False
    reason: str
    fix: str


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            _No(
                as_role=True,
                reason="permission denied for schema public (SQLSTATE 42501)",
                fix="GRANT USAGE, CREATE ON SCHEMA",
            ),
            id="no right to make tables, as since PostgreSQL 15",
        ),
        pytest.param(
            _No(
                statement="REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
                as_role=True,
                reason='permission denied for database "{database}" (SQLSTATE 42501)',
                fix="owner",
            ),
            id="no right to connect",
        ),
        pytest.param(
            _No(
                statement="ALTER ROLE {role} NOLOGIN",
                as_role=True,
                reason='role "{role}" is not permitted to log in (SQLSTATE 28000)',
                fix="LOGIN",
            ),
            id="no login",
        ),
        pytest.param(
            _No(
                statement="ALTER ROLE {role} SET search_path = nowhere",
                as_role=True,
                reason="no schema has been selected to create in (SQLSTATE 3F000)",
                fix="search_path",
            ),
            id="no schema",
        ),
        pytest.param(
            _No(
                statement="ALTER DATABASE {database} SET default_transaction_read_only = on",
                reason="every transaction is read-only (SQLSTATE 25006)",
                fix="default_transaction_read_only off",
            ),
            id="read-only",
        ),
        pytest.param(
            _No(ending="?dbname=nowhere", reason='database "nowhere" does not exist (SQLSTATE 3D000)', fix="create"),
            id="no database",
        ),
        pytest.param(
            _No(ending="?user=nobody", reason='role "nobody" does not exist (SQLSTATE 28000)', fix="create the role"),
            id="no role",
        ),
        pytest.param(
            _No(
                ending="?options=-cmade_up%3D1",
                reason='unrecognized configuration parameter "made_up" (SQLSTATE 42704)',
                fix="remove",
            ),
            id="options",
        ),
        pytest.param(_No(ending="?sslmode=require", reason="server does not support SSL", fix="sslmode"), id="no TLS"),
    ],
)
async def test_a_permanent_refusal_of_postgresql_ends_the_start(
    load: LoadSettings, role: str, postgres_url: str, case: _No
) -> None:
    """The refusal contains PostgreSQL's message, the SQLSTATE and what to do."""
    names = {"database": postgres_url.rpartition("/")[2], "role": role}
    execute(postgres_url, case.statement.format(**names))
    url = postgres_url.replace("postgres@", f"{role}@") if case.as_role else postgres_url + case.ending

    said = await refusal(_worker(load, url))

    assert said.startswith(f"R2_CREDENTIAL_DATABASE_URL: {case.reason.format(**names)}; ")
    assert case.fix in said


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_cannot_hold_every_letter_ends_the_start(
    load: LoadSettings, postgres_server: str, encoding: str
) -> None:
    """Found at the start, not by the first name with an umlaut; in LATIN1 the start would wait without end."""
    name = f"test_{uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
    said = await refusal(_worker(load, postgres_server.rpartition("/")[0] + f"/{name}"))
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
    assert said == (
        f"R2_CREDENTIAL_DATABASE_URL: the database's encoding is {encoding}, and the bot needs UTF8; run `CREATE "
        "DATABASE name ENCODING 'UTF8' TEMPLATE template0`, and put that name into the URL"
    )


async def test_a_wrong_password_ends_the_start(load: LoadSettings, pooled: Callable[..., str]) -> None:
    """It is neither quoted nor logged."""
    url = pooled("session", "auth_type = md5").replace("@", f":{PASSWORD}@")
    with capture_logs() as logged:
        said = await refusal(_worker(load, url))
    assert "(SQLSTATE 28P01); put the right role and password into the URL" in said
    assert PASSWORD not in said + str(logged)


async def test_a_postgresql_that_is_full_is_waited_for(load: LoadSettings, role: str, postgres_url: str) -> None:
    """Other clients will disconnect; the log says what the start waits for."""
    database = postgres_url.rpartition("/")[2]
    execute(postgres_url, f"ALTER DATABASE {database} OWNER TO {role}")
    execute(postgres_url, f"ALTER ROLE {role} CONNECTION LIMIT 0")
    with capture_logs() as logged:
        async with AsyncExitStack() as stack:
            settings = _worker(load, postgres_url.replace("postgres@", f"{role}@")).settings
            opening = asyncio.create_task(open_store(settings, stack, None))
            await _wait_until(lambda: any(line["event"] == "database_not_reached" for line in logged))
            execute(postgres_url, f"ALTER ROLE {role} CONNECTION LIMIT -1")
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await opening
    execute(postgres_url, f"ALTER DATABASE {database} OWNER TO postgres")
    execute(postgres_url, f"REASSIGN OWNED BY {role} TO postgres")

    assert next(line for line in logged if line["event"] == "postgres_refused")["sqlstate"] == "53300"


async def test_a_standby_is_waited_for(load: LoadSettings) -> None:
    """A failover may be under way, or the URL be wrong: the log says both, and a promotion ends the wait."""
    with TemporaryDirectory(prefix="standby-") as directory, capture_logs() as logged:
        Path(directory).chmod(0o755)  # noqa: ASYNC240 - setting up
        with running_postgres(Path(directory) / "server", is_standby=True) as url:
            async with AsyncExitStack() as stack:
                opening = asyncio.create_task(open_store(_worker(load, url).settings, stack, None))
                await _wait_until(lambda: any(line["event"] == "database_not_reached" for line in logged))
                assert not opening.done()
                execute(url, "SELECT pg_promote()")
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await opening

    refused = next(line for line in logged if line["event"] == "postgres_refused")
    assert (refused["sqlstate"], refused["reason"]) == ("25006", "the server is a standby")
    assert "promote" in refused["fix"]


async def test_without_the_extra_the_sentence_says_how_to_install_it(
    load: LoadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package does not include PostgreSQL's driver by default."""
    monkeypatch.delitem(sys.modules, "bot.storage.jobs", raising=False)
    monkeypatch.setitem(sys.modules, "procrastinate", None)  # as Python marks a module that is not installed

    said = await refusal(_worker(load, "postgresql://127.0.0.1/bot"))

    assert said == (
        "R2_CREDENTIAL_DATABASE_URL: PostgreSQL needs the extra: pip install '.[postgres]' in the bot's directory"
    )


async def test_a_postgresql_that_is_not_there_yet_is_waited_for(load: LoadSettings, proxy: PostgresProxy) -> None:
    """Without a limit, and without logging its address."""
    proxy.refuse()
    with capture_logs() as logged:
        async with AsyncExitStack() as stack:
            settings = _worker(load, proxy.url).settings
            opening = asyncio.create_task(open_store(settings, stack, None))
            await _wait_until(lambda: len(logged) >= 2)
            assert not opening.done()
            await proxy.accept()
            async with asyncio.timeout(PATIENCE.total_seconds()):
                store = await opening
            assert await store.submissions.unreported_keys() == []

    assert {line["event"] for line in logged} == {"database_not_reached"}
    assert "127.0.0.1" not in str(logged)


@pytest.mark.parametrize("statement", ["procrastinate_jobs", "clock_timestamp", "max("])
async def test_a_postgresql_that_goes_away_while_it_is_opened_is_waited_for(
    load: LoadSettings, proxy: PostgresProxy, statement: str
) -> None:
    """At whatever point: the start begins again, and leaves no connection behind."""
    proxy.freeze_on(statement)
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(open_store(_worker(load, proxy.url).settings, stack, None))
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await proxy.wait_until_frozen()
            proxy.cut()
            proxy.thaw()
            store = await opening
        await store.submissions.ping()


async def test_a_start_that_waits_can_be_stopped(load: LoadSettings, proxy: PostgresProxy) -> None:
    """It need not be killed."""
    proxy.refuse()
    with capture_logs() as logged:
        async with AsyncExitStack() as stack:
            opening = asyncio.create_task(open_store(_worker(load, proxy.url).settings, stack, None))
            await _wait_until(lambda: bool(logged))
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening


async def _wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not is_so():  # noqa: ASYNC110 - a log sends no event
            await asyncio.sleep(0.01)


async def test_a_restore_is_not_declared_on_a_server_without_tables(load: LoadSettings, postgres_url: str) -> None:
    """The name of another database gets no tables, which would be taken for the restored ones."""
    with pytest.raises(StartRefused, match="no database of the bot"):
        await end_after_a_restore(load({"R2_CREDENTIAL_DATABASE_URL": postgres_url}).settings)

    assert execute(postgres_url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def test_a_restore_is_declared_on_a_server_with_tables(load: LoadSettings, postgres_url: str) -> None:
    """And a server that cannot be used is refused in the words of a start."""
    loaded = load({"R2_CREDENTIAL_DATABASE_URL": postgres_url})
    async with opened(loaded):
        pass
    assert await end_after_a_restore(loaded.settings) == 0

    with pytest.raises(StartRefused, match="does not exist"):
        await end_after_a_restore(load({"R2_CREDENTIAL_DATABASE_URL": f"{postgres_url}_typo"}).settings)
    with pytest.raises(StartRefused, match="R2_CREDENTIAL_DATABASE_URL"):
        await end_after_a_restore(load({"R2_CREDENTIAL_DATABASE_URL": "postgresql://[bad"}).settings)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty PostgreSQL database, or "" for the file in the data directory."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def take_signatures_away(url: str, path: Path) -> None:
    """Make the tables those of a version that did not sign, with the statements of anyone who can write them."""
    statements = [
        *(f"ALTER TABLE submissions DROP COLUMN {name}" for name in _SIGNED_WITH),
        "ALTER TABLE openings DROP COLUMN signature",
        *(f"DROP TABLE {name}" for name in ("audit", "audit_webhook", "approval_requests", "decisions")),
        "UPDATE alembic_version SET version_num = '0006'",
    ]
    for statement in statements:
        if url:
            execute(url, statement)
        else:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute(statement)


_SIGNED_WITH = (
    *("nonce", "fingerprint", "token_digest", "response_url_digest", "signature"),
    *("approval_channel", "decided_by", "progress"),
)


async def test_a_restart_signs_nothing_that_has_lost_its_signature(
    load: LoadSettings, tmp_path: Path, shared_url: str
) -> None:
    """Else whoever drops the columns has the bot take any row for a person's; the operator can still say otherwise."""
    loaded = load({"R2_CREDENTIAL_DATABASE_URL": shared_url} if shared_url else {})
    async with opened(loaded) as store:
        await record(store, "V1", datetime.now(UTC))
    (tmp_path / "data" / HEAD_FILE).touch()  # a running bot writes it at once, on PostgreSQL if its directory lasts
    take_signatures_away(shared_url, tmp_path / "data" / "bot.sqlite")
    assert "are not signed" in await refusal(loaded)
    assert await end_after_a_restore(loaded.settings) == 1
    async with opened(loaded) as store:
        ended = await store.submissions.find("V1")
        assert ended is not None
        assert ended.is_ended
