"""Posts to a response URL (https://docs.slack.dev/interactivity/handling-user-interaction), which is itself a secret.

Slack accepts five posts to each, within 30 minutes. The bot posts only to Slack, whatever a payload or a row says.
"""

import re
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from yarl import URL

from bot.model.errors import SealedValueUnreadable
from bot.model.secret import Secret
from bot.model.submission import RESPONSE_URL_LIFETIME, Pending
from bot.sealing.hpke import RESPONSE_URL, KeyRing, SealingContext
from bot.slack.blocks import Json
from bot.slack.session import Redirected

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5, sock_connect=3)
_HTTPS: Final = 443
_SLACK: Final = re.compile(r"([a-z0-9-]+\.)*slack(-gov)?\.com")
_NOT_TAKEN: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    Redirected,
)

_log = structlog.get_logger()


class SlackPost:
    """Posts to a response URL if it is Slack's, or on the host of SLACK_API_URL.

    Anyone who can write to the database could seal another URL with the public key, to have the bot post inside its
    network.
    """

    def __init__(self, http: aiohttp.ClientSession, slack_api_url: str) -> None:
        self._http = http
        self._api = URL(slack_api_url)

    async def post(self, unverified_url: Secret, message: Json) -> bool | None:
        """Return whether Slack accepted it, or None if no answer came. Posts nothing to a URL that is not Slack's."""
        url = _slacks_url(unverified_url, self._api)
        if url is None:
            _log.error("response_url_is_not_slacks")
            return False
        try:
            async with self._http.post(url, json=message, timeout=_TIMEOUT) as answer:
                if answer.status != HTTPStatus.OK:
                    _log.warning("response_url_refused", status=answer.status)
                return answer.status == HTTPStatus.OK
        except _NOT_TAKEN as failure:
            _log.warning("response_url_not_reached", cause=type(failure).__name__)
            return False
        except (aiohttp.ClientError, TimeoutError, ValueError):
            _log.warning("response_url_unanswered")
            return None


def _slacks_url(unverified: Secret, api: URL) -> URL | None:
    """Return the parsed URL to use: parsed a second time, it could name another host."""
    try:
        url = URL(unverified.reveal())
        is_its_api = url.origin() == api.origin()
    except ValueError:  # no URL, or one without a host
        return None
    is_slacks = url.scheme == "https" and url.port == _HTTPS and _SLACK.fullmatch(url.raw_host or "") is not None
    is_plain = url.raw_user is None and url.raw_password is None
    return url if is_plain and (is_slacks or is_its_api) else None


class ResponseUrls:
    """The sealed response URLs of submissions; each is opened here, immediately before its use."""

    def __init__(self, post: SlackPost, key_ring: KeyRing, clock: Callable[[], datetime]) -> None:
        self._post = post
        self._key_ring = key_ring
        self._clock = clock

    async def post(self, pending: Pending, message: Json) -> bool | None:
        """Post to the URL of the result's channel; return whether Slack accepted it, or None if no answer came."""
        url = self._open(pending)
        return False if url is None else await self._post.post(url, message)

    def _open(self, pending: Pending) -> Secret | None:
        sealed = pending.sealed.response_url
        is_alive = self._clock() - pending.submission.accepted_at < RESPONSE_URL_LIFETIME
        if sealed is None or not is_alive:
            return None
        try:
            return self._key_ring.open(sealed, SealingContext.of(pending.submission, RESPONSE_URL))
        except SealedValueUnreadable:
            _log.error("response_url_unreadable")
            return None
