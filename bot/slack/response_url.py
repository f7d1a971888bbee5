"""Posts by a response URL (https://docs.slack.dev/interactivity/handling-user-interaction), which is itself a secret.

Slack takes five posts to each, within 30 minutes.
"""

from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from bot.model.secret import Secret
from bot.slack.blocks import Json

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5, sock_connect=3)
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)

_log = structlog.get_logger()


async def post_by_response_url(http: aiohttp.ClientSession, url: Secret, message: Json) -> bool | None:
    """Say whether Slack took it, or None for an answer that never came."""
    try:
        async with http.post(url.reveal(), json=message, timeout=_TIMEOUT, allow_redirects=False) as answer:
            return answer.status == HTTPStatus.OK
    except _NEVER_SENT:
        return False
    except (aiohttp.ClientError, TimeoutError, ValueError):
        _log.warning("response_url_unanswered")
        return None
