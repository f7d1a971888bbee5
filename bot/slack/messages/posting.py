"""Posts messages where they may be read: in the chosen channel, by its response URL, or as a direct message.

The only module that posts to a channel; it asks `Channels` each time.
"""

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from bot.model.approval import Request, digest_of
from bot.model.catalog import BucketKey, StoredCredential
from bot.model.enabling import MayEnable, MayRotate, nobody_may, nobody_may_rotate
from bot.model.errors import (
    ApprovalChannelUnfit,
    ApprovalUnposted,
    MembershipUnknown,
    PersonUnknown,
    SlackRefused,
    SlackTrouble,
    SlackUnavailable,
)
from bot.model.fleet import Count
from bot.model.memory import Memory
from bot.model.origin import origin_of
from bot.model.predecessor import FindPredecessor, know_nothing
from bot.model.submission import Pending, Posted, Submission, Way
from bot.policy.scheduled import Overdue
from bot.slack.api import SlackWeb
from bot.slack.blocks import Json
from bot.slack.button_values import request_value
from bot.slack.channels import NO_CHANNEL, Channels, Unfit
from bot.slack.messages.approval import RedactedRequest, closed_message, request_message
from bot.slack.messages.fleet_count import fleet_message
from bot.slack.messages.overdue import overdue_notice
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
"""Errors of the app or the whole workspace: another place would not help, so the message waits until they pass."""

_POSTED_BEFORE: Final = frozenset({"duplicate_message_not_found", "duplicate_channel_not_found"})
"""Slack knows the `client_msg_id`: an earlier attempt succeeded, and the message has been deleted since."""

_WHY_RESPONSE_URL: Final = "Posted this way because the bot itself may not post in this channel."
_WHY_DIRECT: Final = "You get this as a direct message because the bot could not post in <#{}>{}."
_MAY_NOT_SEE: Final = "the person who stored it may no longer see it"
_WHY_BOTH: Final = (
    "You get this as a direct message because Slack did not say whether it was posted in <#{}>; it may be there too."
)
_CLOSED: Final = Unfit("The bot may not post in this channel.")
"""The channel may read it, but Slack does not let the bot post there."""
_UNFIT: Final = "channel_unfit"
"""No word of Slack's: the channel may not read what a fleet does, or no longer."""

_log = structlog.get_logger()


class Poster:
    """Posts one final message for each submission, and later notices about a stored credential."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        web: SlackWeb,
        post_by_response_url: Callable[[Pending, Json], Awaitable[bool | None]],
        clock: Callable[[], datetime],
        contact: str,
        may_enable: MayEnable = nobody_may,
        find_predecessor: FindPredecessor = know_nothing,
        may_rotate: MayRotate = nobody_may_rotate,
        channels: Channels,
        sees: Callable[[str, BucketKey], Awaitable[bool]],
    ) -> None:
        """Take `sees`, which returns whether a user may still know of a bucket; `may_...`: see their types."""
        self._web = web
        self._post_by_response_url = post_by_response_url
        self._clock = clock
        self._contact = contact
        self._may_enable = may_enable
        self._find_predecessor = find_predecessor
        self._may_rotate = may_rotate
        self._channels = channels
        self._sees = sees
        self._closed_until = Memory[str, datetime](clock)

    async def post_result(self, pending: Pending) -> Posted:
        """Post the outcome wherever that is possible, and return where that was.

        Raises SlackTrouble when it must be retried later. When every place refuses, that is logged, and only the modal
        shows the outcome. The person who submitted is always informed, even if they may no longer use the bot. What the
        bot did by itself is news to them: it goes only to one who may still see the bucket.
        """
        submission = pending.submission
        channel_id = submission.channel_id
        build = await self._builder(submission)
        unfit = await self._post_where_fit(channel_id, build(), submission.id)
        if unfit is None:
            return Posted(place=channel_id, way=Way.CHANNEL)
        delivered = await self._post_by_url(pending, build) if unfit is _CLOSED else False
        if delivered is True:
            return Posted(place=channel_id, way=Way.RESPONSE_URL)
        why = _why_direct(channel_id, unfit) if delivered is False else _WHY_BOTH.format(channel_id)
        return await self._post_directly(submission, build(placement=why))

    async def post_request(self, pending: Pending) -> str | None:
        """Post the message that asks an approver, with the bot's own voice; return its `ts`.

        Raises ApprovalNotAsked: no other place than the approvers' will do.
        """
        submission = pending.submission
        channel_id = submission.approval_channel or ""
        request = RedactedRequest.of(submission, self._clock())
        message = request_message(request, request_value(submission.id, digest_of(pending)))
        try:
            unfit = await self._channels.find_problem(channel_id)
            if unfit is None:
                return await self._post(channel_id, message, f"{submission.id} approval")
        except SlackTrouble as trouble:
            raise ApprovalUnposted(trouble.retry_after) from None
        except SlackRefused as refusal:
            unfit = Unfit("", refusal.slack_error)
        _log.error("approval_not_asked", channel=channel_id, because=unfit.because or unfit.in_form)
        raise ApprovalChannelUnfit

    async def close_request(self, submission: Submission, request: Request) -> None:
        """Say in that message how it ended, if the channel may still read that; raises SlackTrouble."""
        if request.message_ts is None or await self._channels.find_problem(request.channel_id) is not None:
            return
        message = closed_message(RedactedRequest.of(submission, self._clock()), RedactedResult.of(submission))
        try:
            await self._web.update_message(request.channel_id, request.message_ts, message)
        except SlackRefused as refusal:
            _log.warning("approval_message_not_updated", channel=request.channel_id, slack_error=refusal.slack_error)

    async def post_fleet(self, count: Count) -> str | None:
        """Post the message that counts, once, and return its `ts`; None if somebody has deleted it.

        Raises SlackRefused where the bot itself may not post: the message is edited, and no other way allows that.
        """
        await self._require_fit(count.fleet.channel_id)
        return await self._post(count.fleet.channel_id, fleet_message(count), f"fleet {count.fleet.id}")

    async def update_fleet(self, count: Count) -> None:
        """Replace that message, if the channel may still read it."""
        fleet = count.fleet
        await self._require_fit(fleet.channel_id)
        await self._web.update_message(fleet.channel_id, fleet.message_ts or "", fleet_message(count))

    async def tell_fleet_ended(self, count: Count) -> None:
        """Tell who began it, as a direct message."""
        await self._post(count.fleet.user_id, fleet_message(count), f"fleet {count.fleet.id} ended")

    async def _require_fit(self, channel_id: str) -> None:
        unfit = await self._channels.find_problem(channel_id)
        if unfit is not None:
            raise SlackRefused(_UNFIT)

    async def _post_by_url(self, pending: Pending, build: Callable[..., Json]) -> bool | None:
        """Post where the bot itself may not. A channel that it cannot see was chosen within the last half hour."""
        message = build(placement=_WHY_RESPONSE_URL) | {"response_type": "in_channel"}
        return await self._post_by_response_url(pending, message)

    async def _post_where_fit(self, channel_id: str, message: Json, name: str) -> Unfit | None:
        """Post to a channel, or return why that is not possible. Raises SlackTrouble when Slack does not answer."""
        unfit = await self._channels.find_problem(channel_id)
        if unfit is not None:
            if unfit is not NO_CHANNEL:  # a chosen direct message needs no reason
                _log.warning("channel_unfit", channel=channel_id, because=unfit.because)
            return unfit
        try:
            await self._post(channel_id, message, name)
        except SlackRefused as refusal:
            _log.info("channel_refused", channel=channel_id, slack_error=refusal.slack_error)
            return _CLOSED
        return None

    async def remind_of_expiry(self, credential: StoredCredential, due_at: datetime) -> None:
        """Remind the channel of the last result, else who stored it. Raises SlackTrouble, MembershipUnknown."""
        name = f"{credential.submission_id} expires {due_at.isoformat()}"
        may_rotate = await self._may_rotate(credential.key, credential.channel_id)
        build = partial(expiry_reminder, credential, self._clock(), may_rotate=may_rotate)
        await self._post_notice(credential, build, name)

    async def announce_overdue(self, overdue: Overdue, due_at: datetime) -> None:
        """Tell the same people that a token was not replaced in time. Raises SlackTrouble, MembershipUnknown."""
        name = f"{overdue.credential.submission_id} overdue {due_at.isoformat()}"
        build = partial(overdue_notice, overdue, self._clock(), contact=self._contact)
        await self._post_notice(overdue.credential, lambda why: build(placement=why), name)

    async def announce_broken(self, credential: StoredCredential) -> None:
        """Notify the channel of the last result, else who stored it. Raises SlackTrouble, MembershipUnknown."""
        broken_at = credential.broken_at.isoformat() if credential.broken_at else ""
        name = f"{credential.submission_id} broken {broken_at}"
        may_rotate = await self._may_rotate(credential.key, credential.channel_id)
        await self._post_notice(credential, partial(broken_notice, credential, may_rotate=may_rotate), name)

    async def _post_notice(self, credential: StoredCredential, build: Callable[[str], Json], name: str) -> None:
        channel_id = credential.channel_id
        unfit = await self._post_where_fit(channel_id, build(""), name)
        if unfit is None:
            return
        if not await self._sees(credential.stored_by, credential.key):  # it is news, not their own result
            _log.warning("notice_not_posted", bucket=credential.bucket, because=_MAY_NOT_SEE)
            return
        try:
            await self._post(credential.stored_by, build(_why_direct(channel_id, unfit)), name)
        except SlackRefused as refusal:
            _log.warning("notice_refused", bucket=credential.bucket, slack_error=refusal.slack_error)

    async def _post(self, place: str, message: Json, name: str) -> str | None:
        """Post a message to a channel or a user, only once for each `name`; return its `ts`."""
        client_msg_id = str(uuid.uuid5(_NAMESPACE, name))
        closed_until = self._closed_until.get(place)
        if closed_until is not None:  # asking anyway would cost each waiting message its own 429
            raise SlackUnavailable(retry_after=closed_until - self._clock())
        try:
            return await self._web.post(place, message, client_msg_id)
        except SlackTrouble as trouble:
            if trouble.retry_after is not None:
                self._closed_until.keep(place, self._clock() + trouble.retry_after, trouble.retry_after)
            raise
        except SlackRefused as refusal:
            if refusal.slack_error in _WILL_PASS:
                _log.error("posting_refused", channel=place, slack_error=refusal.slack_error)
                raise SlackUnavailable from None
            if refusal.slack_error in _POSTED_BEFORE:
                _log.warning("message_posted_before", channel=place)
                return None
            raise

    async def _post_directly(self, submission: Submission, message: Json) -> Posted:
        if origin_of(submission.id).is_the_bot and not await self._may_be_told(submission):
            _log.error("result_not_posted", because=_MAY_NOT_SEE)
            return Posted(place=None, way=Way.NONE)
        try:
            await self._post(submission.user_id, message, submission.id)
        except SlackRefused as refusal:
            _log.error("result_not_posted", slack_error=refusal.slack_error)
            return Posted(place=None, way=Way.NONE)
        return Posted(place=submission.user_id, way=Way.DIRECT_MESSAGE)

    async def _may_be_told(self, submission: Submission) -> bool:
        """Return whether the person may still know of the bucket; raises SlackTrouble where Slack does not say."""
        try:
            return await self._sees(submission.user_id, submission.key)
        except (MembershipUnknown, PersonUnknown):
            raise SlackUnavailable from None

    async def _builder(self, submission: Submission) -> Callable[..., Json]:
        """Return what builds the message for a `placement`; raises DatabaseTrouble."""
        may_enable = self._may_enable(submission.key, submission.channel_id)
        result = RedactedResult.of(submission, await self._find_predecessor(submission))
        return partial(result_message, result, contact=self._contact, may_enable=may_enable)


def _why_direct(channel_id: str, unfit: Unfit) -> str:
    """Return why the message is not in the channel; "" where no channel was chosen."""
    if unfit is NO_CHANNEL:
        return ""
    return _WHY_DIRECT.format(channel_id, f": {unfit.because}" if unfit.because else "")
