"""The metrics that are read at the moment of a scrape, each from its source, whatever the other sources do.

All processes on one PostgreSQL read the same rows: aggregate those gauges with max, not with sum.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily

from bot.metrics import OTHER, Family, Kind, Label
from bot.model.background import Background
from bot.model.catalog import CatalogStatus, CredentialStatus
from bot.model.errors import DatabaseTrouble
from bot.model.finding import Mark, Part
from bot.model.minted import OVER, MintedState
from bot.model.role import Role
from bot.model.submission import Task
from bot.model.tally import Tally

PATIENCE: Final = timedelta(seconds=2)
"""A scrape waits for no source longer. Conditions give up on a silent database a little earlier: with less patience
here, readiness would be missing just when the database hangs."""

_PARTS: Final = Label(name="part", values=tuple(Part))

READY: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_ready",
    meaning="1 if a submission can be stored now, as `/readyz` says.",
)
PART_READY: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_part_ready",
    meaning="0 if this part keeps submissions from being stored; `/readyz` on this port says why.",
    labels=(_PARTS,),
)
FINDINGS: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_findings",
    meaning="How many findings there are on a part, by how good they are; the log and `check` have their words.",
    labels=(_PARTS, Label(name="mark", values=tuple(Mark))),
)
WAITING: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_submissions_waiting",
    meaning="Submissions that have not ended. From the database.",
    labels=(Label(name="task", values=(*Task, OTHER)),),
)
OLDEST: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_submissions_oldest_waiting_seconds",
    meaning="How long the oldest of them has waited; 0 without any. From the database.",
)
UNAPPROVED: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_approvals_waiting",
    meaning="Submissions that wait for another person's approval. From the database.",
)
AUDIT_ENTRIES: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_audit_entries",
    meaning="The number of the audit's last entry. It never falls, unless entries are removed. From the database.",
)
UNPOSTED: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_results_unposted",
    meaning="Submissions that have ended and whose result Slack has not accepted yet. From the database.",
)
CATALOGS: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_catalogs",
    meaning="The account's catalogs, by state, and by the state of their credentials. From the database.",
    labels=(
        Label(name="status", values=tuple(CatalogStatus)),
        Label(name="credential", values=tuple(CredentialStatus)),
    ),
)
REFRESHED: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_catalogs_refreshed_timestamp_seconds",
    meaning="When Cloudflare last listed the catalogs. From the database.",
)
EXPIRY: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_credential_expiry_timestamp_seconds",
    meaning=(
        "When the token in a bucket's slot expires, if the bot stored it and it expires. Absent while the schedule "
        "replaces it in time. From the database."
    ),
    labels=(Label(name="bucket", described="the bucket's name", bound=lambda bucket: bucket),),
)
ALLOWANCE_LEFT: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_cloudflare_allowance_remaining",
    meaning=(
        "Requests that the rate limit of Cloudflare's API still allows now; 0 while a 429 stops all. The same on all "
        "workers."
    ),
)
ALLOWANCE: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_cloudflare_allowance_limit",
    meaning="Requests that the rate limit allows in a window; the bot uses 97 % of it. The same on all workers.",
)
SOCKETS: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_socket_mode_connections",
    meaning="Open Socket Mode connections; one is enough. Absent over HTTP, and on a worker.",
)
TASKS: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_tasks",
    meaning="The asyncio tasks of the process, which work or wait; a number that only grows is a fault of the bot.",
)
BUILD: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_build_info",
    meaning="What runs here; always 1.",
    labels=(
        Label(name="version", described="the bot's version", bound=lambda version: version),
        Label(name="role", values=tuple(Role)),
        Label(name="database", values=("sqlite", "postgresql")),
        Label(name="transport", values=("socket_mode", "http", "none")),
    ),
)
SOURCE_UP: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_source_up",
    meaning="0 if the metrics of this source are missing, since it failed or gave no answer within two seconds.",
    labels=(
        Label(
            name="source",
            values=(
                "readiness",
                "database",
                "audit",
                "allowance",
                "process",
                "audit_webhook",
                "rotation",
            ),
        ),
    ),
)
AUDIT_WEBHOOK_LAG: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_bot_audit_webhook_lag",
    meaning="Entries of the audit that its webhook has not got yet. From the database; absent without a webhook.",
)
MINTED: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_minted_tokens",
    meaning="Tokens that the bot made and that may be at Cloudflare, by [state](rotation.md). From the database.",
    labels=(Label(name="state", values=tuple(state for state in MintedState if state not in OVER)),),
)
OVERDUE: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_rotation_overdue",
    meaning="Buckets that the schedule has not rotated in time. From the database.",
)
MINTER_SEEN: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_minter_seen_timestamp_seconds",
    meaning="When a minter was last at work. From the database; absent unless a rule grants `rotate`, and before that.",
)
MINTER_TROUBLE: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_minter_trouble",
    meaning="1 while what the minter noted last keeps it from its work. From the database; absent as the above.",
)
ACCOUNT_TOKENS: Final = Family(
    kind=Kind.GAUGE,
    name="r2_credential_account_tokens",
    meaning="API tokens of the account, anyone's, when the minter last counted them. From the database.",
)
READ: Final = (
    READY,
    PART_READY,
    FINDINGS,
    WAITING,
    OLDEST,
    UNAPPROVED,
    AUDIT_ENTRIES,
    UNPOSTED,
    CATALOGS,
    REFRESHED,
    EXPIRY,
    ALLOWANCE_LEFT,
    ALLOWANCE,
    SOCKETS,
    TASKS,
    BUILD,
    AUDIT_WEBHOOK_LAG,
    MINTED,
    OVERDUE,
    MINTER_SEEN,
    MINTER_TROUBLE,
    ACCOUNT_TOKENS,
    SOURCE_UP,
)

Reading = Mapping[Family, Mapping[tuple[str, ...], float]]
"""The values of gauges, by the values of their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where gauges are read. A failure costs its own gauges, and no others."""

    name: str
    read: Callable[[], Coroutine[Any, Any, Reading]]


class Gauges:
    """Reads all sources at once."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._reading = Background("gauges_not_read")
        self._faults = Tally("gauges_broke", logging.ERROR)

    def add(self, *sources: Source) -> None:
        """Read these too, from the next scrape on."""
        self._sources |= {source.name: source for source in sources}

    async def read(self) -> list[GaugeMetricFamily]:
        """Return what every source says within `PATIENCE`; never raises."""
        sources = list(self._sources.values())
        readings = await asyncio.gather(*map(self._read, sources))
        up = {(source.name,): float(reading is not None) for source, reading in zip(sources, readings, strict=True)}
        return [_as_metric(*each) for reading in (*readings, {SOURCE_UP: up}) for each in (reading or {}).items()]

    def stop(self) -> None:
        """Wait for no source any longer."""
        self._reading.cancel()

    async def _read(self, source: Source) -> Reading | None:
        """Return None if the source fails, or is still being read: a database that hangs is asked only once."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return await self._reading.shield(source.read, name=source.name)
        except (TimeoutError, DatabaseTrouble):
            return None
        except Exception as error:  # noqa: BLE001 - the other sources are still of use, above all then
            self._faults.count(f"{source.name} {type(error).__name__}")
            return None


def _as_metric(family: Family, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    metric = GaugeMetricFamily(family.name, family.meaning, labels=[label.name for label in family.labels])
    for key, value in sorted(values.items()):
        metric.add_metric([label.value(text) for label, text in zip(family.labels, key, strict=True)], value)
    return metric
