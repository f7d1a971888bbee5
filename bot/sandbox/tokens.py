"""Made-up tokens for the fake Cloudflare: the text of each says how it behaves. None was ever issued."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_TOKEN = re.compile(r"(?P<prefix>cfat_|cfut_)?MADEUP(?P<behaviour>[A-Z]+)(?P<owner>[au]?)[0-9a-f]+")


class TokenKind(StrEnum):
    """The kinds of API tokens: by their prefix, or by a letter in the text of those that have none."""

    ACCOUNT = "cfat_"
    USER = "cfut_"
    UNPREFIXED = "u"
    UNPREFIXED_ACCOUNT = "a"


_PREFIXED: Final = (TokenKind.ACCOUNT, TokenKind.USER)


class Behaviour(StrEnum):
    """What the fake Cloudflare does with this token; the value is part of the token's text."""

    GOOD = "GOOD"
    NEVER_EXPIRES = "NEVEREXPIRES"
    EXPIRES_SOON = "EXPIRESSOON"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    DISABLED = "DISABLED"
    EXPOSED = "EXPOSED"
    NOT_YET_VALID = "NOTYETVALID"
    OTHER_ACCOUNT = "OTHERACCOUNT"
    LACKS_CATALOG = "LACKSCATALOG"
    WEAK = "WEAK"
    FRESH = "FRESH"
    UNREADABLE = "UNREADABLE"
    VERIFY_DOWN = "VERIFYDOWN"
    SLOW = "SLOW"
    RATE_LIMITED = "RATELIMITED"
    SERVER_DOWN = "SERVERDOWN"
    ANSWER_LOST = "ANSWERLOST"
    STORED_INVALID = "STOREDINVALID"
    CHALLENGED = "CHALLENGED"


def make_token(behaviour: Behaviour, number: int = 0, kind: TokenKind = TokenKind.ACCOUNT) -> str:
    """Return a made-up token of the right shape that causes `behaviour`; each number makes another one."""
    is_prefixed = kind in _PREFIXED
    text = f"MADEUP{behaviour}{'' if is_prefixed else kind}".ljust(34, "0") + f"{number:06d}"
    return f"{kind}{text}{number:08x}" if is_prefixed else text


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMadeToken:
    """A token to try, with one line for the person who tries it."""

    label: str
    explanation: str
    token: str = field(repr=False)


def _offer(label: str, explanation: str, behaviour: Behaviour, kind: TokenKind = TokenKind.ACCOUNT) -> ReadyMadeToken:
    return ReadyMadeToken(label=label, explanation=explanation, token=make_token(behaviour, kind=kind))


_GOOD: Final = (
    _offer("Good", "An account token with every permission: it is stored.", Behaviour.GOOD),
    _offer(
        "Good, of a user",
        "A user's token: stored, and gone when the user is.",
        Behaviour.GOOD,
        TokenKind.USER,
    ),
    _offer("Good, older kind", "A user's token without a prefix: it is stored.", Behaviour.GOOD, TokenKind.UNPREFIXED),
    _offer(
        "Good, older kind, of the account",
        "Without a prefix, and known to the account's endpoint only: it is stored.",
        Behaviour.GOOD,
        TokenKind.UNPREFIXED_ACCOUNT,
    ),
    _offer("Never expires", "Every permission, no expiry: it is stored.", Behaviour.NEVER_EXPIRES),
    _offer("Expires soon", "Every permission, for ten more days: it is stored.", Behaviour.EXPIRES_SOON),
)

_REFUSED: Final = (
    _offer("Unknown", "Cloudflare never issued it: code 1000, and 30005 when it is stored.", Behaviour.UNKNOWN),
    _offer("Expired", "It has expired: code 30005 when it is stored.", Behaviour.EXPIRED),
    _offer("Disabled", "It was switched off: code 30005 when it is stored.", Behaviour.DISABLED),
    _offer("Exposed", "Cloudflare found it in public and revoked it.", Behaviour.EXPOSED),
    _offer("Not yet valid", "It is valid from tomorrow: code 30005 when it is stored.", Behaviour.NOT_YET_VALID),
    _offer("Of another account", "An account token of someone else's account: code 10000.", Behaviour.OTHER_ACCOUNT),
    _offer(
        "Of a user elsewhere",
        "A user's token, active, without permissions in this account: code 10000.",
        Behaviour.OTHER_ACCOUNT,
        TokenKind.USER,
    ),
    _offer(
        "Lacks the catalog",
        "Active, but opens no catalog: 10000, and 30004 when stored.",
        Behaviour.LACKS_CATALOG,
    ),
    _offer("Weak", "Reads the catalog, but not R2 storage: code 30004 when it is stored.", Behaviour.WEAK),
)

_TROUBLED: Final = (
    _offer("Fresh", "Unknown for the first few seconds, then good.", Behaviour.FRESH),
    _offer("Unreadable", "It is stored, but may not read the catalog itself: code 10001.", Behaviour.UNREADABLE),
    _offer("Verify down", "Cloudflare is down for the first two requests to verify it.", Behaviour.VERIFY_DOWN),
    _offer("Slow", "It is stored, but the answer takes a few seconds.", Behaviour.SLOW),
    _offer("Rate-limited", "The first try is rate-limited for a few seconds.", Behaviour.RATE_LIMITED),
    _offer("Server down", "Cloudflare is down for the first two tries; the third works.", Behaviour.SERVER_DOWN),
    _offer("Answer lost", "It is stored, but the connection breaks before the answer comes.", Behaviour.ANSWER_LOST),
    _offer("Stored, then invalid", "It is stored, but does not work there.", Behaviour.STORED_INVALID),
    _offer("Challenged", "Cloudflare answers with a challenge page for humans.", Behaviour.CHALLENGED),
)

READY_MADE_TOKENS: Final = _GOOD + _REFUSED + _TROUBLED


def judge_token(token: str) -> Behaviour:
    """Return how `token` behaves; a text that `make_token` did not make is unknown."""
    match = _TOKEN.fullmatch(token)
    return next((each for each in Behaviour if match and match["behaviour"] == each), Behaviour.UNKNOWN)


def is_account_owned(token: str) -> bool:
    """Say whether the account's endpoint is the one that knows `token`, and not the user's."""
    match = _TOKEN.fullmatch(token)
    return token.startswith(TokenKind.ACCOUNT) or (match is not None and match["owner"] == "a" and not match["prefix"])
