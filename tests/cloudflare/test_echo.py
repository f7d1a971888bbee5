"""Nothing of a secret remains in an answer's text, and everything else stays as it is."""

import base64
import hashlib
import html
import json
import string
import textwrap
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.cloudflare.echo import LONGEST_TEXT, REMOVED, SHORTEST_PIECE, Echo
from tests.leaks import find_leaks

TOKEN = "cfut_MADEUPq7Rk2Zt9Wv4Xb1Nc8Lp3Hs6Jd5Fg0YaTmd41d8c9f"  # made up
API_KEY = "5a4db0c3f19e7d2b8a6c4e0f1d3b5a7c9e2f4"  # made up
ID = "ed17574386854bf78a67040be0a770b0"


def _undone(text: str) -> str:
    """Return the letters and digits that a reader finds, without separators."""
    return "".join(character for character in text if character.isascii() and character.isalnum()).lower()


def _has_run(text: str, secret: str) -> bool:
    """Return whether the text contains a run of the secret as long as counts."""
    letters, whole = _undone(text), _undone(secret)
    starts = range(len(whole) - SHORTEST_PIECE + 1)
    return any(whole[start : start + SHORTEST_PIECE] in letters for start in starts)


QUOTED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in a sentence": lambda token: f"The token {token} is not valid",
    "twice": lambda token: f"{token} is not {token}",
    "in capitals": str.upper,
    "its beginning": lambda token: token[:30],
    "its end": lambda token: token[-30:],
    "its middle": lambda token: token[10:30],
    "with its end masked": lambda token: token[:-4] + "****",
    "with a word in its middle": lambda token: f"{token[:20]} and {token[20:]}",
    "broken into lines": lambda token: "\r\n".join(textwrap.wrap(token, 11)),
    "spelled": " ".join,
    "with nothing seen between": "\u200b".join,
    "with hyphens": lambda token: "-".join(textwrap.wrap(token, 4)),
    "in percent signs": quote,
    "all in percent signs": lambda token: "".join(f"%{byte:02X}" for byte in token.encode()),
    "in percent signs twice": lambda token: "".join(f"%25{byte:02x}" for byte in token.encode()),
    "in entities": html.escape,
    "all in entities": lambda token: "".join(f"&#{byte};" for byte in token.encode()),
    "all in hexadecimal entities": lambda token: "".join(f"&#x{byte:x};" for byte in token.encode()),
    "in escapes of JSON": lambda token: "".join(f"\\u{byte:04x}" for byte in token.encode()),
    "in escapes of C": lambda token: "".join(f"\\x{byte:02x}" for byte in token.encode()),
    "as JSON in a text": lambda token: json.dumps({"token": token}),
    "as a header": lambda token: f"Authorization: Bearer {token}",
    "as bytes": lambda token: repr(f"Bearer {token}".encode()),
    "in hex": lambda token: token.encode().hex(),
    "in hex with colons": lambda token: token.encode().hex(":").upper(),
    **{
        f"in base64 after {skipped} characters": lambda token, skipped=skipped: base64.b64encode(  # type: ignore[misc]  # mypy knows no lambda with a default
            b":" * skipped + token.encode()
        ).decode()
        for skipped in range(3)
    },
    "in base64 for URLs": lambda token: base64.urlsafe_b64encode(token.encode()).decode(),
    "hashed, which is the S3 secret access key": lambda token: hashlib.sha256(token.encode()).hexdigest(),
    "half of its hash": lambda token: hashlib.sha256(token.encode()).hexdigest()[:32],
}


@pytest.mark.parametrize("secret", [TOKEN, API_KEY], ids=["a token", "an API key"])
@pytest.mark.parametrize("quote_it", QUOTED.values(), ids=QUOTED)
def test_a_quoted_secret_is_taken_out(quote_it: Callable[[str], str], secret: str) -> None:
    """In whatever form a server quotes it, no run remains from which it could be restored."""
    cleaned = Echo("another-one-of-0123456789", secret).remove(quote_it(secret))
    assert REMOVED in cleaned
    assert find_leaks(cleaned.encode(), secret) == []
    assert not _has_run(cleaned, secret)
    assert not _has_run(cleaned, hashlib.sha256(secret.encode()).hexdigest())


def test_the_text_around_it_stays() -> None:
    """A person can read the sentence, and sees that something was removed."""
    assert Echo(TOKEN).remove(f"No such token: '{TOKEN}' (1000).") == f"No such token: '{REMOVED}' (1000)."
    assert Echo(TOKEN).remove(f"cut: {TOKEN[:20]}...") == f"cut: {REMOVED}..."


KEPT = [
    "",
    "success",
    "Authentication error",
    "The bucket analytics-events has no catalog: enable it first",
    ID,
    "8f0a1b2c3d4e5f60-LHR",
    "5a4d000000000001-BOX",
    "2026-11-20T12:00:00Z",
    "100% of \\u0041 &amp; \u00e9",
    TOKEN[: SHORTEST_PIECE - 1],
]


@pytest.mark.parametrize("text", KEPT)
@pytest.mark.parametrize("secret", [TOKEN, "cfat_MADEUPGOOD00000000000000000000000000000000000001", "", "success"])
def test_text_that_is_not_an_echo_stays(text: str, secret: str) -> None:
    """Also a word of the envelope, and zeros that occur both in an id and in a token."""
    assert Echo(secret).remove(text) == text


def test_a_long_text_is_truncated_before_it_is_searched() -> None:
    """No kept text is that long, and searching takes time."""
    assert Echo(TOKEN).remove("ab " * LONGEST_TEXT) == ("ab " * LONGEST_TEXT)[:LONGEST_TEXT]
    assert not _has_run(Echo(TOKEN).remove("." * (LONGEST_TEXT - 20) + TOKEN), TOKEN)


def test_a_whole_document_is_cleaned() -> None:
    """Every string at any depth, and keys; numbers, booleans and nulls stay."""
    document = {"a": [TOKEN, {TOKEN: [{"b": f"x{TOKEN}"}]}], "n": [1, 1.5, True, None, ""]}
    assert Echo(TOKEN).clean(document) == {
        "a": [REMOVED, {REMOVED: [{"b": f"x{REMOVED}"}]}],
        "n": [1, 1.5, True, None, ""],
    }


@given(
    before=st.text(max_size=40),
    after=st.text(max_size=40),
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=SHORTEST_PIECE, max_size=80),
)
def test_no_whole_token_is_left_in_a_text(before: str, after: str, token: str) -> None:
    """Of any characters that a header can carry, at any position."""
    assume(token not in REMOVED * 3)
    assert token not in Echo(token).remove(before + token + after)


@given(text=st.text(max_size=200), token=st.text(string.ascii_letters + string.digits, min_size=48, max_size=48))
def test_no_text_breaks_it(text: str, token: str) -> None:
    """A text without any part of the token is unchanged."""
    assume(not _has_run(text, token))
    assume(not any(sign in text for sign in "%&\\"))
    assert Echo(token).remove(text) == text


def test_it_reveals_none_of_its_secrets() -> None:
    """In a printed frame, or to pickle."""
    echo = Echo(TOKEN)
    assert find_leaks((repr(echo) + str(echo)).encode(), TOKEN) == []
    assert not hasattr(echo, "__dict__")
