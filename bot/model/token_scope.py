"""How much of the account a token that the bot mints can reach."""

from enum import StrEnum


class TokenScope(StrEnum):
    """`BUCKET`: the catalogs of the account, and one bucket's data. `ACCOUNT`: the data of every bucket as well."""

    BUCKET = "bucket"
    ACCOUNT = "account"
