"""Signs what the bot records, so that who can write to its database cannot speak in its name.

HMAC-SHA-256 (RFC 2104) with keys derived from R2_CREDENTIAL_AUDIT_KEY, one for each purpose. The database never has it.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from bot.model.secret import Secret

Fields = Mapping[str, str | int | None]
"""What a signature covers: a name and a value for each part of a record."""

_VERSION: Final = "v1"
_LABEL: Final = b"r2-credential-bot authenticity.v1 "
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_FINGERPRINT_DIGITS: Final = 32
_SIGNATURE: Final = re.compile(rf"{_VERSION}\.([0-9a-f]{{16}})\.[0-9a-f]{{64}}")


class Authenticity:
    """The keys of one installation: the first signs, each of them verifies."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Take at least one key, the newest first."""
        secrets = {_id_of(key): key.encode("utf-8", "surrogatepass") for key in keys}
        self.key_id = next(iter(secrets))
        self._signing = {key_id: _derive(secret, "records") for key_id, secret in secrets.items()}
        self._commitments = [_derive(secret, "people") for secret in secrets.values()]
        self._fingerprint = _derive(secrets[self.key_id], "fingerprints")
        self._webhook = _derive(secrets[self.key_id], "webhook")

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of the keys whose signatures are accepted: 16 hex digits each, no part of the key."""
        return frozenset(self._signing)

    def sign(self, kind: str, fields: Fields) -> str:
        """Return `v1.<key id>.<64 hex digits>`; the kind keeps a signature of one table from serving in another."""
        return f"{_VERSION}.{self.key_id}.{_mac(self._signing[self.key_id], kind, fields)}"

    def verifies(self, kind: str, fields: Fields, signature: object) -> bool:
        """Return whether this very text was signed by one of the keys; anything else is a no."""
        version, _, rest = signature.partition(".") if isinstance(signature, str) else ("", "", "")
        key_id, _, mac = rest.partition(".")
        key = self._signing.get(key_id)
        if version != _VERSION or key is None:
            return False
        return hmac.compare_digest(_mac(key, kind, fields).encode(), mac.encode("utf-8", "surrogatepass"))

    def commit(self, salt: str, fields: Fields) -> str:
        """Return a digest that stays when the fields are forgotten; without the salt nobody can guess them from it."""
        return _mac(self._commitments[0], f"people {salt}", fields)

    def is_committed(self, salt: str, fields: Fields, digest: str) -> bool:
        """Return whether this is the digest of these very fields under one of the keys."""
        found = [_mac(key, f"people {salt}", fields) for key in self._commitments]
        return any(hmac.compare_digest(each.encode(), digest.encode("utf-8", "surrogatepass")) for each in found)

    def fingerprint(self, token: str) -> str:
        """Return what tells two tokens apart and, without the key, says nothing about either."""
        return _hmac(self._fingerprint, token.encode("utf-8", "surrogatepass"))[:_FINGERPRINT_DIGITS]

    def installation_mark(self) -> str:
        """Return eight hex digits that tell this installation from others, and say nothing about the key."""
        return _derive(self._signing[self.key_id], "installation").hex()[:8]

    def webhook_secret(self) -> Secret:
        """Return the secret with which a receiver verifies the audit webhook, as the Standard Webhooks write it."""
        return Secret(f"whsec_{base64.b64encode(self._webhook).decode()}")

    def sign_webhook(self, content: bytes) -> str:
        """Return base64 of the content's HMAC-SHA-256 under the webhook's secret."""
        return base64.b64encode(hmac.digest(self._webhook, content, hashlib.sha256)).decode()


def key_id_of(signature: object) -> str | None:
    """Return the id of the key that a signature names, or None if it is no signature."""
    found = _SIGNATURE.fullmatch(signature) if isinstance(signature, str) else None
    return found[1] if found else None


def _derive(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, _LABEL + purpose.encode(), hashlib.sha256)


def _id_of(key: str) -> str:
    return _derive(key.encode("utf-8", "surrogatepass"), "id").hex()[:16]


def _mac(key: bytes, kind: str, fields: Fields) -> str:
    return _hmac(key, _CANONICAL.encode([kind, fields]).encode())


def _hmac(key: bytes, content: bytes) -> str:
    return hmac.digest(key, content, hashlib.sha256).hex()
