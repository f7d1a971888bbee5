"""The API tokens of the fake Cloudflare's account: created, listed, changed and deleted, with lags and a quota.

What a token may do follows from its policies alone; names of resources are not validated, as Cloudflare does not.
"""

import json
import re
import secrets
import string
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Literal
from uuid import uuid4

from aiohttp import web

from bot.sandbox.envelopes import accept, refuse
from bot.sandbox.policies import PERMISSION_GROUPS, describe_group, find_bad_policy, reaches_bucket, reads_catalogs
from bot.sandbox.routes import Kind
from bot.sandbox.standing import LACKS_A_RIGHT, NOT_ALLOWED, NOT_VALID, Standing, write_time

Flaw = Literal["unknown", "useless", "refused", "invalid"]
"""A token that was created without an error and does not serve: it never becomes known; it reads no catalog; storing it
is refused with 30004; or it is stored, and a probe finds it invalid."""
NameFilter = Literal["part", "whole", "ignored"]

_STATUSES: Final = ("active", "disabled", "expired")
_FEWEST_PER_PAGE, _MOST_PER_PAGE = 5, 50
_LONGEST_NAME = 120
_ALPHABET: Final = string.ascii_letters + string.digits
MINTED_MARK: Final = "MADEUPMINTED"
"""The beginning of each value: a search for it is a search for all of them."""

_NO_SUCH_TOKEN: Final = (HTTPStatus.NOT_FOUND, 1003, "Invalid token")


@dataclass(slots=True, kw_only=True)
class AccountToken:
    """A token. `changes` are its states with the moments from which they are known; a deleted one stays here."""

    id: str
    value: str = field(repr=False)
    name: str
    policies: list[dict[str, Any]]
    created_at: datetime
    expires_on: datetime | None
    status: str = "active"
    is_deleted: bool = False
    flaw: Flaw | None = None
    listed_from: datetime
    changed_at: datetime
    there_from: datetime
    changes: list[tuple[datetime, str]]

    def state_known_at(self, now: datetime) -> str:
        """Return "unknown", "active", "disabled" or "deleted", as Cloudflare's servers know it by then."""
        return next((state for since, state in reversed(self.changes) if since <= now), "unknown")

    def is_expired(self, now: datetime) -> bool:
        """Return whether it has expired."""
        return self.expires_on is not None and self.expires_on <= now

    def is_usable(self, now: datetime) -> bool:
        """Return whether requests with it are accepted by now."""
        return self.state_known_at(now) == "active" and not self.is_expired(now)


class AccountTokens:
    """The tokens; the public attributes may be read and changed at any time.

    `known_after` is how long a new or enabled token stays unusable, `unknown_after` how long a disabled or deleted one
    stays usable, `listed_after` how long a new one is missing in lists, and `there_after` how long it cannot be got,
    changed or deleted: in seconds, for the calls that follow.
    `flaws` are those of the tokens that are created next, None for a good one. `on_change` is called with each token
    that was created or whose state has changed.
    """

    def __init__(self, account_id: str, clock: Callable[[], datetime]) -> None:
        self.account_id = account_id
        self.tokens: dict[str, AccountToken] = {}
        self.quota = 500
        self.others = 0
        self.known_after = self.unknown_after = self.listed_after = self.there_after = 0.0
        self.name_filter: NameFilter = "part"
        self.not_selectable: set[str] = set()
        self.missing: set[str] = set()
        self.flaws: deque[Flaw | None] = deque()
        self.on_change: Callable[[AccountToken], None] = lambda _: None
        self._clock = clock

    def find(self, value: str) -> AccountToken | None:
        """Return the token with this value, also a deleted one."""
        return next((token for token in self.tokens.values() if secrets.compare_digest(token.value, value)), None)

    def list_live(self) -> list[AccountToken]:
        """Return the tokens that are there and have not expired."""
        now = self._clock()
        return [token for token in self.tokens.values() if not token.is_deleted and not token.is_expired(now)]

    def judge(self, token: AccountToken, bucket: str) -> Standing:
        """Return how a token stands by now, when it asks about itself or is used for a bucket."""
        now, state = self._clock(), token.state_known_at(self._clock())
        known = {"token_id": token.id, "expires_at": token.expires_on, "expires_in": None}
        if state in ("unknown", "deleted") or token.flaw == "unknown":
            return Standing(is_known=False, when_read=NOT_ALLOWED, when_stored=NOT_VALID)
        if not token.is_usable(now):
            status: Literal["disabled", "expired"] = "disabled" if state == "disabled" else "expired"
            return Standing(status=status, when_read=NOT_ALLOWED, when_stored=NOT_VALID, **known)  # type: ignore[arg-type]  # written above
        reads = token.flaw != "useless" and reads_catalogs(token.policies, self.account_id)
        reaches = reads and (not bucket or reaches_bucket(token.policies, self.account_id, bucket))
        is_taken = reaches and token.flaw != "refused"
        return Standing(
            when_read=None if reaches else NOT_ALLOWED,
            when_stored=None if is_taken else LACKS_A_RIGHT,
            serves_in_a_slot=token.flaw != "invalid",
            **known,  # type: ignore[arg-type]  # written above
        )

    def serve(self, kind: Kind, token_id: str, query: Mapping[str, str], body: bytes) -> web.Response:
        """Answer a request with the minting token."""
        answers: dict[Kind, Callable[[], web.Response]] = {
            "create_token": lambda: self.create(body),
            "list_tokens": lambda: self.list_page(query),
            "get_token": lambda: self.get(token_id),
            "update_token": lambda: self.update(token_id, body),
            "delete_token": lambda: self.delete(token_id),
            "groups": self.list_groups,
        }
        return answers[kind]()

    def create(self, body: bytes) -> web.Response:
        """Answer `POST /accounts/{a}/tokens`."""
        asked = _read(body)
        refusal = self._refuse_description(asked)
        if refusal is not None:
            return refusal
        if len(self.list_live()) + self.others >= self.quota:
            return refuse(HTTPStatus.BAD_REQUEST, 1040, "The maximum number of tokens for this account is reached.")
        token = self.add(asked["name"], asked["policies"], _read_time(asked.get("expires_on")))
        return accept({**self._describe(token), "value": token.value})

    def add(self, name: str, policies: list[dict[str, Any]], expires_on: datetime | None = None) -> AccountToken:
        """Create a token, as somebody in the dashboard would."""
        now = self._clock()
        token = AccountToken(
            id=uuid4().hex,
            value=_make_value(),
            name=name,
            policies=policies,
            created_at=now,
            expires_on=expires_on,
            flaw=self.flaws.popleft() if self.flaws else None,
            listed_from=now + timedelta(seconds=self.listed_after),
            changed_at=now,
            there_from=now + timedelta(seconds=self.there_after),
            changes=[(now + timedelta(seconds=self.known_after), "active")],
        )
        self.tokens[token.id] = token
        self.on_change(token)
        return token

    def list_page(self, query: Mapping[str, str]) -> web.Response:
        """Answer `GET /accounts/{a}/tokens`."""
        page, per_page = _number(query.get("page", "1")), _number(query.get("per_page", "20"))
        if page is None or page < 1 or per_page is None or not _FEWEST_PER_PAGE <= per_page <= _MOST_PER_PAGE:
            return refuse(HTTPStatus.BAD_REQUEST, 1002, "page or per_page is out of range")
        found = self._select(query.get("name"), is_expired_wanted=query.get("include_expired") == "true")
        shown = found[(page - 1) * per_page : page * per_page]
        info = {"page": page, "per_page": per_page, "count": len(shown), "total_count": len(found) + self.others}
        return accept([self._describe(token) for token in shown], result_info=info)

    def get(self, token_id: str) -> web.Response:
        """Answer `GET /accounts/{a}/tokens/{id}`."""
        token = self._there(token_id)
        return refuse(*_NO_SUCH_TOKEN) if token is None else accept(self._describe(token))

    def update(self, token_id: str, body: bytes) -> web.Response:
        """Answer `PUT /accounts/{a}/tokens/{id}`: it replaces the whole token, but for its value."""
        token, asked = self._there(token_id), _read(body)
        if token is None:
            return refuse(*_NO_SUCH_TOKEN)
        refusal = self._refuse_description(asked)
        if refusal is not None:
            return refusal
        status = asked.get("status", "active")
        if status not in _STATUSES[:2]:
            return refuse(HTTPStatus.BAD_REQUEST, 1001, "status is not one of active, disabled")
        token.name, token.policies = asked["name"], asked["policies"]
        token.expires_on = _read_time(asked.get("expires_on"))
        self._change(token, status)
        return accept(self._describe(token))

    def delete(self, token_id: str) -> web.Response:
        """Answer `DELETE /accounts/{a}/tokens/{id}`."""
        token = self._there(token_id)
        if token is None:
            return refuse(*_NO_SUCH_TOKEN)
        self.delete_by_hand(token_id)
        return accept({"id": token_id})

    def list_groups(self) -> web.Response:
        """Answer `GET /accounts/{a}/tokens/permission_groups`."""
        offered = [group for group in PERMISSION_GROUPS if group.id not in self.missing]
        return accept([describe_group(group, is_selectable=group.id not in self.not_selectable) for group in offered])

    def delete_by_hand(self, token_id: str) -> None:
        """Delete a token, as somebody in the dashboard would."""
        token = self.tokens[token_id]
        self._change(token, "deleted")

    def disable_by_hand(self, token_id: str) -> None:
        """Disable a token, as somebody in the dashboard would."""
        self._change(self.tokens[token_id], "disabled")

    def enable_by_hand(self, token_id: str) -> None:
        """Enable a disabled token, as somebody in the dashboard would."""
        self._change(self.tokens[token_id], "active")

    def _change(self, token: AccountToken, state: str) -> None:
        """Note a state, which is known later; a later one never becomes known before an earlier one."""
        if state == (token.status if not token.is_deleted else "deleted"):
            return
        lag = self.known_after if state == "active" else self.unknown_after
        token.changed_at = self._clock()
        known_from = max(token.changed_at + timedelta(seconds=lag), token.changes[-1][0])
        token.changes.append((known_from, state))
        if state == "deleted":
            token.is_deleted = True
        else:
            token.status = state
        self.on_change(token)

    def _there(self, token_id: str) -> AccountToken | None:
        token = self.tokens.get(token_id)
        is_there = token is not None and not token.is_deleted and token.there_from <= self._clock()
        return token if is_there else None

    def _select(self, name: str | None, *, is_expired_wanted: bool) -> list[AccountToken]:
        now = self._clock()
        there = [each for each in self.tokens.values() if not each.is_deleted and each.listed_from <= now]
        if name is not None and self.name_filter != "ignored":
            there = [each for each in there if (name in each.name if self.name_filter == "part" else name == each.name)]
        return [each for each in there if is_expired_wanted or not each.is_expired(now)]

    def _refuse_description(self, asked: Mapping[str, Any]) -> web.Response | None:
        name = asked.get("name")
        if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME:
            return refuse(HTTPStatus.BAD_REQUEST, None, "name must have a length between 1 and 120")
        grantable = {group.id for group in PERMISSION_GROUPS} - self.missing - self.not_selectable
        bad = find_bad_policy(asked.get("policies"), grantable)
        return None if bad is None else refuse(HTTPStatus.BAD_REQUEST, 1001, bad)

    def _describe(self, token: AccountToken) -> dict[str, object]:
        status = "expired" if token.is_expired(self._clock()) else token.status
        described: dict[str, object] = {
            "id": token.id,
            "name": token.name,
            "status": status,
            "issued_on": write_time(token.created_at),
            "policies": [{"id": uuid4().hex, **policy} for policy in token.policies],
        }
        return described if token.expires_on is None else {**described, "expires_on": write_time(token.expires_on)}


def _make_value() -> str:
    random = "".join(secrets.choice(_ALPHABET) for _ in range(40 - len(MINTED_MARK)))
    return f"cfat_{MINTED_MARK}{random}{secrets.token_hex(4)}"


def _read(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def _read_time(value: object) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None


def _number(text: str) -> int | None:
    """Read a whole number, also as the SDK may write it."""
    return int(float(text)) if re.fullmatch(r"[0-9]{1,6}(\.0)?", text) else None
