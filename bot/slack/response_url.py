"""Posts by a response URL (https://docs.slack.dev/interactivity/handling-user-interaction), which is itself a secret.

Slack takes five posts to each, within 30 minutes.
"""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from bot.model.errors import SealedValueUnreadable
from bot.model.secret import Secret
from bot.model.submission import RESPONSE_URL_LIFETIME, Pending
from bot.sealing.hpke import RESPONSE_URL, KeyRing, SealingContext
from bot.slack.blocks import Json
from bot.slack.session import Redirected

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5, sock_connect=3)
_NOT_TAKEN: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL, Redirected)

_log = structlog.get_logger()


async def post_by_response_url(http: aiohttp.ClientSession, url: Secret, message: Json) -> bool | None:
    """Say whether Slack took it, or None for an answer that never came."""
    try:
        async with http.post(url.reveal(), json=message, timeout=_TIMEOUT) as answer:
            return answer.status == HTTPStatus.OK
    except _NOT_TAKEN:
        return False
    except (aiohttp.ClientError, TimeoutError, ValueError):
        _log.warning("response_url_unanswered")
        return None


class ResponseUrls:
    """The response URLs of submissions, which are kept sealed: opened here, and only to be used at once."""

    def __init__(self, http: aiohttp.ClientSession, key_ring: KeyRing, clock: Callable[[], datetime]) -> None:
        self._http = http
        self._key_ring = key_ring
        self._clock = clock

    async def post(self, pending: Pending, message: Json) -> bool | None:
        """Post by the URL of the result's channel; say whether Slack took it, or None when Slack did not tell."""
        url = self._open(pending)
        return False if url is None else await post_by_response_url(self._http, url, message)

    def _open(self, pending: Pending) -> Secret | None:
        submission, sealed = pending.submission, pending.sealed.response_url
        is_alive = self._clock() - submission.accepted_at < RESPONSE_URL_LIFETIME
        if sealed is None or not is_alive:
            return None
        context = SealingContext(
            purpose=RESPONSE_URL,
            team_id=submission.team_id,
            user_id=submission.user_id,
            view_id=submission.id,
            account_id=submission.key.account_id,
            bucket=submission.key.bucket,
        )
        try:
            return self._key_ring.open(sealed, context)
        except SealedValueUnreadable:
            return None
