"""A sealed value opens only in its context, and a failure to open reveals nothing."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from bot.model.errors import SealedValueUnreadable
from bot.sealing.hpke import (
    RESPONSE_URL,
    TOKEN,
    KeyRing,
    PrivateKey,
    SealingContext,
    SealingKey,
    generate_private_key,
    key_id_of,
    load_private_keys,
    public_pem,
)

PLAIN = "cfat_MADEUP00000000000000000000000000000000000000000"  # made up
URL = "https://hooks.slack.com/app/T0MADEUP/1/madeup"  # made up
ANY_TEXT = st.lists(st.text() | st.text(st.characters(categories=["Cs"])), max_size=4).map("".join)
CONTEXT = SealingContext(
    purpose=TOKEN,
    task="check",
    team_id="T0HOME",
    user_id="U0ALICE",
    view_id="V0VIEW",
    channel_id="C0CHANNEL",
    account_id="0123456789abcdef0123456789abcdef",
    bucket="analytics-events",
)


def make_key() -> PrivateKey:
    """Make a private key."""
    return load_private_keys(generate_private_key())[0]


KEY = make_key()
RING = KeyRing(KEY)
SEALED = RING.sealing_key.seal(PLAIN, CONTEXT)
ID = "0123456789abcdef"


def describe_failure(ring: KeyRing, sealed: str, context: SealingContext) -> object:
    """Return everything visible of the failure to open, which must always be the same."""
    with pytest.raises(SealedValueUnreadable) as caught:
        ring.open(sealed, context)
    error = caught.value
    return type(error), str(error), repr(error), error.args, vars(error), error.__cause__, error.__context__


EVERY_FAILURE: object = (
    SealedValueUnreadable,
    "sealed_value_unreadable",
    "SealedValueUnreadable()",
    (),
    {},
    None,
    None,
)


@given(ANY_TEXT)
def test_what_was_sealed_opens(plaintext: str) -> None:
    """Any text comes back unchanged, sealed with the public half only."""
    sealing_key = SealingKey(X25519PublicKey.from_public_bytes(KEY.public_key().public_bytes_raw()))
    assert RING.open(sealing_key.seal(plaintext, CONTEXT), CONTEXT).reveal() == plaintext


@given(ANY_TEXT)
def test_the_same_text_never_seals_to_the_same(plaintext: str) -> None:
    """Two sealings of a text share only prefix, key id and length."""
    once, again = (RING.sealing_key.seal(plaintext, CONTEXT).split(".") for _ in range(2))
    assert once[:3] == again[:3]
    assert once[3][:43] != again[3][:43]  # the encapsulated key
    assert once[3][43:] != again[3][43:]  # the ciphertext


def test_the_sealed_text_shows_nothing_of_the_plain_one() -> None:
    """The form is `sealed.v1.<key id>.<base64url>`, safe in a URL, a log and a database."""
    prefix, version, key_id, rest = SEALED.split(".")
    assert (prefix, version) == ("sealed", "v1")
    assert key_id == hashlib.sha256(KEY.public_key().public_bytes_raw()).hexdigest()[:16]
    assert set(rest) <= set(string.ascii_letters + string.digits + "-_")
    assert "MADEUP" not in SEALED


def _documented_info(context: SealingContext) -> bytes:
    """Build the documented `info`: a version label, a zero byte, the fields as JSON sorted by name."""
    pairs = ",".join(
        f"{json.dumps(name)}:{json.dumps(value)}"
        for name, value in [
            ("account_id", context.account_id),
            ("bucket", context.bucket),
            ("channel_id", context.channel_id),
            ("purpose", context.purpose),
            ("task", context.task),
            ("team_id", context.team_id),
            ("user_id", context.user_id),
            ("view_id", context.view_id),
        ]
    )
    return b"r2-credential-bot sealed.v1\0{" + pairs.encode() + b"}"


def _raw(sealed: str) -> bytes:
    text = sealed.split(".")[3]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_library_itself_opens_it_from_the_documented_info() -> None:
    """Anyone with the documents and the key can open it without our code."""
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    assert suite.decrypt(_raw(SEALED), KEY, _documented_info(CONTEXT)) == PLAIN.encode()


def _extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return hmac.digest(key, info + b"\1", "sha256")[:length]


def _open_as_in_rfc_9180(raw: bytes, key: X25519PrivateKey, info: bytes) -> bytes:
    """Open as RFC 9180 describes in sections 4.1, 5.1 and 5.2; mode base, KEM 0x20, KDF 1, AEAD 3."""
    enc, ciphertext = raw[:32], raw[32:]
    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    eae_prk = _extract(b"", b"HPKE-v1" + kem + b"eae_prk" + dh)
    kem_context = enc + key.public_key().public_bytes_raw()
    shared_secret = _expand(eae_prk, b"\0\x20HPKE-v1" + kem + b"shared_secret" + kem_context, 32)
    psk_id_hash = _extract(b"", b"HPKE-v1" + hpke + b"psk_id_hash")
    info_hash = _extract(b"", b"HPKE-v1" + hpke + b"info_hash" + info)
    schedule = b"\0" + psk_id_hash + info_hash
    secret = _extract(shared_secret, b"HPKE-v1" + hpke + b"secret")
    aead_key = _expand(secret, b"\0\x20HPKE-v1" + hpke + b"key" + schedule, 32)
    nonce = _expand(secret, b"\0\x0cHPKE-v1" + hpke + b"base_nonce" + schedule, 12)
    return ChaCha20Poly1305(aead_key).decrypt(nonce, ciphertext, b"")


def test_it_is_the_hpke_of_the_rfc() -> None:
    """The steps of RFC 9180, written out from the primitives, open it as well."""
    assert _open_as_in_rfc_9180(_raw(SEALED), KEY, _documented_info(CONTEXT)) == PLAIN.encode()


OTHER_CONTEXTS = {
    f"other {field.name}": replace(CONTEXT, **{field.name: other})
    for field in fields(SealingContext)
    for other in [getattr(CONTEXT, field.name) + "x", "", getattr(CONTEXT, field.name).swapcase()]
    if other != getattr(CONTEXT, field.name)
} | {
    "fields moved": replace(CONTEXT, team_id=CONTEXT.user_id, user_id=CONTEXT.team_id),
    "a dry run that became a write": replace(CONTEXT, task="store"),
    "fields run together": replace(CONTEXT, user_id=CONTEXT.user_id + CONTEXT.view_id, view_id=""),
    "a quote in a field": replace(CONTEXT, team_id='T0HOME","user_id":"U0ALICE'),
}


@pytest.mark.parametrize("context", OTHER_CONTEXTS.values(), ids=OTHER_CONTEXTS.keys())
def test_it_does_not_open_elsewhere(context: SealingContext) -> None:
    """With any single field of the context changed, it does not open."""
    assert describe_failure(RING, SEALED, context) == EVERY_FAILURE


@pytest.mark.parametrize("field", [field.name for field in fields(SealingContext)])
@given(other=ANY_TEXT)
def test_no_value_of_a_field_opens_it_but_the_right_one(field: str, other: str) -> None:
    """Whatever the field holds instead, the library gets another `info`."""
    if other != getattr(CONTEXT, field):
        assert replace(CONTEXT, **{field: other}).info() != CONTEXT.info()


def test_two_halves_of_an_emoji_are_not_the_emoji() -> None:
    """Contexts that JSON would escape alike stay distinct."""
    halves = replace(CONTEXT, bucket="\ud83d\ude00")
    assert halves.info() != replace(CONTEXT, bucket="\U0001f600").info()


@pytest.mark.parametrize(
    ("sealed_as", "opened_as"), [(TOKEN, RESPONSE_URL), (RESPONSE_URL, TOKEN)], ids=["url from token", "token from url"]
)
def test_a_purpose_does_not_open_as_another(sealed_as: str, opened_as: str) -> None:
    """A sealed response URL does not open as a token, nor the other way round."""
    sealed = RING.sealing_key.seal(URL, replace(CONTEXT, purpose=sealed_as))
    assert describe_failure(RING, sealed, replace(CONTEXT, purpose=opened_as)) == EVERY_FAILURE


def _damage(position: int) -> Iterator[str]:
    """Change, add or remove one character, or cut off the end or the beginning."""
    before, here, after = SEALED[:position], SEALED[position], SEALED[position + 1 :]
    yield from (before + other + after for other in (chr(ord(here) ^ 1), "A", "-", "=", "+", "é", "\0", "."))
    yield from (before + other + here + after for other in ("A", "=", " ", "\n", "."))
    yield from (before + after, before, after)


def test_no_changed_added_or_cut_character_opens() -> None:
    """Damage anywhere, including the unused bits of the last character, prevents opening."""
    broken = {text for position in range(len(SEALED)) for text in _damage(position)} - {SEALED}
    assert len(broken) > 10 * len(SEALED)
    assert [text for text in broken if describe_failure(RING, text, CONTEXT) != EVERY_FAILURE] == []


@pytest.mark.parametrize("tail", ["A", "=", "==", "\n", " ", ".", SEALED], ids=lambda tail: repr(tail[:9]))
def test_nothing_may_follow_it(tail: str) -> None:
    """Trailing text is not ignored."""
    assert describe_failure(RING, SEALED + tail, CONTEXT) == EVERY_FAILURE


def test_no_flipped_bit_opens() -> None:
    """Every bit is authenticated, even the top bit of the encapsulated key, which X25519 itself ignores."""
    raw = int.from_bytes(_raw(SEALED))
    flipped = [(raw ^ 1 << bit).to_bytes(len(_raw(SEALED))) for bit in range(8 * len(_raw(SEALED)))]
    assert [each for each in flipped if describe_failure(RING, _with_raw(each), CONTEXT) != EVERY_FAILURE] == []


def _with_raw(raw: bytes) -> str:
    return f"sealed.v1.{RING.sealing_key.key_id}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


LOW_ORDER_POINT = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
BAD_RAW = {
    "nothing": b"",
    "a key and no ciphertext": _raw(SEALED)[:32],
    "a key and half a tag": _raw(SEALED)[:40],
    "zeros": bytes(80),
    "a point of low order": LOW_ORDER_POINT + bytes(48),
    "ones": b"\xff" * 80,
    "not UTF-8, though sealed well": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305).encrypt(
        b"\xff\xfe", KEY.public_key(), CONTEXT.info()
    ),
}


@pytest.mark.parametrize("raw", BAD_RAW.values(), ids=BAD_RAW.keys())
def test_no_bad_ciphertext_opens(raw: bytes) -> None:
    """Ciphertexts that the library refuses for other reasons fail in the same way."""
    assert describe_failure(RING, _with_raw(raw), CONTEXT) == EVERY_FAILURE


@given(ANY_TEXT)
def test_random_text_does_not_open(text: str) -> None:
    """Neither a random text nor one with the right prefix and key id."""
    for sealed in (text, f"sealed.v1.{text}", f"sealed.v1.{RING.sealing_key.key_id}.{text}"):
        assert describe_failure(RING, sealed, CONTEXT) == EVERY_FAILURE


def test_a_strange_key_does_not_open_it() -> None:
    """A ring without the key, and a key under a wrong id, fail in the same way."""
    stranger = KeyRing(make_key())
    claimed = SEALED.replace(RING.sealing_key.key_id, stranger.sealing_key.key_id)
    assert describe_failure(stranger, SEALED, CONTEXT) == EVERY_FAILURE
    assert describe_failure(stranger, claimed, CONTEXT) == EVERY_FAILURE


@pytest.mark.parametrize(
    "text",
    [
        *("", "sealed", "sealed.v1", "sealed.v1.x", "sealed.v2.x.y", "a.b.c.d", "sealed.v1.x.y.z"),
        f"sealed.v2.{ID}.AAAA",
        f"sealed.v1.{ID}.",
        f"sealed.v1.{ID}.AA+A",
        f"sealed.v1.{ID}.AAAA\n",
        f"sealed.v1.{ID[1:]}.AAAA",
        f"sealed.v1.{ID}0.AAAA",
        f"sealed.v1.{ID.upper()}.AAAA",
        f"sealed.v1.{ID[1:]}\u0663.AAAA",
        "sealed.v1.\x1b[2J\x1b]0;keys: fine\x07\n.AAAA",
        "sealed.v1.cfat_MADEUPTOKENMADEUP.AAAA",
    ],
)
def test_the_key_id_of_something_else_is_refused(text: str) -> None:
    """Only a sealed text has a key id: what a damaged row puts there is shown to nobody."""
    with pytest.raises(ValueError, match=r"\Anot a sealed value\Z"):
        key_id_of(text)


def test_the_key_id_of_a_sealed_text_is_that_of_its_key() -> None:
    """It can be read without any key."""
    assert key_id_of(SEALED) == RING.sealing_key.key_id


def test_the_newest_key_seals_and_older_ones_open() -> None:
    """Rotating keys loses nothing in flight."""
    old, new = make_key(), make_key()
    sealed_before = SealingKey(old.public_key()).seal(PLAIN, CONTEXT)
    ring = KeyRing(new, old)
    sealed_now = ring.sealing_key.seal(PLAIN, CONTEXT)
    assert key_id_of(sealed_now) == SealingKey(new.public_key()).key_id
    assert ring._keys.keys() == {key_id_of(sealed_before), key_id_of(sealed_now)}
    assert ring.open(sealed_before, CONTEXT).reveal() == ring.open(sealed_now, CONTEXT).reveal() == PLAIN


def test_an_added_key_seals_from_then_on() -> None:
    """What was sealed before still opens."""
    ring = KeyRing(KEY)
    ring.add(newest := make_key())
    assert key_id_of(ring.sealing_key.seal(PLAIN, CONTEXT)) == SealingKey(newest.public_key()).key_id
    assert ring.open(SEALED, CONTEXT).reveal() == PLAIN


def test_a_forgotten_key_opens_nothing() -> None:
    """What it sealed is lost, and forgetting it twice changes nothing."""
    ring = KeyRing(make_key(), KEY)
    for _ in range(2):
        ring.forget(key_id_of(SEALED))
    assert describe_failure(ring, SEALED, CONTEXT) == EVERY_FAILURE
    assert len(ring._keys) == 1


def _pkcs8(key: PrivateKeyTypes) -> str:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def _armour(der: bytes) -> str:
    return f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END PRIVATE KEY-----\n"


def _der(key: X25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


P256 = ec.generate_private_key(ec.SECP256R1())
BAD_PEM = {
    "nothing": "",
    "a ring that was cut off while copying": _pkcs8(KEY) + _pkcs8(KEY)[:60],
    "a text": "this is no key",
    "a raw key": KEY.private_bytes_raw().hex(),
    "a public key": public_pem(KEY),
    "an encrypted key": KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"made up"),
    ).decode(),
    "an RSA key": _pkcs8(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - small because it is quick
    "a P-256 key": _pkcs8(P256),
    "an Ed25519 key": _pkcs8(ed25519.Ed25519PrivateKey.generate()),
    "an Ed448 key": _pkcs8(ed448.Ed448PrivateKey.generate()),
    "an X448 key": _pkcs8(x448.X448PrivateKey.generate()),
    "a key of an unknown kind": _armour(_der(KEY).replace(b"\x2b\x65\x6e", b"\x2b\x65\x7f")),
    "a key that says it is of another kind": _armour(_der(KEY).replace(b"\x2b\x65\x6e", b"\x2b\x65\x6f")),
    "a key on an unknown curve": _armour(_der(P256).replace(b"\xce\x3d\x03\x01\x07", b"\xce\x3d\x03\x01\x7f")),
    "an empty block": _armour(b""),
    "a cut block": _armour(_der(KEY)[:-1]),
    "a block with more behind": _armour(_der(KEY) + b"\0"),
    "an end without a beginning": "-----END PRIVATE KEY-----\n",
    "no line breaks": _pkcs8(KEY).replace("\n", " ").replace(" PRIVATE", "  PRIVATE"),
    "a good key behind a bad one": _armour(b"\x30\x00") + _pkcs8(KEY),
    "a bad key behind a good one": _pkcs8(KEY) + _armour(b"\x30\x00"),
    "bytes that are no text": "\udcff" + _pkcs8(KEY),
}


@pytest.mark.parametrize("pem", BAD_PEM.values(), ids=BAD_PEM.keys())
def test_an_unsuitable_key_is_refused(pem: str) -> None:
    """The sentence names the fix and quotes nothing."""
    with pytest.raises(ValueError, match=r"keygen PATH|copy it again") as refusal:
        load_private_keys(pem)
    assert refusal.value.__cause__ is None
    assert not any(line in str(refusal.value) for line in pem.splitlines() if line and "-" not in line)


ARRANGED: dict[str, Callable[[str, str], str]] = {
    "one behind the other": lambda one, two: one + two,
    "with blank lines": lambda one, two: f"\n\n{one}\n\n\n{two}\n\n",
    "with line ends of Windows": lambda one, two: (one + two).replace("\n", "\r\n"),
    "with a text before each": lambda one, two: f"# old\n{one}# new\n{two}",
    "without the last line end": lambda one, two: (one + two).rstrip(),
}


@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED.keys())
def test_several_keys_come_in_order(arrange: Callable[[str, str], str]) -> None:
    """A PEM text may hold a whole ring; the first key is the one that seals."""
    one, two = generate_private_key(), generate_private_key()
    loaded = [key.private_bytes_raw() for key in load_private_keys(arrange(one, two))]
    assert loaded == [load_private_keys(pem)[0].private_bytes_raw() for pem in (one, two)]


def test_the_public_half_belongs_to_the_private_one() -> None:
    """It is a PEM that the library reads, with the same point."""
    public = serialization.load_pem_public_key(public_pem(KEY).encode())
    assert isinstance(public, X25519PublicKey)
    assert public.public_bytes_raw() == KEY.public_key().public_bytes_raw()
    assert "PRIVATE" not in public_pem(KEY)
