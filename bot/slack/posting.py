"""Brings the final message where it can be read: the chosen channel, its response URL, or a direct message."""

import uuid
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from bot.errors import SealedValueUnreadable, SlackRefused, SlackUnavailable
from bot.sealing import RESPONSE_URL, KeyRing, SealingContext
from bot.secret import Secret
from bot.slack.blocks import Json
from bot.slack.replies import RedactedResult, result_message
from bot.slack.web import SlackWeb
from bot.submission import RESPONSE_URL_LIFETIME, Submission

_NAMESPACE: Final = uuid.UUID("6c7b9dd4-4b43-4e0e-93f1-8d6f2d1c0a57")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5, sock_connect=3)
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)

_OPERATOR_CAN_MEND: Final = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}
)
"""Errors of the bot token itself: another channel would not help, and the message must wait for a new token."""

_POSTED_BEFORE: Final = frozenset({"duplicate_message_not_found", "duplicate_channel_not_found"})
"""Slack knows the `client_msg_id`: an earlier try, whose answer was lost, got through; somebody removed it."""

_WHY_RESPONSE_URL: Final = "Posted this way because the bot itself may not post in this channel."
_WHY_DIRECT: Final = "You get this as a direct message because the bot could not post in <#{}>."

_log = structlog.get_logger()


class Poster:
    """Posts one final message for each submission."""

    def __init__(
        self,
        *,
        web: SlackWeb,
        http: aiohttp.ClientSession,
        key_ring: KeyRing,
        clock: Callable[[], datetime],
        contact: str,
    ) -> None:
        self._web = web
        self._http = http
        self._key_ring = key_ring
        self._clock = clock
        self._contact = contact

    async def post_result(self, submission: Submission) -> None:
        """Post the outcome, wherever that is possible.

        Raises SlackUnavailable when it must be tried again later. When every place refuses for good, that is logged
        and the modal is all there is.
        """
        try:
            await self._post(submission.channel_id, submission)
        except SlackRefused as refusal:
            _log.info("channel_refused", submission=submission.id, slack_error=refusal.slack_error)
            if not await self._post_by_response_url(submission):
                await self._post_directly(submission)

    async def _post(self, place: str, submission: Submission, placement: str = "") -> None:
        client_msg_id = str(uuid.uuid5(_NAMESPACE, submission.id))
        try:
            await self._web.post(place, self._message(submission, placement), client_msg_id)
        except SlackRefused as refusal:
            if refusal.slack_error in _OPERATOR_CAN_MEND:
                _log.error("bot_token_refused", slack_error=refusal.slack_error)
                raise SlackUnavailable from None
            if refusal.slack_error in _POSTED_BEFORE:
                _log.warning("message_posted_before", submission=submission.id)
                return
            raise

    async def _post_directly(self, submission: Submission) -> None:
        try:
            await self._post(submission.user_id, submission, _WHY_DIRECT.format(submission.channel_id))
        except SlackRefused as refusal:
            _log.error("result_not_posted", submission=submission.id, slack_error=refusal.slack_error)

    async def _post_by_response_url(self, submission: Submission) -> bool:
        url = self._response_url(submission)
        if url is None:
            return False
        message = self._message(submission, _WHY_RESPONSE_URL) | {"response_type": "in_channel"}
        return await self._send(url, message)

    def _response_url(self, submission: Submission) -> Secret | None:
        is_alive = self._clock() - submission.accepted_at < RESPONSE_URL_LIFETIME
        if submission.sealed_response_url is None or not is_alive:
            return None
        try:
            return self._key_ring.open(
                submission.sealed_response_url,
                SealingContext(
                    purpose=RESPONSE_URL,
                    team_id=submission.team_id,
                    user_id=submission.user_id,
                    view_id=submission.id,
                    account_id=submission.key.account_id,
                    bucket=submission.key.bucket,
                ),
            )
        except SealedValueUnreadable:
            return None

    async def _send(self, url: Secret, message: Json) -> bool:
        """Say whether Slack took it; an answer that never came counts as taken, or the message could come twice."""
        try:
            async with self._http.post(url.reveal(), json=message, timeout=_TIMEOUT, allow_redirects=False) as answer:
                return answer.status == HTTPStatus.OK
        except _NEVER_SENT:
            return False
        except (aiohttp.ClientError, TimeoutError, ValueError):
            _log.warning("response_url_unanswered")
            return True

    def _message(self, submission: Submission, placement: str) -> Json:
        return result_message(RedactedResult.of(submission), contact=self._contact, placement=placement)
