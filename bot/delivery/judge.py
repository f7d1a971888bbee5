"""What Cloudflare's answers before a write mean for a pasted token. Pure.

Only a clear no refuses a token: after an unclear answer the question is repeated, and a question that Cloudflare does
not answer for this kind of token is reported as not checked. A false yes would let a bad token destroy the good
credential in the slot; a false no would turn a good token away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.diagnosis import ERROR_OF_CLIENT_CODE, ERROR_OF_CODE
from bot.cloudflare.errors import (
    AnswerNotUnderstood,
    BlockedOnTheWay,
    CallerLacksPermission,
    CallerNotAllowed,
    CallerRejected,
    CatalogInactive,
    CatalogNotEnabled,
    CatalogOutOfReach,
    CatalogRefusal,
    ChallengePage,
    CloudflareError,
    CloudflareTrouble,
    CredentialRefused,
    LacksCatalogRights,
    LacksStorageRights,
    NoSuchBucket,
    OperatorError,
    Refusal,
    RequestRejected,
    RouteGone,
    TokenDisabled,
    TokenExpired,
    TokenExposed,
    TokenInvalid,
    TokenLimitedToAddresses,
    TokenMalformed,
    TokenNotYetValid,
    TokenOfAnotherAccount,
    TokenRefusal,
    UnexplainedRefusal,
)
from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus
from bot.model.errors import BotError
from bot.model.submission import Check, Findings, TokenFacts, TokenKind

_MALFORMED: Final = (6003, 6103, 6111)
_AUTHENTICATION_ERROR: Final = 10000
_BARE_STATUSES: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
NOT_OFFERED: Final = (CallerNotAllowed, RouteGone)
REJECTED: Final = (CallerRejected, CallerLacksPermission)
"""The answers to a token that is unknown, or that lacks a permission."""

_UNREADABLE: Final = (*REJECTED, CatalogNotEnabled, NoSuchBucket, CredentialRefused)
"""The answers to a token that cannot read an existing catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Cloudflare's answers to the questions before a write.

    `verified`: the token's status, asked for as a token of `owner`; `catalog`: the catalog as the bot's own credentials
    see it, or the same as `reached` where that leaves nothing open; `reached`: the catalog as the pasted token sees it;
    `credential`: the test of the one already in the slot.
    """

    owner: TokenKind
    verified: TokenVerification | BotError
    catalog: Catalog | BotError
    reached: Catalog | BotError
    credential: CredentialStatus | None = None


def judge(answers: Answers, now: datetime, *, is_patient: bool) -> Findings:
    """Return the findings; raise whatever forbids a write.

    Raises an error with `passes` for an answer that a token created a moment ago may also get, and for a no without
    a reason. Without `is_patient`, a bare "forbidden" of the API is instead taken as a check that is not offered.
    Raises Cloudflare's other errors, and any other error that ended a question.
    """
    verified, catalog, reached = answers.verified, answers.catalog, answers.reached
    for outcome in (verified, catalog, reached):
        if isinstance(outcome, BotError) and not isinstance(outcome, CloudflareError):
            raise outcome
    has_reached = isinstance(reached, Catalog)
    facts = _judge_token(answers.owner, verified, now, is_patient=is_patient, has_reached=has_reached)
    described = _judge_catalog(catalog, reached)
    reach = _judge_reach(reached, facts, described, is_patient=is_patient)
    problems = [each for each in (facts, described, reach) if isinstance(each, BotError)]
    if facts is None and reach is None:
        problems.append(_judge_unseen([each for each in (verified, reached) if isinstance(each, BotError)]))
    if problems or isinstance(described, BotError):
        raise _choose(problems)
    return Findings(
        token=facts if isinstance(facts, TokenFacts) else None,
        unchecked=frozenset(check for check, found in ((Check.TOKEN, facts), (Check.REACH, reach)) if found is None),
        credential=answers.credential or described.credential_status,
    )


def explain_refusal(error: CloudflareError, findings: Findings | None) -> CloudflareError:
    """Name the cause when a write was refused although the token is active and can read the catalog.

    Then only storage rights can be missing. If a check was skipped, the cause stays open: naming one would make the
    person fix something that may be fine.
    """
    is_known = findings is not None and findings.token is not None and not findings.unchecked
    return _as(LacksStorageRights, error) if isinstance(error, CredentialRefused) and is_known else error


def _judge_token(
    owner: TokenKind, verified: TokenVerification | BotError, now: datetime, *, is_patient: bool, has_reached: bool
) -> TokenFacts | BotError | None:
    """Return the facts about the token, the error against it, or None if Cloudflare does not say."""
    if isinstance(verified, BotError):
        return _judge_refused_token(owner, verified, is_patient=is_patient, has_reached=has_reached)
    now = verified.answered_at or now  # Cloudflare's own time, so that a wrong clock here does no harm
    if verified.status is TokenStatus.DISABLED:
        return TokenDisabled(cf_ray=verified.cf_ray)
    if verified.status is TokenStatus.REVOKED:
        return TokenExposed(cf_ray=verified.cf_ray)
    if verified.status is TokenStatus.EXPIRED or (verified.expires_at is not None and verified.expires_at <= now):
        return TokenExpired(cf_ray=verified.cf_ray)
    if verified.not_before is not None and now < verified.not_before:
        return TokenNotYetValid(cf_ray=verified.cf_ray)
    return TokenFacts(id=verified.id, owner=owner, expires_at=verified.expires_at)


def _judge_refused_token(owner: TokenKind, error: BotError, *, is_patient: bool, has_reached: bool) -> BotError | None:
    if isinstance(error, (TokenMalformed, *NOT_OFFERED)):
        return error if isinstance(error, TokenMalformed) else None
    if has_reached and is_bare(error):  # it has read the catalog, so it is a valid token
        return _as(TokenInvalid, error) if is_patient else None
    if not isinstance(error, REJECTED):
        return _unless_clear(error)
    if (kind := _name_by_code(error)) is not None:
        return _as(kind, error)
    if error.cloudflare_code == _AUTHENTICATION_ERROR and owner is TokenKind.ACCOUNT:
        return _as(TokenOfAnotherAccount, error)
    return _unless_bare(TokenInvalid, error, is_patient=is_patient)


def _judge_catalog(catalog: Catalog | BotError, reached: Catalog | BotError) -> Catalog | BotError:
    """Return the catalog, as the bot's own credentials see it, if it takes a credential.

    If the pasted token sees an active one, an answer against it is in doubt: it may have just been enabled.
    """
    described = _describe_catalog(catalog)
    is_seen = isinstance(reached, Catalog) and reached.status is CatalogStatus.ACTIVE
    return _as(AnswerNotUnderstood, described) if isinstance(described, CatalogRefusal) and is_seen else described


def _describe_catalog(catalog: Catalog | BotError) -> Catalog | BotError:
    if isinstance(catalog, (RequestRejected, TokenRefusal)):  # not about the catalog
        return _unless_clear(catalog)
    if isinstance(catalog, BotError) or catalog.status is CatalogStatus.ACTIVE:
        return catalog
    return CatalogInactive(cf_ray=catalog.cf_ray) if catalog.status is CatalogStatus.INACTIVE else AnswerNotUnderstood()


def _judge_reach(
    reached: Catalog | BotError,
    facts: TokenFacts | BotError | None,
    described: Catalog | BotError,
    *,
    is_patient: bool,
) -> Catalog | BotError | None:
    """Return the catalog as the token sees it, the error against the token, or None if Cloudflare does not say.

    Cloudflare also answers "no such catalog" to a token that has no right to see it. So the answer is about the token
    if the bot itself sees the catalog, about the catalog if the bot does not, and unclear while that is unknown. A
    wrong guess would make a person enable a catalog that exists, or replace a token that is fine.
    """
    if isinstance(reached, Catalog):
        return reached if reached.status is CatalogStatus.ACTIVE else AnswerNotUnderstood(cf_ray=reached.cf_ray)
    if isinstance(reached, TokenMalformed):
        return reached
    is_gone = isinstance(reached, RouteGone) and not isinstance(described, Catalog)  # it exists if it answers the bot
    if is_gone or isinstance(reached, CallerNotAllowed):
        return None
    if isinstance(reached, CatalogRefusal) and not isinstance(described, Catalog):
        return reached if isinstance(described, CatalogRefusal) else _unless_clear(reached)
    if not isinstance(reached, _UNREADABLE):
        return _unless_clear(reached)
    # If the bot itself gets an answer from the same path, a bare 401 is about the token.
    is_named = reached.status == HTTPStatus.UNAUTHORIZED and isinstance(described, Catalog)
    return _unless_bare(_name_refusal(reached, facts), reached, is_patient=is_patient or is_named)


def _judge_unseen(answers: list[BotError]) -> CloudflareError:
    """Return the error for a token about which Cloudflare answers neither question, so that it may or may not work.

    Storing it unchecked could replace a credential that works.
    """
    is_no_answer = any(isinstance(each, RouteGone) for each in answers)
    return _as(AnswerNotUnderstood if is_no_answer else CredentialRefused, answers[-1])


def _name_refusal(error: CloudflareError, facts: TokenFacts | BotError | None) -> type[TokenRefusal]:
    """Return the reason why the token cannot read an existing catalog."""
    if (kind := _name_by_code(error)) is not None:
        return kind
    if not isinstance(facts, TokenFacts):
        return CredentialRefused
    if isinstance(error, CallerLacksPermission):
        return LacksCatalogRights
    return LacksCatalogRights if facts.owner is TokenKind.ACCOUNT else CatalogOutOfReach


def _name_by_code(error: CloudflareError) -> type[TokenRefusal] | None:
    """Return the meaning of a code that is the same for every question, or None."""
    if error.cloudflare_code in _MALFORMED:
        return TokenMalformed
    return TokenLimitedToAddresses if is_from_elsewhere(error) else None


def is_from_elsewhere(error: object) -> bool:
    """Return whether Cloudflare knows the token and refuses only this IP address."""
    return isinstance(error, CloudflareError) and error.is_about_addresses


def _choose(problems: list[BotError]) -> BotError:
    """Return the most specific one: a definite no about the token, then about the catalog, then one that may pass."""
    order: tuple[Callable[[BotError], bool], ...] = (
        lambda error: isinstance(error, TokenRefusal) and not error.passes,
        lambda error: isinstance(error, (CatalogRefusal, OperatorError)),
        lambda error: isinstance(error, Refusal),
    )
    for says_most in order:
        chosen = next(filter(says_most, problems), None)
        if chosen is not None:
            return chosen
    return max(problems, key=lambda error: (_retry_after(error), _clarity(error)))


def _retry_after(error: BotError) -> timedelta:
    return (error.retry_after if isinstance(error, CloudflareError) else None) or timedelta(0)


def _clarity(error: BotError) -> int:
    """Rank unclear errors: an outage will end, so a bare no next to it is not final."""
    if isinstance(error, AnswerNotUnderstood):
        return 0
    return 1 if isinstance(error, UnexplainedRefusal) else 2


def _unless_clear(error: BotError) -> BotError:
    """Return AnswerNotUnderstood for a no that makes no sense as an answer to this question.

    A bare no gets a separate error: as AnswerNotUnderstood, a filter's 403 was retried until the deadline, and then the
    operator was advised to update the bot. So was the API's own no with a code that is not in our tables (1038).
    """
    if is_bare(error):
        return _as(UnexplainedRefusal, error)
    is_clear = isinstance(error, (CloudflareTrouble, ChallengePage, BlockedOnTheWay)) or is_rejected(error)
    return error if is_clear else _as(AnswerNotUnderstood, error)


def is_rejected(answer: object) -> bool:
    """Whether it is a no of the API itself, with a code that we do not know: the same would be answered again."""
    return isinstance(answer, RequestRejected) and answer.cloudflare_code is not None


def is_no(answer: object) -> bool:
    """Return whether it is a clear "there is no such token"."""
    return isinstance(answer, REJECTED) and not is_bare(answer)


def is_bare(answer: object) -> bool:
    """Return whether it is a no without a known code, which may be about the token or about the right to ask."""
    if not isinstance(answer, (CallerRejected, RequestRejected)) or answer.status not in _BARE_STATUSES:
        return False
    return answer.cloudflare_code not in (*ERROR_OF_CODE, *ERROR_OF_CLIENT_CODE)


def _unless_bare(kind: type[TokenRefusal], error: CloudflareError, *, is_patient: bool) -> CloudflareError | None:
    """Return the no as `kind`. A bare one may pass; after the patience, a bare 403 means a question not offered."""
    if is_patient or not is_bare(error):
        return _as(kind, error)
    return None if error.status == HTTPStatus.FORBIDDEN else _as(UnexplainedRefusal, error)


def _as(kind: type[CloudflareError], error: BotError) -> CloudflareError:
    """Return the same answer as the error `kind`: what it means for a pasted token."""
    return error.as_kind(kind) if isinstance(error, CloudflareError) else kind()
