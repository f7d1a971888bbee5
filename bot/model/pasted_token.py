"""Classifies a pasted string by its shape alone; trims copying mistakes and masks token-shaped text. Pure."""

import re
from typing import Final

from bot.model.other_secrets import mask_other_secrets, name_other_secret
from bot.model.submission import TokenKind

MASK: Final = "[looked like a token: masked]"
"""Replaces a token that was typed in the wrong place, so that readers know what was there."""

DIGEST_MASK: Final = "[token, commit or checksum: masked]"
"""The mark for a masked word that may also be a commit or a checksum: a git commit has the shape of a Global API key, a
SHA-256 that of an S3 secret. `mask_tokens` sets it where the caller asks for it.
"""

CONFIRMED: Final = "[masked: commit or checksum]"
"""Recorded for a word that was sent after the warning: "Try again" fills it in, and it is not asked about again."""

STORABLE: Final = frozenset({TokenKind.USER, TokenKind.ACCOUNT, TokenKind.UNPREFIXED, TokenKind.UNKNOWN})

_UNSEEN: Final = (  # invisible, but not white space to Python: zero-width characters and direction marks
    "\x00\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_BLANKS: Final = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
_AROUND: Final = _BLANKS + _UNSEEN + _QUOTES
_LEADING: Final = re.compile(rf"(?:[{re.escape(_AROUND)}]++|(?:authorization\s*+:\s*+)?bearer\s++)*+", re.IGNORECASE)
_PREFIX: Final = re.compile(r"cf(?:ut|at|k|oat)_")
_LENGTHS: Final = range(20, 501)

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_KINDS: Final = (
    (_UUID, TokenKind.UUID),
    (re.compile(r"cfk_.*|[0-9a-f]{37,45}"), TokenKind.GLOBAL_KEY),
    (re.compile(r"cfoat_.*"), TokenKind.OAUTH),
    (re.compile(r"[0-9A-Fa-f]{64}"), TokenKind.S3_SECRET),
    (re.compile(r"[0-9A-Fa-f]{32}"), TokenKind.S3_KEY_ID),
    (re.compile(r"cfut_.*"), TokenKind.USER),
    (re.compile(r"cfat_.*"), TokenKind.ACCOUNT),
    (re.compile(r"[A-Za-z0-9_-]{40}"), TokenKind.UNPREFIXED),
)
_NAME: Final = re.compile(  # of a line of a .env file, of a shell or of YAML
    rf"(?:(?:export|set|setx|env)\s++|\$env:)?+[A-Za-z_][A-Za-z0-9_.-]*+\s*+[=:]\s*+[{re.escape(_QUOTES)}]*+",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(r"[A-Za-z0-9-]\S*")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750: what can stand behind "Bearer"; no NAME=VALUE

_SHORTEST_BARE: Final = 37
_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9A-F]{40}|[0-9a-f]{64}|[0-9A-F]{64}")  # SHA-1 and SHA-256
_TOKEN_SHAPED: Final = re.compile(
    r"cf(?:ut|at|k|oat)_[A-Za-z0-9_-]+"
    r"|(?<![A-Za-z0-9_-])[0-9A-Fa-f]{37,}(?![A-Za-z0-9_-])"
    # 40 or more random characters contain all three sorts; a bucket name has no capital, a sentence has blanks
    r"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{40,}"
    # one in a thousand older tokens has no digit: recognized by its length, which few words have
    r"|(?<![A-Za-z0-9_-])(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{40}(?![A-Za-z0-9_-])"
)


def trim(pasted: str) -> str:
    """Remove surrounding blanks and quotes and a leading `Bearer `, in any order.

    In one pass over the text: removing layer by layer, a field full of them would block the event loop.
    """
    return _LEADING.sub("", pasted.rstrip(_AROUND), count=1)


def trim_typed(text: str) -> str:
    """Remove what is copied along with a name: blanks, invisible characters and quotes."""
    return text.strip(_AROUND)


def classify(trimmed: str) -> TokenKind:
    """Classify a trimmed string. One of no known shape is UNKNOWN, for Cloudflare to judge.

    Strict patterns broke other tools when Cloudflare introduced the prefixes in 2026-03.
    """
    if not trimmed:
        return TokenKind.EMPTY
    if find_other_secret(trimmed):
        return TokenKind.OTHER_SECRET
    is_one, is_named = len(_PREFIX.findall(trimmed)) < 2, _VALUE.fullmatch(_leave_out_name(trimmed))  # noqa: PLR2004
    if is_one and is_named:
        return TokenKind.NAMED_VALUE
    if not is_one or re.search(r"\s", trimmed):
        return TokenKind.SEVERAL
    if not _TOKEN68.fullmatch(trimmed) or len(trimmed) not in _LENGTHS:
        return TokenKind.NOT_A_TOKEN
    return next((kind for shape, kind in _KINDS if shape.fullmatch(trimmed)), TokenKind.UNKNOWN)


def find_other_secret(trimmed: str) -> str:
    """Return which secret of another service it is, with or without a name in front; "" if none."""
    return name_other_secret(trimmed) or name_other_secret(_leave_out_name(trimmed))


def mask_tokens(text: str, *, digest_mask: str = MASK) -> str:
    """Mask everything token-shaped, of Cloudflare or of others, in a text that should contain no token.

    `digest_mask` replaces text with the shape of a SHA-1 or a SHA-256: it may be a secret, or not secret at all.
    """
    text = mask_other_secrets(text, MASK)
    if len(text) < _SHORTEST_BARE and "cf" not in text:
        return text  # most of what Slack sends, and the search is the slower part of sealing a payload
    return _TOKEN_SHAPED.sub(lambda found: digest_mask if _DIGEST.fullmatch(found[0]) else MASK, text)


def _leave_out_name(trimmed: str) -> str:
    """Return the value of a line of `NAME=value`, or "" for any other text."""
    name = _NAME.match(trimmed)
    return trimmed[name.end() :] if name else ""
