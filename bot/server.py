"""The one port that the bot listens on: Slack's requests in HTTP mode, and health checks always."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from aiohttp import web

from bot.slack.http import HttpIngress

_STOP_PATIENCE: Final = timedelta(seconds=1)


class Server:
    """`/slack/events` where there is an ingress, `/healthz` (the process lives), `/readyz` (it can be used)."""

    def __init__(self, ingress: HttpIngress | None, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        app = web.Application()
        if ingress is not None:
            app.router.add_post("/slack/events", ingress.handle)
        app.router.add_get("/healthz", self._tell_health)
        app.router.add_get("/readyz", self._tell_readiness)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_STOP_PATIENCE.total_seconds(),
            auto_decompress=False,  # nobody has been let in yet when a body is read
        )

    async def listen(self, host: str, port: int) -> str:
        """Start, and return `host:port` as it is then; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        address = self._runner.addresses[0]
        return f"{address[0]}:{address[1]}"

    async def stop(self) -> None:
        """Stop listening and let open requests end."""
        await self._runner.cleanup()

    async def _tell_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _tell_readiness(self, _: web.Request) -> web.Response:
        if await self._is_ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready\n")
