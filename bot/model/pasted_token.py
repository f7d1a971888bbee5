"""What a pasted string is, told by its shape alone; trims copy slips and masks token-shaped text. Pure."""

import re
from typing import Final

from bot.model.submission import TokenKind

MASK: Final = "[looked like a token: masked]"
"""Stands where a token was typed in a place that is none for it; whoever reads it knows what was there."""

STORABLE: Final = frozenset({TokenKind.USER, TokenKind.ACCOUNT, TokenKind.UNPREFIXED, TokenKind.UNKNOWN})

_UNSEEN: Final = (  # what has no width but is no white space to Python: zero-width characters, marks of direction
    "\x00\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_BLANKS: Final = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
_AROUND: Final = _BLANKS + _UNSEEN + _QUOTES
_LEADING: Final = re.compile(rf"(?:[{re.escape(_AROUND)}]++|(?:authorization\s*+:\s*+)?bearer\s++)*+", re.IGNORECASE)
_PREFIX: Final = re.compile(r"cf(?:ut|at|k|oat)_")
_LENGTHS: Final = range(20, 501)

_KINDS: Final = (
    (re.compile(r"cfk_.*|[0-9a-f]{37,45}"), TokenKind.GLOBAL_KEY),
    (re.compile(r"cfoat_.*"), TokenKind.OAUTH),
    (re.compile(r"[0-9A-Fa-f]{64}"), TokenKind.S3_SECRET),
    (re.compile(r"[0-9A-Fa-f]{32}"), TokenKind.S3_KEY_ID),
    (re.compile(r"cfut_.*"), TokenKind.USER),
    (re.compile(r"cfat_.*"), TokenKind.ACCOUNT),
    (re.compile(r"[A-Za-z0-9_-]{40}"), TokenKind.UNPREFIXED),
)
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750: what can stand behind "Bearer"; no NAME=VALUE

_SHORTEST_BARE: Final = 37
_TOKEN_SHAPED: Final = re.compile(
    r"cf(?:ut|at|k|oat)_[A-Za-z0-9_-]+"
    r"|(?<![A-Za-z0-9_-])[0-9A-Fa-f]{37,}(?![A-Za-z0-9_-])"
    # 40 and more random characters hold all three sorts; a bucket name has no capital, a sentence has blanks
    r"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{40,}"
    # one of a thousand older tokens has no digit: it is told by its length, which few such words have
    r"|(?<![A-Za-z0-9_-])(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{40}(?![A-Za-z0-9_-])"
)


def trim(pasted: str) -> str:
    """Remove surrounding blanks and quotes and a leading `Bearer `, in whatever order they were copied.

    In one pass over the text: layer by layer, a field full of them would hold up everybody.
    """
    return _LEADING.sub("", pasted.rstrip(_AROUND), count=1)


def classify(trimmed: str) -> TokenKind:
    """Say what a trimmed string is. What has the look of no known kind is UNKNOWN, and for Cloudflare to judge.

    Strict patterns broke other tools when the prefixes came in 2026-03.
    """
    if not trimmed:
        return TokenKind.EMPTY
    if re.search(r"\s", trimmed) or len(_PREFIX.findall(trimmed)) > 1:
        return TokenKind.SEVERAL
    if not _TOKEN68.fullmatch(trimmed) or len(trimmed) not in _LENGTHS:
        return TokenKind.NOT_A_TOKEN
    return next((kind for shape, kind in _KINDS if shape.fullmatch(trimmed)), TokenKind.UNKNOWN)


def mask_tokens(text: str) -> str:
    """Replace everything token-shaped in a text that is no place for a token."""
    if len(text) < _SHORTEST_BARE and "cf" not in text:
        return text  # most of what Slack sends, and the search is the slower part of sealing a payload
    return _TOKEN_SHAPED.sub(MASK, text)
