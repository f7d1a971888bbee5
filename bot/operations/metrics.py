"""The port for the operator's monitoring: `/metrics` for Prometheus, and `/readyz` as JSON with reasons.

It has no login, so it names no person, channel, user group, workspace or token. It is off unless a port is set, as the
image does.
"""

import asyncio
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from prometheus_client import Metric, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from bot.metrics import Metrics
from bot.model.finding import Finding, Mark, Part
from bot.operations.conditions import is_ready
from bot.operations.gauges import Gauges, Source
from bot.operations.logs import DROPPED, SCRUBBED
from bot.operations.port import Port
from bot.operations.recent import Recent
from bot.operations.sources import Ask, by_part, of_findings

_MOST_CONNECTIONS: Final = 16
"""A Prometheus or two, and a probe. They take no descriptors from the port for Slack."""

_WORST: Final = (Mark.FAILED, Mark.WARNING, Mark.OK)


class MetricsPort(Port):
    """Answers `/metrics` and `/readyz`, from the beginning: until `attach`, the bot is not ready.

    Each answer is found out at most once a second, however many clients ask.
    """

    def __init__(self, metrics: Metrics) -> None:
        routes = [web.get("/metrics", self._answer_metrics), web.get("/readyz", self._answer_readiness)]
        super().__init__(routes, _MOST_CONNECTIONS, metrics)
        self._counters = metrics.registry
        self._gauges = Gauges()
        self._page = Recent(self._write_page, unknown=b"")
        self._findings = Recent(_starting, _UNKNOWN)
        self._is_stopping = False
        self._gauges.add(of_findings(self._ask))

    def attach(self, ask: Ask) -> None:
        """From now on, show these findings."""
        self._findings = Recent(ask, _UNKNOWN)

    def add(self, *sources: Source) -> None:
        """From now on, show these gauges too."""
        self._gauges.add(*sources)

    def begin_stop(self) -> None:
        """Say that the bot is stopping. Everything is still answered."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Stop listening, and close."""
        self._gauges.stop()
        await super().stop()

    async def _ask(self) -> Sequence[Finding]:
        return _STOPPING if self._is_stopping else await self._findings.ask()

    async def _answer_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=await self._page.ask(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _answer_readiness(self, _: web.Request) -> web.Response:
        found = await self._ask()
        status = HTTPStatus.OK if is_ready(found) else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response(describe_readiness(found), status=status)

    async def _write_page(self) -> bytes:
        """Write the page in a thread: a thousand lines take some milliseconds, and Slack waits for other answers."""
        gauges = await self._gauges.read()
        return await asyncio.to_thread(generate_latest, _Page(self._counters, gauges))


class _Page(Collector):
    """Everything on the page: what was counted, what was read, and what the system knows of the process."""

    def __init__(self, counters: Collector, gauges: Iterable[Metric]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        yield from self._counters.collect()
        yield from self._gauges
        yield from DROPPED.collect()
        yield from SCRUBBED.collect()
        yield from ProcessCollector(registry=None).collect()
        yield from PlatformCollector(registry=None).collect()


def describe_readiness(found: Sequence[Finding]) -> dict[str, object]:
    """Return what `/readyz` says: whether the bot is ready, and for each part its worst findings.

    The reasons are the events, which docs/troubleshooting.md explains: the sentences of findings, which the log and
    `check` show, may name a person or a channel.
    """
    return {"ready": is_ready(found), "parts": {part.value: _describe(its) for part, its in by_part(found).items()}}


def _describe(found: Sequence[Finding]) -> dict[str, object]:
    worst = next(mark for mark in _WORST if any(finding.mark is mark for finding in found))
    shown = [finding for finding in found if finding.mark is worst]
    said = {
        "reason": _join(finding.event for finding in shown),
        "setting": _join(finding.setting for finding in shown),
        "fix": _join(finding.fix for finding in shown),
    }
    return {"ready": is_ready(found), "mark": worst.value, **{name: text for name, text in said.items() if text}}


def _join(texts: Iterable[str]) -> str:
    """Join them, each once: ten archived channels have one reason and one fix."""
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _blocking(event: str, text: str) -> Sequence[Finding]:
    return [Finding(part=Part.START, event=event, text=text, mark=Mark.WARNING, blocks=True)]


_STOPPING: Final = _blocking("stopping", "the bot is stopping")
_UNKNOWN: Final = _blocking("readiness_unknown", "whether the bot is ready could not be found out")


async def _starting() -> Sequence[Finding]:
    return _blocking("starting", "the bot is starting")
