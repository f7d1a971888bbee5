"""Four eyes over real sockets: a token waits for another person, through a restart and with replicas."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.process import Transport
from bot.sandbox.run import put_policy
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE, Message
from bot.slack.messages.approval import APPROVE, DENY
from tests.e2e.conftest import ONE_WAY
from tests.e2e.test_replicas import running_fleet
from tests.scene import ADA, GRACE, MALLORY, PLATFORM, Scene, is_result, open_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = f"""
[[rule]]
users = ["{ADA}"]
approvals = 1
approvers = ["{GRACE}"]
"""
_LISTS = ("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE")


@asynccontextmanager
async def open_office(
    transport: Transport, directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """Make a scene with a policy that lets Ada store what Grace approves."""
    policy = {"R2_CREDENTIAL_POLICY": str(write_policy(directory))}
    async with open_scene(transport, directory, policy | dict(settings or {})) as scene:
        for name in _LISTS:
            del scene.environment[name]
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(transport: Transport, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Share one running bot among the tests of a transport."""
    async with open_office(transport, tmp_path_factory.mktemp("scene")) as scene:
        await scene.start_ready_bot()
        yield scene


def write_policy(directory: Path) -> Path:
    """Write the rules to a file."""
    path = directory / "policy.toml"
    path.write_text(POLICY, encoding="utf-8")
    path.chmod(0o600)
    return path


def is_request(message: Message, bucket: str) -> bool:
    """Say whether a message asks for the approval of this bucket's token."""
    return message.text.startswith("Approval needed") and f"`{bucket}`" in message.text


async def submit_and_wait(scene: Scene, bucket: str, token: str) -> Message:
    """Submit as Ada; return the message that asks for the approval."""
    scene.cloudflare.add_bucket(bucket)
    await scene.submit(bucket, token)
    return await scene.slack.wait_for_message(PLATFORM, lambda message: is_request(message, bucket))


async def wait_until_noted(scene: Scene, bucket: str) -> None:
    """Wait until it is recorded that an approver was asked: killed before that, the bot would ask once more."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not any("approval_asked" in line and bucket in line for line in scene.printed().decode().splitlines()):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)


async def wait_for_end(scene: Scene, bucket: str) -> Message:
    """Return the message with the result, which names the bucket as the request does."""
    return await scene.slack.wait_for_message(
        PLATFORM, lambda message: is_result(message, bucket) and "took" in message.shown_text
    )


async def wait_for_closed(scene: Scene, request: Message, words: str) -> Message:
    """Return the request once it says how it ended."""
    return await scene.slack.wait_for_message(
        PLATFORM, lambda message: message.ts == request.ts and words in message.shown_text
    )


async def test_it_is_stored_once_another_person_approves(scene: Scene) -> None:
    """Not before, and not because the requester or a stranger presses."""
    token = make_token(Behaviour.GOOD, number=1)
    request = await submit_and_wait(scene, "to-approve", token)
    await scene.slack.wait_for_view(ADA, lambda view: view.title == "Waiting for approval")
    for nobody in (ADA, MALLORY):
        await scene.slack.click(nobody, request, APPROVE)
    assert scene.cloudflare.stored_token("to-approve") is None
    await scene.slack.close(ADA, whole_stack=True)

    await scene.slack.click(GRACE, request, APPROVE)
    result = await wait_for_end(scene, "to-approve")

    assert scene.cloudflare.stored_token("to-approve") == token
    assert f"Approved by\n<@{GRACE}>" in result.shown_text.replace("*", "")
    closed = await wait_for_closed(scene, request, "Credential stored")
    assert f"Approved by <@{GRACE}>" in closed.shown_text
    assert [block for block in closed.blocks if block["type"] == "actions"] == []
    assert "MADEUP" not in repr((request, closed, result))


async def test_it_is_not_stored_if_another_person_denies(scene: Scene) -> None:
    """The slot stays as it is."""
    request = await submit_and_wait(scene, "to-deny", make_token(Behaviour.GOOD, number=2))
    await scene.slack.click(GRACE, request, DENY)
    result = await wait_for_end(scene, "to-deny")
    assert scene.cloudflare.stored_token("to-deny") is None
    assert f"Denied by\n<@{GRACE}>" in result.shown_text.replace("*", "")
    await wait_for_closed(scene, request, "Not approved")
    await scene.slack.close(ADA, whole_stack=True)


async def test_it_waits_through_a_restart(scene: Scene) -> None:
    """A kill, and a press afterwards; nothing is asked twice."""
    token = make_token(Behaviour.GOOD, number=3)
    request = await submit_and_wait(scene, "to-wait", token)
    await wait_until_noted(scene, "to-wait")
    await scene.bot.kill()
    await scene.start_ready_bot()
    await scene.slack.click(GRACE, request, APPROVE)
    await wait_for_end(scene, "to-wait")
    assert scene.cloudflare.stored_token("to-wait") == token
    posted = [call for call in scene.slack.calls_of("chat.postMessage") if "Approval needed" in str(call.arguments)]
    assert len([call for call in posted if "to-wait" in str(call.arguments)]) == 1
    assert scene.slack.problems == []


@ONE_WAY
async def test_with_replicas_the_worker_follows_what_the_gateway_recorded(
    transport: Transport, tmp_path: Path, postgres_server: str
) -> None:
    """And a worker that was killed meanwhile is replaced by another one."""
    async with running_fleet(
        open_office, transport, tmp_path, postgres_server, ["gateway", "worker", "worker"]
    ) as fleet:
        scene, token = fleet.scene, make_token(Behaviour.GOOD, number=4)
        request = await submit_and_wait(scene, "of-many", token)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not any(b"approval_asked" in worker.log() for worker in fleet.workers):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
        await fleet.workers[0].bot.kill()
        await scene.slack.click(GRACE, request, APPROVE)
        await wait_for_end(scene, "of-many")
        assert scene.cloudflare.stored_token("of-many") == token
        await wait_for_closed(scene, request, "Credential stored")
        assert any(b"decision_received" in gateway.log() for gateway in fleet.gateways)


async def test_the_sandbox_can_be_tried_with_four_eyes(tmp_path: Path) -> None:
    """With the policy that `--four-eyes` writes: of two people in the group, the other one approves."""
    async with open_scene("socket", tmp_path) as scene:
        put_policy(scene.environment, tmp_path, four_eyes=True)
        await scene.start_ready_bot()
        token = make_token(Behaviour.GOOD, number=5)
        request = await submit_and_wait(scene, "to-try", token)
        await scene.slack.click(GRACE, request, APPROVE)
        await wait_for_end(scene, "to-try")
        assert scene.cloudflare.stored_token("to-try") == token
