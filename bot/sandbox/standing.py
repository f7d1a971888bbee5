"""How the fake Cloudflare judges a made-up token: what verifying says, what it opens, which slot takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final, Literal, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from bot.sandbox.tokens import Behaviour


class Refusal(NamedTuple):
    """A no, in the order in which `refuse` takes it."""

    status: int
    code: int
    message: str


NOT_ALLOWED: Final = Refusal(HTTPStatus.FORBIDDEN, 10000, "Authentication error")
INVALID_TOKEN: Final = Refusal(HTTPStatus.UNAUTHORIZED, 1000, "Invalid API Token")
FORBIDDEN: Final = Refusal(HTTPStatus.FORBIDDEN, 10000, "Forbidden")
UNAUTHORIZED: Final = Refusal(HTTPStatus.FORBIDDEN, 9109, "Unauthorized to access requested resource")
_METHOD_NOT_ALLOWED = Refusal(HTTPStatus.FORBIDDEN, 10001, "Method not allowed for token")
LACKS_A_RIGHT: Final = Refusal(HTTPStatus.BAD_REQUEST, 30004, "The token lacks a right that the catalog needs.")
NOT_VALID: Final = Refusal(HTTPStatus.BAD_REQUEST, 30005, "The token is not valid.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A token's place: by default it is active and may do everything.

    `when_read` and `when_stored` are the refusals that it meets, None where it meets none. A token that was created
    here has an id and a moment of expiry of its own; those of a made-up one follow from its text and the time.
    """

    is_known: bool = True
    is_of_this_account: bool = True
    status: Literal["active", "disabled", "expired", "revoked (exposed)"] = "active"
    starts_in: timedelta | None = None
    expires_in: timedelta | None = timedelta(days=90)
    expires_at: datetime | None = None
    token_id: str = ""
    when_verified: Refusal | None = None
    when_read: Refusal | None = None
    when_stored: Refusal | None = None
    serves_in_a_slot: bool = True

    @property
    def is_valid_in_a_slot(self) -> bool:
        """Whether a probe of a slot that holds it finds it valid, however it came there."""
        return self.serves_in_a_slot and self.when_stored is None

    def describe(self, token: str, now: datetime) -> dict[str, str]:
        """Return what verifying a known token says of it.

        The id is no hash of the token that opens anything: the S3 secret key of a real one is its SHA-256.
        """
        distances = {"expires_on": self.expires_in, "not_before": self.starts_in}
        times = {name: now + distance for name, distance in distances.items() if distance is not None}
        if self.expires_at is not None:
            times["expires_on"] = self.expires_at
        return {
            "id": self.token_id or uuid5(NAMESPACE_OID, token).hex,
            "status": self.status,
            **{name: write_time(moment) for name, moment in times.items()},
        }


MintingState = Literal["good", "unknown", "expired", "disabled", "lacks the right", "limited to addresses"]
"""How the token stands with which others are created."""

_FROM_ELSEWHERE: Final = Refusal(HTTPStatus.FORBIDDEN, 9109, "Cannot use the access token from location: 192.0.2.1")
MINTING_STANDINGS: Final[Mapping[MintingState, Standing]] = {
    "good": Standing(),
    "unknown": Standing(is_known=False, when_read=NOT_ALLOWED),
    "expired": Standing(status="expired", expires_in=timedelta(days=-1), when_read=NOT_ALLOWED),
    "disabled": Standing(status="disabled", when_read=NOT_ALLOWED),
    "lacks the right": Standing(when_read=FORBIDDEN),
    "limited to addresses": Standing(when_read=_FROM_ELSEWHERE, when_verified=_FROM_ELSEWHERE),
}

_USELESS: Final = Standing(when_read=NOT_ALLOWED, when_stored=NOT_VALID)
_STANDINGS: Final[Mapping[Behaviour, Standing]] = {
    Behaviour.NEVER_EXPIRES: Standing(expires_in=None),
    Behaviour.EXPIRES_SOON: Standing(expires_in=timedelta(days=10)),
    Behaviour.UNKNOWN: replace(_USELESS, is_known=False),
    Behaviour.EXPIRED: replace(_USELESS, status="expired", expires_in=timedelta(days=-1)),
    Behaviour.DISABLED: replace(_USELESS, status="disabled"),
    Behaviour.EXPOSED: replace(_USELESS, status="revoked (exposed)"),
    Behaviour.NOT_YET_VALID: replace(_USELESS, starts_in=timedelta(days=1)),
    Behaviour.OTHER_ACCOUNT: replace(_USELESS, is_of_this_account=False),
    Behaviour.LACKS_CATALOG: Standing(when_read=NOT_ALLOWED, when_stored=LACKS_A_RIGHT),
    Behaviour.WEAK: Standing(when_stored=LACKS_A_RIGHT),
    Behaviour.UNREADABLE: Standing(when_read=_METHOD_NOT_ALLOWED),
    Behaviour.STORED_INVALID: Standing(serves_in_a_slot=False),
}


def find_standing(behaviour: Behaviour) -> Standing:
    """Return the standing of a token that behaves like this; one that is not listed is in good standing."""
    return _STANDINGS.get(behaviour, Standing())


def describe_policies(account_id: str, *, may_write: bool) -> dict[str, object]:
    """Return the part of a token's details that says what it may do with the account's catalogs."""
    group = (
        {"id": "d229766a2f7f4d299f20eaa8c9b1fde9", "name": "Workers R2 Data Catalog Write"}
        if may_write
        else {"id": "5a4db0c0000000000000000000000002", "name": "Workers R2 Data Catalog Read"}
    )
    policy = {
        "id": "5a4db0c0000000000000000000000003",
        "effect": "allow",
        "permission_groups": [group],
        "resources": {f"com.cloudflare.api.account.{account_id}": "*"},
    }
    return {"name": "made up", "policies": [policy]}


def write_time(moment: datetime) -> str:
    """Write a time as Cloudflare does: RFC 3339 in UTC without fractions."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
