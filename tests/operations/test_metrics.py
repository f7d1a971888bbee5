"""The port for monitoring: what it answers before the start, in trouble and during a stop, over real sockets."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from bot.metrics import CONNECTIONS_REFUSED, Metrics
from bot.model.errors import DatabaseUnavailable
from bot.model.finding import Finding, Mark, Part
from bot.operations.gauges import (
    ALLOWANCE,
    ALLOWANCE_LEFT,
    FINDINGS,
    PART_READY,
    PATIENCE,
    READY,
    SOURCE_UP,
    UNPOSTED,
    Reading,
    Source,
)
from bot.operations.metrics import MetricsPort, describe_readiness
from bot.operations.sources import of_pace

PassTime = Callable[[timedelta], None]
GOOD = Finding(part=Part.DATABASE, event="database_answers", text="it can be written")
WEAK = Finding(part=Part.SLACK, event="scopes_missing", text="a scope is missing", mark=Mark.WARNING, fix="add it")
BAD = Finding(
    part=Part.KEYS,
    event="keys_missing",
    text="no key fits",
    mark=Mark.FAILED,
    setting="R2_CREDENTIAL_SEALING_KEY",
    fix="restore the key",
    blocks=True,
)


@dataclass(slots=True, kw_only=True)
class Monitor:
    """A Prometheus before the port."""

    port: MetricsPort
    address: str
    http: aiohttp.ClientSession
    counters: Metrics
    found: list[Finding] = field(default_factory=list)
    asked: int = 0

    async def ask(self) -> Sequence[Finding]:
        """Return the findings, and count how often they were asked for."""
        self.asked += 1
        return list(self.found)

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        async with self.http.get(f"http://{self.address}{path}") as answer:
            return answer.status, await answer.text()

    async def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every sample, by its name and labels, as Prometheus's own parser reads them."""
        status, text = await self.get("/metrics")
        assert status == HTTPStatus.OK
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(found) == len(samples)
        return found

    async def value(self, name: str, **labels: str) -> float | None:
        """Return one sample of a new scrape."""
        return (await self.scrape()).get((name, frozenset(labels.items())))


@asynccontextmanager
async def _listening() -> AsyncIterator[Monitor]:
    counters = Metrics()
    port = MetricsPort(counters)
    address = await port.listen("127.0.0.1", 0)
    async with aiohttp.ClientSession() as http:
        yield Monitor(port=port, address=address, http=http, counters=counters)
    await port.stop()


@pytest_asyncio.fixture
async def monitor() -> AsyncIterator[Monitor]:
    """Open the port; nothing is attached to it yet."""
    async with _listening() as monitor:
        yield monitor


async def test_it_answers_before_the_bot_is_ready(monitor: Monitor) -> None:
    """A start that waits for Slack can be watched: everything but the state of the bot is there."""
    status, text = await monitor.get("/readyz")

    assert status == HTTPStatus.SERVICE_UNAVAILABLE
    assert '"start": {"ready": false' in text
    assert '"reason": "starting"' in text
    assert await monitor.value(READY.name) == 0
    assert await monitor.value("process_open_fds") is not None


async def test_each_part_says_why_it_is_not_ready(monitor: Monitor) -> None:
    """In JSON with the fix, and as gauges; a warning keeps no part from being ready."""
    monitor.found = [GOOD, WEAK, BAD]
    monitor.port.attach(monitor.ask)

    status, text = await monitor.get("/readyz")
    samples = await monitor.scrape()

    assert status == HTTPStatus.SERVICE_UNAVAILABLE
    assert text == (
        '{"ready": false, "parts": {'
        '"database": {"ready": true, "mark": "ok", "reason": "database_answers"}, '
        '"keys": {"ready": false, "mark": "failed", "reason": "keys_missing", "setting": "R2_CREDENTIAL_SEALING_KEY", '
        '"fix": "restore the key"}, '
        '"slack": {"ready": true, "mark": "warning", "reason": "scopes_missing", "fix": "add it"}}}'
    )
    ready = {dict(labels)["part"]: value for (name, labels), value in samples.items() if name == PART_READY.name}
    assert ready == {"database": 1.0, "keys": 0.0, "slack": 1.0}
    assert samples[READY.name, frozenset()] == 0
    assert samples[FINDINGS.name, frozenset({("part", "keys"), ("mark", "failed")})] == 1
    assert samples[FINDINGS.name, frozenset({("part", "keys"), ("mark", "ok")})] == 0


async def test_a_bot_without_a_blocking_finding_is_ready(monitor: Monitor) -> None:
    """The status is for probes, the text for people."""
    monitor.found = [GOOD, WEAK]
    monitor.port.attach(monitor.ask)

    assert (await monitor.get("/readyz"))[0] == HTTPStatus.OK
    assert await monitor.value(READY.name) == 1


async def test_a_part_shows_only_its_worst_findings() -> None:
    """What is fine beside a failure is not a reason."""
    found = [
        GOOD,
        Finding(part=Part.DATABASE, event="disk_full", text="the disk is full", mark=Mark.FAILED, blocks=True),
    ]

    assert describe_readiness(found) == {
        "ready": False,
        "parts": {"database": {"ready": False, "mark": "failed", "reason": "disk_full"}},
    }


def test_nothing_that_a_finding_is_about_is_named() -> None:
    """The port has no login, and the ids of channels, people and workspaces are for the log and `check`."""
    found = [
        replace(WEAK, text=f"the channel {each} is archived", about=each, known={"channel": each, "team": "T0MARKER"})
        for each in ("C0MARKER1", "C0MARKER2")
    ]

    said = describe_readiness(found)

    assert "MARKER" not in str(said)
    assert said["parts"] == {
        "slack": {"ready": True, "mark": "warning", "reason": "scopes_missing", "fix": "add it"},
    }


async def test_findings_that_cannot_be_asked_for_do_not_mean_ready(monitor: Monitor, log: io.StringIO) -> None:
    """A fault of ours costs only the readiness: it is logged by its type, and the rest of the page is there."""

    async def break_down() -> Sequence[Finding]:
        raise ZeroDivisionError

    monitor.port.attach(break_down)

    assert await monitor.value(SOURCE_UP.name, source="readiness") == 0
    assert (await monitor.get("/readyz"))[0] == HTTPStatus.SERVICE_UNAVAILABLE
    assert "readiness ZeroDivisionError" in log.getvalue()


async def test_a_page_is_written_once_a_second(monitor: Monitor, pass_time: PassTime) -> None:
    """Anyone on the monitoring network may ask at any rate, and each page costs a commit."""
    monitor.port.attach(monitor.ask)

    await asyncio.gather(*(monitor.get("/metrics") for _ in range(5)))
    await monitor.get("/metrics")
    assert monitor.asked == 1
    pass_time(timedelta(seconds=1))
    await monitor.get("/metrics")
    assert monitor.asked == 2


async def test_a_stop_is_announced(monitor: Monitor, pass_time: PassTime) -> None:
    """The process says that it is stopping, as long as it answers."""
    monitor.found = [GOOD]
    monitor.port.attach(monitor.ask)
    assert (await monitor.get("/readyz"))[0] == HTTPStatus.OK

    monitor.port.begin_stop()

    status, text = await monitor.get("/readyz")
    assert (status, '"reason": "stopping"' in text) == (HTTPStatus.SERVICE_UNAVAILABLE, True)
    assert await monitor.value(READY.name) == 0


@pytest.mark.parametrize("path", ["/", "/healthz", "/slack/events", "/metrics/"])
async def test_it_answers_nothing_else(monitor: Monitor, path: str) -> None:
    """It has no login: what it shows is what was chosen for it."""
    assert (await monitor.get(path))[0] == HTTPStatus.NOT_FOUND


async def test_it_has_the_limits_of_the_port_for_slack(monitor: Monitor) -> None:
    """A request that is no HTTP is refused, counted, and ends its connection."""
    host, _, port = monitor.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"nonsense\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.0 400")
    assert b"nonsense" not in answer
    assert await monitor.value(CONNECTIONS_REFUSED.name, reason="malformed_request") == 1


async def _refuse() -> Reading:
    raise DatabaseUnavailable


async def _say(reading: Reading) -> Reading:
    return reading


async def test_a_database_that_is_down_costs_only_its_own_gauges(monitor: Monitor, log: io.StringIO) -> None:
    """Prometheus learns that they are missing; nothing is logged here, since the database's own trouble is."""
    monitor.port.add(Source(name="database", read=_refuse), of_pace(lambda: _left(7, 1200)))

    samples = await monitor.scrape()

    assert samples[SOURCE_UP.name, frozenset({("source", "database")})] == 0
    assert samples[SOURCE_UP.name, frozenset({("source", "allowance")})] == 1
    assert samples[ALLOWANCE_LEFT.name, frozenset()] == 7
    assert samples[ALLOWANCE.name, frozenset()] == 1200
    assert "gauges_broke" not in log.getvalue()


async def _left(remaining: int, limit: int) -> tuple[int, int]:
    return remaining, limit


async def test_a_database_that_hangs_is_asked_once_and_not_waited_for(monitor: Monitor, pass_time: PassTime) -> None:
    """Each scrape waits for a bounded time, and adds no question to those that hang."""
    begun, answer = asyncio.Queue[None](), asyncio.Event()

    async def hang() -> Reading:
        begun.put_nowait(None)
        await answer.wait()
        return {UNPOSTED: {(): 3.0}}

    monitor.port.add(Source(name="database", read=hang))
    for _ in range(2):
        scraping = asyncio.create_task(monitor.value(SOURCE_UP.name, source="database"))
        await _let_wait(monitor, begun)
        pass_time(PATIENCE)
        assert await scraping == 0
    answer.set()
    await asyncio.sleep(0)
    pass_time(timedelta(seconds=1))

    assert await monitor.value(UNPOSTED.name) == 3
    assert begun.qsize() == 2


async def _let_wait(monitor: Monitor, begun: asyncio.Queue[Any]) -> None:
    """Wait until a scrape waits for the source: it has begun, or joined one that has."""
    reading = monitor.port._gauges._reading
    while not (begun.qsize() and reading.tasks and len(monitor.port._connections)):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
