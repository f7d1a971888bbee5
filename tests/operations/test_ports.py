"""What `check` finds of the ports: free, held by a running bot, or not to be had, in the words of a start."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.metrics import Metrics
from bot.model.errors import StartRefused
from bot.model.finding import Finding, Mark, Part
from bot.operations.metrics import MetricsPort
from bot.operations.ports import open_ports, ports_check
from bot.operations.server import Server
from bot.settings import Settings
from tests.storage.test_opening import LoadSettings, load

__all__ = ["load"]  # a fixture


def settings_of(load: LoadSettings, **changes: object) -> Settings:
    """Return settings with these hosts and ports; by default, free ones."""
    ports = {"HTTP_PORT": 0, "METRICS_PORT": 0} | changes
    return load({f"R2_CREDENTIAL_{name}": str(value) for name, value in ports.items()}).settings


async def examine(settings: Settings) -> Sequence[Finding]:
    """Return what is found."""
    check = ports_check(settings)
    assert check.part is Part.PORTS
    return await check.examine()


@pytest.fixture
def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as entrance:
        number: int = entrance.getsockname()[1]
    return number


async def refusal(settings: Settings) -> str:
    """Return the sentence with which a start is refused."""
    async with AsyncExitStack() as stack:
        with pytest.raises(StartRefused) as refused:
            await open_ports(Server(), MetricsPort(Metrics()), settings, stack)
    return str(refused.value)


async def test_free_ports_stay_free(load: LoadSettings, free_port: int) -> None:
    """They are bound for a moment; a metrics port that is off is not examined."""
    found = await examine(settings_of(load, HTTP_PORT=free_port))
    assert [(each.event, each.mark) for each in found] == [("port_free", Mark.OK)] * 2
    assert str(free_port) in found[0].text
    assert len(await examine(settings_of(load, METRICS_PORT="off"))) == 1
    with closing(socket.create_server(("127.0.0.1", free_port))):
        pass


@pytest_asyncio.fixture
async def other_program() -> AsyncIterator[int]:
    """Start a program that answers everything with 200, and return its port."""
    app = web.Application()

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text="<html>not a bot</html>")

    app.router.add_get("/{path:.*}", handle)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


@pytest.mark.parametrize("name", ["HTTP", "METRICS"])
async def test_a_port_of_another_program_is_a_cross(load: LoadSettings, other_program: int, name: str) -> None:
    """In the words of the start."""
    settings = settings_of(load, **{f"{name}_PORT": other_program})
    [found] = [each for each in await examine(settings) if each.mark is not Mark.OK]
    assert (found.event, found.mark, found.blocks) == ("port_not_free", Mark.FAILED, True)
    assert await refusal(settings) == f"{found.setting}: {found.text}; {found.fix}"


@pytest.mark.parametrize("name", ["HTTP", "METRICS"])
async def test_a_host_that_is_none_is_a_cross(load: LoadSettings, name: str) -> None:
    """An address of another machine, for instance."""
    settings = settings_of(load, **{f"{name}_HOST": "192.0.2.1"})
    [found] = [each for each in await examine(settings) if each.mark is not Mark.OK]
    assert found.mark is Mark.FAILED
    assert await refusal(settings) == f"{found.setting}: {found.text}; {found.fix}"


async def test_the_ports_of_a_running_bot_are_well(load: LoadSettings) -> None:
    """The check is made beside it."""
    async with AsyncExitStack() as stack:
        address, metrics = await open_ports(Server(), MetricsPort(Metrics()), settings_of(load), stack)
        assert metrics is not None
        http_port, metrics_port = (each.rpartition(":")[2] for each in (address, metrics))
        found = await examine(settings_of(load, HTTP_PORT=http_port, METRICS_PORT=metrics_port))
    assert [(each.event, each.mark) for each in found] == [("port_in_use_by_bot", Mark.OK)] * 2
