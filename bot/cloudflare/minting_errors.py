"""The branch of the error tree that belongs to tokens which the bot creates itself.

CloudflareError
├── MintingError               Cloudflare does not let the bot create or take back a token: the operator can fix it
│   ├── MintingTokenRejected
│   ├── MintingTokenExpired
│   ├── MintingTokenDisabled
│   ├── MintingTokenLimitedToAddresses
│   ├── MintingRightMissing
│   ├── PermissionNotGrantable
│   ├── TokenQuotaReached
│   ├── MintingRefused
│   └── RevocationRefused
└── MintedTokenError           the token that the bot created does not serve
    ├── MintedTokenUseless
    ├── MintedTokenRefused
    ├── MintedTokenGone
    └── CatalogSwitchedOff

RotationError                  no answer of Cloudflare, but what the bot found
├── TokenNotOurs
└── CreateUnanswered           transient: it is not known yet whether there is a token
"""

# ruff: noqa: N818 - the leaves are named for what happened, as in the documents

from collections.abc import Mapping
from typing import Final

from bot.cloudflare.errors import (
    CatalogInactive,
    CatalogNotEnabled,
    CatalogOutOfReach,
    CloudflareError,
    CredentialRefused,
    LacksCatalogRights,
    LacksStorageRights,
    TokenDisabled,
    TokenExpired,
    TokenInvalid,
    TokenLimitedToAddresses,
    TokenOfAnotherAccount,
)
from bot.model.errors import ENABLE_CATALOG, ROTATE_AGAIN, BotError, Told, Transient, WhoActs

MINTING_TOKEN: Final = "CLOUDFLARE_MINTING_TOKEN"  # noqa: S105 - the name of a setting
MINTING_RIGHT: Final = "Account API Tokens Write"
"""The permission that lets a token create, list, change and delete the tokens of its account."""

_REPLACE: Final = (
    f'create another API token of the account with the permission "{MINTING_RIGHT}", set {MINTING_TOKEN} to it and '
    "restart the bot"
)
_PROVE: Final = 'run "r2-credential-bot check --mint BUCKET", which says what is missing'


class MintingError(CloudflareError):
    """Cloudflare refused what the bot asked with the minting token."""

    who_acts = WhoActs.OPERATOR


class MintingTokenRejected(MintingError):
    """Codes 1000, 10000 and others about the credentials: Cloudflare does not accept the minting token."""

    code = "minting_token_rejected"
    cause = "Cloudflare did not accept the token with which the bot creates tokens."
    setting = MINTING_TOKEN
    operator_fix = f"check that it is whole and of CLOUDFLARE_ACCOUNT_ID; or {_REPLACE}"


class MintingTokenExpired(MintingError):
    """The minting token's `expires_on` has passed."""

    code = "minting_token_expired"
    cause = "The token with which the bot creates tokens has expired."
    setting = MINTING_TOKEN
    operator_fix = _REPLACE


class MintingTokenDisabled(MintingError):
    """The minting token is disabled, or Cloudflare found it in public and revoked it."""

    code = "minting_token_disabled"
    cause = "The token with which the bot creates tokens is disabled or revoked."
    setting = MINTING_TOKEN
    operator_fix = f"find out who did it and why, and whether it was disclosed: it administers the account; {_REPLACE}"


class MintingTokenLimitedToAddresses(MintingError):
    """Code 9109 with a text about a location: the minting token works from other IP addresses only."""

    code = "minting_token_limited_to_addresses"
    cause = "The token with which the bot creates tokens works from certain IP addresses only, and not from the bot's."
    setting = MINTING_TOKEN
    operator_fix = "in Cloudflare, add the address from which the minter calls to the token's IP address filter"


class MintingRightMissing(MintingError):
    """Code 10000 "Forbidden", 9109 or 10001: the minting token is known, but may not do this."""

    code = "minting_right_missing"
    cause = "The token with which the bot creates tokens lacks the right to do so."
    setting = MINTING_TOKEN
    operator_fix = f'give it the permission "{MINTING_RIGHT}" for the account, or {_REPLACE}'


class PermissionNotGrantable(MintingError):
    """Code 1001: a permission group does not exist any more, or the minting token may not grant it."""

    code = "permission_not_grantable"
    cause = "Cloudflare does not let the bot grant a permission that the new token needs."
    setting = "R2_CREDENTIAL_ROTATE_SCOPE"
    operator_fix = _PROVE


class TokenQuotaReached(MintingError):
    """The account may have no more API tokens, but for ten that are left to others."""

    code = "token_quota_reached"
    cause = "The Cloudflare account has no room for another API token."
    setting = "R2_CREDENTIAL_ROTATE_QUOTA"
    operator_fix = (
        "delete account API tokens that nobody uses, or have Cloudflare raise the quota and set it; the bot leaves the "
        "last 10 to others; *Only look* has the sum"
    )


class MintingRefused(MintingError):
    """A definite refusal that the bot has no entry for. Nothing was created."""

    code = "minting_refused"
    cause = "Cloudflare refused to create a token or to list them, for a reason that the bot does not know."
    operator_fix = f"{_PROVE}; or ask Cloudflare's support about the code and the Ray ID"


class RevocationRefused(MintingError):
    """A definite refusal, for an unknown reason, to disable, enable or delete a token that the bot created."""

    code = "revocation_refused"
    cause = "Cloudflare refused to revoke an earlier token of the bot's; it works until it expires."
    operator_fix = "delete the token that the log names by hand, once no catalog uses it, or ask Cloudflare's support"


class MintedTokenError(CloudflareError):
    """The token that the bot created does not serve. It is taken back, as any that was never stored."""

    who_acts = WhoActs.OPERATOR


class MintedTokenUseless(MintedTokenError):
    """Active, but it does not reach the catalog: Cloudflare creates a token for a wrong bucket without an error."""

    code = "minted_token_useless"
    cause = "The token that the bot created for this catalog does not reach it."
    setting = "R2_CREDENTIAL_ROTATE_SCOPE"
    operator_fix = (
        "check that the bucket has no jurisdiction and that no policy of the account limits new tokens; "
        'run "r2-credential-bot check --mint BUCKET" with either scope'
    )


class MintedTokenRefused(MintedTokenError):
    """Codes 30004 and 30005 about the token that the bot created: the catalog does not take its permissions."""

    code = "minted_token_refused"
    cause = "Cloudflare does not take a token like this, limited to one bucket, as a catalog's credential."
    setting = "R2_CREDENTIAL_ROTATE_SCOPE"
    operator_fix = (
        'run "r2-credential-bot check --mint BUCKET --store" on a test bucket; if it is refused there too, '
        "set the scope to account"
    )


class MintedTokenGone(MintedTokenError):
    """Cloudflare does not know the token that the bot created any more, or it was switched off."""

    code = "minted_token_gone"
    cause = (
        "Cloudflare does not know the token that the bot created, or calls it disabled: somebody else deleted or "
        "disabled it, or it takes longer than usual to become known."
    )
    operator_fix = "find out in Cloudflare's audit log who did it; then rotate again"


class CatalogSwitchedOff(MintedTokenError):
    """Codes 40401 and 40402: the catalog was switched off after the rotation began."""

    code = "catalog_switched_off"
    who_acts = WhoActs.YOU
    cause = "The catalog was switched off during the rotation; its data is intact."
    fixes = (ENABLE_CATALOG, ROTATE_AGAIN)


class RotationError(BotError):
    """What the bot found while it rotated, in its own records or in the slot."""

    who_acts = WhoActs.OPERATOR


class TokenNotOurs(RotationError):
    """Nothing was changed: the token's name, its id or its bucket is not this installation's."""

    code = "token_not_ours"
    user_message = "The bot was about to change a token that is not its own, and did not."
    operator_fix = 'run "r2-credential-bot audit verify"; if a token was renamed in Cloudflare, give its name back'


class CreateUnanswered(
    RotationError,
    Transient,
    told=Told(
        waiting="Cloudflare did not say whether it created a token; the bot finds out before it creates another one.",
        lasted="Cloudflare kept not saying whether it created a token; if there is one, the bot finds and deletes it.",
        at_once="Cloudflare did not say whether it created a token. What to do: Try again in a quarter of an hour.",
    ),
):
    """Two creates of unknown outcome: no third one before they are known."""

    code = "create_unanswered"
    who_acts = WhoActs.CLOUDFLARE


MEANING_FOR_MINTED: Final[Mapping[type[BotError], type[MintedTokenError]]] = {
    TokenInvalid: MintedTokenGone,
    TokenExpired: MintedTokenGone,
    TokenDisabled: MintedTokenGone,
    TokenOfAnotherAccount: MintedTokenGone,
    TokenLimitedToAddresses: MintedTokenUseless,
    CatalogOutOfReach: MintedTokenUseless,
    LacksCatalogRights: MintedTokenUseless,
    LacksStorageRights: MintedTokenRefused,
    CredentialRefused: MintedTokenRefused,
    CatalogInactive: CatalogSwitchedOff,
    CatalogNotEnabled: CatalogSwitchedOff,
}
"""What a refusal of a pasted token means about one that the bot created: nobody can copy it again."""


def as_minted(error: BotError) -> BotError:
    """Return what the error means if it is about a token that the bot created itself."""
    kind = MEANING_FOR_MINTED.get(type(error))
    return error.as_kind(kind) if kind is not None and isinstance(error, CloudflareError) else error
