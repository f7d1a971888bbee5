"""One reference finds every line of a submission, in the logs of all processes, and no line of another one."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bot.sandbox.answers import SubmitOutcome
from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.log_events import find_all_events
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene, SetScene

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = make_token(Behaviour.GOOD, number=71)
SLOW = make_token(Behaviour.SLOW, number=72)
PRIVATE = "G0INCID42"
FOREVER = 3600
"""Seconds that no test waits for."""

RECEIVED = "submission_received recorded"
VERIFIED, STORED, CONFIRMED = "step_taken verify done", "step_taken store done", "step_taken confirm stored"
ENDED, POSTED = "submission_ended stored", "result_posted channel"
WHOLE = [RECEIVED, VERIFIED, STORED, CONFIRMED, ENDED, POSTED]
WORDS = ("event", "verdict", "step", "outcome", "way")
"""What is compared of a line; of the end, also how it ended."""

REQUESTS = {"cloudflare_request": 5, "slack_payload": 1}
"""The requests of a token that is stored at once: four questions and the write."""

Line = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(set_scene: SetScene, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Share a bot that logs at level debug."""
    transport: Transport = "socket"
    settings = {"R2_CREDENTIAL_LOG_LEVEL": "debug"}
    async with set_scene(transport, tmp_path_factory.mktemp("log"), settings) as scene:
        await scene.start_ready_bot()
        yield scene


def reference_of(outcome: SubmitOutcome) -> str:
    """Return the reference of what was submitted."""
    assert outcome.view is not None
    return outcome.view.id


async def read_until_posted(scene: Scene, reference: str) -> list[Line]:
    """Return all lines of the log, once that submission's result is posted."""
    text = await scene.wait_until_printed(f'"event": "result_posted", "reference": "{reference}"')
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def summary(lines: list[Line], reference: str) -> list[str]:
    """Return what the log says at level info about a submission."""
    mine = [line for line in lines if line.get("reference") == reference and line["level"] != "debug"]
    ends = {"submission_ended": ("ending",)}
    return [
        " ".join(str(line[word]) for word in (*WORDS, *ends.get(line["event"], ())) if line.get(word)) for line in mine
    ]


async def submit(scene: Scene, bucket: str, token: str = GOOD, **how: Any) -> str:  # noqa: ANN401 - passed on
    """Submit a token for a new bucket, and return the reference."""
    scene.cloudflare.add_bucket(bucket)
    return reference_of(await scene.submit(bucket, token, **how))


async def test_a_token_that_is_stored_leaves_six_lines(stage: Scene) -> None:
    """Who, what and where; each step with its duration; the end; where the result is."""
    reference = await submit(stage, "log-stored")
    lines = await read_until_posted(stage, reference)

    assert summary(lines, reference) == WHOLE
    received, *later = [line for line in lines if line.get("reference") == reference and line["level"] == "info"]
    known = {"task": "store", "bucket": "log-stored", "user": ADA, "channel": PLATFORM}
    assert received | known == received
    assert [line for line in later if not isinstance(line["seconds"], float)] == []
    assert later[-1]["channel"] == PLATFORM


async def test_a_refused_token_leaves_the_reason(stage: Scene) -> None:
    """At the step that found it, and at the end."""
    reference = await submit(stage, "log-refused", make_token(Behaviour.EXPIRED, number=73))
    lines = await read_until_posted(stage, reference)

    expected = [RECEIVED, "step_taken verify refused", "submission_ended refused", POSTED]
    assert summary(lines, reference) == expected
    because = [line["error"] for line in lines if line.get("reference") == reference and line.get("error")]
    assert [each.partition(" ")[0] for each in because] == ["token_expired"] * 2


async def test_a_wait_is_logged_with_its_cause_and_its_end(stage: Scene) -> None:
    """Cloudflare limits the write: then it goes on."""
    stage.cloudflare.fail_next("credential", status=429, code=971, retry_after=1)
    reference = await submit(stage, "log-limited")
    lines = await read_until_posted(stage, reference)

    assert summary(lines, reference) == [
        RECEIVED,
        VERIFIED,
        "submission_postponed store",
        STORED,
        CONFIRMED,
        ENDED,
        POSTED,
    ]
    [wait] = [line for line in lines if line["event"] == "submission_postponed"]
    assert wait["error"].startswith("throttled status=429 cloudflare_code=971 cf_ray=")
    assert wait["until"] > wait["timestamp"][:19]


async def test_the_way_of_the_result_is_logged(stage: Scene) -> None:
    """By the response URL where the bot may not post, else as a direct message, with why."""
    by_url = await submit(stage, "log-by-url", channel=PRIVATE)
    await read_until_posted(stage, by_url)
    stage.slack.fail_next("response_url", status=404)
    directly = await submit(stage, "log-directly", channel=PRIVATE)
    lines = await read_until_posted(stage, directly)

    assert summary(lines, by_url)[-2:] == ["channel_refused", "result_posted response_url"]
    assert summary(lines, directly)[-3:] == [
        "channel_refused",
        "response_url_refused",
        "result_posted direct_message",
    ]


async def test_a_killed_bot_is_followed_by_the_next_one_under_the_same_reference(stage: Scene) -> None:
    """The first process says nothing of the step that it was killed in."""
    written = asyncio.Event()
    stage.cloudflare.slow_delay, stage.cloudflare.on_write = FOREVER, written.set
    reference = await submit(stage, "log-killed", SLOW)
    await asyncio.wait_for(written.wait(), PATIENCE.total_seconds())
    await stage.bot.kill()
    before = stage.printed().decode()
    stage.cloudflare.slow_delay, stage.cloudflare.on_write = 0, lambda: None
    await stage.start_ready_bot()
    lines = await read_until_posted(stage, reference)

    of_first = [json.loads(line) for line in before.splitlines()]
    assert summary(of_first, reference) == [RECEIVED, VERIFIED]
    assert summary(lines, reference) == WHOLE


async def test_requests_are_logged_under_the_submission_that_they_serve(stage: Scene) -> None:
    """Of many at once, and of one that follows in the bucket of one that waits; none under another's reference."""
    stage.cloudflare.fail_next("credential", status=503, retry_after=600)
    waiting = await submit(stage, "log-twice", user=GRACE)
    await stage.wait_until_printed(f'"event": "submission_postponed", "reference": "{waiting}"')
    references = list(
        await asyncio.gather(
            *(submit(stage, f"log-crowd-{number}", user=user) for number, user in enumerate(CROWD[:4])),
        )
    )
    references.append(reference_of(await stage.submit("log-twice", GOOD, user=ADA)))
    for reference in (*references, waiting):
        lines = await read_until_posted(stage, reference)

    for reference in references:
        mine = [line for line in lines if line.get("reference") == reference]
        assert {event: sum(line["event"] == event for line in mine) for event in REQUESTS} == REQUESTS
        assert summary(lines, reference) == WHOLE
    assert [word for word in summary(lines, waiting) if word.startswith("submission_ended")] == [
        "submission_ended superseded"
    ]


async def test_no_other_line_has_a_reference(stage: Scene) -> None:
    """Refreshes in the background, connections and health checks belong to no submission, whoever woke them."""
    reference = await submit(stage, "log-others")
    await stage.wait_until_printed("snapshot_refreshed")
    lines = await read_until_posted(stage, reference)
    of_submissions = {line["event"] for line in lines if "reference" in line}
    others = {"snapshot_refreshed", "socket_mode_connected", "http_request", "ready"}

    assert of_submissions & {*others, "delivery_resumed"} == set()
    assert others <= {line["event"] for line in lines}
    in_list = [line for line in lines if line.get("path") == "accounts/{account}/r2-catalog"]
    assert in_list
    assert [line for line in in_list if "reference" in line] == []
    assert {line["event"] for line in lines} <= {event.name for event in find_all_events()}
