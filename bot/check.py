"""What the command `check` examines: the same parts as a running bot, once, with clients of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from bot.model.finding import Check, Finding, Part
from bot.operations.check_report import CheckReport
from bot.operations.checks import find_in_files, find_in_process, find_in_settings
from bot.operations.conditions import examine
from bot.operations.exposed_files import find_exposed
from bot.operations.installation import installation_check
from bot.settings import LoadedSettings
from bot.storage.examination import examine_storage


async def check(loaded: LoadedSettings, not_hardened: Sequence[str], report: CheckReport) -> list[Finding]:
    """Examine everything at once, print each finding in the order of the parts, and return them all."""
    found: list[Finding] = [
        *find_in_settings(loaded),
        *await examine(installation_check()),
        *find_in_process(not_hardened),
        *find_in_files(find_exposed(loaded)),
    ]
    report.tell(found)
    async with AsyncExitStack() as stack:
        checks = _list_checks(loaded, stack)
        async for each in _examine_all(checks, report):
            report.tell(each)
            found += each
    report.end(found)
    return found


def _list_checks(loaded: LoadedSettings, stack: AsyncExitStack) -> list[Check]:
    settings = loaded.settings
    del stack
    return [Check(part=Part.DATABASE, examine=partial(examine_storage, settings, datetime.now(UTC)))]


async def _examine_all(checks: Sequence[Check], report: CheckReport) -> AsyncIterator[Sequence[Finding]]:
    """Run all checks at once, and yield what each finds, in their order."""
    running = [asyncio.create_task(examine(each)) for each in checks]
    for task in running:
        report.begin(each.part for each, other in zip(checks, running, strict=True) if not other.done())
        yield await task
