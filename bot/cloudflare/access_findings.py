"""What Cloudflare's answers to the bot's own credentials mean for the operator, in words. Pure.

Quotes nothing of an answer but ids, codes and times.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.errors import (
    CallerLacksPermission,
    CallerRejected,
    CloudflareError,
    OperatorError,
    RequestRejected,
    RouteGone,
    Throttled,
)
from bot.model.catalog import CatalogApi
from bot.model.errors import Transient
from bot.model.finding import Finding, Mark, Part
from bot.model.no_answer import NoAnswer
from bot.model.submission import TokenKind

EXPIRES_SOON: Final = timedelta(days=30)

_TOKEN: Final = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a setting
_ACCOUNT: Final = "CLOUDFLARE_ACCOUNT_ID"
_REPLACE: Final = "create another token with the same permission, set CLOUDFLARE_API_TOKEN to it, and restart the bot"
_MALFORMED: Final = (6003, 6103, 6111)
_UNAUTHORIZED: Final = 9109
_AUTHENTICATION_ERROR: Final = 10000
_INVALID_TOKEN: Final = 1000

_OTHER_KINDS: Final[Mapping[TokenKind, str]] = {
    TokenKind.GLOBAL_KEY: "it looks like a Global API key: create an API token instead, or set CLOUDFLARE_API_KEY",
    TokenKind.OAUTH: "it looks like wrangler's OAuth token, which works for an hour only: create an API token",
    TokenKind.S3_SECRET: "it looks like an S3 Secret Access Key: set the API token that it came from",
    TokenKind.S3_KEY_ID: "it looks like an S3 Access Key ID: set the API token that it came from",
}


def event_of(error: type[CloudflareError]) -> str:
    """Return the name of the finding about an error that the bot's own requests can meet."""
    return f"cloudflare_{error.code.removeprefix('cloudflare_')}"


def describe_token(verified: TokenVerification, owner: TokenKind, now: datetime) -> Finding:
    """Describe the bot's own token; `now` counts only if the answer does not say when it was given."""
    now = verified.answered_at or now
    known: dict[str, object] = {"token_id": verified.id, "owner": owner.value}
    if verified.expires_at is not None:
        known["expires_at"] = verified.expires_at.isoformat()
    if verified.status is TokenStatus.REVOKED:
        return _bad_token(
            "cloudflare_token_exposed",
            "CLOUDFLARE FOUND THE BOT'S OWN TOKEN IN PUBLIC and revoked it: treat what it could reach as disclosed",
            f"find out where it was published and what was done with it; {_REPLACE}",
            known,
        )
    if verified.status is TokenStatus.DISABLED:
        fix = f"find out who disabled it and why; then enable it again, or {_REPLACE}"
        return _bad_token("cloudflare_token_disabled", "the bot's own token is disabled", fix, known)
    if verified.status is TokenStatus.EXPIRED or (verified.expires_at is not None and verified.expires_at <= now):
        when = f" on {verified.expires_at:%Y-%m-%d}" if verified.expires_at is not None else ""
        return _bad_token("cloudflare_token_expired", f"the bot's own token expired{when}", _REPLACE, known)
    if verified.not_before is not None and now < verified.not_before:
        text = f"the bot's own token is not valid before {verified.not_before:%Y-%m-%d %H:%M} UTC"
        return _bad_token(
            "cloudflare_token_not_yet_valid",
            text,
            "wait until then, or set CLOUDFLARE_API_TOKEN to another token",
            known,
        )
    return _describe_active(verified.expires_at, owner, now, known)


def _describe_active(
    expires_at: datetime | None, owner: TokenKind, now: datetime, known: Mapping[str, object]
) -> Finding:
    whose = "a user's, which ends with the user's membership" if owner is TokenKind.USER else "the account's"
    if expires_at is not None and expires_at - now <= EXPIRES_SOON:
        return Finding(
            part=Part.CLOUDFLARE,
            event="cloudflare_token_expires_soon",
            mark=Mark.WARNING,
            text=f"the bot's own token expires on {expires_at:%Y-%m-%d}, in {(expires_at - now).days} days",
            setting=_TOKEN,
            fix=_REPLACE,
            known=known,
        )
    until = "never expires" if expires_at is None else f"expires on {expires_at:%Y-%m-%d}"
    return Finding(
        part=Part.CLOUDFLARE,
        event="cloudflare_token_active",
        text=f"the bot's own token ({whose}) is active and {until}",
        known=known,
    )


def describe_refused_token(error: CloudflareError, owner: TokenKind, kind: TokenKind) -> Finding | None:
    """Describe a token that cannot be verified, or return None if the answer does not say why.

    `owner` is whose endpoint answered, `kind` what the token looks like.
    """
    code, known = error.cloudflare_code, _known(error)
    if not isinstance(error, CallerRejected) or code is None:
        return None
    if error.is_about_addresses:
        text = "the bot's own token works from certain IP addresses only, and not from here"
        fix = "in Cloudflare, remove the token's IP address filter, or add the address from which the bot calls"
        return _bad_token("cloudflare_token_limited_to_addresses", text, fix, known)
    if kind in _OTHER_KINDS or code in _MALFORMED:
        fix = _OTHER_KINDS.get(kind, "copy the whole token again, without anything around it")
        return _bad_token(
            "cloudflare_token_malformed", "Cloudflare does not take the bot's own token for one", fix, known
        )
    if code == _AUTHENTICATION_ERROR and owner is TokenKind.ACCOUNT:
        text = "the bot's own token belongs to another account than the one that is set"
        fix = f"set {_ACCOUNT} to the account that the token was made for, or create a token in that account"
        return _bad_token("cloudflare_token_of_another_account", text, fix, known, setting=_ACCOUNT)
    if code in (_INVALID_TOKEN, _UNAUTHORIZED, _AUTHENTICATION_ERROR):
        text = "Cloudflare does not know the bot's own token: it was cut off while copying, deleted, or rolled"
        return _bad_token("cloudflare_token_unknown", text, f"copy the whole token again; or {_REPLACE}", known)
    return None


def describe_unverified(*, is_key: bool) -> Finding:
    """Say that Cloudflare does not tell what the credentials are."""
    text = (
        "a Global API key cannot be verified: whether it is valid shows only in its use, and it opens the whole account"
        if is_key
        else "Cloudflare does not say what the bot's own token is and when it expires, but accepts it"
    )
    return Finding(part=Part.CLOUDFLARE, event="cloudflare_token_not_verified", text=text)


def describe_account(catalogs: int, family: CatalogApi) -> Finding:
    """Say that the account's catalogs can be listed."""
    known = {"catalogs": catalogs, "path_family": family.value}
    text = f"the account answers at the path {family.value}"
    return Finding(part=Part.CLOUDFLARE, event="cloudflare_account_answers", text=text, known=known)


def describe_refusal(error: CloudflareError, *, is_active: bool, is_family_chosen: bool) -> Finding:
    """Describe why the catalogs cannot be listed; `is_active`: the token itself was found to be active."""
    if not isinstance(error, OperatorError):  # about a bucket or a token, which was not asked for
        error = RequestRejected(status=error.status, cloudflare_code=error.cloudflare_code, cf_ray=error.cf_ray)
    text, setting, fix = _say(error), error.setting, error.operator_fix
    if isinstance(error, CallerRejected) and is_active:
        text, setting = "the bot's own token is active, but may not use this account's catalogs", _ACCOUNT
        fix = f"check that {_ACCOUNT} is the account that the token is for; {CallerLacksPermission.operator_fix}"
    elif isinstance(error, RouteGone) and is_family_chosen:
        setting = "R2_CREDENTIAL_CATALOG_API"
        fix = f"set it to auto; if that does not help, check {_ACCOUNT}"
    elif error.why is not None:
        text, setting, fix = _say_silence(error.why)
    return _finding(error, text, setting, fix)


def describe_trouble(error: CloudflareError, *, lasts: bool) -> Finding:
    """Describe the lack of a usable answer; `lasts`: there was none for a while."""
    text, setting, fix = _say(error), "", error.operator_fix
    if error.why is not None:
        text, setting, fix = _say_silence(error.why)
    return _finding(error, text, setting, fix, lasts=lasts)


def describe_throttling(until: datetime | None) -> Finding:
    """Say that Cloudflare's limit leaves no room for a check: stores wait, and go first."""
    known = {} if until is None else {"until": until.isoformat(timespec="seconds")}
    when = "" if until is None else f" before {until:%H:%M:%S} UTC"
    return Finding(
        part=Part.CLOUDFLARE,
        event="cloudflare_throttled",
        mark=Mark.WARNING,
        text=f"{_say(Throttled())}, so nothing is checked{when}",
        known=known,
    )


def describe_not_asked() -> Finding:
    """Say that nothing can be asked while the database does not answer, which another finding says."""
    text = "nothing was asked, since the database that counts the requests does not answer"
    return Finding(part=Part.CLOUDFLARE, event="cloudflare_not_asked", mark=Mark.WARNING, text=text)


def describe_write_right(*, may_write: bool | None) -> Finding:
    """Say whether the token may write catalogs; None: no one can tell before the first store."""
    if may_write is False:
        return Finding(
            part=Part.CLOUDFLARE,
            event="cloudflare_token_may_not_write",
            mark=Mark.FAILED,
            text="the bot's own token has no policy that lets it write this account's catalogs",
            setting=_TOKEN,
            fix=CallerLacksPermission.operator_fix,
        )
    if may_write:
        text = "the bot's own token may write the account's catalogs"
        return Finding(part=Part.CLOUDFLARE, event="cloudflare_token_may_write", text=text)
    text = "whether the bot's own token may write shows at the first store, since a check never writes"
    return Finding(part=Part.CLOUDFLARE, event="cloudflare_write_unknown", text=text)


def _bad_token(event: str, text: str, fix: str, known: Mapping[str, object], setting: str = _TOKEN) -> Finding:
    return Finding(
        part=Part.CLOUDFLARE,
        event=event,
        mark=Mark.FAILED,
        text=text,
        setting=setting,
        fix=fix,
        blocks=True,
        known=known,
    )


def _finding(error: CloudflareError, text: str, setting: str, fix: str, *, lasts: bool = True) -> Finding:
    known = _known(error)
    details = ", ".join(
        f"{name.replace('_', ' ')} {known[name]}" for name in ("status", "code", "cf_ray") if name in known
    )
    return Finding(
        part=Part.CLOUDFLARE,
        event=event_of(type(error)),
        mark=Mark.FAILED if lasts else Mark.WARNING,
        text=f"{text} ({details})" if details and error.why is None else text,
        setting=setting,
        fix=fix,
        blocks=lasts,
        known=known,
    )


def _say(error: CloudflareError) -> str:
    """Return the error's own words without their end, which is for the person who submitted."""
    said = error.told.waiting if isinstance(error, Transient) else error.cause
    return said.partition("; ")[0].rstrip(".")


def _say_silence(why: NoAnswer) -> tuple[str, str, str]:
    return f"Cloudflare gives no answer: {why.because}", why.setting, why.fix


def _known(error: CloudflareError) -> dict[str, object]:
    known = {"status": error.status, "code": error.cloudflare_code, "cf_ray": error.cf_ray}
    known |= {"cause": error.failure or None}
    return {name: value for name, value in known.items() if value is not None}
