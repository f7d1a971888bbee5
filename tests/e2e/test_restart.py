"""A bot may die or be stopped anywhere: what it acknowledged comes to one ending, told once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.cloudflare import ReceivedRequest
from bot.sandbox.process import Transport, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from tests.e2e.conftest import ADA, GRACE, PLATFORM, Scene, SetScene, is_result

BUCKET = "analytics-events"
GOOD = make_token(Behaviour.GOOD, number=41)
SLOW = make_token(Behaviour.SLOW, number=42)
STOP_SECONDS = 10


@pytest_asyncio.fixture
async def stage(set_scene: SetScene, transport: Transport, tmp_path: Path) -> AsyncIterator[Scene]:
    """Set a scene of its own, with a bot that may be killed."""
    async with set_scene(transport, tmp_path) as scene:
        await scene.start_ready_bot()
        yield scene


def note_writes(scene: Scene) -> asyncio.Event:
    """Return what is set as soon as a slot is filled, which is before the answer to a slow token."""
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


async def test_a_kill_after_the_write_ends_as_stored_and_is_told_once(stage: Scene) -> None:
    """The answer never came: the next process stores the same token again and says so, once."""
    stage.cloudflare.slow_delay = 60
    written = note_writes(stage)
    await stage.submit(BUCKET, SLOW)
    await asyncio.wait_for(written.wait(), 5)

    await stage.bot.kill()
    stage.cloudflare.slow_delay = 0
    await stage.start_ready_bot()
    message = await stage.wait_for_result(BUCKET)
    code = await stage.bot.stop()

    assert "stored a new credential" in message.text
    assert [write.token for write in stage.cloudflare.writes] == [SLOW, SLOW]
    assert stage.results(BUCKET) == [message]
    assert code == 0


@pytest.mark.parametrize("transport", ["http"])
async def test_a_kill_before_the_write_ends_as_stored_and_is_told_once(stage: Scene) -> None:
    """The request had arrived and nothing had happened yet: the next process brings the right slot to the token."""
    stage.cloudflare.fail_next("credential", delay=60, drop_before_store=True)
    stage.cloudflare.requests = requests = NotedRequests()
    await stage.submit(BUCKET, GOOD)
    await asyncio.wait_for(requests.asked.wait(), 5)

    await stage.bot.kill()
    await stage.start_ready_bot()
    message = await stage.wait_for_result(BUCKET)
    code = await stage.bot.stop()

    assert "stored a new credential" in message.text
    assert [(write.bucket, write.token) for write in stage.cloudflare.writes] == [(BUCKET, GOOD)]
    assert stage.results(BUCKET) == [message]
    assert code == 0


@pytest.mark.parametrize("transport", ["http"])
async def test_a_kill_between_the_write_and_the_message_loses_no_message(stage: Scene) -> None:
    """What was stored and could not be told is told by the next process, and stored no second time."""
    stage.slack.fail_next("chat.postMessage", status=503, times=1000)
    await stage.submit(BUCKET, GOOD)
    await stage.slack.workspace.changes.wait_until(
        lambda: stage.slack.calls_of("chat.postMessage") or None, within=timedelta(seconds=5), what="the try to post"
    )

    await stage.bot.kill()
    stage.slack.faults._next.clear()
    await stage.start_ready_bot()
    message = await stage.wait_for_result(BUCKET)

    assert "stored a new credential" in message.text
    assert len(stage.cloudflare.writes) == 1


@pytest.mark.parametrize("transport", ["socket"])
async def test_sigterm_ends_in_time_and_what_was_in_flight_resumes(stage: Scene) -> None:
    """A stop waits a while for Cloudflare, leaves the rest where it is recorded, and exits with 0."""
    stage.cloudflare.slow_delay = 60
    written = note_writes(stage)
    await stage.submit(BUCKET, SLOW)
    await asyncio.wait_for(written.wait(), 5)

    async with asyncio.timeout(STOP_SECONDS):
        code = await stage.bot.stop()

    assert code == 0, stage.printed().decode()
    assert stage.results(BUCKET) == []
    stage.cloudflare.slow_delay = 0
    await stage.start_ready_bot()
    assert "stored a new credential" in (await stage.wait_for_result(BUCKET)).text
    assert b"Traceback" not in stage.printed()


@pytest.mark.parametrize("transport", ["http"])
async def test_sigterm_lets_a_quick_step_finish(stage: Scene) -> None:
    """What needs no more than a moment is finished and recorded before the process goes."""
    stage.cloudflare.slow_delay = 0.5
    written = note_writes(stage)
    await stage.submit(BUCKET, SLOW)
    await asyncio.wait_for(written.wait(), 5)

    code = await stage.bot.stop()
    await stage.start_ready_bot()
    await stage.wait_for_result(BUCKET)

    assert code == 0
    assert len(stage.cloudflare.writes) == 1
    assert len(stage.results(BUCKET)) == 1


@pytest.mark.parametrize("transport", ["socket"])
async def test_an_open_form_outlives_a_restart(stage: Scene) -> None:
    """A form that was open while the bot was restarted is taken by the new process."""
    await stage.open_form(BUCKET)
    await stage.slack.fill(ADA, "token", GOOD)

    await stage.bot.stop()
    await stage.start_ready_bot()
    await stage.slack.submit(ADA)
    await stage.wait_for_result(BUCKET)

    assert stage.cloudflare.stored_token(BUCKET) == GOOD


@pytest.mark.parametrize("transport", ["http"])
async def test_a_second_process_on_the_same_data_is_refused(stage: Scene) -> None:
    """It exits with code 2 and the mend, and the first one works on."""
    code = await stage.run_bot_to_its_end({"R2_CREDENTIAL_HTTP_PORT": str(find_free_port())})

    assert f"another process uses {stage.data_dir} or " in stage.printed().decode()
    assert code == 2
    await stage.submit(BUCKET, GOOD, user=GRACE)
    await stage.slack.wait_for_message(PLATFORM, lambda message: is_result(message, BUCKET))


@pytest.mark.parametrize("transport", ["socket"])
async def test_a_socket_that_slack_wants_renewed_is_renewed(stage: Scene) -> None:
    """Slack ends every connection from time to time: the next one takes over."""
    first = list(stage.slack.transport.connections)

    await stage.slack.transport.ask_to_reconnect()
    await stage.slack.workspace.changes.wait_until(
        lambda: [new for new in stage.slack.transport.connections if new not in first] or None,
        within=timedelta(seconds=5),
        what="a new connection",
    )
    await stage.submit(BUCKET, GOOD)

    assert "stored a new credential" in (await stage.wait_for_result(BUCKET)).text
