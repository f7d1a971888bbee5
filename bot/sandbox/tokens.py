"""Made-up tokens for the small Cloudflare: the text of each says how it behaves. None of them was ever given out."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_TOKEN = re.compile(r"(?:cfat_|cfut_)?MADEUP(?P<behaviour>[A-Z]+)[0-9a-f]+")


class TokenKind(StrEnum):
    """The kinds of API tokens, by their prefix."""

    ACCOUNT = "cfat_"
    USER = "cfut_"
    UNPREFIXED = ""


class Behaviour(StrEnum):
    """What the small Cloudflare does when this token is stored; the value is a part of the token's text."""

    GOOD = "GOOD"
    WEAK = "WEAK"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    DISABLED = "DISABLED"
    SLOW = "SLOW"
    RATE_LIMITED = "RATELIMITED"
    SERVER_DOWN = "SERVERDOWN"
    ANSWER_LOST = "ANSWERLOST"
    CHALLENGED = "CHALLENGED"


def make_token(behaviour: Behaviour, number: int = 0, kind: TokenKind = TokenKind.ACCOUNT) -> str:
    """Return a made-up token of the right shape that causes `behaviour`; each number makes another one."""
    text = f"MADEUP{behaviour.value}".ljust(34, "0") + f"{number:06d}"
    return text if kind is TokenKind.UNPREFIXED else f"{kind.value}{text}{number:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMadeToken:
    """A token to try, with one line for the person who tries it."""

    label: str
    explanation: str
    token: str = field(repr=False)


def _offer(label: str, explanation: str, behaviour: Behaviour, kind: TokenKind = TokenKind.ACCOUNT) -> ReadyMadeToken:
    return ReadyMadeToken(label=label, explanation=explanation, token=make_token(behaviour, kind=kind))


READY_MADE_TOKENS: Final = (
    _offer("Good", "An account token with all rights: it is stored.", Behaviour.GOOD),
    _offer("Good, of a user", "A user's token: it is stored, and dies with the user.", Behaviour.GOOD, TokenKind.USER),
    _offer("Good, older kind", "A token without a prefix: it is stored.", Behaviour.GOOD, TokenKind.UNPREFIXED),
    _offer("Weak", "Lacks a right that the catalog needs: refused with code 30004.", Behaviour.WEAK),
    _offer("Unknown", "Cloudflare never gave it out: refused with code 30005.", Behaviour.UNKNOWN),
    _offer("Expired", "Its time is over: refused with code 30005.", Behaviour.EXPIRED),
    _offer("Disabled", "Somebody switched it off: refused with code 30005.", Behaviour.DISABLED),
    _offer("Slow", "It is stored, but the answer takes a few seconds.", Behaviour.SLOW),
    _offer("Rate-limited", "The first try is told to come back in a few seconds.", Behaviour.RATE_LIMITED),
    _offer("Server down", "Two tries meet a server that is down, the third one works.", Behaviour.SERVER_DOWN),
    _offer("Answer lost", "It is stored, but the connection breaks before the answer.", Behaviour.ANSWER_LOST),
    _offer("Challenged", "A page for humans comes instead of an answer.", Behaviour.CHALLENGED),
)


def judge_token(token: str) -> Behaviour:
    """Return how `token` behaves; a text that `make_token` did not make is unknown."""
    match = _TOKEN.fullmatch(token)
    return next((each for each in Behaviour if match and match["behaviour"] == each), Behaviour.UNKNOWN)
