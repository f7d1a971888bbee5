"""Who is refused: people who are not listed, outsiders, forgers, and requests without a signature."""

import json
import time
from collections.abc import Mapping
from urllib.parse import urlencode

import aiohttp
import pytest

from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.transport import Answer
from bot.sandbox.workspace import User
from tests.scene import ADA, GRACE, MALLORY, PLATFORM, Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = make_token(Behaviour.GOOD)
OUTSIDER = User(id="U0OUTSIDE", name="oscar", real_name="Oscar of Acme", team_id="T0PARTNER")


def view_of(answer: Answer) -> str:
    """Return everything that the answer shows."""
    return json.dumps(answer.body)


async def test_mallory_reads_whom_to_ask_and_gets_no_form(scene: Scene) -> None:
    """A person on no list gets a friendly ephemeral refusal."""
    outcome = await scene.slack.type_command(MALLORY, PLATFORM, "/r2-credential clickstream-raw")

    assert outcome.message is not None
    assert outcome.message.ephemeral_to == MALLORY
    assert "not on the list" in outcome.message.text
    assert "Please ask #data-platform." in outcome.message.text
    assert scene.slack.modal(MALLORY) is None
    await scene.wait_until_printed('"error": "not_allowed"')


async def test_mallory_cannot_use_the_button_of_a_result(scene: Scene) -> None:
    """Pressing "Try again" under another person's result opens a refusal and no form."""
    await scene.submit("old-warehouse", GOOD, user=GRACE)
    result = await scene.wait_for_result("old-warehouse")

    await scene.slack.click(MALLORY, result, "try_again")
    view = await scene.slack.wait_for_view(MALLORY)

    assert not view.has_submit
    assert "not on the list" in view.text


async def test_a_token_typed_after_the_command_is_refused_with_the_advice_to_revoke_it(scene: Scene) -> None:
    """Slack keeps what is typed there, so the token counts as disclosed and goes nowhere."""
    outcome = await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential clickstream-raw {GOOD}")

    assert outcome.message is not None
    assert "Revoke it in Cloudflare" in outcome.message.text
    assert "MADEUP" not in outcome.message.text
    assert scene.slack.modal(ADA) is None


def by_mallory(payload: JsonObject) -> JsonObject:
    """Replace the person who opened the form by Mallory."""
    return payload | {"user": payload["user"] | {"id": MALLORY}}


def by_grace(payload: JsonObject) -> JsonObject:
    """Replace the person who opened the form by another permitted one."""
    return payload | {"user": payload["user"] | {"id": GRACE}}


def from_another_company(payload: JsonObject) -> JsonObject:
    """Keep the listed id, but come from a workspace connected by Slack Connect."""
    team = {"id": OUTSIDER.team_id, "domain": "acme"}
    return payload | {"team": team, "user": payload["user"] | {"team_id": OUTSIDER.team_id}}


def with_unknown_nonce(payload: JsonObject) -> JsonObject:
    """Name an opening that never existed."""
    return payload | {"view": payload["view"] | {"private_metadata": "nobody-opened-this"}}


def without_nonce(payload: JsonObject) -> JsonObject:
    """Name no opening."""
    return payload | {"view": payload["view"] | {"private_metadata": ""}}


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        pytest.param(by_mallory, "not on the list", id="a person on no list"),
        pytest.param(by_grace, "opened for someone else", id="another listed person"),
        pytest.param(from_another_company, "you belong to another one", id="a listed id of another workspace"),
        pytest.param(with_unknown_nonce, "does not know this form", id="unknown nonce"),
        pytest.param(without_nonce, "does not know this form", id="no nonce"),
    ],
)
async def test_a_forged_submission_reaches_nothing(scene: Scene, forge: object, words: str) -> None:
    """A view that this person did not open is answered with a notice, and Cloudflare gets no request."""
    await scene.open_form("clickstream-raw")
    await scene.slack.fill(ADA, "token", GOOD)
    assert callable(forge)
    forged = forge(scene.slack.make_submission(ADA))

    answer = await scene.slack.deliver("interactive", forged)

    assert words in view_of(answer)
    assert "Nothing was sent" in view_of(answer)
    assert "MADEUP" not in view_of(answer)
    assert scene.cloudflare.stored_token("clickstream-raw") is None


async def test_an_outsider_who_presses_submit_is_refused(scene: Scene) -> None:
    """A Slack Connect user is refused, whether or not the id is listed."""
    await scene.open_form("clickstream-raw")
    await scene.slack.fill(ADA, "token", GOOD)

    answer = await scene.slack.deliver("interactive", scene.slack.make_submission(ADA, as_user=OUTSIDER))

    assert "you belong to another one" in view_of(answer)


async def test_an_opening_is_valid_for_one_view(scene: Scene) -> None:
    """The nonce of a submitted form admits no other view."""
    await scene.open_form("clickstream-raw")
    await scene.slack.fill(ADA, "token", make_token(Behaviour.WEAK))
    payload = scene.slack.make_submission(ADA)
    await scene.slack.deliver("interactive", payload)

    again = await scene.slack.deliver("interactive", payload | {"view": payload["view"] | {"id": "V0ANOTHER"}})

    assert "submitted before" in view_of(again)


async def test_the_same_submit_twice_is_one_submission(scene: Scene) -> None:
    """Slack or a person may repeat it: there is one result, and the second answer shows the state."""
    await scene.open_form("analytics-events")
    await scene.slack.fill(ADA, "token", GOOD)
    payload = scene.slack.make_submission(ADA)

    first = await scene.slack.deliver("interactive", payload)
    await scene.wait_for_result("analytics-events")
    second = await scene.slack.deliver("interactive", payload)

    assert "Storing..." in view_of(first)
    assert "Credential stored" in view_of(second)
    assert len(scene.results("analytics-events")) == 1


SIGNATURES = {
    "no signature": {"X-Slack-Signature": ""},
    "no timestamp": {"X-Slack-Request-Timestamp": ""},
    "wrong signature": {"X-Slack-Signature": f"v0={'0' * 64}"},
    "no number": {"X-Slack-Request-Timestamp": "soon"},
    "other letters": {"X-Slack-Signature": "v0=ÄÖÜ"},
}


@pytest.mark.parametrize("headers", SIGNATURES.values(), ids=SIGNATURES)
async def test_an_unsigned_request_is_turned_away(scene: Scene, headers: Mapping[str, str]) -> None:
    """Over HTTP the answer is 401; Socket Mode has no port for requests."""
    body = urlencode({"command": "/r2-credential", "text": "UNSIGNED-MARKER", "user_id": ADA}).encode()

    assert await _knock(scene, body, headers) == (401 if scene.transport == "http" else 404)
    assert b"UNSIGNED-MARKER" not in scene.printed()


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_signature_of_another_time_is_turned_away(scene: Scene, minutes: int) -> None:
    """A request that was recorded, or made in advance, is valid for five minutes only."""
    body = urlencode({"command": "/r2-credential", "text": "", "user_id": ADA, "team_id": "T0SANDBOX"}).encode()

    answer = await _knock(scene, body, timestamp=str(int(time.time()) + 60 * minutes))

    assert answer == (401 if scene.transport == "http" else 404)


async def _knock(
    scene: Scene, body: bytes, headers: Mapping[str, str] | None = None, timestamp: str | None = None
) -> int:
    """Send a request to where the bot would take Slack's, and return the status of the answer."""
    if scene.transport == "http":
        return (await scene.slack.post_raw(body, headers=headers, timestamp=timestamp)).status
    url = f"http://127.0.0.1:{scene.environment['R2_CREDENTIAL_HTTP_PORT']}/slack/events"
    async with aiohttp.ClientSession() as http, http.post(url, data=body) as answer:
        return answer.status
