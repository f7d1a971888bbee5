"""The stories between a fake Slack and a database, and payloads of people who try to get in."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import BotError
from bot.model.move import Move
from bot.model.submission import Sealed, State, Submission
from bot.policy.attempt import RefusedAttempt
from bot.policy.gate import Gate, Home
from bot.policy.rules import Allowlist, Rule
from bot.roles.gateway import routes_of
from bot.rotation.fleet_room import FleetRoom
from bot.sandbox.blocks import JsonObject
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.transport import Answer
from bot.sandbox.workspace import Message, User
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.setting_rotation import DEFAULT_GRACE, DEFAULT_QUOTA
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.channels import Channels
from bot.slack.inbound.bolt import build_bolt_app
from bot.slack.inbound.http import HttpIngress
from bot.slack.inbound.ingress import Ingress
from bot.slack.inbound.owner import Owner
from bot.slack.memberships import MEMBERSHIP_LIFETIME, Memberships
from bot.slack.messages import render
from bot.slack.messages.redacted import RedactedResult
from bot.slack.profiles import Profiles
from bot.slack.prospect import Terms
from bot.slack.response_url import SlackPost
from bot.slack.rotations import Rotations
from bot.slack.stories.live_table import LiveTables
from bot.slack.stories.no_catalog import OPEN_ANYWAY
from bot.slack.stories.parts import Parts
from bot.slack.stories.visibility import Visibility
from bot.storage.approvals import Approvals
from bot.storage.catalogs import Catalogs
from bot.storage.fleets import Fleets
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import ACCOUNT, AUTHENTICITY, CHAIN, make_key

if TYPE_CHECKING:
    from tests.clock import Clock

ADA = "U0ADA0001"
GRACE = "U0GRACE01"
MALLORY = "U0MALLORY"
OUTSIDER = User(id=ADA, name="oscar", real_name="Oscar of Acme", team_id="T0PARTNER")
"""A person of another company who has (or claims) the id of a listed user."""

GROUP = "S0DATAENG"
PLATFORM = "C0DATAPLT"
ANALYTICS = "C0ANALYTX"
PRIVATE = "G0INCID42"
PARTNER = "C0PARTNER"
ARCHIVED = "C0OLDWARE"
BUCKET = "analytics-events"
TOKEN_TEXT = make_token(Behaviour.GOOD, number=991)
TTL = timedelta(minutes=20)
EVERYBODY = Allowlist(users=frozenset(), usergroups=frozenset({GROUP}), channels=frozenset(), buckets=())


@dataclass(slots=True, kw_only=True)
class Desk:
    """The stories between a fake Slack and a database."""

    slack: FakeSlack
    submissions: Submissions
    approvals: Approvals
    catalogs: Catalogs
    tokens: MintedTokens
    installations: Installations
    database_path: Path
    fleets: Fleets
    room: FleetRoom
    clock: "Clock"
    key_ring: KeyRing
    web: SlackWeb
    http: aiohttp.ClientSession
    memberships: Memberships
    profiles: Profiles
    contact: str = "#data-platform"
    dispatched: list[BucketKey] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    attempts: list[RefusedAttempt] = field(default_factory=list)
    door: HttpIngress | None = None
    tables: LiveTables | None = None

    def serve(self, *policy: Allowlist | Rule, enterprise_id: str | None = None) -> None:
        """Start, or restart with another allowlist or other rules, as an operator would."""
        home = Home(team_id=self.slack.config.team_id, enterprise_id=enterprise_id)
        rules = [rule for each in policy for rule in (each.rules() if isinstance(each, Allowlist) else (each,))]
        gate = Gate(rules, home, self.memberships, self.profiles, self.attempts.append)
        parts = Parts(
            account_id=ACCOUNT,
            ttl=TTL,
            contact=self.contact,
            gate=gate,
            submissions=self.submissions,
            approvals=self.approvals,
            authenticity=AUTHENTICITY,
            catalogs=self.catalogs,
            web=self.web,
            channels=Channels(self.web, gate.allows_channel, self.clock),
            slack_post=SlackPost(self.http, self.slack.api_url),
            want_snapshot=lambda *, tests=False: self.looks.append("tested" if tests else "listed"),
            clock=self.clock,
            visibility=Visibility(self.catalogs, self.clock),
            fleets=self.fleets,
            room=self.room,
            rotations=self.watch_rotations(gate),
        )
        self.tables = LiveTables(parts)
        app = build_bolt_app(routes_of(parts, self.tables), home)
        ingress = Ingress(
            app, self.key_ring, ACCOUNT, self.clock, owner=Owner(self.web), fingerprint=AUTHENTICITY.fingerprint
        )
        self.door = HttpIngress(ingress, [SignatureVerifier(self.slack.config.signing_secret)])

    def watch_rotations(self, gate: Gate) -> Rotations:
        """Return what the stories know of the tokens that the bot makes."""
        return Rotations(
            gate=gate,
            tokens=self.tokens,
            installations=self.installations,
            catalogs=self.catalogs,
            lifetime=lambda _, now: now + timedelta(days=90),
            terms=Terms(grace=DEFAULT_GRACE, quota=DEFAULT_QUOTA),
            clock=self.clock,
        )

    async def know_catalogs(self, *more: str) -> None:
        """Give the bot the account's catalogs; `more` are further active ones."""
        states = {
            BUCKET: (CatalogStatus.ACTIVE, CredentialStatus.ABSENT),
            "billing-exports": (CatalogStatus.ACTIVE, CredentialStatus.PRESENT),
            "old-events": (CatalogStatus.INACTIVE, CredentialStatus.PRESENT),
            **dict.fromkeys(more, (CatalogStatus.ACTIVE, CredentialStatus.ABSENT)),
        }
        catalogs = tuple(
            Catalog(key=make_key(bucket), status=status, credential_status=credential)
            for bucket, (status, credential) in sorted(states.items())
        )
        await self.catalogs.save_snapshot(Snapshot(catalogs=catalogs, refreshed_at=self.clock()))

    async def command(self, text: str = "", *, user: str = ADA, channel: str = PLATFORM) -> str:
        """Type the command; return the ephemeral answer, or nothing if the form opened."""
        outcome = await self.slack.type_command(user, channel, f"/r2-credential {text}")
        assert outcome.failure is None
        assert outcome.message is None or outcome.message.ephemeral_to == user
        return outcome.message.text if outcome.message else ""

    async def open_form(self, bucket: str = BUCKET, token: str = TOKEN_TEXT, **fields: str) -> None:
        """Open the form and fill it in, even if the catalog is not listed."""
        assert await self.command(bucket) == ""
        view = self.slack.modal(ADA)
        assert view is not None
        if not view.has_submit:
            await self.slack.click(ADA, view, OPEN_ANYWAY)
        await self.slack.fill(ADA, "token", token)
        for name, value in fields.items():
            await self.slack.fill(ADA, name, value)

    async def deliver(self, payload: JsonObject) -> JsonObject:
        """Send a payload as Slack would, and return the body of the answer."""
        answer: Answer = await self.slack.deliver("interactive", payload)
        assert answer.failure is None
        return answer.body or {}

    async def find_sealed(self) -> Sealed:
        """Return the sealed part of the submission."""
        recorded = await self.find()
        assert recorded is not None
        query = "SELECT sealed_token, sealed_response_url FROM submissions WHERE id = ?"
        with closing(sqlite3.connect(self.database_path)) as connection:
            token, response_url = connection.execute(query, (recorded.id,)).fetchone()
        return Sealed(token=token, response_url=response_url)

    async def find(self) -> Submission | None:
        """Return the submission recorded for the view that Ada has open."""
        view = self.slack.modal(ADA)
        assert view is not None
        return await self.submissions.find(view.id)

    def execute(self, statement: str) -> None:
        """Change the database without the bot's knowledge."""
        with closing(sqlite3.connect(self.database_path)) as connection, connection:
            connection.execute(statement)

    def change_group(self, *members: str) -> None:
        """Edit the user group and advance the clock by a minute, so that the bot asks for it again."""
        self.slack.workspace.user_groups[GROUP] = replace(self.slack.workspace.user_groups[GROUP], members=members)
        self.clock.advance(MEMBERSHIP_LIFETIME)


@asynccontextmanager
async def open_desk(database: SqliteDatabase, path: Path, clock: "Clock") -> AsyncIterator[Desk]:
    """Open the desk for the members of one user group."""
    async with FakeSlack() as slack, aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        client = AsyncWebClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, session=http)
        client.retry_handlers = []
        client.proxy = None
        slack_web = SlackWeb(client, clock)
        submissions = Submissions(database, CHAIN)
        tokens = MintedTokens(database, submissions, ACCOUNT, clock)
        installations = Installations(database, AUTHENTICITY, ACCOUNT, clock)
        desk = Desk(
            slack=slack,
            submissions=submissions,
            fleets=Fleets(database, submissions, ACCOUNT, clock),
            room=FleetRoom(tokens, installations, DEFAULT_QUOTA, clock),
            tokens=tokens,
            installations=installations,
            approvals=Approvals(database),
            catalogs=Catalogs(database, ACCOUNT),
            database_path=path,
            clock=clock,
            key_ring=KeyRing(*load_private_keys(generate_private_key())),
            web=slack_web,
            http=http,
            memberships=Memberships(slack_web, clock),
            profiles=Profiles(slack_web, clock),
        )

        async def handle(request: web.Request) -> web.Response:
            assert desk.door is not None
            return await desk.door.handle(request)

        server = web.Application()
        server.router.add_post("/slack/events", handle)
        async with TestServer(server, host="127.0.0.1") as running:
            slack.request_url = str(running.make_url("/slack/events"))
            desk.submissions.wake_by(desk.dispatched.append)
            desk.serve(EVERYBODY)
            await desk.know_catalogs()
            yield desk
            if desk.tables is not None:
                await desk.tables.stop()


_TIMEOUT = aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())


def shown_in(answer: JsonObject) -> str:
    """Return all the text that an answer shows."""
    return json.dumps(answer, ensure_ascii=False)


def only(**lists: frozenset[str] | tuple[str, ...]) -> Allowlist:
    """Return an allowlist that is narrower than the one that admits everyone."""
    return replace(EVERYBODY, **lists)  # type: ignore[arg-type]  # each list has its own type


def as_mallory(payload: JsonObject) -> JsonObject:
    """Replace the user by one who is on no list."""
    return payload | {"user": payload["user"] | {"id": MALLORY}}


def from_another_team(payload: JsonObject) -> JsonObject:
    """Name another workspace as the origin of the payload."""
    return payload | {"team": {"id": "T0PARTNER", "domain": "acme"}}


def of_another_team(payload: JsonObject) -> JsonObject:
    """Name another workspace as the user's."""
    return payload | {"user": payload["user"] | {"team_id": "T0PARTNER"}}


def in_a_view_of_another_team(payload: JsonObject) -> JsonObject:
    """Name another workspace as the view's."""
    return payload | {"view": payload["view"] | {"team_id": "T0PARTNER"}}


def of_no_team(payload: JsonObject) -> JsonObject:
    """Name no workspace anywhere."""
    user = {name: value for name, value in payload["user"].items() if name != "team_id"}
    view = {name: value for name, value in payload["view"].items() if not name.endswith("team_id")}
    return payload | {"team": None, "user": user, "view": view}


def of_no_team_in_our_view(payload: JsonObject) -> JsonObject:
    """Name no workspace but that of the view, which is ours for anyone who presses."""
    user = {name: value for name, value in payload["user"].items() if name != "team_id"}
    return payload | {"team": None, "user": user}


Forge = Callable[[JsonObject], JsonObject]
STRANGERS: dict[str, tuple[Forge, str]] = {
    "on no list": (as_mallory, "not on the list"),
    "from another workspace": (from_another_team, "you belong to another one"),
    "a person of another workspace": (of_another_team, "you belong to another one"),
    "a view of another workspace": (in_a_view_of_another_team, "you belong to another one"),
    "of no workspace": (of_no_team, "you belong to another one"),
    "of no workspace, in a view of ours": (of_no_team_in_our_view, "you belong to another one"),
}


async def ask(desk: Desk, text: str, *, user: str = ADA, channel: str = PLATFORM) -> Message:
    """Type the command with these words, and return the ephemeral answer."""
    outcome = await desk.slack.type_command(user, channel, f"/r2-credential {text}")
    assert outcome.failure is None
    assert outcome.message is not None
    assert outcome.message.ephemeral_to == user
    return outcome.message


async def refresh(desk: Desk, *, tests: bool = True) -> None:
    """Run the refresh that a user's request for status triggers in the process that calls Cloudflare."""
    desk.clock.advance(timedelta(seconds=1))
    snapshot = await desk.catalogs.snapshot()
    assert snapshot is not None
    await desk.catalogs.save_snapshot(replace(snapshot, refreshed_at=desk.clock()))
    if tests:
        await desk.catalogs.save_test(make_key("billing-exports"), CredentialStatus.VALID, desk.clock())
        await desk.catalogs.note_all_tested(desk.clock())


async def wait_for_answer(desk: Desk, is_wanted: Callable[[Message], bool], user: str = ADA) -> Message:
    """Return the user's ephemeral message in the channel as soon as it satisfies the condition."""
    return await desk.slack.wait_for_message(PLATFORM, is_wanted, as_user=user)


async def add_many(catalogs: Catalogs, count: int) -> None:
    """Make Cloudflare list more catalogs than fit on a page."""
    snapshot = await catalogs.snapshot()
    assert snapshot is not None
    many = tuple(replace(snapshot.catalogs[0], key=make_key(f"lake-{number:03d}")) for number in range(count))
    await catalogs.save_snapshot(replace(snapshot, catalogs=many))


async def end_and_post(
    desk: Desk, ending: State, because: BotError | None = None, *, may_enable: bool = False
) -> Message:
    """End Ada's submission and post its result."""
    recorded = await desk.find()
    assert recorded is not None
    [ended] = await desk.submissions.apply(recorded, Move(to=ending, at=desk.clock(), because=because))
    desk.dispatched.clear()
    message = render.result_message(RedactedResult.of(ended), contact="", may_enable=may_enable)
    await desk.web.post(PLATFORM, message, "6f3cacfe-3614-5dad-9dfa-09675d6189dd")
    await desk.slack.close(ADA)
    return desk.slack.messages(PLATFORM)[-1]
