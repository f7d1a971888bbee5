"""Opens the ports: Slack's, and the operator's where it is asked for. For `check`, tries whether that is possible."""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from bot.model.errors import StartRefused
from bot.model.finding import Check, Finding, Mark, Part
from bot.operations.gauges import READY
from bot.operations.health import SIGN_OF_LIFE, is_answered
from bot.operations.listener import try_to_bind
from bot.operations.metrics import MetricsPort
from bot.operations.port import Port
from bot.operations.server import Server
from bot.settings import Settings

_FIX: Final = "set them to an address of this machine and a free port"


async def open_ports(
    server: Server, metrics_port: MetricsPort, settings: Settings, stack: AsyncExitStack
) -> tuple[str, str | None]:
    """Return where they listen, the metrics' only if that is asked for; `stack` closes them. Raises StartRefused."""
    stack.push_async_callback(server.stop)
    address = await _open(server, settings.http_host, settings.http_port, "HTTP")
    if settings.metrics_port is None:
        return address, None
    stack.push_async_callback(metrics_port.stop)
    return address, await _open(metrics_port, settings.metrics_host, settings.metrics_port, "METRICS")


def ports_check(settings: Settings) -> Check:
    """Return the check of whether a start could listen; a bot that runs already holds the ports."""

    async def examine() -> Sequence[Finding]:
        found = [await _examine(settings.http_host, settings.http_port, "HTTP", _is_bot)]
        if settings.metrics_port is not None:
            found.append(await _examine(settings.metrics_host, settings.metrics_port, "METRICS", _is_bots_metrics))
        return found

    return Check(part=Part.PORTS, examine=examine)


async def _examine(host: str, number: int, name: str, is_bot: Callable[[str, int], bool]) -> Finding:
    try:
        await try_to_bind(host, number)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await asyncio.to_thread(is_bot, host, number):
            text = f"{name}: a running bot listens on {host}, port {number}; a second one needs another port"
            return Finding(part=Part.PORTS, event="port_in_use_by_bot", text=text)
        return Finding(
            part=Part.PORTS,
            event="port_not_free",
            text=_describe(host, number, error),
            mark=Mark.FAILED,
            setting=_settings_of(name),
            fix=_FIX,
            blocks=True,
            about=name,
        )
    text = f"{name}: {host}, port {number or 'any'} can be listened on"
    return Finding(part=Part.PORTS, event="port_free", text=text)


def _is_bot(host: str, number: int) -> bool:
    return is_answered(host, number, "/healthz", SIGN_OF_LIFE)


def _is_bots_metrics(host: str, number: int) -> bool:
    return is_answered(host, number, "/metrics", READY.name)


async def _open(port: Port, host: str, number: int, name: str) -> str:
    try:
        return await port.listen(host, number)
    except OSError as error:
        message = f"{_settings_of(name)}: {_describe(host, number, error)}; {_FIX}"
        raise StartRefused(message) from None


def _settings_of(name: str) -> str:
    return f"R2_CREDENTIAL_{name}_HOST, R2_CREDENTIAL_{name}_PORT"


def _describe(host: str, number: int, error: OSError) -> str:
    # asyncio's own text repeats the address; a resolver's errors have numbers below 1, and words of their own
    cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
    return f"cannot listen on {host}, port {number} ({cause})"
