"""The checks before a write: asks Cloudflare about the pasted token and its catalog. Writes nothing."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from bot.cloudflare.answers import TokenVerification
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minting_errors import as_minted
from bot.delivery.endings import end_unwritten
from bot.delivery.judge import (
    NOT_OFFERED,
    REJECTED,
    Answers,
    is_bare,
    is_from_elsewhere,
    is_no,
    is_rejected,
    judge,
)
from bot.delivery.permit import find_rule
from bot.delivery.retry import pause_for_fresh_token, wait
from bot.delivery.step import MaySend, Step
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus
from bot.model.errors import BotError, TokenLivesTooLong
from bot.model.move import Changes, Move
from bot.model.secret import Secret
from bot.model.submission import Findings, Pending, State, Submission, Task, TokenKind

TEST_PATIENCE: Final = timedelta(seconds=2)
"""How long the test of the credential already in the slot may take: it is only shown, and decides nothing."""

MINTED_TOKEN_PATIENCE: Final = timedelta(minutes=3)
"""How long the bot waits for Cloudflare to know a token that it made itself, with its rights: a minute, they say."""

CHECK_LIFETIME: Final = timedelta(seconds=60)
"""How long the findings are valid; a write that had to wait longer needs new checks."""

_Seen = tuple[Catalog | BotError, Catalog | BotError]
"""The catalog as the bot's own credentials see it, and as the pasted token does."""

_T = TypeVar("_T")


class Verify(Step):
    """Checks whether the token may be stored. A token that was just created may need a while to be known."""

    name = "verify"
    state = State.VERIFYING
    label = "Verify the token and the catalog"

    def is_done(self, submission: Submission, now: datetime) -> bool:
        """Return whether the findings are still valid, or no longer needed.

        While an approver is asked, the token is not opened: the checks are repeated after the approval.
        """
        is_fresh = submission.checked_at is not None and now - submission.checked_at < CHECK_LIFETIME
        return is_fresh or submission.state in (State.AWAITING_APPROVAL, State.MINTING, State.CONFIRMING)

    async def take(self, pending: Pending, turn: Turn, may_send: MaySend) -> Move | None:
        """Open the token, ask about it, drop it, and judge the answers."""
        submission, now = pending.submission, self._tools.clock()
        patience_until = submission.patience_until or now + self._patience(submission)
        answers = await self._ask(pending, turn, may_send)
        try:
            findings = judge(answers, self._tools.clock(), is_patient=now < patience_until)
        except CloudflareError as refusal:
            if refusal.passes and now < patience_until:
                return self._wait_until_known(submission, refusal, patience_until)
            told = as_minted(refusal) if submission.task is Task.ROTATE else refusal
            return self._tools.retry.after(submission, told)
        rule = await find_rule(self._tools.gate, submission)
        if self._lives_too_long(findings, rule.max_token_lifetime):
            return self._refuse_lifetime(submission, findings)
        return self._go_on(submission, findings)

    def _patience(self, submission: Submission) -> timedelta:
        """Return how long Cloudflare may not know the token: one that the bot has just made is surely new."""
        patience = self._tools.fresh_token_patience
        return max(patience, MINTED_TOKEN_PATIENCE) if submission.task is Task.ROTATE else patience

    async def _ask(self, pending: Pending, turn: Turn, may_send: MaySend) -> Answers:
        submission = pending.submission
        return await Questions(self._tools.cloudflare).ask(
            key=submission.key,
            token=self._tools.opener.open(pending),
            kind=submission.token_kind,
            may_send=may_send,
            turn=turn,
            is_before_write=submission.task is not Task.CHECK,
            tests_slot=submission.task is not Task.ROTATE,
        )

    def _go_on(self, submission: Submission, findings: Findings) -> Move:
        now = self._tools.clock()
        if submission.task is Task.CHECK:
            return Move(to=State.CHECKED, at=now, changes=Changes(checked_at=now, findings=findings))
        if submission.possibly_written and submission.findings is not None:  # the slot may hold this very token now
            findings = replace(findings, credential=submission.findings.credential)
        to = State.VERIFYING if submission.state in (State.ACCEPTED, State.MINTED) else submission.state
        return Move(to=to, at=now, changes=Changes(checked_at=now, findings=findings))

    def _lives_too_long(self, findings: Findings, limit: timedelta | None) -> bool:
        """Return whether it exceeds the limit of the rule; a token without a known expiry does."""
        expires_at = findings.token.expires_at if findings.token else None
        return limit is not None and (expires_at is None or expires_at - self._tools.clock() > limit)

    def _refuse_lifetime(self, submission: Submission, findings: Findings) -> Move:
        """Refuse the token, but record the findings, so that the result shows the expiry."""
        now = self._tools.clock()
        move = end_unwritten(submission, State.REFUSED, TokenLivesTooLong(), now)
        return replace(move, changes=replace(move.changes, checked_at=now, findings=findings))

    def _wait_until_known(self, submission: Submission, refusal: CloudflareError, patience_until: datetime) -> Move:
        now = self._tools.clock()
        pause = pause_for_fresh_token(now, patience_until, self._patience(submission))
        return wait(submission, now + pause, refusal, Changes(patience_until=patience_until))


class Questions:
    """Asks Cloudflare everything that `judge` needs before a token is stored."""

    def __init__(self, cloudflare: CloudflareClient) -> None:
        self._cloudflare = cloudflare

    async def ask(  # noqa: PLR0913 - all by name
        self,
        *,
        key: BucketKey,
        token: Secret,
        kind: TokenKind,
        may_send: MaySend,
        turn: Turn,
        is_before_write: bool,
        tests_slot: bool = True,
    ) -> Answers:
        """Ask all questions concurrently. Errors are returned, not raised, and hold no frame with the token.

        Without `tests_slot`, the credential already in the slot is not tested: that is only shown, and many buckets
        that are rotated at once share the account's limit.
        """
        see = self._see_catalog if is_before_write else self._see_catalog_twice
        verification, (catalog, reached), credential = await asyncio.gather(
            self._verify_token(token, kind, may_send, turn),
            see(key, token, may_send, turn),
            self._test_credential(key, turn) if tests_slot else _nothing(),
        )
        owner, verified = verification
        return Answers(owner=owner, verified=verified, catalog=catalog, reached=reached, credential=credential)

    async def _see_catalog(self, key: BucketKey, token: Secret, may_send: MaySend, turn: Turn) -> _Seen:
        """Ask with the pasted token, and with the bot's own credentials only if that shows no active catalog.

        That is one request less for nearly every store: of six, each of which takes about 1 ms of CPU and counts
        against Cloudflare's limit. If Cloudflare would refuse the bot's own credentials, it also refuses the write.
        """
        reached = await _settle(self._cloudflare.get_catalog_as(key, token, may_send, turn))
        is_active = isinstance(reached, Catalog) and reached.status is CatalogStatus.ACTIVE
        is_stopped = isinstance(reached, BotError) and not isinstance(reached, CloudflareError)
        if is_active or is_stopped:
            return reached, reached
        return await _settle(self._cloudflare.get_catalog(key, turn)), reached

    async def _see_catalog_twice(self, key: BucketKey, token: Secret, may_send: MaySend, turn: Turn) -> _Seen:
        """Ask with both at once: no write follows a dry run that would tell that the bot itself may not."""
        catalog, reached = await asyncio.gather(
            _settle(self._cloudflare.get_catalog(key, turn)),
            _settle(self._cloudflare.get_catalog_as(key, token, may_send, turn)),
        )
        return catalog, reached

    async def _verify_token(
        self, token: Secret, kind: TokenKind, may_send: MaySend, turn: Turn
    ) -> tuple[TokenKind, TokenVerification | BotError]:
        """Ask the endpoint for the token's kind; for an unknown kind, the user's first, then the account's."""
        of_user: TokenVerification | BotError | None = None
        if kind is not TokenKind.ACCOUNT:
            of_user = await _settle(self._cloudflare.verify_token(token, TokenKind.USER, may_send, turn))
            is_refused = isinstance(of_user, (*REJECTED, *NOT_OFFERED)) or is_bare(of_user) or is_rejected(of_user)
            is_users = not is_refused or is_from_elsewhere(of_user)
            if kind is TokenKind.USER or is_users:
                return TokenKind.USER, of_user
        of_account = await _settle(self._cloudflare.verify_token(token, TokenKind.ACCOUNT, may_send, turn))
        if of_user is not None and is_no(of_account) and not is_no(of_user):
            return TokenKind.USER, of_user  # a no needs a clear no from both endpoints
        return TokenKind.ACCOUNT, of_account

    async def _test_credential(self, key: BucketKey, turn: Turn) -> CredentialStatus | None:
        """Return the status of the credential already in the slot, or None if there is no answer in time."""
        try:
            async with asyncio.timeout(TEST_PATIENCE.total_seconds()):
                return await self._cloudflare.test_credential(key, turn)
        except (BotError, TimeoutError):
            return None


async def _nothing() -> None:
    """Stand for a question that is not asked."""


async def _settle(question: Awaitable[_T]) -> _T | BotError:
    """Return an error instead of raising it, so that all questions are asked; without frames, which hold the token."""
    try:
        return await question
    except BotError as error:
        return error.with_traceback(None)
