"""What the fake Cloudflare saw of an installation, request by request, and what no request may ever do.

A violation is noted, not raised: the bot would take an exception for a failure, and go on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from sqlalchemy import Connection, select

from bot.model.minted import REPLACEABLE, TAKEN_BACK, UNSETTLED, MintedState
from bot.model.token_name import TokenName
from bot.sandbox.account_tokens import AccountToken
from bot.sandbox.cloudflare import FakeCloudflare, ReceivedRequest
from bot.sandbox.routes import Route, find_route
from bot.storage.schema import MINTED_TOKENS
from tests.rotation.points import Steady

MOST_UNSETTLED: Final = 2
PROBE_AFTER: Final = timedelta(seconds=90)
"""As the design has them, and not as the bot does: a fault in there is to be found."""

ROOM: Final = 490
"""The quota without what is left to everybody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of the log that is written ahead."""

    name: str
    bucket: str
    state: MintedState
    token_id: str | None
    submission_id: str | None
    was_sent: bool
    undone: int


_RECORDS: Final = select(*(getattr(MINTED_TOKENS.c, name) for name in Record.__slots__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that reached Cloudflare; `result` is None if its answer was lost, or was a refusal."""

    at: datetime
    kind: str
    bucket: str = ""
    token_id: str = ""
    wanted: str = ""
    result: Any = None


def read_records(connection: Connection) -> dict[str, Record]:
    """Return what is committed, by name."""
    rows = [dict(row._mapping) for row in connection.execute(_RECORDS)]
    return {row["name"]: Record(**row | {"state": MintedState(row["state"])}) for row in rows}


@dataclass(slots=True)
class Witness:
    """Stands before the fake Cloudflare, for one installation."""

    fake: FakeCloudflare
    mark: str
    database: Steady
    problems: list[str]
    seen: list[Seen] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    by_hand: set[str] = field(default_factory=set)
    """The ids of the tokens that somebody has deleted or disabled in the dashboard."""
    records: Mapping[str, Record] = field(default_factory=dict)
    may_exceed: int = 0

    def now(self) -> datetime:
        """Return the time there."""
        return self.fake.now()

    async def check(self, received: ReceivedRequest) -> None:
        """Check a request that its sender can no longer stop."""
        route = find_route(received.method, received.path)
        assert route is not None
        checks = _CHECKS.get(route.kind, ())
        if checks:
            self.compare(await self.database.run(read_records))
        for check in checks:
            check(self, route, received)

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Pass a request on, and note what came of it."""
        route = find_route(received.method, received.path)
        assert route is not None
        answer: web.Response | None = None
        try:
            answer = await self.fake.respond(received)
            return answer
        finally:
            self.seen.append(self._describe(route, received, answer))
            self.look_at_slots()

    def compare(self, records: Mapping[str, Record]) -> None:
        """Look at what has changed in the records since, and at how many creates are unsettled."""
        before, self.records = self.records, records
        for name, record in self.records.items():
            is_retired = name in before and before[name].state in REPLACEABLE and record.state in TAKEN_BACK
            if is_retired and (record.was_sent or self.has_landed(record.token_id)):
                self._require_proof(record)
            if before.get(name) is not None and before[name].state not in REPLACEABLE | TAKEN_BACK:
                self._require_unsent(before[name], record)
            if record.state in (MintedState.UNDOING, MintedState.UNDONE) and not record.was_sent:
                self.problems.append(f"5: {record.name} was never sent, and is enabled again")
        self._count_unsettled()

    def _require_proof(self, record: Record) -> None:
        """5: retired only after `valid`, which followed a POST of a newer one that was answered."""
        stored_at = [
            each.at
            for each in self.seen
            if each.kind == "credential" and each.bucket == record.bucket and each.result == "stored"
            if each.token_id != record.token_id
        ]
        is_proven = any(
            each.kind == "status"
            and each.bucket == record.bucket
            and each.result == "valid"
            and each.at >= stored_at[0]
            for each in (self.seen if stored_at else ())
        )
        if not is_proven:
            self.problems.append(f"5: {record.name} is {record.state} without a proof of a newer one")

    def _require_unsent(self, before: Record, record: Record) -> None:
        """5: one that is not proven useless is retired only if it was never sent."""
        is_new = record.state in TAKEN_BACK and before.state not in TAKEN_BACK
        if is_new and self.has_landed(record.token_id) and before.state is not MintedState.DEAD:
            self.problems.append(f"5: {record.name} went from {before.state} to {record.state}, and was sent")

    def _count_unsettled(self) -> None:
        """10: at most two creates of unknown outcome for a bucket."""
        buckets = [record.bucket for record in self.records.values() if record.state in UNSETTLED]
        for bucket in set(buckets):
            if buckets.count(bucket) > MOST_UNSETTLED:
                self.problems.append(f"10: {buckets.count(bucket)} creates of unknown outcome in {bucket}")

    def look_at_slots(self) -> None:
        """1: no slot holds a token that we deleted."""
        for bucket in self.fake.buckets.values():
            token = None if bucket.token is None else self.fake.tokens.find(bucket.token)
            if token is not None and token.is_deleted and self.is_ours(token) and token.id not in self.by_hand:
                self.problems.append(f"1: the slot of {bucket.name} holds a token that we deleted")

    def _describe(self, route: Route, received: ReceivedRequest, answer: web.Response | None) -> Seen:
        """Return what is to be remembered of a request; an answer that was lost says nothing."""
        asked = json.loads(received.body) if received.body else {}
        result: Any = None
        if answer is not None and answer.status == HTTPStatus.OK and answer.text:
            result = json.loads(answer.text).get("result")
            result = result.get("status", "there") if isinstance(result, dict) else "stored"
        stored = self.fake.tokens.find(asked["token"]) if route.kind == "credential" else None
        return Seen(
            at=received.at,
            kind=route.kind,
            bucket=route.bucket,
            token_id=stored.id if stored else route.token_id,
            wanted=asked.get("status", "active") if route.kind == "update_token" else "",
            result=result,
        )

    def is_ours(self, token: AccountToken) -> bool:
        """Return whether the token bears our mark."""
        name = TokenName.parse(token.name)
        return name is not None and name.is_ours(self.mark)

    def has_landed(self, token_id: str | None) -> bool:
        """Return whether a slot has ever held it."""
        token = self.fake.tokens.tokens.get(token_id or "")
        return token is not None and token.value in {write.token for write in self.fake.writes}

    def live(self, bucket: str) -> list[AccountToken]:
        """Return the tokens of ours that are there, for a bucket."""
        ours = [token for token in self.fake.tokens.list_live() if self.is_ours(token)]
        return [token for token in ours if token.name.split(" ")[2] == bucket]


def _require_recorded(witness: Witness, _: Route, received: ReceivedRequest) -> None:
    """3: no create without a committed row of that very name, and no name is sent twice."""
    name = json.loads(received.body)["name"]
    if name not in witness.records:
        witness.problems.append(f"3: {name} is created without a row")
    if name in witness.names:
        witness.problems.append(f"3: {name} is sent twice")
    parsed = TokenName.parse(name)
    if parsed is None or not parsed.is_ours(witness.mark):
        witness.problems.append(f"2: {name} is created without our mark")
    witness.names.add(name)


def _require_room(witness: Witness, _: Route, __: ReceivedRequest) -> None:
    """10: with the new one there are no more than the quota without the headroom."""
    used = len(witness.fake.tokens.list_live()) + witness.fake.tokens.others
    if used >= ROOM + witness.may_exceed:
        witness.problems.append(f"10: another token is created, of {used}")


def _require_ours(witness: Witness, route: Route, _: ReceivedRequest) -> None:
    """2: no call changes a token whose name lacks our mark, or whose id is in no row."""
    token = witness.fake.tokens.tokens.get(route.token_id)
    if token is not None and not witness.is_ours(token):
        witness.problems.append(f"2: {token.name} is changed")
    if route.token_id not in {record.token_id for record in witness.records.values()}:
        witness.problems.append(f"2: a token is changed whose id {route.token_id} is in no row")


def _require_tested(witness: Witness, route: Route, received: ReceivedRequest) -> None:
    """6: DELETE only after it was disabled, 90 s, and a test that does not say `invalid`; disabled still."""
    token, seen = witness.fake.tokens.tokens.get(route.token_id), witness.seen
    if token is None or token.is_deleted:
        return
    if token.is_expired(received.at):
        return
    bucket, name = token.name.split(" ")[2], token.name
    is_off = [
        each.kind == "update_token"
        and each.token_id == token.id
        and each.wanted == "disabled"
        and each.result is not None
        for each in seen
    ]
    if not any(is_off):
        witness.problems.append(f"6: {name} is deleted without having been disabled")
        return
    since = max(number for number, is_it in enumerate(is_off) if is_it)
    disabled_at, later = seen[since].at, seen[since + 1 :]
    tests = [each for each in later if each.kind == "status" and each.bucket == bucket]
    is_tested = any(each.result in ("valid", "absent") and each.at - disabled_at >= PROBE_AFTER for each in tests)
    if witness.has_landed(token.id) and not is_tested:
        witness.problems.append(f"6: {name} is deleted without a test")
    looks = [each for each in later if each.kind == "get_token" and each.token_id == token.id]
    if not any(each.result == "disabled" for each in looks):
        witness.problems.append(f"6: {name} is deleted without a look")
    if received.at - disabled_at < PROBE_AFTER:
        witness.problems.append(f"6: {name} is deleted too early")


_CHECKS: Final[Mapping[str, tuple[Callable[[Witness, Route, ReceivedRequest], None], ...]]] = {
    "create_token": (_require_recorded, _require_room),
    "update_token": (_require_ours,),
    "delete_token": (_require_ours, _require_tested),
}
