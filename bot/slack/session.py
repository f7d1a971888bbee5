"""HTTP sessions for Slack: they follow no redirect, keep no cookie and limit the size of an answer.

Slack redirects no call, needs no cookie and answers uncompressed. A peer that does otherwise is not Slack.
"""

from datetime import timedelta
from functools import partial
from typing import Any, Final

import aiohttp
import structlog
from aiohttp.client_middlewares import ClientHandlerType
from slack_sdk.web.async_client import AsyncWebClient
from yarl import URL

from bot.metrics import SLACK_REFUSALS, Metrics
from bot.network import DIRECT, Network
from bot.slack.traffic import SlackTraffic

LARGEST_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""A user group of 100,000 members needs 1.3 MB."""

NO_PROXY_OF_ITS_OWN: Final = "http://none.invalid"
"""For the SDK's constructors, which read the proxy from the environment unless one is given."""

_NO_ENCODING: Final = frozenset({"", "identity"})

_log = structlog.get_logger()


class AnswerRefused(aiohttp.ClientError):
    """The answer is not Slack's and was discarded. The exception quotes nothing of it."""


class Redirected(AnswerRefused):
    """The answer is a redirect, which was not followed; Slack has done nothing."""


def open_session(
    timeout: timedelta,
    network: Network = DIRECT,
    traffic: SlackTraffic | None = None,
    *,
    keeps_connections: bool = True,
) -> aiohttp.ClientSession:
    """Return a session for calls, response URLs and WebSockets, all of which raise AnswerRefused; close it.

    The proxy of a request is chosen here, by its host, whatever the caller sets. A kept connection saves a handshake,
    but the peer may close it just as it is used again: calls that must not be repeated use a session that keeps none.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=network.tls_context(), force_close=not keeps_connections),
        timeout=aiohttp.ClientTimeout(total=timeout.total_seconds()),
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),  # a cookie of one request would be sent with all others
        auto_decompress=False,  # 1 KB of gzip can expand to 1 GB
        response_class=_BoundedResponse,
        middlewares=((traffic or SlackTraffic()).watch, partial(_choose_proxy, network), _require_plain_answer),
    )


class SlackClient(AsyncWebClient):
    """Slack's Web client, which uses only the given session.

    If that is closed or missing, the SDK would open its own session, which follows every redirect.
    """

    def __init__(self, *, metrics: Metrics | None = None, **arguments: Any) -> None:  # noqa: ANN401 - those of the SDK
        """Take the SDK's arguments. Without a proxy the SDK would use the environment's, and log its password."""
        self._metrics = metrics or Metrics()
        super().__init__(**arguments, proxy=NO_PROXY_OF_ITS_OWN)
        self.proxy = None

    async def _request(self, *, http_verb: str, api_url: str, req_args: dict[str, Any]) -> dict[str, Any]:
        if self.session is None or self.session.closed:
            message = "there is no session"
            raise aiohttp.ClientConnectionError(message)
        answer = await super()._request(http_verb=http_verb, api_url=api_url, req_args=req_args)
        data = answer.get("data")
        if isinstance(data, dict) and data.get("ok") is False:
            self._metrics.count(SLACK_REFUSALS, str(data.get("error")))
        return answer


async def _choose_proxy(
    network: Network, request: aiohttp.ClientRequest, send: ClientHandlerType
) -> aiohttp.ClientResponse:
    proxy = network.proxy_for(request.url.scheme, request.url.raw_host or "", request.url.port)
    request.update_proxy(URL(proxy.address) if proxy else None, None, proxy.headers() if proxy else None)
    return await send(request)


async def _require_plain_answer(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
    """Refuse an answer by its headers, before aiohttp follows a redirect or reads a compressed body."""
    answer = await send(request)
    host, status = request.url.host, answer.status
    if 300 <= status < 400:  # noqa: PLR2004 - all of RFC 9110, 15.4
        answer.close()
        check = "SLACK_API_URL, and the proxy if there is one: Slack redirects no call, and the bot follows no redirect"
        _log.error("slack_redirected", host=host, status=status, check=check)
        raise Redirected
    encodings = {
        each.strip().lower() for value in answer.headers.getall("Content-Encoding", ()) for each in value.split(",")
    }
    if encodings - _NO_ENCODING:
        answer.close()
        check = "what is between the bot and Slack: the bot asks for uncompressed answers"
        _log.error("slack_answer_encoded", host=host, status=status, check=check)
        raise AnswerRefused
    return answer


class _BoundedResponse(aiohttp.ClientResponse):
    """An answer of limited size; every way of reading it goes through `read`."""

    async def read(self) -> bytes:
        """Read the body once; raises AnswerRefused if it is larger than any answer of Slack's."""
        if self._body is None:
            self._body = await self._read_at_most(LARGEST_ANSWER_BYTES)
        return await super().read()

    async def _read_at_most(self, most: int) -> bytes:
        received = bytearray()
        async for part in self.content.iter_any():
            received += part
            if len(received) > most:
                self.close()
                check = "what is between the bot and Slack: no answer of Slack's is that large"
                _log.error("slack_answer_too_large", host=self.host, status=self.status, check=check)
                raise AnswerRefused
        return bytes(received)

    def get_encoding(self) -> str:
        """Return the encoding of JSON: the answer could name one that takes minutes to decode, such as punycode."""
        return "utf-8"
