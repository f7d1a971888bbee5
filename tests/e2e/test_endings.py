"""Every ready-made token reaches the ending that the sandbox promises for it."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bot.sandbox.cloudflare import Failure
from bot.sandbox.process import Transport
from bot.sandbox.tokens import READY_MADE_TOKENS, Behaviour, make_token
from tests.e2e.conftest import ONE_WAY
from tests.scene import ADA, CROWD, PLATFORM, Scene, SetScene, is_result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), ONE_WAY]

STORED = "Credential stored"
REFUSED = "Token refused"
FAILED = "Not stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How a token ends: the modal's title, words of the message, and how often Cloudflare was asked to store it."""

    title: str
    words: tuple[str, ...] = ()
    tries: int = 1
    is_alarm: bool = False


_RIGHT_TOKEN = "Admin Read &amp; Write"
_WORKS = "Cloudflare confirms that the stored credential works."
_OF_USER = "it stops working when that user leaves"

ENDINGS = {
    "Good": Expected(title=STORED, words=("account API token", _WORKS, "none \u2192 works", "There was none before.")),
    "Good, of a user": Expected(title=STORED, words=("user API token", _OF_USER)),
    "Good, older kind": Expected(title=STORED, words=("user API token", _OF_USER)),
    "Good, older kind, of the account": Expected(title=STORED, words=("account API token", _WORKS)),
    "Never expires": Expected(title=STORED, words=("This token never expires", "never")),
    "Expires soon": Expected(title=STORED, words=("This token expires soon", "in 9 days")),
    "Unknown": Expected(title=REFUSED, words=(_RIGHT_TOKEN, "token_invalid", "Cloudflare code 1000"), tries=0),
    "Expired": Expected(title=REFUSED, words=("This token has expired.", _RIGHT_TOKEN, "token_expired"), tries=0),
    "Disabled": Expected(title=REFUSED, words=("This token is disabled.", "token_disabled"), tries=0),
    "Exposed": Expected(title=REFUSED, words=("found this token in public", "token_exposed"), tries=0),
    "Not yet valid": Expected(title=REFUSED, words=("This token is not valid yet", "token_not_yet_valid"), tries=0),
    "Of another account": Expected(title=REFUSED, words=("a different Cloudflare account", "code 10000"), tries=0),
    "Of a user elsewhere": Expected(title=REFUSED, words=("does not reach this catalog", "code 10000"), tries=0),
    "Lacks the catalog": Expected(title=REFUSED, words=("Workers R2 Data Catalog", "lacks_catalog_rights"), tries=0),
    "Weak": Expected(
        title=REFUSED, words=("Workers R2 Storage Write", "lacks_storage_rights", "Cloudflare code 30004")
    ),
    "Fresh": Expected(title=STORED, words=(_WORKS,)),
    "Unreadable": Expected(title=STORED, words=("Not checked: whether the token reaches this catalog.", _WORKS)),
    "Verify down": Expected(title=STORED, words=(_WORKS,)),
    "Slow": Expected(title=STORED),
    "Rate-limited": Expected(title=STORED, tries=2),
    "Server down": Expected(title=STORED, tries=3),
    "Answer lost": Expected(title=STORED, tries=2),
    "Stored, then invalid": Expected(
        title=STORED, words=("does not work", "but check it", "none \u2192 does not work"), is_alarm=True
    ),
    "Challenged": Expected(
        title=FAILED, words=("your token is not the reason", "challenge_page", "Please ask #data-platform.")
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def submitted(scene: Scene) -> Scene:
    """Submit all the ready-made tokens at once, each by another user into another bucket."""
    for index in range(len(READY_MADE_TOKENS)):
        scene.cloudflare.add_bucket(f"ending-{index:02d}")
    await asyncio.gather(
        *(
            scene.submit(f"ending-{index:02d}", ready.token, user=CROWD[index])
            for index, ready in enumerate(READY_MADE_TOKENS)
        )
    )
    return scene


@pytest.mark.parametrize("index", range(len(READY_MADE_TOKENS)), ids=[each.label for each in READY_MADE_TOKENS])
async def test_each_ready_made_token_reaches_its_ending(submitted: Scene, index: int) -> None:
    """One message and the modal report the ending, and the slot holds the token exactly when they say so."""
    ready, bucket, user = READY_MADE_TOKENS[index], f"ending-{index:02d}", CROWD[index]
    expected = ENDINGS[ready.label]

    message = await submitted.slack.wait_for_message("C0DATAPLT", lambda message: is_result(message, bucket))
    view = await submitted.slack.wait_for_view(user, lambda view: view.title == expected.title)

    is_stored = expected.title == STORED
    assert (submitted.cloudflare.stored_token(bucket) == ready.token) is is_stored
    assert ("stored a new credential" in message.text) is is_stored
    assert ("was not stored; nothing was changed" in message.text) is not is_stored
    assert [word for word in expected.words if word not in message.shown_text] == []
    assert ("Ray ID" in message.shown_text) is (not is_stored or expected.is_alarm)
    assert ("Try again" in message.shown_text) is (not is_stored or expected.is_alarm)
    assert "MADEUP" not in repr(message) + repr(view)
    paths = [request.path for request in submitted.cloudflare.requests]
    assert len([path for path in paths if path.endswith(f"/{bucket}/credential")]) == expected.tries
    assert len(submitted.results(bucket)) == 1


@pytest.mark.parametrize(
    ("bucket", "code", "words"),
    [
        pytest.param("old-warehouse", "catalog_inactive", "switched off", id="catalog switched off"),
        pytest.param("photos", "catalog_not_enabled", "has no catalog", id="no catalog"),
        pytest.param("never-made", "no_such_bucket", "has no bucket of this name", id="no such bucket"),
    ],
)
async def test_a_catalog_that_accepts_no_credential_is_explained(
    scene: Scene, bucket: str, code: str, words: str
) -> None:
    """Each state of a bucket that accepts no credential has its own sentence and code."""
    await scene.submit(bucket, make_token(Behaviour.GOOD))

    message = await scene.wait_for_result(bucket)

    assert "was not stored; nothing was changed" in message.text
    assert words in message.text
    assert f"error {code}" in message.shown_text
    assert "Ray ID" in message.shown_text


@pytest.mark.parametrize(
    ("bucket", "failure", "words"),
    [
        pytest.param("caller-out", Failure(status=401, code=10000), "your token is not the reason", id="rejected"),
        pytest.param("r2-off", Failure(status=403, code=10042), "R2 is not enabled", id="R2 not enabled"),
        pytest.param("strange-no", Failure(status=400, code=31999), "does not know", id="an unknown code"),
    ],
)
async def test_an_operators_fault_is_not_blamed_on_the_user(
    scene: Scene, bucket: str, failure: Failure, words: str
) -> None:
    """A result that only the operator can fix says so and names the contact."""
    scene.cloudflare.add_bucket(bucket)
    scene.cloudflare.fail_next("credential", **failure)

    await scene.submit(bucket, make_token(Behaviour.GOOD))
    message = await scene.wait_for_result(bucket)

    assert words in message.text
    assert "Please ask #data-platform." in message.text
    assert scene.cloudflare.stored_token(bucket) is None


async def test_a_result_can_be_retried_by_its_button(scene: Scene) -> None:
    """The button opens a fresh form for the same bucket, from which a good token is stored."""
    bucket, good = "second-chance", make_token(Behaviour.GOOD, number=11)
    scene.cloudflare.add_bucket(bucket)
    await scene.submit(bucket, make_token(Behaviour.WEAK))
    refused = await scene.wait_for_result(bucket)

    await scene.slack.click(ADA, refused, "try_again")
    form = await scene.slack.wait_for_view(ADA, lambda view: view.has_submit)
    await scene.slack.fill(ADA, "token", good)
    await scene.slack.submit(ADA)
    await scene.slack.wait_for_message(
        "C0DATAPLT", lambda message: is_result(message, bucket) and "stored a new" in message.text
    )

    assert form.values["bucket"]["bucket"]["selected_option"]["value"] == bucket
    assert scene.cloudflare.stored_token(bucket) == good


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(
    set_scene: SetScene, transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """Share a bot that gives a submission a few seconds."""
    async with set_scene(transport, tmp_path_factory.mktemp("hasty"), {"R2_CREDENTIAL_TTL": "3s"}) as scene:
        await scene.start_ready_bot()
        yield scene


@pytest.mark.parametrize(
    ("bucket", "failure", "title", "words"),
    [
        pytest.param(
            "always-down", Failure(status=503), "Not known if stored", "storing it twice does no harm", id="down"
        ),
        pytest.param(
            "no-answer", Failure(drop_after_store=True), "Not known if stored", "got no answer", id="never an answer"
        ),
        # The last one: it blocks all requests of the account for an hour.
        pytest.param(
            "told-to-wait",
            Failure(status=429, code=971, retry_after=3600),
            FAILED,
            "limiting",
            id="asked to wait long",
        ),
    ],
)
async def test_the_deadline_ends_a_submission_that_cannot_succeed(
    hasty: Scene, bucket: str, failure: Failure, title: str, words: str
) -> None:
    """After its deadline a submission ends with what is known of it, and is not tried again."""
    hasty.cloudflare.add_bucket(bucket)
    hasty.cloudflare.fail_next("credential", times=1000, **failure)

    submitted = await _submit_until_tried(hasty, bucket)
    hasty.cloudflare._failures.clear()
    await hasty.slack.wait_for_view(ADA, lambda view: view.title == title)

    results = hasty.results(bucket)
    assert words in results[-1].text
    assert len(results) == submitted


async def _submit_until_tried(hasty: Scene, bucket: str) -> int:
    """Submit, and wait for the result, until one was sent to Cloudflare before its deadline; return how many it took.

    On a busy machine the first steps alone may take longer than the few seconds that a submission has.
    """
    for count in itertools.count(1):
        await hasty.submit(bucket, make_token(Behaviour.GOOD))
        await hasty.slack.wait_for_message(PLATFORM, lambda _: len(hasty.results(bucket)) == count)  # noqa: B023 - used at once
        if any(request.path.endswith(f"/{bucket}/credential") for request in hasty.cloudflare.requests):
            return count
    raise AssertionError
