"""Values: what a minted token is called at Cloudflare, and what it may reach. The name alone says that it is ours."""

import re
import secrets
import string
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from bot.model.catalog import BucketKey, is_bucket_name

APPLICATION: Final = "r2-credential-bot"
"""The first word of each name, of every installation."""
LONGEST_NAME: Final = 120
"""In characters; Cloudflare's limit. With the longest bucket, ours have 101."""

TRIAL: Final = "00000000"
"""The mark of the tokens that `check --mint` creates for some minutes: no running bot takes them for its own."""

_INSTALLATION: Final = re.compile(r"[0-9a-f]{8}")
_RANDOM: Final = re.compile(r"[a-z0-9]{10}")
_ALPHABET: Final = string.ascii_lowercase + string.digits
_RANDOM_LENGTH: Final = 10
_PARTS: Final = 4


class Scope(StrEnum):
    """What a minted token may reach."""

    BUCKET = "bucket"
    """The account's catalogs and one bucket's data: two policies."""
    ACCOUNT = "account"
    """The account's catalogs and the data of all its buckets."""


def is_installation(mark: str) -> bool:
    """Return whether this is the mark of an installation: 8 lower-case hexadecimal digits."""
    return _INSTALLATION.fullmatch(mark) is not None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TokenName:
    """The name of one token. `random` makes it unique: a counter would repeat itself after a backup was put back."""

    installation: str
    bucket: str
    random: str

    def __post_init__(self) -> None:
        """Raise ValueError for a part of the wrong shape: "parse" would not read such a name."""
        is_possible = is_installation(self.installation) and is_bucket_name(self.bucket)
        if not is_possible or not _RANDOM.fullmatch(self.random) or len(str(self)) > LONGEST_NAME:
            message = "the name of a minted token has an installation, a bucket and 10 random characters"
            raise ValueError(message)

    @classmethod
    def new(cls, installation: str, bucket: str) -> Self:
        """Return a name that no token has."""
        random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
        return cls(installation=installation, bucket=bucket, random=random)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a token's name; None for one that no installation of the bot gave."""
        parts = text.split(" ")
        if len(parts) != _PARTS or parts[0] != APPLICATION:
            return None
        try:
            return cls(installation=parts[1], bucket=parts[2], random=parts[3])
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{APPLICATION} {self.installation} {self.bucket} {self.random}"

    def is_ours(self, mark: str) -> bool:
        """Return whether the installation with this mark gave the name: whole, and not as a prefix."""
        return self.installation == mark

    def key(self, account_id: str) -> BucketKey:
        """Return the slot for which the token was made."""
        return BucketKey(account_id=account_id, bucket=self.bucket)
