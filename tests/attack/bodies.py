"""Bodies of a megabyte that take much to parse, or are no text: what Slack never sends, signed or not."""

import json
from collections.abc import Iterator
from typing import Final

from bot.slack.inbound.http import BODY_LIMIT

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
_DEEP: Final = 100_000


def hard_bodies() -> dict[str, tuple[str, bytes]]:
    """Return each body with its content type, none larger than the bot reads."""
    return {name: (kind, body[:BODY_LIMIT]) for name, kind, body in _bodies()}


def _bodies() -> Iterator[tuple[str, str, bytes]]:
    command = {"command": "/r2-credential", "user_id": "U0ADA0001", "team_id": "T0SANDBOX"}
    yield "JSON nested 100,000 deep", JSON_TYPE, b"[" * _DEEP + b"]" * _DEEP
    yield "objects nested 100,000 deep", JSON_TYPE, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP
    yield "a form's JSON nested deep", FORM_TYPE, b"payload=" + b"%7B%22a%22%3A" * 70_000
    yield "JSON nested as deep as Python reads", JSON_TYPE, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"
    yield "one key, a hundred thousand times", JSON_TYPE, b"{" + b'"a":1,' * 170_000 + b'"a":1}'
    yield "a hundred thousand keys", JSON_TYPE, _fit({f"k{number}": number for number in range(60_000)})
    yield "keys that are masked", JSON_TYPE, _fit({f"cfat_MADEUP{number:05d}": 1 for number in range(40_000)})
    yield "a number of a million digits", JSON_TYPE, b'{"a":' + b"9" * 1_000_000 + b"}"
    yield "a fraction of a million digits", JSON_TYPE, b'{"a":0.' + b"0" * 1_000_000 + b"1e9999}"
    yield "lone surrogates", JSON_TYPE, b'{"type":"' + b"\\ud800" * 170_000 + b'"}'
    yield "NULs", JSON_TYPE, b'{"type":"' + b"\\u0000" * 170_000 + b'"}'
    yield "no UTF-8", JSON_TYPE, b"\xff\xfe" * 500_000
    yield "a command of a megabyte", JSON_TYPE, _fit(command | {"text": "aB3-" * 250_000})
    yield "a command of invisible signs", JSON_TYPE, json.dumps(command | {"text": "\u200b\u2066" * 80_000}).encode()
    yield "a command of beginnings of secrets", JSON_TYPE, _fit(command | {"text": "-----BEGIN eyJ sk-ant- " * 40_000})
    yield "form fields by the hundred thousand", FORM_TYPE, b"a=b&" * 250_000 + b"command=x"
    yield "form fields with names of their own", FORM_TYPE, "&".join(f"{n}=" for n in range(130_000)).encode()
    yield "percent-encoding", FORM_TYPE, b"payload=" + b"%25" * 340_000
    yield "percent-encoding that is none", FORM_TYPE, b"a=" + b"%" * 1_000_000


def _fit(document: object) -> bytes:
    return json.dumps(document).encode()
