"""A real PgBouncer before a PostgreSQL, with its default settings but for the mode."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from bot.sandbox.process import find_free_port

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


@contextmanager
def running_pgbouncer(url: str, directory: Path, mode: str, *settings: str) -> Iterator[str]:
    """Start one in a new directory, and stop it: yields the database's URL by way of it. Root's runs as nobody."""
    assert PGBOUNCER is not None
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    parts, port = urlsplit(url), find_free_port()
    directory.mkdir()
    users, configuration, log = directory / "users", directory / "pgbouncer.ini", directory / "log"
    users.write_text(f'"{parts.username}" ""\n')
    lines = (
        "[databases]",
        f"* = host={parts.hostname} port={parts.port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = trust",
        f"auth_file = {users}",
        f"pool_mode = {mode}",
        *settings,
    )
    configuration.write_text("\n".join(lines) + "\n")
    with log.open("wb") as output:
        pooler = subprocess.Popen((PGBOUNCER, configuration), stdout=output, stderr=output, user=account.pw_uid)  # noqa: S603 - our own words
    try:
        _wait_until_it_listens(pooler, port, log)
        yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
    finally:
        pooler.send_signal(signal.SIGTERM)  # at once
        pooler.wait()


def _wait_until_it_listens(pooler: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        with suppress(subprocess.TimeoutExpired):
            pooler.wait(0.05)
            break
    raise RuntimeError(log.read_text())
