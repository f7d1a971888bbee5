"""What is left of a token that the bot made in the memory of each role, freed blocks included.

And who knows the token that makes tokens.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from bot.sandbox.process import BotProcess, Role, find_free_port
from bot.sandbox.workspace import PATIENCE
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from tests.benchmarks.memory_copies import middle_of
from tests.postgres import execute
from tests.process_memory import MemoryDoor, ProcessMemory
from tests.scene import Scene, SetScene, press_rotate

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="reads /proc; glibc overwrites"
    ),
]

POLICY = '[[rule]]\nusergroups = ["S0DATAENG"]\nverbs = ["store", "rotate"]\n'
PRIVATE_KEY = generate_private_key()
NOT_OF: Mapping[Role, tuple[str, ...]] = {
    "gateway": ("CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_SEALING_KEY"),
    "worker": ("SLACK_APP_TOKEN", "R2_CREDENTIAL_SEALING_PUBLIC_KEY"),
    "minter": ("SLACK_APP_TOKEN", "SLACK_BOT_TOKEN", "CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_SEALING_KEY"),
}
"""The settings that each role does not get. All of them get the minting token, two by mistake."""


@asynccontextmanager
async def three_roles(
    set_scene: SetScene, server: str, directory: Path
) -> AsyncIterator[tuple[Scene, dict[Role, ProcessMemory]]]:
    """Run one process of each role on a new, empty database, and open the memory of each."""
    name = f"test_{uuid4().hex}"
    execute(server, f"CREATE DATABASE {name}")
    policy = directory / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    settings = {
        "R2_CREDENTIAL_DATABASE_URL": urlsplit(server)._replace(path=f"/{name}").geturl(),
        "R2_CREDENTIAL_SEALING_KEY": PRIVATE_KEY,
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(PRIVATE_KEY)[0]),
        "R2_CREDENTIAL_AUDIT_KEY": "made-up-" * 8,
        "R2_CREDENTIAL_POLICY": str(policy),
    }
    memories: dict[Role, ProcessMemory] = {}
    async with set_scene("socket", directory, settings) as scene:
        del scene.environment["R2_CREDENTIAL_ALLOWED_USERGROUPS"], scene.environment["R2_CREDENTIAL_ALLOW_ENABLE"]
        scene.environment["CLOUDFLARE_MINTING_TOKEN"] = scene.cloudflare.minting_token
        for role, left_out in NOT_OF.items():
            await _start(scene, role, left_out, memories)
        await scene.slack.wait_for_connections()
        yield scene, memories
        for memory in memories.values():
            memory.close()
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _start(scene: Scene, role: Role, left_out: tuple[str, ...], memories: dict[Role, ProcessMemory]) -> None:
    place = scene.directory / role
    place.mkdir()
    door = MemoryDoor(place)
    environment = {name: value for name, value in scene.environment.items() if name not in left_out}
    environment |= {"R2_CREDENTIAL_HTTP_PORT": str(find_free_port()), "R2_CREDENTIAL_DATA_DIR": str(place / "data")}
    with (scene.directory / "printed").open("ab") as output:
        bot = BotProcess(door.environment(environment), scene.directory, output, role, stop_patience=PATIENCE)
        scene.bots.append(bot)
        await bot.start()
    assert await bot.wait_until_ready(), scene.printed().decode()
    memories[role] = door.receive()


async def rotate(scene: Scene, bucket: str) -> None:
    """Rotate a new bucket, and wait for the result."""
    scene.cloudflare.add_bucket(bucket)
    await press_rotate(scene, bucket)
    await scene.wait_for_result(bucket)


async def test_no_role_keeps_a_token_that_the_bot_made(
    set_scene: SetScene, postgres_server: str, tmp_path: Path
) -> None:
    """Stored, refused, or lost with the answer: the minter forgets it once it is sealed, the worker once it is sent.

    The token that makes tokens is in the minter alone, and in nobody's environment.
    """
    async with three_roles(set_scene, postgres_server, tmp_path) as (scene, memories):
        scene.cloudflare.tokens.flaws.extend([None, "refused"])
        await rotate(scene, "memory-stored")
        await rotate(scene, "memory-refused")
        scene.cloudflare.fail_next("create_token", drop_after_store=True)
        await rotate(scene, "memory-lost")
        values = [middle_of(token.value) for token in scene.cloudflare.tokens.tokens.values()]
        own, bot_token = scene.cloudflare.minting_token, scene.environment["SLACK_BOT_TOKEN"]
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while any(_count(memory, values) for memory in memories.values()):  # noqa: ASYNC110 - memory has no event
                await asyncio.sleep(0.5)
        of_slack = memories["gateway"].count([bot_token])[bot_token] * memories["worker"].count([bot_token])[bot_token]
        of_own = {role: memory.count([own])[own] for role, memory in memories.items()}
        environments = list(map(_environment, scene.bots))

    assert len(values) == 4
    assert of_own.pop("minter") >= 1
    assert of_slack >= 1  # what is there is found
    assert of_own == {"gateway": 0, "worker": 0}
    assert [own.encode() in environment for environment in environments] == [False] * len(NOT_OF)


def _count(memory: ProcessMemory, texts: list[str]) -> int:
    return sum(memory.count(texts).values())


def _environment(bot: BotProcess) -> bytes:
    return Path(f"/proc/{bot.pid}/environ").read_bytes()
