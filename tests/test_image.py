"""The image: what its health check asks, and what its Dockerfile repeats from elsewhere."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

import bot
from bot.operations.server import Server
from bot.sandbox.process import find_free_port

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CHECK = ROOT / "deploy" / "healthcheck"
BASH = "/bin/bash"
NOT_FOUND = 127
"""Bash's exit code where a program is missing."""
COMMAND = Path(sys.executable).parent
"""Where `r2-credential-bot` is, which the check runs when it cannot decide by itself."""


@pytest_asyncio.fixture
async def port() -> AsyncIterator[str]:
    """Start a bot's server, and return where it listens."""
    server = Server()
    address = await server.listen("127.0.0.1", 0)
    yield address.rpartition(":")[2]
    await server.stop()


async def check(directory: Path, path: Path | str = "", **environment: str) -> tuple[int | None, str]:
    """Run the check as the image does, by default where no program is found; return its exit code and errors."""
    process = await asyncio.create_subprocess_exec(
        BASH, CHECK, cwd=directory, env={"PATH": str(path), **environment}, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104 - the image's
async def test_a_bot_that_lives_is_healthy(port: str, host: str, tmp_path: Path) -> None:
    """It costs no start of Python: no other program can be found."""
    assert await check(tmp_path, R2_CREDENTIAL_HTTP_HOST=host, R2_CREDENTIAL_HTTP_PORT=port) == (0, "")


async def test_a_bot_that_is_gone_is_unhealthy(tmp_path: Path) -> None:
    """Whatever else the environment says."""
    port = str(find_free_port())
    said = f"no healthy bot answers on 127.0.0.1, port {port}\n"
    assert await check(tmp_path, R2_CREDENTIAL_HTTP_PORT=port, status="200") == (1, said)


async def test_another_answer_is_unhealthy(tmp_path: Path) -> None:
    """For example of a proxy that took the port."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site.name.rpartition(":")[2]
    exit_code, _ = await check(tmp_path, R2_CREDENTIAL_HTTP_PORT=port)
    await runner.cleanup()
    assert exit_code == 1


@pytest.mark.parametrize(
    ("environment", "env_file"),
    [
        pytest.param({"R2_CREDENTIAL_HTTP_PORT_FILE": "port"}, "", id="the port in a file"),
        pytest.param(
            {"R2_CREDENTIAL_HTTP_HOST_FILE": "host", "R2_CREDENTIAL_HTTP_PORT": "{port}"}, "", id="the host in a file"
        ),
        pytest.param({}, "R2_CREDENTIAL_HTTP_PORT={port}", id="settings in .env"),
        pytest.param({"R2_CREDENTIAL_HTTP_PORT": '"{port}"'}, "", id="a quoted port"),
        pytest.param(
            {"R2_CREDENTIAL_HTTP_HOST": "localhost", "R2_CREDENTIAL_HTTP_PORT": "{port}"}, "", id="another host"
        ),
    ],
)
async def test_what_the_environment_does_not_say_is_asked_of_the_bot(
    environment: dict[str, str], env_file: str, port: str, tmp_path: Path
) -> None:
    """`r2-credential-bot health` reads the settings, and its answer counts."""
    (tmp_path / "port").write_text(port)
    (tmp_path / "host").write_text("127.0.0.1")
    if env_file:
        (tmp_path / ".env").write_text(env_file.format(port=port))
    settings = {name: value.format(port=port) for name, value in environment.items()}
    assert await check(tmp_path, COMMAND, **settings) == (0, "")
    exit_code, errors = await check(tmp_path, **settings)
    assert (exit_code, "r2-credential-bot" in errors) == (NOT_FOUND, True)


def test_the_image_checks_with_this_script() -> None:
    """Every second at first, so that the container is healthy as soon as the bot lives."""
    [line] = [line for line in DOCKERFILE.splitlines() if line.startswith("HEALTHCHECK")]
    options, _, command = line.partition(" CMD ")
    assert json.loads(command) == ["bash", "/opt/bot/bin/healthcheck"]
    assert "COPY deploy/healthcheck /opt/bot/bin/\n" in DOCKERFILE
    assert "--start-interval=1s" in options
    assert CHECK.read_text().startswith(f"#!{BASH}\n")
    assert os.access(CHECK, os.X_OK)


def test_both_stages_have_the_same_base() -> None:
    """It is pinned: otherwise the same commit gives another image tomorrow. The environment moves with it."""
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2


def test_the_label_names_this_version() -> None:
    """Scanners and inventories read it."""
    assert f'org.opencontainers.image.version="{bot.__version__}"' in DOCKERFILE
