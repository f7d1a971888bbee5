"""Works out which buckets a person would have rotated, from what is known of the account; asks Cloudflare nothing."""

from bot.model.catalog import BucketKey, Catalog, CatalogStatus
from bot.model.errors import AccessRefused
from bot.model.fleet_plan import FleetPlan, LeftOut, OwnTokens, Wanted
from bot.model.fleet_sums import Sums
from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack.stories.parts import Parts


async def make_plan(parts: Parts, wanted: Wanted, permit: Permit, channel_id: str) -> FleetPlan:
    """Return what would be rotated, and what would not be and why; names nothing that the person may not see."""
    tokens = OwnTokens.of(await parts.rotations.tokens.all_left())
    at_work = {key.bucket for key in await parts.submissions.unreported_keys()}
    seen = await parts.visibility.of(permit)
    plan, now = FleetPlan(wanted=wanted), parts.clock()
    for bucket in seen.names:
        if wanted.means(bucket):
            why = _judge(seen.catalog(bucket), permit, channel_id) or (LeftOut.AT_WORK if bucket in at_work else None)
            if why is None:
                plan.take(bucket, tokens, now)
            else:
                plan.leave_out(bucket, why)
    for name in sorted(wanted.names.difference(seen.names)):
        plan.leave_out(name, LeftOut.UNKNOWN)
    return plan


async def work_out(parts: Parts, plan: FleetPlan) -> tuple[Sums, Sums]:
    """Return what it takes for those that hold a token of ours, and for all of them."""
    tokens, terms = await parts.room.tokens(), parts.rotations.terms

    def sums(buckets: list[str]) -> Sums:
        first = len(plan.first.intersection(buckets))
        return Sums(buckets=len(buckets), first=first, tokens=tokens, quota=terms.quota, grace=terms.grace)

    return sums(plan.own), sums([*plan.own, *plan.others])


def may_rotate(permit: Permit, key: BucketKey, channel_id: str) -> bool:
    """Return whether a rule lets this person rotate it there."""
    return not isinstance(permit.decide(Verb.ROTATE, key, channel_id), AccessRefused)


def _judge(catalog: Catalog, permit: Permit, channel_id: str) -> LeftOut | None:
    """Return why a bucket cannot be one of many, or None. An approval or a reason is asked for each on its own."""
    rule = permit.decide(Verb.ROTATE, catalog.key, channel_id)
    if isinstance(rule, AccessRefused):
        return LeftOut.NO_RIGHT
    if rule.approvals:
        return LeftOut.NEEDS_APPROVAL
    if rule.require_reason:
        return LeftOut.NEEDS_REASON
    return None if catalog.status is CatalogStatus.ACTIVE else LeftOut.SWITCHED_OFF
