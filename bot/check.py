"""What the command `check` examines: the same parts as a running bot, once, with clients of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import aiohttp

from bot.catalogs.checks import catalogs_check
from bot.clients import cloudflare_client, minting_client, open_slack, services, slack_app_token, slack_signers
from bot.cloudflare.access import CloudflareAccess
from bot.cloudflare.minting_access import MintingAccess
from bot.cloudflare.pace import LocalPace
from bot.metrics import Metrics
from bot.model.catalog import BucketKey, Snapshot
from bot.model.clock import steady_clock
from bot.model.clock_comparison import ClockComparison
from bot.model.errors import BotError, SlackRefused, SlackTrouble, StartRefused
from bot.model.finding import Check, Finding, Part
from bot.operations.audit_webhook import Receiver, receiver_check, unsigned_check
from bot.operations.check_report import CheckReport
from bot.operations.checks import find_in_files, find_in_process, find_in_settings, find_wrong_settings
from bot.operations.examiner import examine
from bot.operations.exposed_files import find_exposed
from bot.operations.installation import installation_check
from bot.operations.network_checks import network_check
from bot.operations.policy_source import (
    Policy,
    find_in_explanation,
    find_in_policy,
    find_unfit,
    load_policy,
    name_policy,
)
from bot.operations.ports import ports_check
from bot.operations.rotation_switch import has_own_switch, minter_check, rotation_check
from bot.policy.explain import explain
from bot.policy.file import PolicyBroken
from bot.policy.gate import Gate, Home, is_served
from bot.policy.listed import list_ids
from bot.settings import LoadedSettings, Settings, SlackSettings
from bot.slack.api import SlackWeb
from bot.slack.checks import slack_checks
from bot.slack.checks.public_url import public_url_check
from bot.slack.checks.transport import address_check, http_check
from bot.slack.memberships import Memberships
from bot.slack.profiles import Profiles
from bot.slack.traffic import SlackTraffic
from bot.storage.audit_watch import examine_audit
from bot.storage.beside import find_standing
from bot.storage.chain_start import read_authenticity
from bot.storage.examination import examine_storage

_NO_INSTALLATION: Final = "00000000"
"""In place of the mark of this one's tokens, which the database has: an examination changes no token."""


async def check(
    loaded: LoadedSettings, not_hardened: Sequence[str], report: CheckReport, url: str | None = None
) -> list[Finding]:
    """Examine everything at once, print each finding in the order of the parts, and return them all.

    `url` is where Slack reaches the bot over HTTP, if that is to be examined.
    """
    try:
        policy = load_policy(loaded.settings)
    except PolicyBroken as broken:
        return await check_without_settings(broken.problems, not_hardened, report)
    found: list[Finding] = [
        *find_in_settings(loaded),
        *(find_in_policy(policy, ()) if loaded.settings.policy else ()),
        *await _examine_what_needs_no_settings(not_hardened),
        *find_in_files(find_exposed(loaded)),
    ]
    report.tell(found)
    async with AsyncExitStack() as stack:
        checks = await _list_checks(loaded, policy, stack, url)
        async for each in _examine_all(checks, report):
            report.tell(each)
            found += each
    report.end(found)
    return found


async def check_policy(settings: SlackSettings, report: CheckReport, user_id: str, bucket: str) -> list[Finding]:
    """Say for each verb which rule lets this user use this bucket or not, and why; Slack is asked about user groups."""
    try:
        policy = load_policy(settings)
    except PolicyBroken as broken:
        found = [*find_wrong_settings(broken.problems)]
    else:
        async with AsyncExitStack() as stack:
            web, _, _ = await open_slack(settings, stack, SlackTraffic(ClockComparison()), Metrics())
            key = BucketKey(account_id=settings.cloudflare_account_id, bucket=bucket)
            found = await _explain(policy, web, user_id, key)
    report.tell(found)
    report.end(found)
    return found


async def _explain(policy: Policy, web: SlackWeb, user_id: str, key: BucketKey) -> list[Finding]:
    memberships, profiles = Memberships(web, steady_clock()), Profiles(web, steady_clock())
    try:
        home = (await web.identify()).home
    except (SlackRefused, SlackTrouble):  # then Slack says nothing of the person either
        home = Home(team_id="", enterprise_id=None)
    gate = Gate(policy.rules, home, memberships, profiles)
    unfit = await gate.judge_person(user_id)
    person = await gate.get_to_know(user_id)
    troubles = map(memberships.trouble_with, list_ids(policy.rules).usergroups)
    explained = map(find_in_explanation, explain(policy.rules, person, key))
    return [*([find_unfit(unfit)] if unfit else []), *filter(None, (profiles.trouble, *troubles)), *explained]


async def check_without_settings(
    problems: Iterable[str], not_hardened: Sequence[str], report: CheckReport
) -> list[Finding]:
    """Do the same with what can be examined while settings are wrong; a wrong installation may be why they are."""
    found = [*find_wrong_settings(problems), *await _examine_what_needs_no_settings(not_hardened)]
    report.tell(found)
    report.end(found)
    return found


async def _examine_what_needs_no_settings(not_hardened: Sequence[str]) -> list[Finding]:
    return [*await examine(installation_check()), *find_in_process(not_hardened)]


async def _list_checks(loaded: LoadedSettings, policy: Policy, stack: AsyncExitStack, url: str | None) -> list[Check]:
    settings, comparison = loaded.settings, ClockComparison(answers=1)
    slack = settings if isinstance(settings, SlackSettings) else None
    takes_http = slack is not None and slack.role.takes_payloads and slack.slack_app_token is None
    checks = [
        network_check(settings),
        ports_check(settings),
        Check(part=Part.DATABASE, examine=partial(examine_storage, settings, datetime.now(UTC))),
        Check(part=Part.AUDIT, examine=partial(examine_audit, settings)),
        *(await _list_slack_checks(slack, policy, stack, comparison, url) if slack else ()),
        *(_list_cloudflare_checks(settings, policy, stack, comparison) if settings.role.delivers else ()),
        *_list_rotation_checks(settings, policy, stack, comparison),
        *_list_audit_checks(settings),
        comparison.check(services(settings), refuses=takes_http),
    ]
    checks = [name_policy(each, settings) for each in checks]
    return sorted(checks, key=lambda check: list(Part).index(check.part))


def _list_rotation_checks(
    settings: Settings, policy: Policy, stack: AsyncExitStack, comparison: ClockComparison
) -> list[Check]:
    """Return the check of rotation: it asks about the minting token and makes none, or whether a minter does."""
    clock = steady_clock()
    if not has_own_switch(settings):
        standing = partial(find_standing, settings, settings.cloudflare_account_id)
        return [minter_check(settings, lambda: policy.rules, standing, clock)]
    if settings.cloudflare_minting_token is None:
        return [rotation_check(settings, lambda: policy.rules)]
    client = minting_client(
        settings,
        installation=_NO_INSTALLATION,
        serves=lambda _: False,
        pace=LocalPace(clock),
        comparison=comparison,
        metrics=Metrics(),
    )
    stack.push_async_callback(client.aclose)
    access = MintingAccess(
        client, settings.rotate_scope, clock, quota=settings.rotate_quota, blocks=not settings.role.delivers
    )
    return [rotation_check(settings, lambda: policy.rules, access.examine)]


def _list_audit_checks(settings: Settings) -> list[Check]:
    """Return the check of the audit's webhook, for a process that sends to it."""
    if settings.audit_webhook is None or not settings.role.delivers:
        return []
    try:
        authenticity = read_authenticity(settings)
    except StartRefused as refused:
        return [unsigned_check(str(refused))]
    return [receiver_check(Receiver(settings.audit_webhook, authenticity, settings.network, steady_clock()))]


async def _list_slack_checks(
    settings: SlackSettings, policy: Policy, stack: AsyncExitStack, comparison: ClockComparison, url: str | None
) -> list[Check]:
    traffic = SlackTraffic(comparison)
    web, _, http = await open_slack(settings, stack, traffic, Metrics())
    checks = slack_checks(
        web,
        traffic,
        Memberships(web, steady_clock()),
        Profiles(web, steady_clock()),
        steady_clock(),
        listed=lambda: list_ids(policy.rules),
        is_only_examination=True,
    )
    return [*checks, _transport_check(settings, web, http, url)] if settings.role.takes_payloads else checks


def _list_cloudflare_checks(
    settings: Settings, policy: Policy, stack: AsyncExitStack, comparison: ClockComparison
) -> list[Check]:
    clock = steady_clock()
    cloudflare = cloudflare_client(settings, LocalPace(clock), comparison, Metrics())
    stack.push_async_callback(cloudflare.aclose)

    async def list_catalogs() -> Snapshot | None:
        try:
            listed = await cloudflare.list_catalogs()
        except BotError:  # the check of Cloudflare says why
            return None
        return Snapshot(catalogs=tuple(listed), refreshed_at=clock())

    serves = partial(is_served, policy.rules)
    catalogs = catalogs_check(list_catalogs, serves, clock, patience=timedelta(0))
    return [CloudflareAccess(cloudflare, clock=clock).check(), catalogs]


def _transport_check(settings: SlackSettings, web: SlackWeb, http: aiohttp.ClientSession, url: str | None) -> Check:
    """Return the check of how payloads reach the bot, for a process that takes none. `url` is the public URL."""
    app_token = slack_app_token(settings)
    signers = [] if app_token else slack_signers(settings)
    if url is not None:
        return public_url_check(url, next(iter(signers), None), settings.network)
    return address_check(web, http, app_token) if app_token else http_check(len(signers))


async def _examine_all(checks: Sequence[Check], report: CheckReport) -> AsyncIterator[Sequence[Finding]]:
    """Run all checks at once, and yield what each finds, in their order."""
    running = [asyncio.create_task(examine(each)) for each in checks]
    for task in running:
        report.begin(each.part for each, other in zip(checks, running, strict=True) if not other.done())
        yield await task
