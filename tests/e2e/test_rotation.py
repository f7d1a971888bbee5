"""Each key is rotated by the steps of docs/backup.md while a submission waits, and the submission goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from bot.sandbox.process import BotProcess, Role, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE, Message
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from tests.scene import GRACE, PLATFORM, Scene, SetScene, is_result

WAITING = make_token(Behaviour.GOOD, number=71)
LATER = make_token(Behaviour.GOOD, number=72)
BUCKET = "rotated-events"
OLD_KEY, NEW_KEY = generate_private_key(), generate_private_key()
NEW_SECRET = "b" * 32
OLD_SECRET = "5a4d0b0c" * 4
ROLES: tuple[Role, ...] = ("worker", "gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One row of the page's table: what changes at the service, and the settings before, during and after."""

    change: Callable[[Scene], object]
    before: Mapping[str, str]
    during: Mapping[str, str]
    after: Mapping[str, str]


def _reinstall(scene: Scene) -> None:
    scene.slack.workspace.config = replace(scene.slack.workspace.config, bot_tokens=("xoxb-new",))


def _regenerate_secret(scene: Scene) -> None:
    scene.slack.transport.signing_secret = NEW_SECRET


def _replace_cloudflare_token(scene: Scene) -> None:
    scene.cloudflare.api_token = "cfat_NEWSANDBOX"


ROTATIONS = {
    "the sealing key": Rotation(
        change=lambda _: None,
        before={"R2_CREDENTIAL_SEALING_KEY": OLD_KEY},
        during={"R2_CREDENTIAL_SEALING_KEY": NEW_KEY + OLD_KEY},
        after={"R2_CREDENTIAL_SEALING_KEY": NEW_KEY},
    ),
    "the signing secret": Rotation(
        change=_regenerate_secret,
        before={"SLACK_SIGNING_SECRET": OLD_SECRET},
        during={"SLACK_SIGNING_SECRET": f"{NEW_SECRET},{OLD_SECRET}"},
        after={"SLACK_SIGNING_SECRET": NEW_SECRET},
    ),
    "the bot token": Rotation(
        change=_reinstall,
        before={},
        during={"SLACK_BOT_TOKEN": "xoxb-new"},
        after={"SLACK_BOT_TOKEN": "xoxb-new"},
    ),
    "the Cloudflare token": Rotation(
        change=_replace_cloudflare_token,
        before={},
        during={"CLOUDFLARE_API_TOKEN": "cfat_NEWSANDBOX"},
        after={"CLOUDFLARE_API_TOKEN": "cfat_NEWSANDBOX"},
    ),
}


def _merged(when: str) -> dict[str, str]:
    return {name: value for each in ROTATIONS.values() for name, value in getattr(each, when).items()}


ALL_AT_ONCE = Rotation(
    change=lambda scene: [each.change(scene) for each in ROTATIONS.values()],
    before=_merged("before"),
    during=_merged("during"),
    after=_merged("after"),
)


async def _restart(scene: Scene, settings: Mapping[str, str], change: Callable[[Scene], object]) -> None:
    assert await scene.bot.stop() == 0
    change(scene)
    scene.environment.update(settings)
    await scene.start_ready_bot()


@pytest.mark.parametrize(
    "rotation",
    [
        pytest.param(ALL_AT_ONCE, id="all at once"),
        *(pytest.param(each, id=name, marks=pytest.mark.thorough) for name, each in ROTATIONS.items()),
    ],
)
async def test_what_waits_during_a_rotation_goes_on(set_scene: SetScene, tmp_path: Path, rotation: Rotation) -> None:
    """It is stored by the next process; with the old key gone, new submissions are."""
    async with set_scene("http", tmp_path, rotation.before) as scene:
        scene.cloudflare.add_bucket(BUCKET)
        await scene.start_ready_bot()
        scene.cloudflare.fail_next("verify", status=503, times=1000)
        await scene.submit(BUCKET, WAITING)
        await scene.slack.workspace.changes.wait_until(
            lambda: [each for each in scene.cloudflare.requests if each.path.endswith("/tokens/verify")] or None,
            within=PATIENCE,
            what="the first try",
        )

        await _restart(scene, rotation.during, rotation.change)
        scene.cloudflare._failures.clear()
        first = await scene.wait_for_result(BUCKET)
        await _restart(scene, rotation.after, lambda _: None)
        await scene.submit(BUCKET, LATER, user=GRACE)
        second = await scene.slack.wait_for_message(
            PLATFORM, lambda message: is_result(message, BUCKET) and GRACE in message.text
        )

        assert "stored a new credential" in first.text
        assert "stored a new credential" in second.text
        assert [write.token for write in scene.cloudflare.writes] == [WAITING, LATER]


def _results_after(scene: Scene, count: int) -> list[Message] | None:
    return scene.results(BUCKET)[count:] or None


@pytest.mark.thorough
async def test_gateways_and_workers_rotate_the_key_one_after_the_other(
    set_scene: SetScene, tmp_path: Path, postgres_url: str
) -> None:
    """The workers first: a gateway that still seals for the old key is understood, and so is one with the new key."""
    settings = {"R2_CREDENTIAL_DATABASE_URL": postgres_url}
    async with set_scene("http", tmp_path, settings) as scene:
        scene.cloudflare.add_bucket(BUCKET)
        for keys, public, token in (
            (OLD_KEY, OLD_KEY, WAITING),
            (NEW_KEY + OLD_KEY, OLD_KEY, LATER),
            (NEW_KEY + OLD_KEY, NEW_KEY, WAITING),
            (NEW_KEY, NEW_KEY, LATER),
        ):
            worker = scene.environment | {
                "R2_CREDENTIAL_SEALING_KEY": keys,
                "R2_CREDENTIAL_HTTP_PORT": str(find_free_port()),
            }
            gateway = scene.environment | {
                "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(public)[0]),
            }
            pair = [
                BotProcess(environment, tmp_path, role=role, stop_patience=PATIENCE)
                for role, environment in zip(ROLES, (worker, gateway), strict=True)
            ]
            scene.bots.extend(pair)
            for each in pair:
                await each.start()
                assert await each.wait_until_ready()
            count = len(scene.results(BUCKET))
            await scene.submit(BUCKET, token)
            await scene.slack.workspace.changes.wait_until(
                partial(_results_after, scene, count), within=PATIENCE, what="the result"
            )
            assert scene.cloudflare.stored_token(BUCKET) == token
            for each in pair:
                assert await each.stop() == 0
