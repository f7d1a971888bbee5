"""Old Submits that arrive late: none may overwrite a newer token, drop it, or be reported as the newer one."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Final
from urllib.parse import urlencode

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import ImpossibleStepError
from tests.attack.attack import Arena, Attack, Case, Engine
from tests.scene import ADA, GRACE, Scene

_FREEZE_SECONDS: Final = 5.2
_AGES: Final = (1, 2, 3, 5, 8, 13, 20, 34, 60, 120, 240, 290, 310, 3600)


async def arrive_late(arena: Arena, engine: Engine = "sqlite") -> AsyncIterator[Case]:
    """Send Submits that Slack signed at any time before the newer one, once that is stored, and while it waits."""
    async with arena.scene_on(engine) as scene:
        for number, age in enumerate(_AGES):
            for behaviour in (Behaviour.GOOD, Behaviour.SERVER_DOWN):
                bucket, old = f"late-{number}-{behaviour.value.lower()}", make_token(Behaviour.GOOD, 7000 + number)
                new = make_token(behaviour, 8000 + number)
                scene.cloudflare.add_bucket(bucket)
                await scene.open_form(bucket, user=ADA)
                await scene.slack.fill(ADA, "token", old)
                body = urlencode({"payload": json.dumps(scene.slack.make_submission(ADA))}).encode()
                pressed_at = int(time.time())
                await scene.submit(bucket, new, user=GRACE)
                if behaviour is Behaviour.GOOD:
                    await scene.wait_for_result(bucket)
                await scene.slack.post_raw(body, timestamp=str(pressed_at - age))
                yield await _judge(scene, bucket, new, f"signed {age} s before, newer one {behaviour.value}")


async def stand_still(arena: Arena) -> AsyncIterator[Case]:
    """Freeze the bot with a Submit in its socket, and let the person press again with another token when it resumes."""
    async with arena.scene() as scene:
        for number in range(3):
            bucket, old, new = f"still-{number}", make_token(Behaviour.GOOD, 7100), make_token(Behaviour.GOOD, 8100)
            scene.cloudflare.add_bucket(bucket)
            await scene.open_form(bucket, user=ADA)
            await scene.slack.fill(ADA, "token", old)
            os.kill(scene.bot.pid, signal.SIGSTOP)
            pressed = asyncio.create_task(scene.slack.submit(ADA))
            await asyncio.sleep(_FREEZE_SECONDS)
            os.kill(scene.bot.pid, signal.SIGCONT)
            await pressed
            try:
                await scene.slack.fill(ADA, "token", new)
                await scene.slack.submit(ADA)
            except ImpossibleStepError:  # the form is gone: the old Submit was accepted
                yield Case.of(f"frozen {number}", lied=True)
                continue
            yield await _judge(scene, bucket, new, f"frozen {number}")


async def _judge(scene: Scene, bucket: str, new: str, name: str) -> Case:
    await scene.wait_for_result(bucket)
    text = " ".join(message.text for message in scene.results(bucket))
    is_dropped = f"<@{ADA}> submitted a newer one" in text
    return Case.of(name, lied=is_dropped or scene.cloudflare.stored_token(bucket) != new)


ATTACKS: Final = (
    Attack(name="an older Submit arrives after a newer one", run=arrive_late, over=("http",)),
    Attack(
        name="an older Submit arrives after a newer one (PostgreSQL)",
        run=partial(arrive_late, engine="postgresql"),
        over=("http",),
    ),
    Attack(name="the bot is frozen with a Submit in its socket", run=stand_still),
)
