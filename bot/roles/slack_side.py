"""What gateways and workers have for Slack: its clients, who may use the bot, and the modals that show progress."""

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from slack_sdk.web.async_client import AsyncWebClient

from bot.catalogs.checks import catalogs_check
from bot.clients import open_slack
from bot.metrics import ACCESS_REFUSED
from bot.model.background import Background
from bot.model.errors import DatabaseTrouble, RecordDamaged
from bot.model.token_name import Scope
from bot.operations.policy_source import name_policy
from bot.operations.refused_attempts import RefusedAttempts
from bot.policy.attempt import RefusedAttempt
from bot.policy.gate import Gate
from bot.roles.base import Base
from bot.roles.minter import installations_of, lifetime_of
from bot.settings import SlackSettings
from bot.slack.api import SlackWeb
from bot.slack.channels import Channels
from bot.slack.checks import slack_checks
from bot.slack.checks.people import report_people
from bot.slack.memberships import Memberships
from bot.slack.messages.progress import ModalProgress
from bot.slack.profiles import Profiles
from bot.slack.progress_steps import steps_of
from bot.slack.prospect import Terms
from bot.slack.response_url import SlackPost
from bot.slack.rotations import Rotations
from bot.slack.startup import identify_home
from bot.slack.traffic import SlackTraffic
from bot.storage.minted_tokens import MintedTokens
from bot.storage.opening import Store

_MOST_MODALS: Final = 50
"""After a restart, so many of the latest submissions have their result shown in their modal, if that is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSide:
    """The parts of a process that speaks to Slack."""

    settings: SlackSettings
    slack: SlackWeb
    web_client: AsyncWebClient
    slack_post: SlackPost
    traffic: SlackTraffic
    gate: Gate
    channels: Channels
    rotations: Rotations

    @property
    def contact(self) -> str:
        """The contact that refused people are referred to; empty if none is set."""
        return self.settings.contact or ""


async def open_slack_side(
    base: Base, settings: SlackSettings, tokens: MintedTokens, stack: AsyncExitStack
) -> SlackSide:
    """Open the clients, learn who the bot is, and settle what the database holds; `stack` closes them."""
    base.conditions.wait_for("Slack")
    traffic = SlackTraffic(base.comparison, base.metrics)
    slack, patient_client, patient_http = await open_slack(settings, stack, traffic, base.metrics)
    await _show_progress(base, slack, tokens, stack)
    memberships, profiles = Memberships(slack, base.store.clock), Profiles(slack, base.store.clock)
    gate = await _open_gate(base, slack, memberships, profiles)
    checks = [
        *slack_checks(slack, traffic, memberships, profiles, base.store.clock, listed=base.policy.listed),
        catalogs_check(base.store.catalogs.snapshot, gate.serves, base.store.clock),
    ]
    base.conditions.add(*(name_policy(each, settings) for each in checks))
    _report_people(base, memberships, stack)
    return SlackSide(
        settings=settings,
        slack=slack,
        web_client=patient_client,
        slack_post=SlackPost(patient_http, settings.slack_api_url),
        traffic=traffic,
        gate=gate,
        channels=Channels(slack, gate.allows_channel, base.store.clock),
        rotations=_rotations(base, gate, tokens),
    )


def _rotations(base: Base, gate: Gate, tokens: MintedTokens) -> Rotations:
    """Return what people are told of the tokens that the bot makes, perhaps in another process."""
    settings = base.settings
    is_for_account = settings.rotate_scope is Scope.ACCOUNT
    return Rotations(
        gate=gate,
        tokens=tokens,
        installations=installations_of(base),
        catalogs=base.store.catalogs,
        lifetime=lifetime_of(base).expires_at,
        terms=Terms(grace=settings.rotate_grace, quota=settings.rotate_quota, is_for_account=is_for_account),
        clock=base.store.clock,
    )


async def _show_progress(base: Base, slack: SlackWeb, tokens: MintedTokens, stack: AsyncExitStack) -> None:
    """Show in the modals how submissions go on, those included that a restored database ends."""
    progress = ModalProgress(
        slack,
        base.store.clock,
        base.settings.contact or "",
        steps_of,
        may_enable=base.policy.offers_enabling,
        find_predecessor=tokens.predecessor_of,
        right_of_way=base.right_of_way,
    )
    stack.push_async_callback(progress.drain)
    base.store.submissions.watch(progress.watch)
    await base.settle()
    if base.settings.role.delivers:
        await _catch_up(progress, base.store, base.settings.cloudflare_account_id)


async def _catch_up(progress: ModalProgress, store: Store, account_id: str) -> None:
    with suppress(DatabaseTrouble, RecordDamaged):  # the results are in the channel, so the start goes on
        progress.catch_up(await store.submissions.history(account_id, None, _MOST_MODALS))


async def _open_gate(base: Base, slack: SlackWeb, memberships: Memberships, profiles: Profiles) -> Gate:
    attempts = RefusedAttempts(base.store.database, base.store.submissions.chain, base.store.clock)

    def note(attempt: RefusedAttempt) -> None:
        base.metrics.count(ACCESS_REFUSED, attempt.refusal.code)
        attempts.note(attempt)

    home = await identify_home(slack, base.conditions.note)
    gate = Gate(base.policy.rules, home, memberships, profiles, note=note)
    base.policy.follow_by(gate.follow)
    base.keep_running(attempts.run())
    return gate


def _report_people(base: Base, memberships: Memberships, stack: AsyncExitStack) -> None:
    """Log how many people are let in; the start does not wait for it."""
    reporting, listed = Background("start_report_broke"), base.policy.listed()
    reporting.start(report_people(memberships, users=listed.users, usergroups=listed.usergroups))
    stack.callback(reporting.cancel)
