"""Searches bytes for a text in every encoding in which a program may have left it there."""

import base64
import urllib.parse
from collections.abc import Iterator


def find_leaks(haystack: bytes, text: str) -> list[str]:
    """Name every encoding in which the bytes contain the text."""
    lowered = haystack.lower()
    return [name for name, form in _forms(text.encode()) if form.lower() in lowered]


def _forms(plain: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each encoding with its name; compare without regard to case: hex and percent-encoding occur in both."""
    yield "plain", plain
    yield "reversed", plain[::-1]
    yield "hex", plain.hex().encode()
    yield "url-encoded", urllib.parse.quote_plus(plain).encode()
    yield "all percent", b"".join(b"%%%02x" % byte for byte in plain)
    yield "all escaped", b"".join(b"\\u%04x" % byte for byte in plain)
    yield "utf-16", plain.decode().encode("utf-16-le")
    yield "utf-16 in hex", plain.decode().encode("utf-16-le").hex().encode()
    for offset in range(3):
        # The neighbours of the text change its outermost base64 characters, of six bits each: the others stay the same.
        # All of them are compared: of a short text, four characters are found by chance in a few megabytes.
        middle = base64.b64encode(b"\0" * offset + plain)[-(-8 * offset // 6) : 8 * (offset + len(plain)) // 6]
        yield f"base64 at offset {offset}", middle
        yield f"base64url at offset {offset}", middle.translate(bytes.maketrans(b"+/", b"-_"))
