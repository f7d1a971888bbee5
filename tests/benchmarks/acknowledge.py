"""How fast a signed `view_submission` is acknowledged over loopback HTTP, recorded on disk before the answer.

An empty Bolt app is measured in the same run with the same requests. All submissions are for one bucket whose first
delivery waits for a Cloudflare that does not answer, so that only the acknowledgement is measured. Then each is for a
bucket of its own and delivered meanwhile, by a Cloudflare that answers at once. The bot's log has errors only: with its
default level, an acknowledgement takes a tenth more CPU.
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bot.sandbox.cloudflare import NO_LIMIT_TO_SPEAK_OF, FakeCloudflare
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from tests.benchmarks.alternatives.doubles import EachBucket
from tests.benchmarks.alternatives.figures import percentile
from tests.benchmarks.alternatives.lines import LineProcess
from tests.benchmarks.alternatives.load import MARK, Load, Sent
from tests.benchmarks.submissions import form_body, record_openings
from tests.make import AUDIT_KEY

CONNECTIONS = 16
REQUESTS = 4000
ROUNDS = 3
MOST_SECONDS = 60
BUCKET = "analytics-events"

App = Callable[[], AbstractAsyncContextManager[tuple[int, FakeSlack]]]


async def main() -> None:
    """Alternate all for a few rounds, since the machine is not quiet, and print every round."""
    print(f"{REQUESTS} submissions over {CONNECTIONS} connections, {ROUNDS} rounds; latency in ms")
    print(f"{'':24}{'per second':>12}{'p50':>8}{'p99':>8}")
    async with LineProcess("tests.benchmarks.alternatives.load") as generator:
        for _ in range(ROUNDS):
            for name, (app, bucket) in APPS.items():
                async with app() as (port, slack):
                    await send(generator, port, slack, bucket, first=0, count=1)
                    show(name, await send(generator, port, slack, bucket, first=1, count=REQUESTS))


def show(name: str, sent: list[Sent]) -> None:
    """Print the line of one round."""
    times = [each.took for each in sent]
    seconds = max(each.began + each.took for each in sent)
    p50, p99 = statistics.median(times), percentile(times, 0.99)
    print(f"{name:24}{len(times) / seconds:12.0f}{p50 * 1000:8.1f}{p99 * 1000:8.1f}", flush=True)


async def send(
    generator: LineProcess, port: int, slack: FakeSlack, bucket: str, *, first: int, count: int
) -> list[Sent]:
    """Have so many submissions sent over `CONNECTIONS` connections; one without acknowledgement ends the benchmark."""
    load = Load(
        port=port,
        secret=slack.config.signing_secret,
        body=form_body(slack.config.team_id, bucket),
        first=first,
        last=first + count - 1,
        seconds=MOST_SECONDS,
        connections=CONNECTIONS,
    )
    sent = [Sent(**each) for each in await generator.ask(asdict(load), patience=2 * MOST_SECONDS)]
    for each in sent:
        if each.failure:
            sys.exit(f"not acknowledged: {each.failure}")
    return sent


@asynccontextmanager
async def empty_app() -> AsyncIterator[tuple[int, FakeSlack]]:
    """Start the baseline."""
    port = find_free_port()
    async with FakeSlack() as slack:
        arguments = (str(port), slack.api_url, slack.config.bot_tokens[0], slack.config.signing_secret)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("empty_app.py")), *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await wait_for_port(port)
            yield port, slack
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def the_bot(*, delivers: bool = False) -> AsyncIterator[tuple[int, FakeSlack]]:
    """Start the unchanged bot, in HTTP mode, with openings for all requests; Cloudflare answers if it `delivers`."""
    port = find_free_port()
    async with FakeSlack() as slack, FakeCloudflare(limit=NO_LIMIT_TO_SPEAK_OF) as cloudflare:
        cloudflare.buckets = EachBucket()
        if not delivers:
            cloudflare.fail_next("verify", times=10**6, delay=600)  # the first question: later ones would be CPU
        with tempfile.TemporaryDirectory() as directory:
            data = Path(directory) / "data"
            await record_openings(data / "bot.sqlite", slack.config.team_id, REQUESTS + 1)
            environment = bot_environment(slack, cloudflare, data, "http", port)
            process = BotProcess(
                environment | {"R2_CREDENTIAL_LOG_LEVEL": "error", "R2_CREDENTIAL_AUDIT_KEY": AUDIT_KEY},
                Path(directory),
            )
            await process.start()
            try:
                await process.wait_until_ready()
                yield port, slack
            finally:
                await process.kill()


APPS: dict[str, tuple[App, str]] = {
    "empty Bolt app": (empty_app, BUCKET),
    "the bot": (the_bot, BUCKET),
    "the bot, delivering": (partial(the_bot, delivers=True), f"lake-{MARK}"),
}


async def wait_for_port(port: int) -> None:
    """Return as soon as a server listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


if __name__ == "__main__":
    asyncio.run(main())
