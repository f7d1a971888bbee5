"""Builders of common values: each has defaults, and takes the fields that a test is about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from bot.model.approval import Request
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.minted import MintedState, MintedToken
from bot.model.submission import (
    Findings,
    NewSubmission,
    Pending,
    Sealed,
    SealedToken,
    State,
    Submission,
    Task,
    TokenFacts,
    TokenKind,
)
from bot.model.token_name import TokenName
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain
from bot.storage.authentic import sign_submission
from bot.storage.database import Database
from bot.storage.schema import SUBMISSIONS

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ACCOUNT = "5a4db0c0000000000000000000000001"
AUDIT_KEY = "made-up-and-long-enough-for-a-key-of-the-audit"
CHAIN = AuditChain(Authenticity([AUDIT_KEY]))
LAKE = BucketKey(account_id=ACCOUNT, bucket="lake")
TOKEN = TokenFacts(id="0f" * 16, owner=TokenKind.ACCOUNT, expires_at=NOW + timedelta(days=90))
FINDINGS = Findings(token=TOKEN, unchecked=frozenset(), credential=CredentialStatus.PRESENT)
AUTHENTICITY = CHAIN.authenticity

BAD_BUCKETS = {
    "capital letter": "Analytics",
    "underscore": "my_bucket",
    "dot": "my.bucket",
    "two words": "my bucket",
    "too short": "ab",
    "too long": "x" * 64,
    "hyphen first": "-bucket",
    "hyphen last": "bucket-",
    "other letters": "büchse",
    "markup": "<!channel>",
}

_NEW = NewSubmission(
    id="V0MADEUP",
    team_id="T0SANDBOX",
    user_id="U0ADA0001",
    key=LAKE,
    channel_id="C0DATAPLT",
    reason="",
    token_kind=TokenKind.ACCOUNT,
    last_four="Zq9x",
    sealed=Sealed(token=SealedToken("sealed.v1.0000000000facade.MADEUPTOKEN")),
    sent_at=NOW,
    accepted_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)
_NOT_SHOWN = {"sealed", "sent_at", "fingerprint"}
_SUBMISSION = Submission(
    **{
        name: getattr(_NEW, name)
        for name in NewSubmission.__slots__
        if name not in {"sealed", "sent_at", "fingerprint"}
    },
    state=State.ACCEPTED,
    next_attempt_at=NOW,
    attempts=0,
    possibly_written=False,
    checked_at=None,
    patience_until=None,
    findings=None,
    confirm_until=None,
    ended_at=None,
    error_code=None,
    cloudflare_code=None,
    cloudflare_message="",
    cf_ray=None,
    confirmation=None,
    reported_at=None,
    superseded_by=None,
    revision=0,
)
_CATALOG = Catalog(
    key=LAKE,
    status=CatalogStatus.ACTIVE,
    credential_status=CredentialStatus.VALID,
    tested_at=NOW - timedelta(minutes=2),
)
_STORED = StoredCredential(
    key=LAKE,
    submission_id=_NEW.id,
    stored_by=_NEW.user_id,
    stored_at=NOW - timedelta(days=10),
    channel_id=_NEW.channel_id,
    token_id=TOKEN.id,
    expires_at=TOKEN.expires_at,
    reminded_at=None,
    broken_at=None,
)
_MINTED = MintedToken(
    name="",
    key=LAKE,
    submission_id="V0EARLIER",
    state=MintedState.RETIRED,
    token_id="0e" * 16,
    scope="bucket",
    epoch=1,
    intended_at=NOW - timedelta(days=30),
    due_at=NOW,
    changed_at=NOW,
    was_sent=True,
)


def make_new_submission(**fields: Any) -> NewSubmission:  # noqa: ANN401 - its fields
    """Return a checked Submit: an account token for the bucket `lake`, valid for an hour from `accepted_at`."""
    sent = at(fields["accepted_at"]) if "accepted_at" in fields else {}
    return replace(_NEW, **(sent | _with_deadline(fields)))


def make_submission(**fields: Any) -> Submission:  # noqa: ANN401 - its fields
    """Return the same submission, just recorded."""
    made = replace(_SUBMISSION, **_with_deadline(fields))
    return made if "next_attempt_at" in fields else replace(made, next_attempt_at=made.accepted_at)


def make_ended_submission(state: State = State.STORED, **fields: Any) -> Submission:  # noqa: ANN401 - its fields
    """Return one that ended two seconds after it was accepted, by default stored and confirmed."""
    accepted_at = fields.get("accepted_at", NOW)
    was_sent = state in {State.STORED, State.UNCERTAIN}
    found = {"checked_at": accepted_at, "findings": FINDINGS, "confirmation": CredentialStatus.VALID}
    ended = {"attempts": int(was_sent), "possibly_written": was_sent, "ended_at": accepted_at + timedelta(seconds=2)}
    return make_submission(**({"state": state} | ended | (found if state is State.STORED else {}) | fields))


def at(moment: datetime) -> dict[str, Any]:
    """Return the times of a Submit that arrived the moment it was sent."""
    return {"sent_at": moment, "accepted_at": moment}


def make_key(bucket: str) -> BucketKey:
    """Return the key of another bucket of the same account."""
    return BucketKey(account_id=ACCOUNT, bucket=bucket)


def make_catalog(bucket: str = LAKE.bucket, **fields: Any) -> Catalog:  # noqa: ANN401 - its fields
    """Return an active catalog whose credential works."""
    return replace(_CATALOG, key=replace(LAKE, bucket=bucket), **fields)


def make_stored_credential(bucket: str = LAKE.bucket, **fields: Any) -> StoredCredential:  # noqa: ANN401 - its fields
    """Return a credential stored ten days ago, with ninety days left."""
    return replace(_STORED, key=replace(LAKE, bucket=bucket), **fields)


def make_minted_token(bucket: str = LAKE.bucket, number: int = 0, **fields: Any) -> MintedToken:  # noqa: ANN401 - its fields
    """Return a token of the bot's own that was in the slot and is to be taken back now; `number` makes another name."""
    name = TokenName(installation="0a1b2c3d", bucket=bucket, random=f"{number:010d}")
    return replace(_MINTED, name=str(name), key=replace(LAKE, bucket=bucket), **fields)


def _with_deadline(fields: dict[str, Any]) -> dict[str, Any]:
    """Derive `expires_at` from `accepted_at`, unless it is given."""
    accepted_at: datetime = fields.get("accepted_at", NOW)
    return {"expires_at": accepted_at + timedelta(hours=1), "task": Task.STORE} | fields


async def sign_again(database: Database) -> None:
    """Sign how far each submission has come as it is now: as if the bot itself had brought it there."""

    def sign(connection: Connection) -> int:
        for row in connection.execute(select(SUBMISSIONS)).mappings():
            signed = sign_submission(AUTHENTICITY, dict(row))
            is_it = SUBMISSIONS.c.id == row["id"]
            connection.execute(update(SUBMISSIONS).where(is_it).values(progress=signed["progress"]))
        return 0

    await database.run(sign)


class NobodyAsked:
    """Posts no message to approvers: no rule of these tests needs one."""

    async def post_request(self, pending: Pending) -> str | None:
        """Fail the test."""
        raise AssertionError(pending.submission.id)

    async def close_request(self, submission: Submission, request: Request) -> None:
        """Fail the test."""
        raise AssertionError(submission.id, request)
