"""Disks, databases, Slack and Cloudflare fail for a while: nothing is lost, duplicated or misreported."""

import asyncio
import os
import random
import re
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from bot.sandbox.answers import SubmitOutcome
from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE, Message
from tests.scene import ADA, CROWD, PLATFORM, Scene, SetScene

BUCKET = "analytics-events"
GOOD = make_token(Behaviour.GOOD, number=61)
SLOW = make_token(Behaviour.SLOW, number=62)
FROZEN_SECONDS = 3
FULL_BYTES = 8192
"""More than the bot prints here, less than recording a submission takes."""

_REFERENCE = re.compile(r"Reference (V\w+)")


@pytest.fixture(scope="module")
def transport() -> Transport:
    """Use one transport: what fails here lies behind both."""
    return "http"


@pytest_asyncio.fixture
async def stage(set_scene: SetScene, transport: Transport, tmp_path: Path) -> AsyncIterator[Scene]:
    """Make a separate scene with a bot that is ready."""
    async with set_scene(transport, tmp_path) as scene:
        await scene.start_ready_bot()
        yield scene


@contextmanager
def locked_database(scene: Scene) -> Iterator[None]:
    """Act as another process whose write transaction does not end."""
    path = scene.data_dir / "bot.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE.total_seconds())) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def full_disk(scene: Scene) -> Iterator[None]:
    """Let no file of the bot grow: a write beyond the limit is an I/O error."""
    before = resource.prlimit(scene.bot.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(scene.bot.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, before[1]))
    yield
    resource.prlimit(scene.bot.pid, resource.RLIMIT_FSIZE, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A database that accepts no writes, and what a person who submits meanwhile reads."""

    begin: Callable[[Scene], AbstractContextManager[None]]
    words: str
    readiness: frozenset[int]
    """What `/readyz` may answer meanwhile."""


TROUBLES = {
    "locked": Trouble(
        begin=locked_database,
        words="The bot could not record this, so it sent nothing to Cloudflare",
        readiness=frozenset({503}),
    ),
    "full": Trouble(
        begin=full_disk, words="It is not known whether the bot recorded this", readiness=frozenset({200, 503})
    ),
}


async def fill_form(scene: Scene, token: str = GOOD) -> str:
    """Open the form and fill it in; return its reference."""
    await scene.open_form(BUCKET)
    await scene.slack.fill(ADA, "token", token)
    modal = scene.slack.modal(ADA)
    assert modal is not None
    return modal.id


async def readiness(scene: Scene) -> int:
    """Return the status of `/readyz`."""
    url = f"http://127.0.0.1:{scene.environment['R2_CREDENTIAL_HTTP_PORT']}/readyz"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status


async def wait_until_printed(scene: Scene, word: str) -> None:
    """Wait until the bot has logged this; nothing else announces what happens inside it."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while word.encode() not in scene.printed():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)


def requests_to_store(scene: Scene) -> int:
    """Return how often Cloudflare was asked to store something."""
    return sum(request.method == "POST" for request in scene.cloudflare.requests)


def final_messages(scene: Scene) -> dict[str, list[Message]]:
    """Return the final messages by the reference of their submission."""
    messages: dict[str, list[Message]] = {}
    for message in scene.slack.workspace.messages:
        for reference in set(_REFERENCE.findall(str(message.blocks))) if message.bot_id else ():
            messages.setdefault(reference, []).append(message)
    return messages


async def wait_until_reported(scene: Scene, references: set[str]) -> None:
    """Wait until each of these submissions has a final message."""
    await scene.slack.workspace.changes.wait_until(
        lambda: references <= final_messages(scene).keys() or None, within=PATIENCE, what="the final messages"
    )


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_a_form_stays_open_while_nothing_can_be_recorded(stage: Scene, trouble: Trouble) -> None:
    """The answer says what is known, with the reference; the same form is accepted once the trouble is over."""
    reference = await fill_form(stage)

    with trouble.begin(stage):
        refused = await stage.slack.submit(ADA)
        asked_meanwhile = requests_to_store(stage)
        ready_meanwhile = await readiness(stage)
    ready_afterwards = await readiness(stage)
    accepted = await stage.slack.submit(ADA)
    message = await stage.wait_for_result(BUCKET)

    assert refused.kind == "errors"
    assert trouble.words in refused.errors["token"]
    assert reference in refused.errors["token"]
    assert asked_meanwhile == 0
    assert ready_meanwhile in trouble.readiness
    assert ready_afterwards == 200
    assert accepted.kind == "updated"
    assert "stored a new credential" in message.text
    assert [write.token for write in stage.cloudflare.writes] == [GOOD]
    assert stage.results(BUCKET) == [message]


async def test_the_disk_fills_up_during_a_delivery(stage: Scene) -> None:
    """The success cannot be recorded: the same token is stored again once that is possible, and reported once."""
    written = asyncio.Event()
    stage.cloudflare.on_write = written.set
    reference = await fill_form(stage, SLOW)
    await stage.slack.submit(ADA)
    await asyncio.wait_for(written.wait(), PATIENCE.total_seconds())

    with full_disk(stage):
        await wait_until_printed(stage, "delivery_stopped")
        posted_meanwhile = final_messages(stage)
    await wait_until_reported(stage, {reference})

    [message] = final_messages(stage)[reference]
    assert posted_meanwhile == {}
    assert "stored a new credential" in message.text
    assert {write.token for write in stage.cloudflare.writes} == {SLOW}


async def test_each_message_survives_what_slack_does_to_it(stage: Scene) -> None:
    """Limited, down, cut off before an effect, or the bot's token revoked: each message arrives once, afterwards.

    The post of each submission meets one of the failures.
    """
    stage.slack.fail_next("chat.postMessage", retry_after=1)
    stage.slack.fail_next("chat.postMessage", status=503)
    stage.slack.fail_next("chat.postMessage", drop_connection=True)
    stage.slack.fail_next("chat.postMessage", error="token_revoked")
    people = CROWD[:4]
    references = set()
    for number, user in enumerate(people):
        stage.cloudflare.add_bucket(f"outage-{number}")
        outcome = await stage.submit(f"outage-{number}", make_token(Behaviour.GOOD, number), user=user)
        assert outcome.view is not None
        references.add(outcome.view.id)

    await wait_until_reported(stage, references)

    assert all(len(messages) == 1 for messages in final_messages(stage).values())
    assert len(stage.slack.calls_of("chat.postMessage")) == 2 * len(people)
    assert len(stage.cloudflare.writes) == len(people)


@pytest.mark.parametrize("transport", ["socket"])
async def test_a_message_outlasts_a_long_outage_of_slack_with_kills(stage: Scene) -> None:
    """Slack accepts neither messages nor connections while the bot is killed again and again."""
    for method in ("chat.postMessage", "views.update"):
        stage.slack.fail_next(method, status=503, times=1000)
    outcome = await stage.submit(BUCKET, GOOD)
    assert outcome.view is not None
    await wait_until_printed(stage, "report_postponed")

    stage.slack.transport.refuses_connections = True
    for _ in range(2):
        await stage.bot.kill()
        stage.slack.fail_next("apps.connections.open", status=503, times=2)
        await stage.start_bot()
        await asyncio.sleep(0.5)
    stage.slack.faults._next.clear()
    stage.slack.transport.refuses_connections = False
    await wait_until_reported(stage, {outcome.view.id})
    assert await stage.bot.wait_until_ready()

    assert len(final_messages(stage)[outcome.view.id]) == 1
    assert len(stage.cloudflare.writes) == 1


async def test_a_process_frozen_past_the_deadline_sends_nothing_when_it_resumes(
    set_scene: SetScene, transport: Transport, tmp_path: Path
) -> None:
    """It is frozen while Cloudflare says "later", until past the deadline: it ends, and is reported once."""
    async with set_scene(transport, tmp_path, {"R2_CREDENTIAL_TTL": f"{FROZEN_SECONDS}s"}) as scene:
        await scene.start_ready_bot()
        scene.cloudflare.fail_next("credential", status=503, delay=2)
        outcome = await scene.submit(BUCKET, GOOD)
        assert outcome.view is not None
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not requests_to_store(scene):  # noqa: ASYNC110 - a request sets no event
                await asyncio.sleep(0.01)

        os.kill(scene.bot.pid, signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS + 0.1)
        os.kill(scene.bot.pid, signal.SIGCONT)
        await wait_until_reported(scene, {outcome.view.id})

        [message] = final_messages(scene)[outcome.view.id]
        assert "It is not known whether the credential" in message.text
        assert requests_to_store(scene) == 1
        assert scene.cloudflare.writes == []


async def submit_while_the_account_is_blocked(scene: Scene) -> SubmitOutcome:
    """Submit, and return once the bot waits for some seconds as Cloudflare asked."""
    scene.cloudflare.fail_next("credential", status=429, retry_after=3)
    outcome = await scene.submit(BUCKET, GOOD)
    await wait_until_printed(scene, "submission_postponed")
    return outcome


async def submit_while_slack_is_silent(scene: Scene) -> SubmitOutcome:
    """Submit, and return once Slack was asked to post; Slack gives no answer."""
    scene.slack.fail_next("chat.postMessage", delay=timedelta(hours=1), status=503)
    outcome = await scene.submit(BUCKET, GOOD)
    await scene.slack.workspace.changes.wait_until(
        lambda: scene.slack.calls_of("chat.postMessage") or None, within=PATIENCE, what="the try to post"
    )
    return outcome


@pytest.mark.parametrize(
    ("submit", "is_locked"), [(submit_while_the_account_is_blocked, True), (submit_while_slack_is_silent, False)]
)
async def test_sigterm_does_not_wait_for_others_and_loses_nothing(
    stage: Scene, submit: Callable[[Scene], Awaitable[SubmitOutcome]], *, is_locked: bool
) -> None:
    """The bot waits neither for Cloudflare, nor for Slack, nor for another process that locks the database."""
    outcome = await submit(stage)
    assert outcome.view is not None

    async with AsyncExitStack() as stack:
        if is_locked:
            stack.enter_context(locked_database(stage))
        code = await stage.bot.stop()
    stage.slack.faults._next.clear()
    await stage.start_ready_bot()
    await wait_until_reported(stage, {outcome.view.id})

    assert code == 0, stage.printed().decode()
    assert b"Traceback" not in stage.printed()
    assert {write.token for write in stage.cloudflare.writes} == {GOOD}
    assert "stored a new credential" in final_messages(stage)[outcome.view.id][0].text


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A submission that was acknowledged to a person, and between which times it was submitted."""

    bucket: str
    token: str
    pressed_at: float
    answered_at: float


async def test_a_crowd_in_two_buckets_while_everything_fails(
    set_scene: SetScene, transport: Transport, tmp_path: Path
) -> None:
    """Each acknowledged submission has one true message, and no older token is written after a newer one."""
    dice = random.Random(20261124)  # noqa: S311 - no secret
    buckets = ("crowd-0", "crowd-1")
    async with set_scene(transport, tmp_path, {"R2_CREDENTIAL_TTL": "2s"}) as scene:
        for bucket in buckets:
            scene.cloudflare.add_bucket(bucket)
        await scene.start_ready_bot()
        order_trouble(scene, dice)
        acknowledged: dict[str, Acknowledged] = {}

        async def submit_some(number: int, user: str) -> None:
            for turn in range(2):
                bucket, token = dice.choice(buckets), make_token(dice.choice(list(Behaviour)), 10 * number + turn)
                pressed_at = time.monotonic()
                outcome = await submit_patiently(scene, bucket, token, user)
                assert outcome.view is not None
                acknowledged[outcome.view.id] = Acknowledged(
                    bucket=bucket, token=token, pressed_at=pressed_at, answered_at=time.monotonic()
                )
                await asyncio.sleep(dice.uniform(0, 0.5))

        await asyncio.gather(*(submit_some(number, user) for number, user in enumerate(CROWD)))
        await wait_until_reported(scene, set(acknowledged))
        await scene.bot.stop()

        messages = final_messages(scene)
        written = [write.token for write in scene.cloudflare.writes]
        assert messages.keys() == acknowledged.keys()
        assert [reference for reference in messages if len(messages[reference]) != 1] == []
        assert [
            text
            for reference, [message] in messages.items()
            if not is_true(text := message.text, is_written=acknowledged[reference].token in written)
        ] == []
        assert find_old_over_new(scene, list(acknowledged.values())) == []


def order_trouble(scene: Scene, dice: random.Random) -> None:
    """Make many requests of the next seconds fail, in every way that a later one can fix."""
    for _ in range(8):
        scene.cloudflare.fail_next("credential", status=503, times=dice.randint(1, 2))
        scene.cloudflare.fail_next("credential", drop_after_store=True)
        scene.cloudflare.fail_next("credential", drop_before_store=True, delay=0.2)
    scene.cloudflare.fail_next("read", status=500, times=6)
    scene.cloudflare.fail_next("get", status=500, times=3)
    scene.cloudflare.fail_next("get", status=429, retry_after=1)
    scene.slack.fail_next("chat.postMessage", status=503, times=3)
    scene.slack.fail_next("chat.postMessage", retry_after=1, times=3)


async def submit_patiently(scene: Scene, bucket: str, token: str, user: str) -> SubmitOutcome:
    """Close what is still open, and submit."""
    if scene.slack.modal(user) is not None:
        await scene.slack.close(user, whole_stack=True)
    outcome = await scene.submit(bucket, token, user=user, channel=PLATFORM)
    assert outcome.kind == "updated", outcome
    return outcome


def is_true(text: str, *, is_written: bool) -> bool:
    """Say whether a message fits what happened to its token; "not known" always does."""
    if "stored a new credential" in text:
        return is_written
    if "nothing was changed" in text or "This token was never stored" in text:
        return not is_written
    return "It is not known whether" in text or "got no clear answer" in text


def find_old_over_new(scene: Scene, acknowledged: list[Acknowledged]) -> list[tuple[Acknowledged, Acknowledged]]:
    """Return the tokens that were written after one whose Submit came after their acknowledgement."""
    by_token = {each.token: each for each in acknowledged}
    writes = [by_token[write.token] for write in scene.cloudflare.writes]
    return [
        (older, newer)
        for place, newer in enumerate(writes)
        for older in writes[place + 1 :]
        if older.bucket == newer.bucket and older.answered_at < newer.pressed_at
    ]
