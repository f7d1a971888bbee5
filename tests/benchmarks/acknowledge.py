"""How fast a signed `view_submission` is acknowledged over loopback HTTP, recorded on disk before the answer.

An empty Bolt app is measured in the same run with the same requests. All submissions are for one bucket whose first
delivery waits for a Cloudflare that does not answer, so that only the acknowledgement is measured.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier

from bot.model.submission import Opening
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions

CONNECTIONS = 16
REQUESTS = 4000
ROUNDS = 3
USER, CHANNEL, BUCKET = "U0ADA0001", "C0DATAPLT", "analytics-events"


async def main() -> None:
    """Alternate both apps for a few rounds, since the machine is not quiet, and print every round."""
    print(f"{REQUESTS} submissions over {CONNECTIONS} connections, {ROUNDS} rounds; latency in ms")
    print(f"{'':24}{'per second':>12}{'p50':>8}{'p99':>8}")
    for _ in range(ROUNDS):
        for name, app in (("empty Bolt app", empty_app), ("the bot", the_bot)):
            async with app() as (port, requests):
                show(name, *await measure(port, requests))


def show(name: str, seconds: float, latencies: list[float]) -> None:
    """Print the line of one round."""
    p50, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    print(f"{name:24}{len(latencies) / seconds:12.0f}{p50 * 1000:8.1f}{p99 * 1000:8.1f}", flush=True)


async def measure(port: int, requests: list[bytes]) -> tuple[float, list[float]]:
    """Send all requests over `CONNECTIONS` connections; return the wall time and each latency, in seconds."""
    waiting = iter(requests)
    latencies: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(send_one_by_one(port, waiting.__next__, latencies) for _ in range(CONNECTIONS)))
    return time.perf_counter() - started, latencies


async def send_one_by_one(port: int, take: Callable[[], bytes], latencies: list[float]) -> None:
    """Send requests over one connection until none is left; any status but 200 ends the benchmark."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        try:
            request = take()
        except StopIteration:
            break
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
        body = await reader.readexactly(length)
        latencies.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200") or b"errors" in body or b"Nothing was sent" in body:
            sys.exit(f"not acknowledged: {head!r} {body!r}")
    writer.close()


@asynccontextmanager
async def empty_app() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Start the baseline."""
    port = find_free_port()
    async with FakeSlack() as slack:
        arguments = (str(port), slack.api_url, slack.config.bot_tokens[0], slack.config.signing_secret)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("empty_app.py")), *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await wait_for_port(port)
            warm_up, *requests = sign(slack, [f"nonce-{number}" for number in range(REQUESTS + 1)])
            await measure(port, [warm_up])
            yield port, requests
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def the_bot() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Start the unchanged bot, in HTTP mode on its default settings, with openings for all requests."""
    port = find_free_port()
    async with FakeSlack() as slack, FakeCloudflare() as cloudflare:
        cloudflare.add_bucket(BUCKET)
        cloudflare.fail_next("credential", times=10**6, delay=600)
        with tempfile.TemporaryDirectory() as directory:
            data = Path(directory) / "data"
            nonces = await record_openings(data / "bot.sqlite", slack.config.team_id)
            environment = bot_environment(slack, cloudflare, data, "http", port)
            process = BotProcess(environment | {"R2_CREDENTIAL_LOG_LEVEL": "error"}, Path(directory))
            await process.start()
            try:
                await process.wait_until_ready()
                warm_up, *requests = sign(slack, nonces)
                await measure(port, [warm_up])
                yield port, requests
            finally:
                await process.kill()


async def record_openings(path: Path, team_id: str) -> list[str]:
    """Record an opening for each request, as if a command had been typed for each."""
    database = SqliteDatabase(path)
    database.start()
    submissions = Submissions(database)
    nonces = [f"nonce-{number}" for number in range(REQUESTS + 1)]
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    openings = (Opening(nonce=nonce, team_id=team_id, user_id=USER, expires_at=expires_at) for nonce in nonces)
    await asyncio.gather(*(submissions.add_opening(opening) for opening in openings))
    database.stop()
    return nonces


def sign(slack: FakeSlack, nonces: list[str]) -> list[bytes]:
    """Return a signed HTTP request for each nonce, as Slack would send it."""
    config = slack.config
    verifier = SignatureVerifier(config.signing_secret)
    requests = []
    for number, nonce in enumerate(nonces):
        body = urlencode({"payload": json.dumps(submission(config.team_id, f"V{number:010}", nonce))}).encode()
        timestamp = str(int(time.time()))
        signature = verifier.generate_signature(timestamp=timestamp, body=body) or ""
        head = (
            "POST /slack/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"X-Slack-Request-Timestamp: {timestamp}\r\nX-Slack-Signature: {signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def submission(team_id: str, view_id: str, nonce: str) -> dict[str, object]:
    """Return the payload of a filled-in form."""
    values = {
        "bucket": {"bucket": {"type": "external_select", "selected_option": {"value": BUCKET}}},
        "token": {"token": {"type": "plain_text_input", "value": make_token(Behaviour.GOOD)}},
        "channel": {"channel": {"type": "conversations_select", "selected_conversation": CHANNEL}},
        "reason": {"reason": {"type": "plain_text_input", "value": None}},
    }
    view = {
        "id": view_id,
        "team_id": team_id,
        "app_installed_team_id": team_id,
        "type": "modal",
        "callback_id": "store_credential",
        "private_metadata": nonce,
        "state": {"values": values},
    }
    user = {"id": USER, "team_id": team_id}
    return {"type": "view_submission", "team": {"id": team_id}, "user": user, "view": view, "response_urls": []}


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
