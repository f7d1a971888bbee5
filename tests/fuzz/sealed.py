"""Sealed values as a writer of the database could change them, and keys as an operator could paste them."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from bot.model.errors import SealedValueUnreadable
from bot.sealing.hpke import (
    TOKEN,
    KeyRing,
    SealingContext,
    generate_private_key,
    key_id_of,
    load_private_keys,
    load_public_key,
    public_pem,
)
from tests.fuzz.target import Check, Target, changed_bytes

_CONTEXT: Final = SealingContext(
    purpose=TOKEN,
    task="store",
    team_id="T0SANDBOX",
    user_id="U0ADA0001",
    view_id="V0MADEUP",
    channel_id="C0DATAPLT",
    account_id="5a4db0c0000000000000000000000001",
    bucket="lake",
)
_PKCS8: Final = bytes.fromhex("302e020100300506032b656e04220420")
_PEM: Final = (
    f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(_PKCS8 + bytes(range(32))).decode()}\n-----END PRIVATE KEY-----\n"
)
"""The same key in every run, and no secret."""

_RING: Final = KeyRing(*load_private_keys(_PEM))
_PLAINTEXT: Final = "a made-up token."
_SEALED: Final = (
    "sealed.v1.eedd883da0a94515.4VSnJzIqLGZDLpvs5XyOU5Q3sKiFU-aokDItv2aZtAjrrm5psyI_M3m1PAXv61AcCVGx2iI66N50iWgCgSgIxw"
)
"""That text, sealed with that key."""


@contextmanager
def _sealed() -> Iterator[Check]:
    yield _check_sealed


def _check_sealed(data: bytes) -> None:
    """Any text is unreadable, but for the one that was sealed; what is sealed opens, in its context only."""
    text = data.decode("utf-8", "surrogateescape")
    assert _open(_RING, text, _CONTEXT) == (_PLAINTEXT if text == _SEALED else None)
    _key_id(text)
    again = _RING.sealing_key.seal(text, _CONTEXT)
    assert _open(_RING, again, _CONTEXT) == text
    assert _key_id(again) == _RING.sealing_key.key_id
    for name in SealingContext.__slots__:
        moved = replace(_CONTEXT, **{name: getattr(_CONTEXT, name) + (text or "x")})
        assert _open(_RING, again, moved) is None


def _open(ring: KeyRing, sealed: str, context: SealingContext) -> str | None:
    try:
        return ring.open(sealed, context).reveal()
    except SealedValueUnreadable as error:
        assert error.__cause__ is error.__context__ is None  # it would say why
        return None


def _key_id(text: str) -> str | None:
    try:
        return key_id_of(text)
    except ValueError:
        return None


@contextmanager
def _keys() -> Iterator[Check]:
    yield _check_keys


def _check_keys(data: bytes) -> None:
    """Read a key, or have it refused in words that quote nothing of it."""
    text = data.decode("utf-8", "surrogateescape")
    for load in (load_private_keys, load_public_key):
        try:
            load(text)
        except ValueError as error:
            assert error.__cause__ is error.__context__ is None
            assert not any(line in str(error) for line in text.splitlines() if len(line) > len(_PEM) // 4)


_SEEDS: Final = (
    _SEALED.encode(),
    b"",
    b"sealed.v1..",
    b"sealed.v1.0123456789abcdef.AAAA",
    f"sealed.v1.{_RING.sealing_key.key_id}.AAAA".encode(),
    f"sealed.v1.{_RING.sealing_key.key_id}.{'A' * 96}".encode(),  # a point of low order
    (_SEALED[:-1] + chr(ord(_SEALED[-1]) + 1)).encode(),  # the same bytes in a text that is not canonical
    _SEALED.encode() + b"=",
    _SEALED.encode() + b"\n",
    _SEALED.replace("sealed.v1", "sealed.v2").encode(),
)
_KEY_SEEDS: Final = (
    _PEM.encode(),
    _PEM.encode() * 2,
    public_pem(load_private_keys(_PEM)[0]).encode(),
    b"",
    b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
    _PEM.encode()[:-40],
    _PEM.replace("VuBC", "VvBC").encode(),  # says that it is of X448
)

TARGETS: Final = (
    Target(name="sealed values", open=_sealed, seeds=_SEEDS, inputs=changed_bytes(_SEEDS) | st.binary()),
    Target(
        name="keys",
        open=_keys,
        seeds=_KEY_SEEDS,
        inputs=changed_bytes(_KEY_SEEDS) | st.builds(lambda: generate_private_key().encode()),
    ),
)
