"""Who is compared, and how each is started: as one would start it in production."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from tests.benchmarks.alternatives.load import read_answer, sign
from tests.benchmarks.footprint import resident_bytes
from tests.make import AUDIT_KEY

HERE: Final = Path(__file__).parent
_START_SECONDS: Final = 20
_PAUSE: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One program: its name in a table and in the plot, and what starts it; `packages` are those of Python."""

    key: str
    name: str
    short: str
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()
    calls_cloudflare: bool = True


BOT: Final = Contender(
    key="a",
    name="this bot",
    short="this bot",
    command=(sys.executable, "-m", "bot", "run"),
    packages=("r2-credential-bot",),
)
BEFORE: Final = Contender(
    key="b",
    name="Bolt for Python, Cloudflare before the acknowledgement",
    short="Bolt for Python, before",
    command=(sys.executable, str(HERE / "bolt_before.py")),
    packages=("slack-bolt", "aiohttp", "cloudflare"),
)
AFTER: Final = Contender(
    key="c",
    name="Bolt for Python, Cloudflare after it",
    short="Bolt for Python, after",
    command=(sys.executable, str(HERE / "bolt_after.py")),
    packages=("slack-bolt", "aiohttp", "cloudflare"),
)
NODE: Final = Contender(
    key="d",
    name="Bolt for Node, Cloudflare after it",
    short="Bolt for Node, after",
    command=("node", "bolt.mjs"),  # in the directory where its packages are
)
BARE: Final = Contender(
    key="e",
    name="a bare handler that verifies the signature: the limit",
    short="bare handler",
    command=(sys.executable, str(HERE / "bare.py")),
    packages=("aiohttp", "slack-sdk"),
    calls_cloudflare=False,
)
CONTENDERS: Final = (BOT, BEFORE, AFTER, NODE, BARE)


class ContenderFailed(Exception):  # noqa: N818 - an outcome, which goes into the table
    """A contender did not start, or ended."""


class Running:
    """A contender as a process, in a directory with nothing but what it needs; killed at the end of `async with`."""

    def __init__(self, contender: Contender, environment: Mapping[str, str], directory: Path) -> None:
        self.contender = contender
        self._environment = environment
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._log = directory / "output"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._environment["PORT"])

    async def start(self, body: str) -> float:
        """Start it and send it submission 0 until it acknowledges; return the seconds. Raises ContenderFailed."""
        started = time.perf_counter()
        await self.spawn()
        while not await asyncio.to_thread(is_acknowledged, self.port, self._sign(body)):
            await asyncio.sleep(_PAUSE)
            self.check()
            if time.perf_counter() - started > _START_SECONDS:
                raise ContenderFailed(self._describe("it did not start"))
        return time.perf_counter() - started

    async def spawn(self) -> None:
        """Start it, and do not wait."""
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.contender.command,
                cwd=self._directory,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def check(self) -> None:
        """Raise ContenderFailed if it has ended."""
        if self._process is None or self._process.returncode is not None:
            raise ContenderFailed(self._describe("it ended"))

    def resident_bytes(self) -> int:
        """Return its resident set."""
        self.check()
        assert self._process is not None
        return resident_bytes(self._process.pid)

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _sign(self, body: str) -> bytes:
        return sign(body, 0, self._environment["SLACK_SIGNING_SECRET"])

    def _describe(self, what: str) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{what}: {lines[-1][:200]}" if lines else what


def is_acknowledged(port: int, request: bytes, patience: float = 5) -> bool:
    """Send one request over a connection of its own."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), patience) as connection:
            connection.sendall(request)
            while (answer := read_answer(received, is_over=False)) is None:
                piece = connection.recv(2**16)
                if not piece:
                    answer = read_answer(received, is_over=True)
                    break
                received += piece
    except OSError:
        return False
    return answer is not None and not answer.failure


def environment_of(slack_port: int, cloudflare_port: int, directory: Path) -> dict[str, str]:
    """Return the settings of each contender; each reads those that it knows."""
    slack, cloudflare = FakeSlack(port=slack_port), FakeCloudflare(port=cloudflare_port)
    port = find_free_port()
    return bot_environment(slack, cloudflare, directory / "data", "http", port) | {
        "PORT": str(port),
        "NODE_ENV": "production",
        "R2_CREDENTIAL_LOG_LEVEL": "error",
        "R2_CREDENTIAL_AUDIT_KEY": AUDIT_KEY,
    }


def install_node(directory: Path) -> str:
    """Install the packages of the Node contender as they are locked; return why it cannot take part, if so."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node or npm is not installed"
    for name in ("bolt.mjs", "package.json", "package-lock.json"):
        shutil.copy(HERE / name, directory)
    command = ("npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command
    except subprocess.TimeoutExpired:
        return "npm ci took too long"
    return f"npm ci failed: {done.stderr.strip().splitlines()[0]}" if done.returncode else ""
