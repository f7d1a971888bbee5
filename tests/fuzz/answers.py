"""An HTTP answer as bytes, for targets that answer in place of Cloudflare or Slack: a status, headers, and a body."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, Self

from hypothesis import strategies as st

from tests.fuzz.target import DEEP, JSON, PLANTED, STAND_IN, TEXT, as_json, mutated

_FEWEST: Final = 200
_SPAN: Final = 400
"""Statuses from 200 to 599: httpx and aiohttp consume a 1xx themselves."""

_HEADERS: Final = {
    "content-type": ("application/json", "text/html", "application/json; charset=base64", "text/plain; charset=idna"),
    "content-encoding": ("gzip", "identity, identity", "br"),
    "content-length": ("0", "5", "99999999", "-1"),
    "location": (
        "https://a.example/",
        "//",
        "http://[",
        "https://\udcff",
        ":",
        "https://a:b@c",
        "/\x00",
        "http://" + "a" * 300,
    ),
    "set-cookie": (f"a={STAND_IN}",),
    "date": ("Mon, 30 Nov 2026 12:00:00 GMT", "Mon, 30 Nov 0001 12:00:00 +2359", " ", "1 Jan 9999 23:59:59 -2359"),
    "retry-after": ("1", "1e5", "nan", "9" * 400, "Mon, 30 Nov 2026 12:00:00 GMT", "-1", "\u0661"),
    "ratelimit": ('"default";r=5;t=30', '"default";r=99999999999999999999;t=0', ";;r=;t", '"a";r=1;t=999999999999'),
    "ratelimit-policy": ('"default";q=1200;w=300', '"a";q=0;w=0', '"a";q=99999999999999;w=1', '"a";q=1;w=99999999999'),
    "cf-ray": ("8f00a1b2c3d4e5f6-BOX", STAND_IN),
    "cf-mitigated": ("challenge",),
    "x-other": (STAND_IN,),
}


_FRAMING: Final = ("content-type", "content-encoding", "content-length", "location")
"""Headers that decide whether the others are read."""

_JSON_TYPE: Final = ("content-type", "application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server sends."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read any bytes: a line with the status, lines of headers, an empty line, and the body. Plants the token."""
        head, _, body = data.replace(STAND_IN.encode(), PLANTED.encode()).partition(b"\n\n")
        first, *lines = head.split(b"\n")
        number = int(first) if first.isdigit() and len(first) < 9 else sum(first)
        headers = (line.partition(b":") for line in lines)
        return cls(
            status=_FEWEST + (number - _FEWEST) % _SPAN,
            headers=tuple((name.strip().lower(), value.strip()) for name, _, value in headers if _is_name(name)),
            body=body,
        )


def write(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return the bytes that `Answer.read` reads as this answer."""
    lines = [str(status), *(f"{name}: {value}" for name, value in headers)]
    return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n" + body


def seeds_of(documents: Sequence[object]) -> tuple[bytes, ...]:
    """Return usual answers with these documents, and some that no service sends."""
    usual = [write(status, [_JSON_TYPE], json.dumps(each).encode()) for each in documents for status in (200, 403)]
    framed = [write(302, [(name, value)], b"{}") for name in _FRAMING for value in _HEADERS[name]]
    others = [[(name, value) for value in values] for name, values in _HEADERS.items() if name not in _FRAMING]
    named = [write(429, [_JSON_TYPE, *row], b"error code: 1015") for row in zip_longest(*others, fillvalue=_JSON_TYPE)]
    bodies = (b"", b"\xff", b"null", *DEEP)
    return (*usual, *framed, *named, *(write(200, [_JSON_TYPE], body) for body in bodies))


def inputs_of(documents: Sequence[object]) -> st.SearchStrategy[bytes]:
    """Make answers with these documents, changed."""
    named = st.sampled_from(sorted(_HEADERS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(_HEADERS[name]) | TEXT.map(_one_line))
    )
    bodies = as_json(mutated(documents)) | as_json(JSON) | st.binary(max_size=60)
    statuses = st.sampled_from([200, 400, 403, 404, 429, 500]) | st.integers(200, 599)
    headers = st.lists(named, max_size=3).map(lambda more: [*more, _JSON_TYPE])
    return st.builds(write, statuses, headers, bodies)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ").encode("utf-8", "replace").decode()[:9000]


def _is_name(name: bytes) -> bool:
    return bool(name.strip()) and name.strip().replace(b"-", b"").isalnum()
