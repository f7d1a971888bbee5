"""Starts the unchanged bot as a process of its own against the two fakes, through its ordinary settings."""

import asyncio
import itertools
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Final, Literal

import aiohttp

import bot
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.slack import FakeSlack

Transport = Literal["socket", "http"]
Role = Literal["all", "gateway", "worker", "minter"]

_STOP_PATIENCE: Final = timedelta(seconds=10)
_PAUSE: Final = 0.02
_TRIES: Final = 100


def _ports_in_turn() -> Iterator[int]:
    """Yield ports forever, in turn from a random one, so that two processes rarely want the same one at once.

    They lie below those that a kernel gives out (Linux: from 32768, others: from 49152), so that none is given away
    between the check that it is free and the moment when the bot listens.
    """
    lowest, count = 20_000, 12_000
    start = random.SystemRandom().randrange(count)
    for step in itertools.count(start):
        yield lowest + step % count


_PORTS: Final = _ports_in_turn()


def bot_environment(
    slack: FakeSlack, cloudflare: FakeCloudflare, data_dir: Path, transport: Transport, http_port: int
) -> dict[str, str]:
    """Return the settings of a bot that talks to the fakes; of this process's environment it gets PATH alone."""
    config = slack.config
    entrance = (
        {"SLACK_APP_TOKEN": config.app_token or ""}
        if transport == "socket"
        else {"SLACK_SIGNING_SECRET": config.signing_secret}
    )
    return entrance | {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(Path(bot.__file__).parent.parent),
        "SLACK_BOT_TOKEN": config.bot_tokens[0],
        "SLACK_API_URL": slack.api_url,
        "CLOUDFLARE_ACCOUNT_ID": cloudflare.account_id,
        "CLOUDFLARE_API_TOKEN": cloudflare.api_token,
        "CLOUDFLARE_BASE_URL": cloudflare.base_url,
        "R2_CREDENTIAL_ALLOWED_USERGROUPS": config.user_groups[0].id,
        "R2_CREDENTIAL_ALLOW_ENABLE": "true",
        "R2_CREDENTIAL_CONTACT": "#data-platform",
        "R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "8s",  # the fake Cloudflare needs four seconds to know a fresh token
        "R2_CREDENTIAL_DATA_DIR": str(data_dir),
        "R2_CREDENTIAL_HTTP_PORT": str(http_port),
    }


def rotation_environment(cloudflare: FakeCloudflare, grace: timedelta) -> dict[str, str]:
    """Return the settings with which the bot may make tokens, once a policy grants somebody the verb rotate."""
    return {
        "CLOUDFLARE_MINTING_TOKEN": cloudflare.minting_token,
        "R2_CREDENTIAL_ROTATE_GRACE": f"{grace.total_seconds():g}s",
    }


def find_free_port(wanted: int | None = None) -> int:
    """Return a free port on loopback, any or the wanted one; raises OSError when there is none."""
    for port in itertools.islice(_PORTS, _TRIES) if wanted is None else (wanted,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as problem:
                taken = problem
            else:
                return port
    raise taken


class BotProcess:
    """`python -m bot run` in a process of its own, with `environment` and nothing else.

    `module` is what runs in the place of `bot`, with the same arguments.
    """

    def __init__(  # noqa: PLR0913 - what a process is started with, the last two by name
        self,
        environment: Mapping[str, str],
        directory: Path,
        output: IO[bytes] | None = None,
        role: Role = "all",
        *,
        stop_patience: timedelta = _STOP_PATIENCE,
        module: str = "bot",
    ) -> None:
        """Take the working directory (its `.env` would be read), and where stdout and stderr go (here, by default)."""
        self._role = role
        self._module = module
        self._stop_patience = stop_patience
        self._environment = environment
        self._directory = directory
        self._output = output
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            "run",
            "--role",
            self._role,
            cwd=self._directory,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

    async def wait_until_ready(self) -> bool:
        """Ask `/readyz` until it says yes (True) or the process has ended (False)."""
        url = f"http://127.0.0.1:{self._environment['R2_CREDENTIAL_HTTP_PORT']}/readyz"
        async with aiohttp.ClientSession() as http:
            while self._running().returncode is None:
                if await _says_yes(http, url):
                    return True
                await asyncio.sleep(_PAUSE)
        return False

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    async def wait(self) -> int:
        """Return the exit code once the process has ended."""
        return await self._running().wait()

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code; kills what is still there when its patience ends."""
        process = self._running()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_patience.total_seconds()):
                return await process.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """End the process as a crash would, and return the exit code."""
        process = self._running()
        if process.returncode is None:
            process.kill()
        return await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            message = "the bot was not started"
            raise RuntimeError(message)
        return self._process


async def _says_yes(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.ok
    except aiohttp.ClientError:
        return False
