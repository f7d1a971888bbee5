"""What the command `check --mint` does: it tries out rotation with clients of its own, and leaves no token behind."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from bot.clients import cloudflare_client, has_own_credentials, minting_client
from bot.cloudflare.pace import LocalPace
from bot.metrics import Metrics
from bot.model.catalog import BucketKey
from bot.model.clock import steady_clock
from bot.model.clock_comparison import ClockComparison
from bot.model.finding import Finding, Mark, Part
from bot.model.token_name import TRIAL
from bot.operations.check_report import CheckReport
from bot.operations.stop_signals import cancelling
from bot.rotation.trial import Trial
from bot.rotation.trial_questions import Questions
from bot.rotation.trial_slot import TrialSlot
from bot.setting_rotation import MINTING_TOKEN
from bot.settings import Settings


async def check_minting(
    settings: Settings, report: CheckReport, bucket: str, *, stores: bool, may_overwrite: bool
) -> list[Finding]:
    """Try it out, print each answer as soon as it is there, and return them all. A signal ends it, after cleaning up.

    With `stores`, the token is stored in the bucket's slot; with `may_overwrite`, also where that holds a credential.
    """
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        report.tell([finding])
        report.begin([Part.ROTATION])  # the next answer may take minutes

    hindrance = _find_hindrance(settings, stores=stores)
    if hindrance is not None:
        tell(hindrance)
    else:
        async with AsyncExitStack() as stack:
            trial = _build(settings, stack, bucket, tell, slot_may_be_full=may_overwrite if stores else None)
            await try_out(trial, tell)
    report.tell([])
    report.end(found)
    return found


async def try_out(trial: Trial, tell: Callable[[Finding], None]) -> None:
    """Run a trial to its end, or until a signal; clean up in any case, which no further signal disturbs."""
    walk = asyncio.create_task(trial.walk())
    with cancelling(walk):
        await asyncio.wait([walk])
        await trial.clean_up()
    if walk.cancelled():
        text, fix = "the trial was stopped by a signal before its end", "run it again"
        tell(_failed(text, fix=fix))
    else:
        walk.result()


def _build(
    settings: Settings,
    stack: AsyncExitStack,
    bucket: str,
    tell: Callable[[Finding], None],
    *,
    slot_may_be_full: bool | None,
) -> Trial:
    """Return the trial; `slot_may_be_full` is None for one that stores nothing."""
    clock, comparison, metrics = steady_clock(), ClockComparison(answers=1), Metrics()
    key = BucketKey(account_id=settings.cloudflare_account_id, bucket=bucket)
    catalogs = cloudflare_client(settings, LocalPace(clock), comparison, metrics)
    stack.push_async_callback(catalogs.aclose)
    minting = minting_client(
        settings,
        installation=TRIAL,
        serves=lambda asked: asked == key,
        pace=LocalPace(clock),
        comparison=comparison,
        metrics=metrics,
    )
    stack.push_async_callback(minting.aclose)
    questions = Questions(tell)
    slot = None if slot_may_be_full is None else TrialSlot(catalogs, key, questions, may_overwrite=slot_may_be_full)
    return Trial(
        minting=minting,
        catalogs=catalogs,
        key=key,
        scope=settings.rotate_scope,
        quota=settings.rotate_quota,
        slot=slot,
        questions=questions,
        clock=clock,
    )


def _find_hindrance(settings: Settings, *, stores: bool) -> Finding | None:
    """Return why nothing can be tried out with these settings."""
    if settings.cloudflare_minting_token is None:
        fix = "set it to a token that may create others (docs/rotation.md), and use --role all or --role minter"
        return _failed(f"{MINTING_TOKEN} is not set, so no token can be created", setting=MINTING_TOKEN, fix=fix)
    if stores and not has_own_credentials(settings):
        fix = "run it with the settings of a whole bot, or without --store"
        return _failed("a slot is written with the bot's own credentials, which this role does not have", fix=fix)
    return None


def _failed(text: str, *, setting: str = "", fix: str) -> Finding:
    return Finding(
        part=Part.ROTATION,
        event="mint_check_failed",
        mark=Mark.FAILED,
        text=text,
        setting=setting,
        fix=fix,
        known={"question": "settings" if setting else "trial"},
    )
