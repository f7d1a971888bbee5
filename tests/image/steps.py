"""What is done to the container, in this order, and what must hold after each."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.image.engine import EngineError
from tests.image.stage import Stage
from tests.leaks import find_leaks

HEALTHY_WITHIN_SECONDS: Final = 5
DOCKERS_LIMIT_SECONDS: Final = 10
_FOREVER: Final = 3600
_KILLED: Final = 137


async def start(stage: Stage) -> None:
    """Start the container: it becomes ready, and Docker soon sees that it lives."""
    began = time.monotonic()
    await stage.container.start()
    await stage.wait_until_ready()
    stage.note("ready after the start", figure=f"{time.monotonic() - began:.1f} s")
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while (await stage.container.inspect())["State"]["Health"]["Status"] != "healthy":
            await asyncio.sleep(0.1)
    seconds = time.monotonic() - began
    stage.note("healthy after that", held=seconds <= HEALTHY_WITHIN_SECONDS, figure=f"{seconds:.1f} s")


async def look_inside(stage: Stage) -> None:
    """Check that the process is confined, and that nothing there installs programs."""
    status = dict(
        line.split(":\t", 1) for line in (await stage.container.run_inside("cat", "/proc/1/status")).splitlines()
    )
    stage.note("runs as user 10001", held=set(status["Uid"].split()) == {"10001"})
    capabilities = {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    stage.note("has no capabilities, and can gain none", held=capabilities == {0} and status["NoNewPrivs"] == "1")
    stage.note("its root is read-only", held="Read-only" in await _refusal(stage, "touch", "/opt/bot/new", user="0"))
    stage.note("/opt/bot holds no pip", held="No module" in await _refusal(stage, "python", "-m", "pip", "--version"))


async def store(stage: Stage) -> None:
    """Store a token: Cloudflare has it, and the channel reads that once."""
    bucket = await stage.fill_form(make_token(Behaviour.GOOD, 1))
    await stage.press_store()
    await _expect_stored_once(stage, bucket, "a token is stored, and reported once")


async def stop_in_a_write(stage: Stage) -> None:
    """Stop while Cloudflare is silent: the bot ends by itself, and the next start finishes the work."""
    bucket = await _begin_write(stage, make_token(Behaviour.SLOW, 2))
    began = time.monotonic()
    code = await stage.container.stop()
    figure = f"{time.monotonic() - began:.1f} s of {DOCKERS_LIMIT_SECONDS}, exit code {code}"
    stage.note("a stop in a write ends by itself", held=code == 0, figure=figure)
    await _start_again(stage)
    await _expect_stored_once(stage, bucket, "the write is finished after the stop, and reported once")


async def restart(stage: Stage) -> None:
    """Restart under an open form, which can still be submitted."""
    bucket = await stage.fill_form(make_token(Behaviour.GOOD, 3))
    await stage.container.restart()
    await stage.wait_until_ready()
    await stage.press_store()
    await _expect_stored_once(stage, bucket, "a form outlives a restart")


async def kill_in_a_write(stage: Stage) -> None:
    """Kill it before it has the answer: the next start sends the same token again, and reports it once."""
    bucket = await _begin_write(stage, make_token(Behaviour.SLOW, 4))
    await stage.container.kill()
    code = (await stage.container.inspect())["State"]["ExitCode"]
    stage.note("kill -9 in a write", held=code == _KILLED, figure=f"exit code {code}")
    await _start_again(stage)
    await _expect_stored_once(stage, bucket, "the write is finished after the kill, and reported once")


async def read_metrics(stage: Stage) -> None:
    """Read the metrics, which count what was done and name no secret."""
    metrics = await stage.ask_metrics()
    leaks = [leak for secret in stage.secrets for leak in find_leaks(metrics, secret)]
    stage.note("metrics are served, and hold no secret", held=b'ending="stored"' in metrics and not leaks)


async def stop_idle(stage: Stage) -> None:
    """Stop with nothing to wait for, and count the results of all steps."""
    began = time.monotonic()
    code = await stage.container.stop()
    figure = f"{time.monotonic() - began:.1f} s of {DOCKERS_LIMIT_SECONDS}, exit code {code}"
    stage.note("an idle stop ends by itself", held=code == 0, figure=figure)
    kept = [stage.is_stored_once(bucket) for bucket in stage.submitted]
    stage.note("in the end nothing is lost or doubled", held=all(kept), figure=f"{len(kept)} submissions")


async def search_for_secrets(stage: Stage) -> None:
    """Search what anyone can read who may ask Docker about a container: its settings and its log."""
    known = json.dumps(await stage.container.inspect()).encode()
    logs = await stage.container.logs()
    leaks = [leak for secret in stage.secrets for leak in find_leaks(known + logs, secret)]
    stage.note("docker inspect and docker logs hold no secret", held=not leaks and len(logs) > 0)
    stage.note("the log holds no traceback", held=b"Traceback" not in logs)


STEPS: Final[tuple[Callable[[Stage], Awaitable[None]], ...]] = (
    start,
    look_inside,
    store,
    stop_in_a_write,
    restart,
    kill_in_a_write,
    read_metrics,
    stop_idle,
    search_for_secrets,
)


async def _begin_write(stage: Stage, token: str) -> str:
    """Submit a token, and return its bucket once Cloudflare has it; the answer does not come."""
    stage.scene.cloudflare.slow_delay = _FOREVER
    written = stage.note_write()
    bucket = await stage.fill_form(token)
    await stage.press_store()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await written.wait()
    return bucket


async def _start_again(stage: Stage) -> None:
    stage.scene.cloudflare.slow_delay = 0
    began = time.monotonic()
    await stage.container.start()
    await stage.wait_until_ready()
    stage.note("ready after the next start", figure=f"{time.monotonic() - began:.1f} s")


async def _expect_stored_once(stage: Stage, bucket: str, what: str) -> None:
    with suppress(AssertionError):  # it did not come in time
        await stage.scene.wait_for_result(bucket)
    stage.note(what, held=stage.is_stored_once(bucket))


async def _refusal(stage: Stage, *command: str, user: str = "10001") -> str:
    """Return how a command fails in the container, or nothing if it does not."""
    try:
        await stage.container.run_inside(*command, user=user)
    except EngineError as error:
        return str(error)
    return ""
