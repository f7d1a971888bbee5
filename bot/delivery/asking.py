"""Asks for an approval, once for each submission, and says in the same message how it ended.

Only one message appears: each attempt has the same `client_msg_id`, and an unrecorded post is kept in memory.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from bot.model.approval import Authenticity, Decision, Request
from bot.model.errors import DecisionForged, RecordDamaged
from bot.model.memory import Memory
from bot.model.submission import Pending, Submission
from bot.storage.approvals import Approvals

_KEPT_FOR: Final = timedelta(days=1)
"""Longer than any submission may wait."""

_log = structlog.get_logger()


class Asker(Protocol):
    """Posts the approver's message, and changes it."""

    async def post_request(self, pending: Pending) -> str | None:
        """Post it to the submission's `approval_channel`, and return its `ts`, if Slack says it.

        Raises ApprovalNotAsked if it must be tried again.
        """

    async def close_request(self, submission: Submission, request: Request) -> None:
        """Say how an ended submission ended, without buttons; raises SlackTrouble if it must be tried again."""


class Asking:
    """The approver's message of each submission, and the decision on it."""

    def __init__(
        self, approvals: Approvals, asker: Asker, authenticity: Authenticity, clock: Callable[[], datetime]
    ) -> None:
        self._approvals = approvals
        self._asker = asker
        self._authenticity = authenticity
        self._clock = clock
        self._unrecorded = Memory[str, Request](clock)

    async def find_decision(self, submission: Submission) -> Decision | None:
        """Return the decision, if there is one. Raises DecisionForged if the bot did not make it."""
        try:
            decision = await self._approvals.find_decision(submission.id)
        except RecordDamaged:
            raise DecisionForged from None
        if decision is not None and not decision.is_authentic(self._authenticity):
            raise DecisionForged
        return decision

    async def ask(self, pending: Pending) -> None:
        """Post the message unless it is posted. If recording that fails, only the recording is repeated."""
        submission = pending.submission
        if await self._find_request(submission) is not None:
            return
        request = self._unrecorded.get(submission.id) or await self._post(pending)
        self._unrecorded.keep(submission.id, request, _KEPT_FOR)
        await self._approvals.note_request(request)
        _log.info("approval_asked", bucket=submission.key.bucket, channel=request.channel_id)

    async def close(self, submission: Submission) -> None:
        """Say in the message how the submission ended, if there is one. Raises SlackTrouble."""
        if submission.approval_channel is None:
            return
        request = await self._find_request(submission) or self._unrecorded.get(submission.id)
        if request is not None:
            await self._asker.close_request(submission, request)

    async def _post(self, pending: Pending) -> Request:
        submission = pending.submission
        message_ts = await self._asker.post_request(pending)
        request = Request(
            submission_id=submission.id,
            channel_id=submission.approval_channel or "",
            message_ts=message_ts,
            asked_at=self._clock(),
        )
        return request.signed_by(self._authenticity)

    async def _find_request(self, submission: Submission) -> Request | None:
        """Return what is recorded; a damaged or forged record counts as none: it stops neither bucket nor result."""
        try:
            request = await self._approvals.find_request(submission.id)
        except RecordDamaged as damage:
            _log.error("approval_request_damaged", row=damage.row, column=damage.column)
            return None
        if request is not None and not request.is_authentic(self._authenticity):
            _log.error("approval_request_damaged", row=submission.id, column="signature")
            return None
        return request
