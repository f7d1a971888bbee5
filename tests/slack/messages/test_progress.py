"""Keeping the open modal in step with its submission: not too early, and without blocking anything."""

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
from bot.model.errors import BotError, DatabaseUnavailable
from bot.model.origin import id_in_fleet
from bot.model.predecessor import Fate, Predecessor
from bot.model.submission import State, Submission, Task
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack.api import SlackWeb
from bot.slack.blocks import date
from bot.slack.messages.progress import AFTER_ACKNOWLEDGEMENT, FOR_EACH_MORE, MANY, ModalProgress
from bot.slack.messages.redacted import RedactedProgress
from bot.slack.messages.render import progress_view
from bot.slack.progress_steps import steps_of
from tests.make import make_submission
from tests.noted_way import NotedWay

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ADA, GRACE = "U0ADA0001", "U0GRACE01"
SECOND = timedelta(seconds=1)
BLINK = timedelta(milliseconds=1)
PATIENCE = timedelta(seconds=60)
PROGRESS = RedactedProgress(task=Task.STORE, bucket="lake", state=State.ACCEPTED, steps=steps_of(Task.STORE))


@dataclass(slots=True, kw_only=True)
class Scene:
    """A workspace with acknowledged forms, and the code that updates them."""

    slack: FakeSlack
    progress: ModalProgress
    pass_loop_time: Callable[[timedelta], None]
    clock: Callable[[], datetime]
    way: NotedWay
    predecessors: list[Predecessor | BotError]

    def open_modal(self, user_id: str = ADA) -> Submission:
        """Return the submission of a form whose acknowledgement has just been shown."""
        user = self.slack.workspace.users[user_id]
        view = self.slack.modals.open(user, "C0DATAPLT", progress_view(PROGRESS))
        view.acknowledged_at = self.clock().timestamp()
        return _submission(view.id, self.clock())

    async def pass_time(self, by: timedelta) -> None:
        """Advance the time for all, and run everything that is due."""
        await self.settle()
        self.pass_loop_time(by)
        await self.settle()

    async def settle(self) -> None:
        """Let a call to Slack finish, if one is due."""
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
        """Return how often Slack was asked to update a modal."""
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
    """Open the workspace; its clock and the bot's follow the loop's."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    def clock() -> datetime:
        return NOW + timedelta(seconds=loop.time() - started)

    timeout = aiohttp.ClientTimeout(total=60)
    config = FakeSlackConfig(clock=lambda: clock().timestamp())
    async with FakeSlack(config) as slack, aiohttp.ClientSession(timeout=timeout) as http:
        client = AsyncWebClient(token=config.bot_tokens[0], base_url=slack.api_url, session=http, retry_handlers=[])
        client.proxy = None
        way = NotedWay(lambda: len(slack.calls_of("views.update")))
        predecessors: list[Predecessor | BotError] = []

        async def find_predecessor(_: Submission) -> Predecessor | None:
            found = predecessors.pop() if predecessors else None
            if isinstance(found, BotError):
                raise found
            return found

        progress = ModalProgress(
            SlackWeb(client), clock, "S0PLATFORM", steps_of, find_predecessor=find_predecessor, right_of_way=way
        )
        yield Scene(
            slack=slack,
            progress=progress,
            pass_loop_time=pass_time,
            clock=clock,
            way=way,
            predecessors=predecessors,
        )
        await progress.drain()


async def test_the_first_update_comes_when_slack_no_longer_overwrites_it(scene: Scene) -> None:
    """Within a second of the acknowledgement the acknowledged view would replace it."""
    submission = scene.open_modal()
    scene.progress.show(_stored(submission))
    await scene.pass_time(SECOND)
    assert scene.updates == 0
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT - SECOND)
    await scene.updated()
    assert "Credential stored" in scene.shown()
    assert AFTER_ACKNOWLEDGEMENT >= SECOND


FOUND: dict[str, tuple[Predecessor | BotError, str]] = {
    "known": (Predecessor(fate=Fate.TO_BE_REVOKED, revoked_at=NOW), f"The previous one is revoked on {date(NOW)}."),
    "not known for now": (DatabaseUnavailable(), "It is stored and tested: Cloudflare confirms that it works."),
}


@pytest.mark.parametrize(("found", "words"), FOUND.values(), ids=FOUND)
async def test_a_rotation_ends_with_what_becomes_of_the_token_before(
    scene: Scene, found: Predecessor | BotError, words: str
) -> None:
    """A view without it is better than none."""
    scene.predecessors.append(found)
    rotated = replace(_stored(scene.open_modal()), task=Task.ROTATE, confirmation=CredentialStatus.VALID)
    scene.progress.show(rotated)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert words in scene.shown()
    assert ("previous" in scene.shown()) is isinstance(found, Predecessor)


async def test_an_update_gives_way(scene: Scene) -> None:
    """The acknowledgement of another person's form comes first."""
    scene.progress.show(_stored(scene.open_modal()))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert scene.way.noted == [0]


async def test_states_in_quick_succession_are_shown_as_one(scene: Scene) -> None:
    """The latest is shown; Slack limits the rate of updates."""
    submission = scene.open_modal()
    for state in (State.STORING, State.CONFIRMING):
        scene.progress.show(replace(submission, state=state))
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert scene.updates == 1
    assert "Credential stored" in scene.shown()


async def test_slow_states_are_shown_each(scene: Scene) -> None:
    """Without a further pause after the first one."""
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


async def test_a_wait_is_shown(scene: Scene) -> None:
    """With the time of the next try; it disappears when the wait is over."""
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


async def test_a_state_during_an_update_is_shown_after_it(scene: Scene) -> None:
    """The latest of several, and never an older one over a newer."""
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


async def test_each_modal_is_updated_independently(scene: Scene) -> None:
    """A slow update of one does not hold up another."""
    ada, grace = scene.open_modal(ADA), scene.open_modal(GRACE)
    scene.slack.fail_next("views.update", delay=timedelta(milliseconds=50))
    scene.progress.show(ada)
    scene.progress.show(_stored(grace))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(2)
    assert "Credential stored" in scene.shown(GRACE)


async def test_of_many_modals_those_that_have_ended_are_updated_first(scene: Scene) -> None:
    """Slack limits the rate of updates, and most other states are over a moment later."""
    more = 8
    submissions = [_submission(f"V{number}", scene.clock()) for number in range(MANY + more)]
    for submission in submissions:
        scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    scene.progress.show(_stored(submissions[-1]))
    await scene.updated()
    assert scene.updates == 1
    await scene.pass_time(more * FOR_EACH_MORE)
    await scene.updated(MANY + more)
    assert scene.updates == MANY + more


async def test_a_closed_modal_is_no_fault(scene: Scene) -> None:
    """The channel message counts; the log has an entry."""
    submission = scene.open_modal()
    view = scene.slack.modals.find(submission.id)
    assert view is not None
    scene.slack.modals.close(view)
    with capture_logs() as logs:
        scene.progress.show(_stored(submission))
        await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
        await scene.updated()
    [line] = logs
    assert (line["event"], line["log_level"]) == ("modal_not_updated", "debug")
    assert "not_found" in line["error"]


TROUBLE: dict[str, tuple[dict[str, Any], int, timedelta]] = {
    "down": ({"status": 503}, 1, 2 * SECOND),
    "throttled": ({"retry_after": 30}, 1, 30 * SECOND),
    "throttled, without saying for how long": ({"error": "ratelimited"}, 1, 2 * SECOND),
    "in trouble": ({"error": "internal_error"}, 1, 2 * SECOND),
    "cut off": ({"drop_connection": True}, 2, 2 * SECOND),  # the second one at once, over a new connection
    "cut off after it was shown": ({"drop_connection": True, "after_effect": True}, 2, 2 * SECOND),
}


@pytest.mark.parametrize(("fault", "calls", "pause"), TROUBLE.values(), ids=TROUBLE)
async def test_the_end_is_shown_once_slack_accepts_it(
    scene: Scene, fault: dict[str, Any], calls: int, pause: timedelta
) -> None:
    """No later state follows: without a retry the modal would say "Storing..." forever."""
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


async def test_a_state_during_slacks_trouble_is_shown_at_once(scene: Scene) -> None:
    """Slack did not ask for a pause."""
    submission = scene.open_modal()
    scene.slack.fail_next("views.update", status=503)
    scene.progress.show(submission)
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated(1)
    scene.progress.show(_stored(submission))
    await scene.updated(2)
    assert "Credential stored" in scene.shown()


async def test_a_pause_that_slack_asks_for_is_kept(scene: Scene) -> None:
    """An earlier call would be throttled for longer."""
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


async def test_updates_are_retried_for_half_an_hour_at_most(scene: Scene) -> None:
    """No one watches a modal that old."""
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
async def test_a_definite_refusal_is_not_retried(scene: Scene, error: str) -> None:
    """It ends this view, and a later state is still shown."""
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


async def test_after_a_restart_recent_ends_are_shown(scene: Scene) -> None:
    """The process may have stopped between the record and the modal; running submissions update theirs anyway."""
    old = scene.open_modal(ADA)
    await scene.pass_time(timedelta(minutes=30) + BLINK)
    ended, going_on = scene.open_modal(GRACE), scene.open_modal(ADA)
    scene.progress.catch_up([going_on, _stored(ended), _stored(old)])
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert "Credential stored" in scene.shown(GRACE)
    assert scene.updates == 1


async def test_a_modal_of_half_an_hour_ago_is_left_alone(scene: Scene) -> None:
    """No one watches it, and a restart with many old submissions must not flood Slack."""
    submission = scene.open_modal()
    await scene.pass_time(timedelta(minutes=30) + BLINK)
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    assert scene.updates == 0


async def test_what_nobody_submitted_has_no_modal(scene: Scene) -> None:
    """Slack would refuse each of its states."""
    submission = replace(scene.open_modal(), id=id_in_fleet("f7", "lake"))
    scene.progress.show(_stored(submission))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    assert scene.updates == 0


async def test_a_clock_that_was_set_back_does_not_hold_the_update(scene: Scene) -> None:
    """It waits as long as after an acknowledgement at this moment, and no longer."""
    submission = scene.open_modal()
    scene.progress.show(replace(_stored(submission), accepted_at=scene.clock() + timedelta(hours=1)))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await scene.updated()
    assert "Credential stored" in scene.shown()


async def test_drain_waits_for_pending_updates(scene: Scene) -> None:
    """A last-moment result is shown before the bot exits."""
    submission = scene.open_modal()
    scene.progress.show(_stored(submission))
    draining = asyncio.create_task(scene.progress.drain())
    await scene.settle()
    assert not draining.done()
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    await draining
    assert "Credential stored" in scene.shown()


async def test_a_stop_updates_each_of_many_modals(scene: Scene) -> None:
    """Their ends will not come in this process: waiting for them would leave all as they are."""
    for number in range(3 * MANY):
        scene.progress.show(_submission(f"V{number}", scene.clock()))
    await scene.pass_time(AFTER_ACKNOWLEDGEMENT)
    assert scene.updates == 0
    draining = asyncio.create_task(scene.progress.drain())
    await scene.updated(3 * MANY)
    await draining


async def test_drain_stops_waiting_after_two_seconds(scene: Scene) -> None:
    """A Slack that hangs does not hold up the stop."""
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


async def test_drain_without_pending_updates_returns(scene: Scene) -> None:
    """There is nothing to wait for."""
    await scene.progress.drain()


async def test_a_modal_whose_update_was_cancelled_is_forgotten(scene: Scene) -> None:
    """A cancelled update leaves nothing behind, and a later state of the same submission is shown."""
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
