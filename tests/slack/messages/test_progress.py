"""The open modal and the fake Slack: in step with its submission, not too early, and never in the way of anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from slack_sdk.web.async_client import AsyncWebClient
from structlog.testing import capture_logs

from bot.model.catalog import CredentialStatus
from bot.model.submission import State, Submission, Task
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack.api import SlackWeb
from bot.slack.messages.progress import AFTER_ACKNOWLEDGEMENT, ModalProgress
from bot.slack.messages.redacted import RedactedProgress
from bot.slack.messages.render import progress_view
from bot.slack.progress_steps import steps_of
from tests.make import make_submission

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ADA, GRACE = "U0ADA0001", "U0GRACE01"
SECOND = timedelta(seconds=1)
BLINK = timedelta(milliseconds=1)
PATIENCE = timedelta(seconds=60)
PROGRESS = RedactedProgress(task=Task.STORE, bucket="lake", state=State.ACCEPTED, steps=steps_of(Task.STORE))


@dataclass(slots=True, kw_only=True)
class Scene:
    """A workspace in which people have acknowledged forms open, and what keeps those in step."""

    slack: FakeSlack
    progress: ModalProgress
    pass_loop_time: Callable[[timedelta], None]
    clock: Callable[[], datetime]

    def open_modal(self, user_id: str = ADA) -> Submission:
        """Return the submission of a form whose acknowledgement has just been shown."""
        user = self.slack.workspace.users[user_id]
        view = self.slack.modals.open(user, "C0DATAPLT", progress_view(PROGRESS))
        view.acknowledged_at = self.clock().timestamp()
        return _submission(view.id, self.clock())

    async def pass_time(self, by: timedelta) -> None:
        """Let time pass for all, and everything happen that is due."""
        await self.settle()
        self.pass_loop_time(by)
        await self.settle()

    async def settle(self) -> None:
        """Let a call to Slack come and go, if one is due."""
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)

    async def updated(self, count: int = 1) -> None:
        """Wait until Slack was asked this often to update a modal."""
        calls = self.slack.calls_of
        await self.slack.workspace.changes.wait_until(
            lambda: len(calls("views.update")) >= count or None, PATIENCE, f"{count} updates"
        )
        await self.settle()

    @property
    def updates(self) -> int:
        """How often Slack was asked to update a modal."""
        return len(self.slack.calls_of("views.update"))

    def shown(self, user_id: str = ADA) -> str:
        """Return what a person reads in the modal."""
        view = self.slack.modals.top(user_id)
        assert view is not None
        return view.snapshot().text


def _submission(view_id: str, accepted_at: datetime) -> Submission:
    sent = {"state": State.STORING, "attempts": 1, "possibly_written": True, "checked_at": accepted_at}
    return make_submission(id=view_id, user_id=ADA, accepted_at=accepted_at, **sent)


def _stored(submission: Submission) -> Submission:
    ended_at = submission.accepted_at + SECOND
    return replace(submission, state=State.STORED, ended_at=ended_at, confirmation=CredentialStatus.PRESENT)


@pytest_asyncio.fixture
async def scene(pass_time: Callable[[timedelta], None]) -> AsyncIterator[Scene]:
    """Open the workspace; its clock and the bot's go with the loop's."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    def clock() -> datetime:
        return NOW + timedelta(seconds=loop.time() - started)

    timeout = aiohttp.ClientTimeout(total=60)
    config = FakeSlackConfig(clock=lambda: clock().timestamp())
    async with FakeSlack(config) as slack, aiohttp.ClientSession(timeout=timeout) as http:
        client = AsyncWebClient(token=config.bot_tokens[0], base_url=slack.api_url, session=http, retry_handlers=[])
        client.proxy = None
        progress = ModalProgress(SlackWeb(client), clock, "S0PLATFORM", steps_of)
        yield Scene(slack=slack, progress=progress, pass_loop_time=pass_time, clock=clock)
        await progress.drain()


async def test_the_first_update_comes_when_slack_does_not_overwrite_it_any_more(scene: Scene) -> None:
    """Within a second of the acknowledgement the acknowledged view would win."""
    submission = scene.open_modal()
    scene.progress.show(_stored(submission))
    await scene.pass_time(SECOND)
    assert scene.updates == 0
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT - SECOND)
    await scene.updated()
    assert "Credential stored" in scene.shown()
    assert AFTER_ACKNOWLEDGEMENT >= SECOND


async def test_states_in_quick_succession_are_shown_as_one(scene: Scene) -> None:
    """The latest; Slack limits how often it is asked."""
    submission = scene.open_modal()
    for state in (State.STORING, State.CONFIRMING):
        scene.progress.show(replace(submission, state=state))
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert scene.updates == 1
    assert "Credential stored" in scene.shown()


async def test_slow_states_are_shown_each(scene: Scene) -> None:
    """Without a further pause once the first one is out."""
    submission = scene.open_modal()
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    assert ":hourglass_flowing_sand:  Store it at Cloudflare" in scene.shown()
    scene.progress.show(replace(submission, state=State.CONFIRMING))
    await scene.updated(2)
    assert ":white_check_mark:  Store it at Cloudflare" in scene.shown()
    scene.progress.show(_stored(submission))
    await scene.updated(3)
    assert "Credential stored" in scene.shown()


async def test_what_is_waited_for_is_shown(scene: Scene) -> None:
    """With the time of the next try; once the wait is over it is gone."""
    submission = replace(scene.open_modal(), state=State.VERIFYING, error_code="token_invalid")
    scene.progress.show(replace(submission, next_attempt_at=scene.clock() + timedelta(minutes=1)))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    assert "Waiting for Cloudflare to know this token" in scene.shown()
    scene.progress.show(replace(submission, next_attempt_at=scene.clock()))
    await scene.updated(2)
    assert "Waiting" not in scene.shown()


@pytest.mark.parametrize(
    ("task", "ending", "under_way", "title"),
    [
        pytest.param(Task.CHECK, State.CHECKED, "Nothing will be stored.", "Checked, not stored", id="check"),
        pytest.param(Task.ENABLE, State.ENABLED, "is being enabled.", "Catalog enabled", id="enable"),
    ],
)
async def test_each_task_is_shown_in_its_own_words(
    scene: Scene, task: Task, ending: State, under_way: str, title: str
) -> None:
    """From its first state to its ending."""
    submission = replace(scene.open_modal(), task=task, state=State.VERIFYING)
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    assert under_way in scene.shown()
    scene.progress.show(replace(submission, state=ending, ended_at=scene.clock()))
    await scene.updated(2)
    view = scene.slack.modals.top(ADA)
    assert view is not None
    assert view.snapshot().title == title


async def test_what_comes_during_an_update_is_shown_after_it(scene: Scene) -> None:
    """Of several the latest, and never an older one over a newer."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", delay=timedelta(milliseconds=50))
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.slack.workspace.changes.wait_until(lambda: scene.updates or None, PATIENCE, "the first update")
    scene.progress.show(replace(submission, state=State.CONFIRMING))
    scene.progress.show(_stored(submission))
    await scene.updated(2)
    assert "Credential stored" in scene.shown()
    assert scene.updates == 2


async def test_each_modal_is_kept_in_step_by_itself(scene: Scene) -> None:
    """One that Slack is slow about does not hold the other."""
    ada, grace = scene.open_modal(ADA), scene.open_modal(GRACE)
    scene.slack.fail_next("views.update", delay=timedelta(milliseconds=50))
    scene.progress.show(ada)
    scene.progress.show(_stored(grace))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(2)
    assert "Credential stored" in scene.shown(GRACE)


async def test_a_closed_modal_is_no_fault(scene: Scene) -> None:
    """The channel message counts; the log knows."""
    submission = scene.open_modal()
    view = scene.slack.modals.find(submission.id)
    assert view is not None
    scene.slack.modals.close(view)
    with capture_logs() as logs:
        scene.progress.show(_stored(submission))
        await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
        await scene.updated()
    [line] = logs
    assert (line["event"], line["log_level"]) == ("modal_not_updated", "info")
    assert "not_found" in line["error"]


TROUBLE: dict[str, tuple[dict[str, Any], int, timedelta]] = {
    "down": ({"status": 503}, 1, 2 * SECOND),
    "throttled": ({"retry_after": 30}, 1, 30 * SECOND),
    "throttled, without saying for how long": ({"error": "ratelimited"}, 1, 2 * SECOND),
    "in trouble": ({"error": "internal_error"}, 1, 2 * SECOND),
    "cut off": ({"drop_connection": True}, 2, 2 * SECOND),  # the second one over a new connection, at once
    "cut off after it was shown": ({"drop_connection": True, "after_effect": True}, 2, 2 * SECOND),
}


@pytest.mark.parametrize(("fault", "calls", "pause"), TROUBLE.values(), ids=TROUBLE)
async def test_the_end_is_shown_once_slack_takes_it(
    scene: Scene, fault: dict[str, Any], calls: int, pause: timedelta
) -> None:
    """Nothing comes after it: what was asked once only would say "Storing..." forever."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", times=2 * calls, **fault)
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(calls)
    await scene.pass_time(pause)
    await scene.updated(2 * calls)
    await scene.pass_time(2 * pause)
    await scene.updated(2 * calls + 1)
    assert "Credential stored" in scene.shown()
    await scene.pass_time(timedelta(minutes=2))
    assert scene.updates == 2 * calls + 1


async def test_what_comes_while_slack_is_in_trouble_is_shown_at_once(scene: Scene) -> None:
    """Slack did not ask to wait."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", status=503)
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    scene.progress.show(_stored(submission))
    await scene.updated(2)
    assert "Credential stored" in scene.shown()


async def test_a_pause_that_slack_asks_for_is_kept_whatever_is_new(scene: Scene) -> None:
    """Who asks earlier is throttled for longer."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", retry_after=30)
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    scene.progress.show(_stored(submission))
    await scene.pass_time(20 * SECOND)
    assert scene.updates == 1
    await scene.pass_time(10 * SECOND)
    await scene.updated(2)
    assert "Credential stored" in scene.shown()


async def test_nobody_is_asked_for_longer_than_half_an_hour(scene: Scene) -> None:
    """Nobody sits before a modal that old."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", status=503, times=1_000)
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    await scene.pass_time(timedelta(minutes=30))
    asked = scene.updates
    await scene.pass_time(timedelta(minutes=30))
    assert scene.updates == asked
    assert scene.progress._modals == {}


@pytest.mark.parametrize("error", ["not_found", "token_revoked", "hash_conflict"])
async def test_a_definite_no_is_not_asked_for_again(scene: Scene, error: str) -> None:
    """It is the end of this view, and a later state is shown all the same."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", error=error)
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    await scene.pass_time(timedelta(minutes=5))
    assert scene.updates == 1
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(2)
    assert "Credential stored" in scene.shown()


async def test_after_a_restart_the_ends_of_lately_are_shown(scene: Scene) -> None:
    """The process may have stopped between the record and the modal; what goes on shows itself."""
    old = scene.open_modal(ADA)
    await scene.pass_time(timedelta(minutes=30) + BLINK)
    ended, going_on = scene.open_modal(GRACE), scene.open_modal(ADA)
    scene.progress.catch_up([going_on, _stored(ended), _stored(old)])
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert "Credential stored" in scene.shown(GRACE)
    assert scene.updates == 1


async def test_a_modal_of_half_an_hour_ago_is_left_alone(scene: Scene) -> None:
    """Nobody looks at it any more, and a restart with many old submissions must not flood Slack."""
    submission = scene.open_modal()
    await scene.pass_time(timedelta(minutes=30) + BLINK)
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    assert scene.updates == 0


async def test_a_clock_that_was_set_back_does_not_hold_the_update(scene: Scene) -> None:
    """It waits as long as after an acknowledgement of this moment, and no longer."""
    submission = scene.open_modal()
    scene.progress.show(replace(_stored(submission), accepted_at=scene.clock() + timedelta(hours=1)))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert "Credential stored" in scene.shown()


async def test_drain_waits_for_what_is_still_to_be_shown(scene: Scene) -> None:
    """A result of the last moment is seen before the bot goes."""
    submission = scene.open_modal()
    scene.progress.show(_stored(submission))
    draining = asyncio.create_task(scene.progress.drain())
    await scene.settle()
    assert not draining.done()
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await draining
    assert "Credential stored" in scene.shown()


async def test_drain_gives_up_after_two_seconds(scene: Scene) -> None:
    """A Slack that hangs does not hold the stop."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", delay=timedelta(seconds=2.5))
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    draining = asyncio.create_task(scene.progress.drain())
    await scene.pass_time(1.9 * SECOND)
    assert not draining.done()
    await scene.pass_time(0.2 * SECOND)
    assert draining.done()
    await scene.pass_time(SECOND)


async def test_drain_with_nothing_to_show_returns(scene: Scene) -> None:
    """There is nothing to wait for."""
    await scene.progress.drain()


async def test_a_modal_whose_update_was_given_up_is_forgotten(scene: Scene) -> None:
    """What a stop cut off leaves nothing behind, and a later state of the same submission is shown again."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", delay=timedelta(seconds=2.5))
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    draining = asyncio.create_task(scene.progress.drain())
    await scene.pass_time(2.1 * SECOND)
    await draining
    assert scene.progress._modals == {}

    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert "Credential stored" in scene.shown()
    await scene.pass_time(SECOND)
