"""What `check` finds of a database and its keys, at rest or in use, without changing them."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from bot.model.finding import Finding, Mark, Part
from bot.model.role import Role
from bot.sandbox.process import find_free_port
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from bot.settings import LoadedSettings
from bot.storage.backup import back_up
from bot.storage.checks import storage_checks
from bot.storage.examination import examine_storage
from bot.storage.opening import Store
from bot.storage.ring import KEY_DIRECTORY
from tests.postgres import PostgresProxy, execute
from tests.privileges import file_modes_hold, states_below
from tests.storage.test_opening import LoadSettings, load, opened, proxy, record, refusal

__all__ = ["load", "proxy"]  # fixtures

NOW = datetime.now(UTC)


async def examine(loaded: LoadedSettings) -> tuple[Finding, Finding]:
    """Return what is found of the database, and of the keys."""
    database, keys = await examine_storage(loaded.settings, NOW)
    assert (database.part, keys.part) == (Part.DATABASE, Part.KEYS)
    return database, keys


@contextmanager
def having_mode(directory: Path, mode: int) -> Iterator[None]:
    """Change the mode of a directory of one's own for a while."""
    directory.chmod(mode)
    try:
        yield
    finally:
        directory.chmod(0o700)


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_before_the_first_start_nothing_is_created(load: LoadSettings, tmp_path: Path) -> None:
    """A check that leaves a key of root behind would spoil the start."""
    database, keys = await examine(load())

    assert (database.mark, keys.mark) == (Mark.OK, Mark.OK)
    assert "first start" in database.text
    assert "first start" in keys.text
    assert contents(tmp_path) == {}


def close(path: Path) -> None:
    """Leave it as the stop of a bot does."""


def put_back(path: Path) -> None:
    """Put a backup in its place, which others can read and which uses no WAL."""
    copy = path.with_name("copy")
    back_up(path, copy, NOW)
    copy.replace(path)
    path.chmod(0o644)


def kill(path: Path) -> None:
    """Leave it as a killed bot does: what was committed last is in the WAL."""
    copy = path.with_name("killed")
    copy.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE last_words (text)")
        for each in path.parent.glob(f"{path.name}*"):
            shutil.copy(each, copy)
    for each in copy.glob(f"{path.name}*"):
        each.replace(path.with_name(each.name))
    copy.rmdir()


@pytest.mark.parametrize("leave", [close, put_back, kill])
async def test_a_database_at_rest_is_left_as_it_is(
    load: LoadSettings, tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    """It is written, and that is undone: its bytes, its mode and the directory's names stay."""
    loaded = load()
    async with opened(loaded):
        pass
    path = loaded.settings.database_path
    leave(path)
    before = states_of(tmp_path, path)
    database, keys = await examine(loaded)

    assert (database.mark, keys.mark) == (Mark.OK, Mark.OK)
    assert "can be written" in database.text
    assert states_of(tmp_path, path) == before


def states_of(directory: Path, database: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return everything below a directory, but not what is in the index of the WAL: SQLite builds it anew."""
    found = states_below(directory)
    index = str(database.with_name(f"{database.name}-shm"))
    return {name: (*state[:2], b"") if name == index else state for name, state in found.items()}


async def test_a_file_that_a_kill_left_half_written_is_a_warning(load: LoadSettings) -> None:
    """Reading it would mean to restore it from its journal."""
    loaded = load()
    async with opened(loaded):
        pass
    path = loaded.settings.database_path
    put_back(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("PRAGMA cache_size = 1", "BEGIN", "CREATE TABLE pad AS SELECT zeroblob(100000) AS bytes"):
            connection.execute(statement)
        copies = {each: each.read_bytes() for each in (path, path.with_name(f"{path.name}-journal"))}
    for each, content in copies.items():
        each.write_bytes(content)
        each.chmod(0o600)
    before = states_below(path.parent)
    database, _ = await examine(loaded)

    assert states_below(path.parent) == before
    assert (database.mark, database.blocks) == (Mark.WARNING, False)
    assert "start the bot" in database.fix
    async with opened(loaded):
        after, _ = await examine(loaded)
    assert after.mark is Mark.OK


async def test_a_running_bot_is_not_disturbed(load: LoadSettings) -> None:
    """The check runs beside it, with `docker exec` for instance, and the bot goes on writing."""
    async with opened(load()) as store:
        database, keys = await examine(load())
        await store.submissions.ping()

    assert (database.mark, keys.mark) == (Mark.OK, Mark.OK)


@pytest.mark.parametrize("leave", ["nothing", "an empty file"])
async def test_a_lost_database_is_not_replaced_by_an_empty_one(load: LoadSettings, tmp_path: Path, leave: str) -> None:
    """Neither `check` nor a start passes over it; without the mark, a new one may begin."""
    data = tmp_path / "data"
    async with opened(load()) as store:
        await store.lineage.settle()
    for path in data.glob("bot.sqlite*"):
        path.unlink()
    if leave == "an empty file":
        (data / "bot.sqlite").touch(0o600)
    before = contents(data)
    lost, _ = await examine(load())
    refused = await refusal(load())

    assert (lost.event, lost.mark, lost.setting) == ("database_missing", Mark.FAILED, "R2_CREDENTIAL_DATA_DIR")
    assert "put a backup in place (docs/backup.md)" in lost.fix
    assert f"remove {data / 'high-water-mark'}" in lost.fix
    assert refused == f"{lost.setting}: {lost.text}; {lost.fix}"
    assert {name: content for name, content in contents(data).items() if not name.endswith(".lock")} == {
        name: content for name, content in before.items() if not name.endswith(".lock")
    }
    (data / "high-water-mark").unlink()
    async with opened(load()):
        pass


async def test_keys_that_do_not_fit_are_found(load: LoadSettings, tmp_path: Path) -> None:
    """Someone restored the database, and not the keys."""
    async with opened(load()) as store:
        await record(store, "V1", NOW)
    _, fitting = await examine(load())
    with closing(sqlite3.connect(tmp_path / "data" / "bot.sqlite")) as connection, connection:
        connection.execute("UPDATE submissions SET sealed_token = 'sealed.v1.0123456789abcdef.AAAA'")
    _, lost = await examine(load())
    for path in (tmp_path / "data" / KEY_DIRECTORY).iterdir():
        path.unlink()
    _, none = await examine(load())

    assert fitting.mark is Mark.FAILED  # `record` seals with a made-up key
    assert (lost.mark, lost.setting, lost.known["missing"]) == (
        Mark.FAILED,
        "R2_CREDENTIAL_DATA_DIR",
        ["0123456789abcdef"],
    )
    assert lost.blocks
    assert (none.mark, none.known["keys"]) == (Mark.FAILED, 0)
    assert none.fix.startswith("before you start the bot, put the key files back")


@pytest.mark.parametrize("damage", ["state = 'bogus'", "expires_at = '2020-01-01 00:00:00.000000'"])
async def test_a_row_that_no_key_helps_is_not_held_against_the_keys(
    load: LoadSettings, tmp_path: Path, damage: str
) -> None:
    """One damaged row kept the bot from being ready, with a fix that did not help; so would an expired one."""
    async with opened(load()) as store:
        await record(store, "V1", NOW)
        with closing(sqlite3.connect(tmp_path / "data" / "bot.sqlite")) as connection, connection:
            connection.execute(f"UPDATE submissions SET {damage}")  # noqa: S608 - our own words
        check = next(each for each in storage_checks(store, None) if each.part is Part.KEYS)
        [running] = await check.examine()
    _, at_rest = await examine(load())

    assert (running.mark, at_rest.mark) == (Mark.OK, Mark.OK)


def corrupt(data: Path) -> None:
    """Make the file something else."""
    (data / "bot.sqlite").write_bytes(b"this is no database" * 100)


def make_newer(data: Path) -> None:
    """Let a newer version have been there."""
    with closing(sqlite3.connect(data / "bot.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def open_up(data: Path) -> None:
    """Let anyone write."""
    (data / "bot.sqlite").chmod(0o666)


def open_up_directory(data: Path) -> None:
    """Let anyone write in the directory."""
    data.chmod(0o777)


BAD_FILES = {
    "damaged": (corrupt, "damaged", "put a backup in its place"),
    "of a newer version": (make_newer, "newer version", "run that version"),
    "writable by others": (open_up, "cannot be used", "chmod go-w"),
    "in a directory that others can write": (open_up_directory, "cannot be used", "chmod go-w"),
}


@pytest.mark.parametrize(("spoil", "text", "fix"), BAD_FILES.values(), ids=BAD_FILES)
async def test_a_bad_file_is_a_failed_finding_with_the_fix(
    load: LoadSettings, tmp_path: Path, spoil: object, text: str, fix: str
) -> None:
    """And the file is left as it is."""
    async with opened(load()):
        pass
    assert callable(spoil)
    spoil(tmp_path / "data")
    before = contents(tmp_path)
    database, _ = await examine(load())

    assert database.mark is Mark.FAILED
    assert database.blocks
    assert text in database.text
    assert fix in database.fix
    assert contents(tmp_path) == before


@contextmanager
def closed_to_writers(directory: Path) -> Iterator[None]:
    """Let nobody create a file in a directory."""
    directory.chmod(0o500)
    yield
    directory.chmod(0o700)


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "missing"])
async def test_a_place_that_cannot_be_written_is_found(load: LoadSettings, tmp_path: Path, *, is_there: bool) -> None:
    """A directory to be created in one of others is made for the bot: those others keep theirs."""
    data = tmp_path / "data"
    if is_there:
        data.mkdir(mode=0o500)
    loaded = load()
    with file_modes_hold(), closed_to_writers(tmp_path):
        database, _ = await examine(loaded)

    assert (database.mark, database.setting) == (Mark.FAILED, "R2_CREDENTIAL_DATA_DIR")
    assert f"{data} cannot be used (Permission denied)" in database.text
    fix = f"chmod -R u+rwX {data}" if is_there else f"install -d -m 700 -o {os.geteuid()} {data}"
    assert f"run `{fix}`" in database.fix


async def test_a_place_that_cannot_be_entered_is_found(load: LoadSettings, tmp_path: Path) -> None:
    """Whatever is below it cannot be seen."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with file_modes_hold():
        database, _ = await examine(load({"R2_CREDENTIAL_DATA_DIR": str(closed / "data")}))

    assert database.fix == f"uid {os.geteuid()} cannot enter {closed}: let it, or name another place"


def make_file(path: Path) -> Path:
    """Put a file there."""
    path.touch(mode=0o600)
    return path


def make_link(path: Path) -> Path:
    """Put a link there that leads nowhere."""
    path.symlink_to(path.with_name("nowhere"))
    return path


def make_directory_with_link(path: Path) -> Path:
    """Put a directory there whose lock is a link."""
    path.mkdir(mode=0o700)
    (path / "lock").symlink_to(path / "elsewhere")
    return path


BAD_PLACES = {
    "in a system directory": lambda _: Path("/proc/none"),
    "a file": make_file,
    "below a file": lambda path: make_file(path) / "data",
    "a link that leads nowhere": make_link,
    "below a link that leads nowhere": lambda path: make_link(path) / "data",
    "with a link for its lock": make_directory_with_link,
}


@pytest.mark.parametrize("engine", ["SQLite", "PostgreSQL"])
@pytest.mark.parametrize("make", BAD_PLACES.values(), ids=BAD_PLACES)
async def test_a_bad_directory_is_found_in_the_words_of_a_start(
    load: LoadSettings, tmp_path: Path, make: Callable[[Path], Path], engine: str, request: pytest.FixtureRequest
) -> None:
    """What the start refuses does not pass; on PostgreSQL, the directory is the keys'."""
    url = {"R2_CREDENTIAL_DATABASE_URL": request.getfixturevalue("postgres_url")} if engine == "PostgreSQL" else {}
    loaded = load({"R2_CREDENTIAL_DATA_DIR": str(make(tmp_path / "place")), **url})
    found = (await examine(loaded))[engine == "PostgreSQL"]

    assert (found.mark, found.blocks) == (Mark.FAILED, True)
    assert await refusal(loaded) == f"{found.setting}: {found.text}: {found.fix}"


@pytest.mark.parametrize("name", ["bot.sqlite", "high-water-mark"])
async def test_a_directory_in_the_place_of_a_file_is_found(load: LoadSettings, tmp_path: Path, name: str) -> None:
    """As a start finds it."""
    async with opened(load()):
        pass
    (tmp_path / "data" / name).rename(tmp_path / "aside")
    (tmp_path / "data" / name).mkdir(mode=0o700)
    found, _ = await examine(load())

    assert found.fix == "a directory is in its place: remove that"
    assert await refusal(load()) == f"{found.setting}: {found.text}: {found.fix}"


async def test_a_busy_file_is_a_warning(load: LoadSettings, tmp_path: Path) -> None:
    """A backup may be running."""
    async with opened(load()):
        pass
    with closing(sqlite3.connect(tmp_path / "data" / "bot.sqlite")) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        database, _ = await examine(load())
        other.rollback()

    assert (database.mark, database.blocks) == (Mark.WARNING, False)
    assert "another program" in database.text


# PostgreSQL.


PRIVATE_KEY, OTHER_KEY = generate_private_key(), generate_private_key()


def on_postgres(load: LoadSettings, url: str, role: Role = Role.WORKER, private: str = PRIVATE_KEY) -> LoadedSettings:
    """Return the settings of a role that uses a server."""
    keys = {
        "R2_CREDENTIAL_SEALING_KEY": private,
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(private)[0]),
    }
    return load({"R2_CREDENTIAL_DATABASE_URL": url, **keys}, role)


async def test_without_a_server_no_worker_is_missed(load: LoadSettings) -> None:
    """It is only not known whether one is there: an operator in the night would look for a dead worker."""
    away = on_postgres(load, f"postgresql://bot@127.0.0.1:{find_free_port()}/bot", Role.GATEWAY)
    _, keys = await examine(away)
    assert (keys.mark, keys.event) == (Mark.WARNING, "workers_not_asked")


async def test_an_empty_server_is_left_empty(load: LoadSettings, postgres_url: str) -> None:
    """The tables are created to find out whether that is allowed, and are gone afterwards; afterwards they stay."""
    database, _ = await examine(on_postgres(load, postgres_url))
    again, _ = await examine(on_postgres(load, postgres_url))
    async with opened(on_postgres(load, postgres_url)):
        pass
    created, keys = await examine(on_postgres(load, postgres_url, Role.GATEWAY))

    assert (database.mark, again.text) == (Mark.OK, database.text)
    assert "created at the first start" in database.text
    assert created.text.endswith("can be written")
    assert created.text.startswith("PostgreSQL ")
    assert (keys.mark, keys.event) == (Mark.WARNING, "workers_not_seen")


async def test_a_gateway_learns_whether_a_worker_can_open_what_it_seals(load: LoadSettings, postgres_url: str) -> None:
    """Before the first submission is sealed for nobody; the gateway that runs learns it as well."""
    mine = on_postgres(load, postgres_url, Role.GATEWAY)
    other = on_postgres(load, postgres_url, Role.GATEWAY, OTHER_KEY)
    async with opened(on_postgres(load, postgres_url)) as worker, opened(mine) as gateway, opened(other) as stranger:
        before = await keys_of(gateway)
        fitting = await keys_of(worker)
        after, wrong = await keys_of(gateway), await keys_of(stranger)
    _, checked = await examine(mine)
    _, checked_wrong = await examine(other)

    assert [before.event, fitting.event, after.event, wrong.event] == [
        "workers_not_seen",
        "keys_fit",
        "keys_fit",
        "private_key_missing",
    ]
    assert (wrong.setting, wrong.blocks, before.blocks) == ("R2_CREDENTIAL_SEALING_PUBLIC_KEY", True, False)
    assert (checked, checked_wrong) == (after, wrong)


async def keys_of(store: Store) -> Finding:
    """Return what a running process finds of its keys."""
    check = next(each for each in storage_checks(store, None) if each.part is Part.KEYS)
    [found] = await check.examine()
    return found


async def test_a_server_that_refuses_is_a_failed_finding_with_its_sqlstate(
    load: LoadSettings, postgres_url: str
) -> None:
    """A role that may not create tables."""
    role = f"reader_{uuid4().hex[:8]}"
    execute(postgres_url, f"CREATE ROLE {role} LOGIN")
    execute(postgres_url, "REVOKE CREATE ON SCHEMA public FROM public")
    database, _ = await examine(on_postgres(load, postgres_url.replace("postgres@", f"{role}@")))
    execute(postgres_url, f"DROP ROLE {role}")

    assert database.mark is Mark.FAILED
    assert "42501" in database.text
    assert "owner" in database.fix


async def test_a_server_that_is_away_is_a_failed_finding_with_the_cause(
    load: LoadSettings, proxy: PostgresProxy
) -> None:
    """The operator learns more than that it is away, and no address."""
    proxy.refuse()
    database, _ = await examine(on_postgres(load, proxy.url))

    assert (database.mark, database.blocks) == (Mark.FAILED, True)
    assert "the connection was refused" in database.text
    assert "127.0.0.1" not in database.text


@pytest.mark.parametrize(
    ("role", "setting"),
    [(Role.WORKER, "R2_CREDENTIAL_SEALING_KEY"), (Role.GATEWAY, "R2_CREDENTIAL_SEALING_PUBLIC_KEY")],
)
async def test_a_broken_key_is_a_failed_finding(
    load: LoadSettings, postgres_url: str, role: Role, setting: str
) -> None:
    """It names the setting and quotes nothing."""
    pem = "-----BEGIN PRIVATE KEY-----MARKER-----END PRIVATE KEY----------BEGIN PUBLIC KEY-----"
    keys = {"R2_CREDENTIAL_SEALING_KEY": pem, "R2_CREDENTIAL_SEALING_PUBLIC_KEY": pem}
    _, found = await examine(load({"R2_CREDENTIAL_DATABASE_URL": postgres_url, **keys}, role))

    assert (found.mark, found.setting) == (Mark.FAILED, setting)
    assert "MARKER" not in found.text
