"""A bot with a policy that wants approvals, what waits for one, and presses of its buttons by whomever."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from os import kill
from pathlib import Path
from typing import Final

from bot.sandbox.blocks import JsonObject
from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import OUTSIDERS, Message, UserGroup
from bot.slack.messages.approval import APPROVE
from tests.attack.attack import Arena, Case
from tests.attack.entrances import _find, _says_no
from tests.attack.rows import _execute, _wait_for
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene, open_scene

REASON: Final = "ticket 4711 of the harbour"
GROUP: Final = "S0APPROVE"
HEDY, KATHERINE = CROWD[-2:]
"""Two more approvers: one by id, one by a user group."""

REQUESTER, READER = CROWD[:2]
"""Of people who may store, and not approve."""

_LISTS: Final = ("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE")
_LAX: Final = """
[[rule]]
users = [{people}]
verbs = ["store", "check", "status", "history", "enable"]
"""
_STRICT: Final = """
[[rule]]
users = [{people}]
buckets = ["prod-*"]
channels = ["{channel}"]
verbs = ["store", "check", "status", "history", "enable"]
approvals = 1
approvers = [{approvers}]
require_reason = true
"""


def write_policy(*, requesters: tuple[str, ...] = (ADA, GRACE, REQUESTER, READER, HEDY)) -> str:
    """Return the rules: strict ones for production, and none for the rest. Outsiders are listed by mistake."""
    outsiders = tuple(user.id for user in OUTSIDERS)
    people, approvers = (*requesters, *outsiders), (ADA, GRACE, HEDY, GROUP, *outsiders)
    words = {"people": _quote(people), "approvers": _quote(approvers), "channel": PLATFORM}
    return (_STRICT + _LAX).format(**words)


def _quote(ids: tuple[str, ...]) -> str:
    return ", ".join(f'"{each}"' for each in ids)


@asynccontextmanager
async def set_office(
    transport: Transport, directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """Make a scene with that policy; its bot is not started yet."""
    path = directory / "policy.toml"
    path.write_text(write_policy(), encoding="utf-8")
    path.chmod(0o600)
    policy = {"R2_CREDENTIAL_POLICY": str(path)}
    async with open_scene(transport, directory, policy | dict(settings or {})) as scene:
        for name in _LISTS:
            del scene.environment[name]
        scene.slack.workspace.user_groups[GROUP] = UserGroup(id=GROUP, handle="approvers", members=(KATHERINE,))
        for user in OUTSIDERS:
            scene.slack.workspace.change_user(user)
        yield scene


@dataclass(slots=True, kw_only=True)
class Office:
    """A scene whose bot asks approvers."""

    scene: Scene

    async def ask(self, bucket: str, number: int, user: str = REQUESTER) -> Message:
        """Submit a token, and return the message that asks for the approval."""
        self.scene.cloudflare.add_bucket(bucket)
        await self.submit(bucket, number, user)
        return await self.scene.slack.wait_for_message(PLATFORM, partial(is_request, bucket=bucket, number=number))

    async def submit(self, bucket: str, number: int, user: str = REQUESTER, **state: JsonObject) -> bool:
        """Fill in the form, and submit it with this state on top, as a modified client can; return if it was taken."""
        await self.scene.open_form(bucket, user=user)
        for name, value in (("token", token_of(number)), ("reason", f"{REASON} {number}")):
            await self.scene.slack.fill(user, name, value)
        payload = self.scene.slack.make_submission(user)
        payload["view"]["state"]["values"] |= {name: {name: each} for name, each in state.items()}
        answer = await self.scene.slack.deliver("interactive", payload)
        await self.scene.slack.close(user, whole_stack=True)
        return not _says_no(answer)

    def make_press(self, request: Message, user: str = GRACE, action: str = APPROVE) -> JsonObject:
        """Return the payload of a press."""
        return self.scene.slack.make_message_action(user, request, _find(list(request.blocks), action))

    async def press_in_vain(self, payload: JsonObject, name: str, *, may_learn: bool = False) -> Case:
        """Deliver a press that must decide nothing, store nothing and tell nothing."""
        before, received = self.outcome(), len(self.scene.slack.traffic_received())
        answer = await self.scene.slack.deliver("interactive", payload)
        said = self.scene.slack.traffic_received()[received:].decode("latin-1")
        while self.scene.slack.modals.top(payload["user"]["id"]) is not None:
            await self.scene.slack.close(payload["user"]["id"], whole_stack=True)
        return Case.of(
            name,
            got_in=self.outcome() != before,
            leaked=not may_learn and (REASON in said or "prod-" in said),
            took_down=answer.failure is not None or "listener_broke" in self.scene.printed().decode(),
        )

    def outcome(self) -> list[object]:
        """Return who decided what, and what was written."""
        decided = _execute(self.scene, "SELECT submission_id, choice, user_id FROM decisions ORDER BY 1")
        return [*decided, *[(write.bucket, write.token) for write in self.scene.cloudflare.writes]]

    async def is_stored(self, bucket: str, number: int) -> bool:
        """Return whether the slot gets this token in the end."""
        return await _wait_for(lambda: self.scene.cloudflare.stored_token(bucket) == token_of(number))

    async def has_ended(self, bucket: str, state: str) -> bool:
        """Return whether the submissions of a bucket include one that ends like that, and is told."""
        query = f"SELECT 1 FROM submissions WHERE bucket = '{bucket}' AND state = '{state}' AND reported_at IS NOT NULL"  # noqa: S608 - our own words
        return await _wait_for(lambda: bool(_execute(self.scene, query)))

    async def reload(self, text: str | None, event: str) -> None:
        """Replace the policy, or remove it, and have it read again."""
        path = Path(self.scene.environment["R2_CREDENTIAL_POLICY"])
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        printed = self.scene.printed().count(event.encode())
        kill(self.scene.bot.pid, signal.SIGHUP)
        assert await _wait_for(lambda: self.scene.printed().count(event.encode()) > printed), event


@asynccontextmanager
async def open_office(arena: Arena, settings: Mapping[str, str] | None = None) -> AsyncIterator[Office]:
    """Start a bot that asks approvers."""
    async with set_office(arena.transport, arena.new_directory(), settings) as scene:
        await scene.start_ready_bot()
        yield Office(scene=scene)


def is_request(message: Message, bucket: str, number: int) -> bool:
    """Say whether a message asks for the approval of this token."""
    return (
        message.text.startswith("Approval needed")
        and f"`{bucket}`" in message.text
        and f"{REASON} {number}" in str(message.blocks)
    )


def token_of(number: int) -> str:
    """Return a good token."""
    return make_token(Behaviour.GOOD, 4000 + number)
