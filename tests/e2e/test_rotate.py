"""A rotation from the command to the message, over real sockets: nobody pastes anything, and the next one waits."""

import asyncio
from pathlib import Path

from bot.model.submission import Task
from bot.slack.messages.outcome import TASK_WORDS
from bot.slack.stories.rotate import OPEN_ANYWAY
from tests.scene import ADA, PLATFORM, Scene, SetScene

BUCKET = "rotated-events"
_POLICY = """
[[rule]]
usergroups = ["S0DATAENG"]
verbs = ["store", "check", "status", "history", "rotate"]
"""


async def _rotate(scene: Scene) -> str:
    """Rotate the bucket by the form, and return the title and the text of what the modal shows at once."""
    view = None
    while view is None:  # until the minter has noted that it is there
        await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential rotate {BUCKET}")
        view = scene.slack.modal(ADA)
        await asyncio.sleep(0 if view else 0.1)
    if not view.has_submit:  # the catalog is younger than the list
        await scene.slack.click(ADA, view, OPEN_ANYWAY)
    await scene.slack.submit(ADA)
    view = scene.slack.modal(ADA)
    assert view is not None
    return f"{view.title} {view.text}"


async def test_a_rotation_ends_with_one_message_and_a_second_one_waits(set_scene: SetScene, tmp_path: Path) -> None:
    """The slot holds a token that nobody has seen; the message says what becomes of the one before."""
    policy = tmp_path / "policy.toml"
    policy.write_text(_POLICY)
    async with set_scene("socket", tmp_path, {"R2_CREDENTIAL_POLICY": str(policy)}) as scene:
        for name in [name for name in scene.environment if name.startswith("R2_CREDENTIAL_ALLOW")]:
            del scene.environment[name]
        scene.environment["CLOUDFLARE_MINTING_TOKEN"] = scene.cloudflare.minting_token
        scene.cloudflare.add_bucket(BUCKET)
        await scene.start_ready_bot()

        for words in ("There was none before.", "The previous one is revoked on"):
            assert (await _rotate(scene)).startswith(TASK_WORDS[Task.ROTATE].title)
            message = await scene.slack.wait_for_message(
                PLATFORM,
                lambda message, words=words: words in message.text,  # type: ignore[misc]
            )
            assert "It is stored and tested: Cloudflare confirms that it works." in message.text
            assert f"was rotated by <@{ADA}>" in message.text
            assert "account API token, made by the bot" in message.shown_text
            await scene.slack.close(ADA, whole_stack=True)

        assert "is being revoked until" in await _rotate(scene)
        assert len(scene.results(BUCKET)) == 2
        assert b"listener_broke" not in scene.printed()
