"""Commands that only read: status, history, the App Home, dry runs; and enabling a catalog."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Message
from tests.e2e.conftest import ONE_WAY
from tests.scene import ADA, GRACE, MALLORY, PLATFORM, Scene, SetScene, is_result

pytestmark = [pytest.mark.asyncio(loop_scope="module"), ONE_WAY]

GOOD = make_token(Behaviour.GOOD, number=41)


async def ask(scene: Scene, text: str, user: str = ADA) -> Message:
    """Type the command with these words, and return the ephemeral answer."""
    outcome = await scene.slack.type_command(user, PLATFORM, f"/r2-credential {text}")
    assert outcome.message is not None
    assert outcome.message.ephemeral_to == user
    return outcome.message


async def test_status_is_answered_and_then_replaced_by_fresh_data(scene: Scene) -> None:
    """The test that `status` triggers finds a revoked credential."""
    revoked = make_token(Behaviour.GOOD, number=42)
    scene.cloudflare.add_bucket("revoked-lake", token=revoked)
    scene.cloudflare.revoke(revoked)

    await ask(scene, "status", GRACE)
    fresh = await scene.slack.wait_for_message(
        PLATFORM, lambda message: "`revoked-lake`: *the credential does not work*" in message.shown_text, as_user=GRACE
    )

    assert fresh.ephemeral_to == GRACE
    assert "Check `revoked-lake` (does not work)" in fresh.text
    assert scene.slack.problems == []


async def test_status_and_history_show_what_was_stored_through_the_bot(scene: Scene) -> None:
    """By whom, and until when; of the token they show only its id and last four characters."""
    scene.cloudflare.add_bucket("listed-lake")
    await scene.submit("listed-lake", GOOD)
    await scene.wait_for_result("listed-lake")

    status, history = await ask(scene, "status listed-lake"), await ask(scene, "history listed-lake")

    assert "the credential works" in status.shown_text
    assert f"Stored last by <@{ADA}> on" in status.shown_text
    assert "in 89 days" in status.shown_text
    assert f"*stored*: <@{ADA}> on" in history.shown_text
    assert f"ending in `{GOOD[-4:]}`" in history.shown_text
    assert "MADEUP" not in repr((status, history))


async def test_the_app_home_is_filled_and_leads_to_the_form(scene: Scene) -> None:
    """It is refreshed when opened, and empty for a person who may not use the bot."""
    outcome = await scene.slack.open_home(GRACE)
    home = await scene.slack.wait_for_home(GRACE, lambda home: "`analytics-events`" in home.text)
    await scene.slack.open_home(MALLORY)
    refused = await scene.slack.wait_for_home(MALLORY)
    await scene.slack.click(GRACE, home, "store_credential")
    form = await scene.slack.wait_for_view(GRACE)

    assert outcome.failure is None
    assert form.has_submit
    assert "You are not on the list" in refused.text
    assert "analytics-events" not in refused.text


async def test_a_dry_run_checks_everything_and_writes_nothing(scene: Scene) -> None:
    """The result says what was found and what could not be checked; the slot is unchanged."""
    scene.cloudflare.add_bucket("dry-lake", token=make_token(Behaviour.GOOD, number=43))
    await scene.open_form("dry-lake")
    await scene.slack.fill(ADA, "token", GOOD)
    await scene.slack.fill(ADA, "check", ["check"])

    outcome = await scene.slack.submit(ADA)
    message = await scene.wait_for_result("dry-lake")
    view = await scene.slack.wait_for_view(ADA, lambda view: view.title == "Checked, not stored")

    assert outcome.view is not None
    assert outcome.view.title == "Checking..."
    assert "passed every check before the write; nothing was changed" in message.text
    assert "Only the write shows whether the token may read and write the bucket's data" in view.text
    assert scene.cloudflare.stored_token("dry-lake") == make_token(Behaviour.GOOD, number=43)
    paths = [request.path for request in scene.cloudflare.requests if request.method == "POST"]
    assert [path for path in paths if "/dry-lake/" in path] == []


async def test_a_dry_run_of_an_unfit_token_says_so(scene: Scene) -> None:
    """It is as clear as a refused write."""
    scene.cloudflare.add_bucket("dry-pond")
    await scene.open_form("dry-pond")
    await scene.slack.fill(ADA, "token", make_token(Behaviour.EXPIRED))
    await scene.slack.fill(ADA, "check", ["check"])

    await scene.slack.submit(ADA)
    message = await scene.wait_for_result("dry-pond")

    assert "did not pass every check; nothing was changed" in message.text
    assert "This token has expired." in message.text


async def test_a_write_changes_the_credential_and_nothing_else(scene: Scene) -> None:
    """A good token causes one POST, to the credential's path; all other requests only read."""
    scene.cloudflare.add_bucket("quiet-lake")

    await scene.submit("quiet-lake", GOOD)
    await scene.wait_for_result("quiet-lake")

    about_it = [request for request in scene.cloudflare.requests if "quiet-lake" in request.path]
    writes = [request.path.rpartition("/")[2] for request in about_it if request.method != "GET"]
    assert writes == ["credential"]
    assert any(request.path.endswith("/credential/status") for request in about_it)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def older(
    transport: Transport, set_scene: SetScene, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """Share a bot whose Cloudflare offers no test of a stored credential."""
    async with set_scene(transport, tmp_path_factory.mktemp("older")) as scene:
        scene.cloudflare.offers_status = False
        await scene.start_ready_bot()
        yield scene


async def test_without_a_test_the_result_says_what_is_known(older: Scene) -> None:
    """It says that a credential is stored, and no more."""
    await older.submit("analytics-events", GOOD)

    message = await older.wait_for_result("analytics-events")

    assert "Cloudflare confirms that one is stored; it offers no test on this path." in message.text
    assert "none \u2192 present" in message.shown_text


@pytest.mark.parametrize(("bucket", "words"), [("photos", "has no catalog"), ("old-warehouse", "is switched off")])
async def test_a_catalog_can_be_enabled_and_then_filled(scene: Scene, bucket: str, words: str) -> None:
    """Anyone permitted may press the result's button; the token is pasted again afterwards."""
    await scene.submit(bucket, GOOD)
    refused = await scene.wait_for_result(bucket)
    assert words in refused.text

    await scene.slack.click(GRACE, refused, "enable_catalog")
    enabled = await scene.slack.wait_for_message(
        PLATFORM, lambda message: is_result(message, bucket) and "enabled the catalog" in message.text
    )
    await scene.slack.click(GRACE, enabled, "try_again")
    await scene.slack.wait_for_view(GRACE, lambda view: view.has_submit)
    await scene.slack.fill(GRACE, "token", GOOD)
    await scene.slack.submit(GRACE)
    stored = await scene.slack.wait_for_message(
        PLATFORM, lambda message: is_result(message, bucket) and "stored a new" in message.text
    )

    assert f"<@{GRACE}> enabled the catalog of `{bucket}`." in enabled.text
    assert "Paste a token for it; the earlier one was not kept" in enabled.text
    assert stored.text.startswith(f"<@{GRACE}>")
    assert scene.cloudflare.stored_token(bucket) == GOOD


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def careful(
    transport: Transport, set_scene: SetScene, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """Share a bot that enables no catalogs, as is the default."""
    directory = tmp_path_factory.mktemp("careful")
    async with set_scene(transport, directory, {"R2_CREDENTIAL_ALLOW_ENABLE": "false"}) as scene:
        await scene.start_ready_bot()
        yield scene


async def test_without_the_setting_no_catalog_is_enabled(careful: Scene) -> None:
    """No button is shown, and a forged press is refused."""
    await careful.submit("photos", GOOD)
    refused = await careful.wait_for_result("photos")
    reference = refused.shown_text.partition("Reference ")[2].split()[0]
    action = {"action_id": "enable_catalog", "block_id": "x", "type": "button", "value": reference}

    await careful.slack.deliver("interactive", careful.slack.make_message_action(ADA, refused, action))

    assert "Enable the catalog" not in refused.shown_text
    view = await careful.slack.wait_for_view(ADA, lambda view: view.title == "Not possible")
    assert "This bot does not enable catalogs for you." in view.text
    assert not any(request.path.endswith("/enable") for request in careful.cloudflare.requests)
