"""A bot may die or be stopped at any point: each acknowledged submission ends once and is reported once."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from bot.sandbox.cloudflare import ReceivedRequest
from bot.sandbox.process import find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.e2e.conftest import ONE_WAY
from tests.scene import ADA, GRACE, PLATFORM, SLOW_SECONDS, Scene, is_result

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = make_token(Behaviour.GOOD, number=41)
SLOW = make_token(Behaviour.SLOW, number=42)
FOREVER = 3600
"""Seconds that no test waits for."""


@pytest_asyncio.fixture(loop_scope="module")
async def stage(scene: Scene) -> AsyncIterator[Scene]:
    """Share one scene whose bot may be killed: each test finds it ready, and the faults reset."""
    scene.bots.sort(key=lambda bot: bot.is_running)
    if not scene.bot.is_running:
        await scene.start_ready_bot()
    yield scene
    scene.slack.faults._next.clear()
    scene.cloudflare._failures.clear()
    scene.cloudflare.slow_delay, scene.cloudflare.on_write = SLOW_SECONDS, lambda: None


@pytest.fixture
def bucket(stage: Scene) -> str:
    """Add a bucket that no other test uses."""
    name = f"restart-{uuid4().hex[:8]}"
    stage.cloudflare.add_bucket(name)
    return name


def written_to(scene: Scene, bucket: str) -> list[str]:
    """Return the tokens that were written into this slot, in order."""
    return [write.token for write in scene.cloudflare.writes if write.bucket == bucket]


def note_writes(scene: Scene) -> asyncio.Event:
    """Return an event that is set as soon as a slot is filled, which is before the answer to a slow token."""
    written = asyncio.Event()
    scene.cloudflare.on_write = written.set
    return written


class NotedRequests(list[ReceivedRequest]):
    """Sets an event as soon as Cloudflare is asked to store a credential."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    def append(self, request: ReceivedRequest) -> None:
        """Note a request."""
        super().append(request)
        if request.path.endswith("/credential"):
            self.asked.set()


@ONE_WAY
async def test_a_kill_after_the_write_ends_as_stored_and_is_reported_once(stage: Scene, bucket: str) -> None:
    """The answer never came: the next process stores the same token again and reports it, once."""
    stage.cloudflare.slow_delay = FOREVER
    written = note_writes(stage)
    await stage.submit(bucket, SLOW)
    await asyncio.wait_for(written.wait(), PATIENCE.total_seconds())

    await stage.bot.kill()
    stage.cloudflare.slow_delay = 0
    await stage.start_ready_bot()
    message = await stage.wait_for_result(bucket)
    code = await stage.bot.stop()

    assert "stored a new credential" in message.text
    assert written_to(stage, bucket) == [SLOW, SLOW]
    assert stage.results(bucket) == [message]
    assert code == 0


@ONE_WAY
async def test_a_kill_before_the_write_ends_as_stored_and_is_reported_once(stage: Scene, bucket: str) -> None:
    """The request had arrived without effect yet: the next process stores the token in the right slot."""
    stage.cloudflare.fail_next("credential", delay=FOREVER, drop_before_store=True)
    stage.cloudflare.requests = requests = NotedRequests()
    await stage.submit(bucket, GOOD)
    await asyncio.wait_for(requests.asked.wait(), PATIENCE.total_seconds())

    await stage.bot.kill()
    await stage.start_ready_bot()
    message = await stage.wait_for_result(bucket)
    code = await stage.bot.stop()

    assert "stored a new credential" in message.text
    assert written_to(stage, bucket) == [GOOD]
    assert stage.results(bucket) == [message]
    assert code == 0


@ONE_WAY
async def test_a_kill_between_the_write_and_the_message_loses_no_message(stage: Scene, bucket: str) -> None:
    """A stored result that could not be posted is posted by the next process, and not stored a second time."""
    stage.slack.fail_next("chat.postMessage", status=503, times=1000)
    await stage.submit(bucket, GOOD)
    await stage.slack.workspace.changes.wait_until(
        lambda: stage.slack.calls_of("chat.postMessage") or None, within=PATIENCE, what="the try to post"
    )

    await stage.bot.kill()
    stage.slack.faults._next.clear()
    await stage.start_ready_bot()
    message = await stage.wait_for_result(bucket)

    assert "stored a new credential" in message.text
    assert len(written_to(stage, bucket)) == 1


@ONE_WAY
async def test_sigterm_gives_up_waiting_and_what_was_in_flight_resumes(stage: Scene, bucket: str) -> None:
    """A stop waits a while for Cloudflare, leaves the rest as recorded, and exits with 0."""
    stage.cloudflare.slow_delay = FOREVER
    written = note_writes(stage)
    await stage.submit(bucket, SLOW)
    await asyncio.wait_for(written.wait(), PATIENCE.total_seconds())

    code = await stage.bot.stop()

    assert code == 0, stage.printed().decode()
    assert stage.results(bucket) == []
    stage.cloudflare.slow_delay = 0
    await stage.start_ready_bot()
    assert "stored a new credential" in (await stage.wait_for_result(bucket)).text
    assert b"Traceback" not in stage.printed()


@ONE_WAY
async def test_sigterm_lets_a_quick_step_finish(stage: Scene, bucket: str) -> None:
    """A step that needs only a moment is finished and recorded before the process exits."""
    stage.cloudflare.slow_delay = 0.5
    written = note_writes(stage)
    await stage.submit(bucket, SLOW)
    await asyncio.wait_for(written.wait(), PATIENCE.total_seconds())

    code = await stage.bot.stop()
    await stage.start_ready_bot()
    await stage.wait_for_result(bucket)

    assert code == 0
    assert len(written_to(stage, bucket)) == 1
    assert len(stage.results(bucket)) == 1


@ONE_WAY
async def test_an_open_form_outlives_a_restart(stage: Scene, bucket: str) -> None:
    """A form that was open while the bot was restarted is accepted by the new process."""
    await stage.open_form(bucket)
    await stage.slack.fill(ADA, "token", GOOD)

    await stage.bot.stop()
    await stage.start_ready_bot()
    await stage.slack.submit(ADA)
    await stage.wait_for_result(bucket)

    assert stage.cloudflare.stored_token(bucket) == GOOD


@ONE_WAY
async def test_a_second_process_on_the_same_data_is_refused(stage: Scene, bucket: str) -> None:
    """It exits with code 2 and the fix, and the first one works on."""
    code = await stage.run_bot_to_its_end({"R2_CREDENTIAL_HTTP_PORT": str(find_free_port())})

    assert f"another process uses {stage.data_dir} or " in stage.printed().decode()
    assert code == 2
    await stage.submit(bucket, GOOD, user=GRACE)
    await stage.slack.wait_for_message(PLATFORM, lambda message: is_result(message, bucket))


@pytest.mark.parametrize("transport", ["socket"], indirect=True)
async def test_a_socket_that_slack_wants_renewed_is_renewed(stage: Scene, bucket: str) -> None:
    """Slack ends every connection from time to time: the next one takes over."""
    first = list(stage.slack.transport.connections)

    await stage.slack.transport.ask_to_reconnect()
    await stage.slack.workspace.changes.wait_until(
        lambda: [new for new in stage.slack.transport.connections if new not in first] or None,
        within=PATIENCE,
        what="a new connection",
    )
    await stage.submit(bucket, GOOD)

    assert "stored a new credential" in (await stage.wait_for_result(bucket)).text
