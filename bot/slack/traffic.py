"""Logs the bot's requests to Slack: one line each at debug level, and why an answer did not come.

Logs no body and no header, and of a URL only the API method: a response URL and a ticket are secrets.
"""

import re
import time
from typing import Final

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

from bot.metrics import NONE, SLACK_DURATION, SLACK_REQUESTS, Metrics
from bot.model.cause import name_cause
from bot.model.clock_comparison import ClockComparison
from bot.model.request_log import start_request
from bot.model.tally import Tally

_METHOD: Final = re.compile(r"/api/([a-zA-Z]+(?:\.[a-zA-Z]+)+)")
_SCOPES: Final = "x-oauth-scopes"


class SlackTraffic:
    """Watches a session as aiohttp middleware. `granted_scopes`: the bot token's scopes, from Slack's last answer."""

    def __init__(self, comparison: ClockComparison | None = None, metrics: Metrics | None = None) -> None:
        """Take the comparison of Slack's clock with the machine's."""
        self._comparison = comparison or ClockComparison()
        self._metrics = metrics or Metrics()
        self.granted_scopes: frozenset[str] | None = None
        self._silence = Tally("slack_not_heard")

    async def watch(self, request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request, log it and count it."""
        path = describe_address(request.url)
        status, began = NONE, time.monotonic()
        end = start_request("slack_request", method=request.method, path=path)
        try:
            answer = await send(request)
            status = str(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._silence.count(f"{path} {name_cause(error)}")
            raise
        finally:  # also when the caller gave up
            self._count(path.strip("{}"), status, time.monotonic() - began)
        end(answer.status)
        self._comparison.note("Slack", answer.headers.get("Date"))
        if path == "auth.test" and _SCOPES in answer.headers:
            self.granted_scopes = frozenset(each.strip() for each in answer.headers[_SCOPES].split(","))
        return answer

    def _count(self, method: str, status: str, seconds: float) -> None:
        self._metrics.count(SLACK_REQUESTS, method, status)
        self._metrics.observe(SLACK_DURATION, seconds, method)


def describe_address(url: URL) -> str:
    """Return the method of the Web API, or a placeholder for a secret URL."""
    method = _METHOD.fullmatch(url.path)
    if method:
        return method[1]
    return "{socket}" if url.scheme in ("ws", "wss") or "ticket" in url.query else "{response_url}"
