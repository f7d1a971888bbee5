"""Brings the final message where it can be read: the chosen channel, its response URL, or a direct message."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from bot.model.catalog import StoredCredential
from bot.model.errors import SlackRefused, SlackUnavailable
from bot.model.memory import Memory
from bot.model.submission import Pending, Posted, Submission, Way
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.messages.redacted import RedactedResult
from bot.slack.messages.render import broken_notice, expiry_reminder, result_message

_NAMESPACE: Final = uuid.UUID("6c7b9dd4-4b43-4e0e-93f1-8d6f2d1c0a57")

_WILL_PASS: Final = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "missing_scope",
        "not_allowed_token_type",
        "access_denied",
        "accesslimited",
        "ekm_access_denied",
        "org_login_required",
        "team_added_to_org",
        "team_access_not_granted",
        "message_limit_exceeded",
        "rate_limited",
    }
)
"""Errors of the app or the whole workspace: another place would not help, and the message must wait until they pass."""

_POSTED_BEFORE: Final = frozenset({"duplicate_message_not_found", "duplicate_channel_not_found"})
"""Slack knows the `client_msg_id`: an earlier try got through, and somebody removed it since."""

_WHY_RESPONSE_URL: Final = "Posted this way because the bot itself may not post in this channel."
_WHY_DIRECT: Final = "You get this as a direct message because the bot could not post in <#{}>."
_WHY_BOTH: Final = (
    "You get this as a direct message because Slack did not tell whether it was posted in <#{}>; it may be there too."
)

_log = structlog.get_logger()


class Poster:
    """Posts one final message for each submission, and what is to be said of a stored credential later."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        web: SlackWeb,
        post_by_response_url: Callable[[Pending, Json], Awaitable[bool | None]],
        clock: Callable[[], datetime],
        contact: str,
        may_enable: bool = False,
        allows_channel: Callable[[str], bool],
    ) -> None:
        self._web = web
        self._post_by_response_url = post_by_response_url
        self._clock = clock
        self._contact = contact
        self._may_enable = may_enable
        self._allows_channel = allows_channel
        self._closed_until = Memory[str, datetime](clock)

    async def post_result(self, pending: Pending) -> Posted:
        """Post the outcome, wherever that is possible, and say where that was.

        Raises SlackUnavailable when it must be tried again later. When every place refuses for good, that is logged
        and the modal is all there is. A channel that is not allowed any more reads nothing.
        """
        submission = pending.submission
        if not self._allows_channel(submission.channel_id):
            return await self._post_directly(submission, _WHY_DIRECT)
        try:
            await self._post(submission.channel_id, self._message(submission), submission.id)
        except SlackRefused as refusal:
            _log.info("channel_refused", submission=submission.id, slack_error=refusal.slack_error)
            return await self._post_otherwise(pending)
        return Posted(place=submission.channel_id, way=Way.CHANNEL)

    async def _post_otherwise(self, pending: Pending) -> Posted:
        submission = pending.submission
        message = self._message(submission, _WHY_RESPONSE_URL) | {"response_type": "in_channel"}
        delivered = await self._post_by_response_url(pending, message)
        if delivered is True:
            return Posted(place=submission.channel_id, way=Way.RESPONSE_URL)
        return await self._post_directly(submission, _WHY_DIRECT if delivered is False else _WHY_BOTH)

    async def remind_of_expiry(self, credential: StoredCredential, due_at: datetime) -> None:
        """Remind the channel of the last result, else who stored it. Raises SlackUnavailable."""
        name = f"{credential.submission_id} expires {due_at.isoformat()}"
        await self._post_notice(credential, partial(expiry_reminder, credential, self._clock()), name)

    async def announce_broken(self, credential: StoredCredential) -> None:
        """Tell the channel of the last result, else who stored it. Raises SlackUnavailable."""
        broken_at = credential.broken_at.isoformat() if credential.broken_at else ""
        name = f"{credential.submission_id} broken {broken_at}"
        await self._post_notice(credential, partial(broken_notice, credential), name)

    async def _post_notice(self, credential: StoredCredential, build: Callable[[str], Json], name: str) -> None:
        why_direct = _WHY_DIRECT.format(credential.channel_id)
        places = [(credential.channel_id, ""), (credential.stored_by, why_direct)]
        for place, placement in places if await self._may_still_read(credential.channel_id) else places[1:]:
            try:
                await self._post(place, build(placement), name)
            except SlackRefused as refusal:
                _log.warning("notice_refused", bucket=credential.bucket, slack_error=refusal.slack_error)
            else:
                return

    async def _may_still_read(self, channel_id: str) -> bool:
        """Whether a channel may read what is said weeks after the result: much may have changed since."""
        if not self._allows_channel(channel_id):
            return False
        try:
            return not (await self._web.channel(channel_id)).is_shared_outside
        except SlackRefused:  # it cannot be looked at: posting tells whether there is a way
            return True

    async def _post(self, place: str, message: Json, name: str) -> None:
        """Post a message to a channel or a user, once for each `name`."""
        client_msg_id = str(uuid.uuid5(_NAMESPACE, name))
        closed_until = self._closed_until.get(place)
        if closed_until is not None:  # asking all the same would cost every message that waits a 429 of its own
            raise SlackUnavailable(retry_after=closed_until - self._clock())
        try:
            await self._web.post(place, message, client_msg_id)
        except SlackUnavailable as unavailable:
            if unavailable.retry_after is not None:
                self._closed_until.keep(place, self._clock() + unavailable.retry_after, unavailable.retry_after)
            raise
        except SlackRefused as refusal:
            if refusal.slack_error in _WILL_PASS:
                _log.error("posting_refused", slack_error=refusal.slack_error)
                raise SlackUnavailable from None
            if refusal.slack_error in _POSTED_BEFORE:
                _log.warning("message_posted_before", name=name)
                return
            raise

    async def _post_directly(self, submission: Submission, why: str) -> Posted:
        try:
            message = self._message(submission, why.format(submission.channel_id))
            await self._post(submission.user_id, message, submission.id)
        except SlackRefused as refusal:
            _log.error("result_not_posted", submission=submission.id, slack_error=refusal.slack_error)
            return Posted(place=None, way=Way.NONE)
        return Posted(place=submission.user_id, way=Way.DIRECT_MESSAGE)

    def _message(self, submission: Submission, placement: str = "") -> Json:
        return result_message(
            RedactedResult.of(submission), contact=self._contact, may_enable=self._may_enable, placement=placement
        )
