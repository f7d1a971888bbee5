"""Opens the ports: Slack's, and the operator's where it is asked for."""

import os
from contextlib import AsyncExitStack

from bot.model.errors import StartRefused
from bot.operations.metrics import MetricsPort
from bot.operations.port import Port
from bot.operations.server import Server
from bot.settings import Settings


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


async def _open(port: Port, host: str, number: int, name: str) -> str:
    try:
        return await port.listen(host, number)
    except OSError as error:
        # asyncio's own text repeats the address; a resolver's errors have numbers below 1, and words of their own
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        message = (
            f"R2_CREDENTIAL_{name}_HOST, R2_CREDENTIAL_{name}_PORT: cannot listen on {host}, port "
            f"{number} ({cause}); set them to an address of this machine and a free port"
        )
        raise StartRefused(message) from None
