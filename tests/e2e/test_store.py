"""The main path: from the command to the exact token in the slot and the redacted result in the channel."""

import json

import pytest

from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from tests.scene import ADA, GRACE, PLATFORM, Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_exact_token_is_stored_and_the_result_does_not_show_it(scene: Scene) -> None:
    """The slot holds exactly what was pasted, and the channel reads who, what and where, but no token."""
    token = make_token(Behaviour.GOOD, number=1)
    outcome = await scene.submit("analytics-events", token)
    message = await scene.wait_for_result("analytics-events")

    assert outcome.kind == "updated"
    assert scene.cloudflare.stored_token("analytics-events") == token
    assert message.channel_id == PLATFORM
    assert message.ephemeral_to is None
    assert message.text.startswith(f"<@{ADA}> stored a new credential for the catalog of `analytics-events`.")
    assert f"account API token ending in `{token[-4:]}`" in message.shown_text
    assert "none → works" in message.shown_text
    assert token[-12:-4] not in repr(message)
    assert "MADEUP" not in repr(message)
    assert scene.slack.problems == []


async def test_the_modal_turns_into_progress_and_then_into_the_result(scene: Scene) -> None:
    """The form is replaced by a view without any input, which ends as the result of the same submission."""
    scene.cloudflare.add_bucket("watched")

    outcome = await scene.submit("watched", make_token(Behaviour.SLOW), user=GRACE)
    ended = await scene.slack.wait_for_view(GRACE, lambda view: view.title == "Credential stored")

    assert outcome.view is not None
    assert (outcome.view.title, outcome.view.has_submit, outcome.view.values) == ("Storing...", False, {})
    assert (ended.id, ended.has_submit, ended.values) == (outcome.view.id, False, {})
    assert f"Reference {ended.id}" in ended.text
    assert "MADEUP" not in outcome.view.text + ended.text


async def test_an_existing_credential_is_replaced(scene: Scene) -> None:
    """The slot holds the new token afterwards, and the result says that there was one before."""
    new = make_token(Behaviour.GOOD, number=3)
    assert scene.cloudflare.stored_token("billing-exports") not in {new, None}

    await scene.submit("billing-exports", new)
    message = await scene.wait_for_result("billing-exports")

    assert scene.cloudflare.stored_token("billing-exports") == new
    assert "works → works" in message.shown_text


@pytest.mark.parametrize(
    ("bucket", "pasted", "stored"),
    [
        pytest.param("of-a-user", make_token(Behaviour.GOOD, 4, TokenKind.USER), None, id="user token"),
        pytest.param("older-kind", make_token(Behaviour.GOOD, 5, TokenKind.UNPREFIXED), None, id="no prefix"),
        pytest.param(
            "copy-slip",
            f' "Authorization: Bearer {make_token(Behaviour.GOOD, 6)}"\n',
            make_token(Behaviour.GOOD, 6),
            id="copied with its surroundings",
        ),
    ],
)
async def test_every_kind_of_token_arrives_to_the_letter(
    scene: Scene, bucket: str, pasted: str, stored: str | None
) -> None:
    """Tokens without a prefix, or copied with blanks, quotes and `Bearer`, are stored as the bare token."""
    scene.cloudflare.add_bucket(bucket)

    await scene.submit(bucket, pasted)
    await scene.wait_for_result(bucket)

    assert scene.cloudflare.stored_token(bucket) == (stored or pasted)


async def test_a_suggested_bucket_can_be_chosen_and_a_reason_given(scene: Scene) -> None:
    """A bucket searched in the open form, with a reason, ends in a result that names both."""
    scene.cloudflare.add_bucket("searched-for")
    await scene.open_form("")
    await scene.slack.fill(ADA, "bucket", "searched-for")
    await scene.slack.fill(ADA, "token", make_token(Behaviour.GOOD, number=7))
    await scene.slack.fill(ADA, "reason", "the old one <expires> & goes")

    await scene.slack.submit(ADA)
    message = await scene.wait_for_result("searched-for")

    assert "the old one &lt;expires&gt; &amp; goes" in message.shown_text
    assert scene.cloudflare.stored_token("searched-for") == make_token(Behaviour.GOOD, number=7)


async def test_a_closed_modal_changes_nothing(scene: Scene) -> None:
    """A person who closes the progress view still gets the result in the channel."""
    scene.cloudflare.add_bucket("closed-early")
    await scene.submit("closed-early", make_token(Behaviour.SLOW, number=8))

    await scene.slack.close(ADA)
    message = await scene.wait_for_result("closed-early")

    assert "stored a new credential" in message.text
    assert scene.slack.modal(ADA) is None


async def test_a_superseded_submission_shows_that_in_the_modal(scene: Scene) -> None:
    """One waits for Cloudflare, a newer one is stored: the first modal does not say "Storing..." forever."""
    scene.cloudflare.add_bucket("contested")
    scene.cloudflare.fail_next("credential", status=503, retry_after=600)
    await scene.submit("contested", make_token(Behaviour.GOOD, number=9))
    await scene.slack.wait_for_view(ADA, lambda view: "tries again by itself" in view.text)

    newer = make_token(Behaviour.GOOD, number=10)
    await scene.submit("contested", newer, user=GRACE)
    lost = await scene.slack.wait_for_view(ADA, lambda view: view.title == "Replaced by a newer one")
    won = await scene.slack.wait_for_view(GRACE, lambda view: view.title == "Credential stored")

    assert "replaced by a newer submission" in lost.text
    assert scene.cloudflare.stored_token("contested") == newer
    result = await scene.slack.wait_for_message(PLATFORM, lambda message: lost.id in message.shown_text)
    assert "replaced by a newer submission" in result.text
    for submission, ending in ((lost.id, "superseded"), (won.id, "stored")):
        log = await scene.wait_until_printed(f'"submission_ended", "reference": "{submission}"')
        lines = [json.loads(line) for line in log.splitlines() if submission in line and line.startswith("{")]
        assert [line["ending"] for line in lines if line["event"] == "submission_ended"] == [ending]
