"""Made-up tokens for the small Cloudflare: the text of each says how it behaves. None of them was ever given out."""

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
    """What the small Cloudflare does when it meets this token; the value is a part of the token's text."""

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
    _offer("Good", "An account token with all rights: it is stored.", Behaviour.GOOD),
    _offer("Good, of a user", "A user's token: it is stored, and dies with the user.", Behaviour.GOOD, TokenKind.USER),
    _offer("Good, older kind", "A user's, without a prefix: it is stored.", Behaviour.GOOD, TokenKind.UNPREFIXED),
    _offer(
        "Good, older kind, of the account",
        "Without a prefix as well, but only the account's endpoint knows it: it is stored.",
        Behaviour.GOOD,
        TokenKind.UNPREFIXED_ACCOUNT,
    ),
    _offer("Never expires", "All rights and no end: it is stored.", Behaviour.NEVER_EXPIRES),
    _offer("Expires soon", "All rights, but for ten more days only: it is stored.", Behaviour.EXPIRES_SOON),
)

_REFUSED: Final = (
    _offer("Unknown", "Cloudflare never gave it out: code 1000, and 30005 where it is stored.", Behaviour.UNKNOWN),
    _offer("Expired", "Its time is over: code 30005 where it is stored.", Behaviour.EXPIRED),
    _offer("Disabled", "Somebody switched it off: code 30005 where it is stored.", Behaviour.DISABLED),
    _offer("Exposed", "Cloudflare found it in public and revoked it.", Behaviour.EXPOSED),
    _offer("Not yet valid", "Its time begins tomorrow: code 30005 where it is stored.", Behaviour.NOT_YET_VALID),
    _offer("Of another account", "Somebody else's account token: code 10000.", Behaviour.OTHER_ACCOUNT),
    _offer(
        "Of a user elsewhere",
        "A user's token, active, but without rights in this account: code 10000.",
        Behaviour.OTHER_ACCOUNT,
        TokenKind.USER,
    ),
    _offer("Lacks the catalog", "Active, but opens no catalog: 10000, and 30004 when stored.", Behaviour.LACKS_CATALOG),
    _offer("Weak", "Reads the catalog, but lacks R2 storage: code 30004 where it is stored.", Behaviour.WEAK),
)

_TROUBLED: Final = (
    _offer("Fresh", "Unknown for a few seconds after it is first used, then good.", Behaviour.FRESH),
    _offer("Unreadable", "Stored, but may not look at the catalog itself: code 10001.", Behaviour.UNREADABLE),
    _offer("Verify down", "Two questions whether it is valid meet a server that is down.", Behaviour.VERIFY_DOWN),
    _offer("Slow", "It is stored, but the answer takes a few seconds.", Behaviour.SLOW),
    _offer("Rate-limited", "The first try is told to come back in a few seconds.", Behaviour.RATE_LIMITED),
    _offer("Server down", "Two tries meet a server that is down, the third one works.", Behaviour.SERVER_DOWN),
    _offer("Answer lost", "It is stored, but the connection breaks before the answer.", Behaviour.ANSWER_LOST),
    _offer("Stored, then invalid", "It is stored, but the catalog finds it invalid there.", Behaviour.STORED_INVALID),
    _offer("Challenged", "A page for humans comes instead of an answer.", Behaviour.CHALLENGED),
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
