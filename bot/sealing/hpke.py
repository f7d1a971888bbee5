"""Seals tokens and opens them again, bound to their context (the only user of cryptography).

HPKE (RFC 9180), single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
Sealing needs only the public key.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InternalError, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from bot.model.errors import SealedValueUnreadable
from bot.model.secret import Secret
from bot.model.submission import Submission

PrivateKey = X25519PrivateKey

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
TOKEN: Final = "token"  # noqa: S105 - a purpose, see SealingContext
RESPONSE_URL: Final = "response_url"

_NO_KEY: Final = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What the library raises for a text that is no key; InternalError where the key is of another curve than it says."""

_PREFIX: Final = "sealed.v1"
_SEALED: Final = re.compile(rf"{re.escape(_PREFIX)}\.(?P<key_id>[0-9a-f]{{16}})\.[A-Za-z0-9_-]+")
"""Of the whole text: an id is shown to the operator, and a damaged row could put anything there."""

_INFO_LABEL: Final = b"r2-credential-bot sealed.v1\x00"
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingContext:
    """What a sealed value is bound to: change one field, and it does not open.

    `purpose` keeps a sealed response URL from being opened as a token. `task` and `channel_id` stop an attacker who can
    write to the database from turning a dry run into a write, and from sending the result elsewhere.
    """

    purpose: str
    task: str
    team_id: str
    user_id: str
    view_id: str
    channel_id: str
    account_id: str
    bucket: str

    @classmethod
    def of(cls, submission: Submission, purpose: str) -> Self:
        """Return the context of a recorded submission's sealed values."""
        return cls(
            purpose=purpose,
            task=submission.task.value,
            team_id=submission.team_id,
            user_id=submission.user_id,
            view_id=submission.id,
            channel_id=submission.channel_id,
            account_id=submission.key.account_id,
            bucket=submission.key.bucket,
        )

    def info(self) -> bytes:
        """Return HPKE's `info`: a version label and the fields as canonical JSON, so that no two contexts coincide."""
        canonical = _CANONICAL.encode({name: getattr(self, name) for name in self.__slots__})
        return _INFO_LABEL + canonical.encode("utf-8", "surrogatepass")


class SealingKey:
    """A public key: can seal, cannot open. Its `key_id`: 16 hex digits of SHA-256 over the raw public key."""

    def __init__(self, public: X25519PublicKey) -> None:
        self._public = public
        self.key_id = hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]

    def seal(self, plaintext: str, context: SealingContext) -> str:
        """Return `sealed.v1.<key id>.<base64url>`; the same plaintext never gives the same text twice."""
        sealed = _SUITE.encrypt(plaintext.encode("utf-8", "surrogatepass"), self._public, context.info())
        return f"{_PREFIX}.{self.key_id}.{_encode(sealed)}"

    def seal_secret(self, secret: Secret, context: SealingContext) -> str:
        """Do the same with a value that no other code holds in plain."""
        return self.seal(secret.reveal(), context)


@dataclass(frozen=True, slots=True)
class PublicRing:
    """The one public key of a process that seals and cannot open."""

    sealing_key: SealingKey


class KeyRing:
    """The private keys that can open; the newest one seals."""

    def __init__(self, newest: X25519PrivateKey, *older: X25519PrivateKey) -> None:
        self._keys = {SealingKey(key.public_key()).key_id: key for key in (newest, *older)}
        self.sealing_key = SealingKey(newest.public_key())

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys that can open."""
        return frozenset(self._keys)

    def add(self, newest: X25519PrivateKey) -> None:
        """Seal with this key from now on; the others still open."""
        self.sealing_key = SealingKey(newest.public_key())
        self._keys[self.sealing_key.key_id] = newest

    def forget(self, key_id: str) -> None:
        """Drop a key: what it sealed can no longer be opened anywhere."""
        self._keys.pop(key_id, None)

    def open(self, sealed: str, context: SealingContext) -> Secret:
        """Open a sealed value.

        Raises SealedValueUnreadable without detail, whatever the reason: attempts must teach an attacker nothing.
        """
        secret = self._try_open(sealed, context)
        if secret is None:  # raised here and not in the handler: a chained exception would show the reason
            raise SealedValueUnreadable
        return secret

    def _try_open(self, sealed: str, context: SealingContext) -> Secret | None:
        try:
            key = self._keys[key_id_of(sealed)]
            ciphertext = _decode(sealed.rpartition(".")[2])
            return Secret(_SUITE.decrypt(ciphertext, key, context.info()).decode("utf-8", "surrogatepass"))
        except (InvalidTag, KeyError, ValueError):
            return None


def key_id_of(sealed: str) -> str:
    """Return the id of the key that a sealed value needs; raises ValueError for anything else."""
    found = _SEALED.fullmatch(sealed)
    if found is None:
        message = "not a sealed value"
        raise ValueError(message)
    return found["key_id"]


def generate_private_key() -> str:
    """Return a new private key as PKCS#8 PEM text."""
    key = X25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(private_key: X25519PrivateKey) -> str:
    """Return the public half as PEM text: what a process that only seals needs."""
    return (
        private_key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def load_public_key(pem: str) -> SealingKey:
    """Read an X25519 public key in PEM; raises ValueError that quotes nothing."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except _NO_KEY:
        key = None
    if not isinstance(key, X25519PublicKey):
        message = "is not an X25519 public key in PEM (`r2-credential-bot keygen PATH` prints one)"
        raise ValueError(message)  # noqa: TRY004 - bad input from a setting, not a caller's wrong type
    return SealingKey(key)


def load_private_keys(pem: str) -> list[X25519PrivateKey]:
    """Read the X25519 private keys of a PEM text, at least one; raises ValueError that quotes nothing."""
    return [_load_private_key(block) for block in _split_pem(pem)]


def _split_pem(text: str) -> list[str]:
    end = "-----END PRIVATE KEY-----"
    *bodies, rest = text.split(end)
    if not bodies:
        message = "holds no PEM private key (`r2-credential-bot keygen PATH` makes one)"
        raise ValueError(message)
    if "-----BEGIN" in rest:  # else an older key of the ring would be lost silently
        message = "ends in the middle of a PEM block: copy it again"
        raise ValueError(message)
    return [body.strip() + "\n" + end + "\n" for body in bodies]


def _load_private_key(pem: str) -> X25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except _NO_KEY:
        key = None
    if not isinstance(key, X25519PrivateKey):
        message = "is not an X25519 private key in PKCS#8 PEM (`r2-credential-bot keygen PATH` makes one)"
        raise ValueError(message)  # noqa: TRY004 - bad input from a file, not a caller's wrong type
    return key


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raw = b""
    if _encode(raw) != text:  # also a changed unused bit of the last character is tampering
        message = "not canonical base64url"
        raise ValueError(message)
    return raw
