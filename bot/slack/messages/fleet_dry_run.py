"""What a person reads before many credentials are rotated: the sums, what is left out, and the buttons. Pure."""

from datetime import timedelta
from typing import Final

from bot.model.fleet import Fleet
from bot.model.fleet_plan import FleetPlan, LeftOut
from bot.model.fleet_sums import REQUESTS_BY_BOT, REQUESTS_BY_MINTER, Sums
from bot.model.minted import HEADROOM
from bot.slack.blocks import Json, actions, button, confirmation, date, mention_user, section
from bot.slack.messages.fleet_count import count_buckets, name_asked, name_some

START: Final = "start_fleet"
START_ALL: Final = "start_fleet_with_others"
"""The action ids of the buttons, for those that hold a token of ours and for all; the value is the fleet's id."""

_QUOTA: Final = "R2_CREDENTIAL_ROTATE_QUOTA"
_LEFT_OUT: Final = {
    LeftOut.UNKNOWN: "no catalog is known by that name",
    LeftOut.NO_RIGHT: "you may not rotate these in this channel",
    LeftOut.NEEDS_APPROVAL: "these need an approval: rotate each on its own",
    LeftOut.NEEDS_REASON: "these need a reason: rotate each on its own",
    LeftOut.SWITCHED_OFF: "their catalogs are switched off",
    LeftOut.AT_WORK: "somebody is storing or rotating these now",
    LeftOut.BUSY: "their earlier tokens are still being revoked",
    LeftOut.RECENT: "rotated within the last 24 hours; name one in full to rotate it all the same",
}


def dry_run_message(plan: FleetPlan, fleet: Fleet, own: Sums, everything: Sums) -> Json:
    """Return the sums, with a button for those that hold a token of ours, and one for all."""
    buttons = [
        *([_start(START, fleet, own)] if own.buckets and own.is_possible else []),
        *([_start(START_ALL, fleet, everything)] if plan.others and everything.is_possible else []),
    ]
    title = f"*Rotate credentials*: {name_asked(fleet)}"
    paragraphs = [
        f"{title}\nNothing has been changed yet. {_describe(plan)}",
        *([_describe_sums(own)] if own.buckets else []),
        *([_describe_others(plan, own, everything)] if plan.others else []),
        *_describe_left_out(plan),
    ]
    text = f"{_describe(plan)} Nothing has been changed yet."
    return {"text": text, "blocks": [*map(section, paragraphs), *([actions(*buttons)] if buttons else [])]}


def running_text(fleet: Fleet) -> str:
    """Return what a person reads who asks while a fleet runs."""
    since = date(fleet.started_at or fleet.proposed_at)
    return (
        f"{mention_user(fleet.user_id)} has begun to rotate {count_buckets(len(fleet.buckets))} on {since} "
        f"({name_asked(fleet)}). Its message in <#{fleet.channel_id}> counts, and has the button to stop it. "
        "What to do: Wait for its end."
    )


def _describe(plan: FleetPlan) -> str:
    left_out = sum(map(len, plan.left_out.values()))
    meant = len(plan.own) + len(plan.others) + left_out
    if not meant:
        return "No catalog matches."
    if not plan.own and not plan.others:
        return f"{count_buckets(meant)} matched, and none can be rotated now."
    return f"Of {count_buckets(meant)} that matched, {len(plan.own) + len(plan.others)} can be rotated now."


def _describe_sums(sums: Sums) -> str:
    by_bot, by_minter = sums.buckets * REQUESTS_BY_BOT, sums.buckets * REQUESTS_BY_MINTER
    what = "makes a new token, stores and tests it, and revokes the bot's earlier one"
    lines = [
        f"*{count_buckets(sums.buckets)}*: for each, the bot {what} {_span(sums.grace)} later. One goes first, alone.",
        f"\u2022 requests: {sums.requests} ({by_bot} with the bot's credentials, {by_minter} with the minting token)",
        f"\u2022 time: about {_span(sums.takes)}, and {_span(sums.grace)} more for the earlier tokens",
        f"\u2022 tokens: {_describe_quota(sums)}",
    ]
    return "\n".join(lines)


def _describe_quota(sums: Sums) -> str:
    if sums.tokens is None:
        return "*not known*: no process has counted the account's tokens, so nothing can begin. Ask the operator."
    room = f"{sums.quota} (quota) - {HEADROOM} (left to others) - {sums.tokens} (there now) = {sums.room}"
    if not sums.is_possible:
        return (
            f"*not possible*: {room} more may be made, and {count_buckets(sums.first)} would get a first token of the "
            f"bot's. Ask Cloudflare to raise it by {sums.missing} or more and set {_QUOTA}, or choose fewer buckets."
        )
    if sums.fits_at_once:
        return f"{room} more may be made, so all can be rotated in one go"
    minutes = _span(sums.between_batches)
    return (
        f"{room} more may be made, so it takes *{sums.batches} parts*, each after the earlier tokens of the part "
        f"before are revoked ({minutes}). To have it faster, ask Cloudflare to raise it and set {_QUOTA}."
    )


def _describe_others(plan: FleetPlan, own: Sums, everything: Sums) -> str:
    what = (
        f"*{count_buckets(len(plan.others))}* hold no token of the bot's: {name_some(plan.others)}. What somebody "
        "pasted there would be replaced for good, and is never revoked by the bot."
    )
    if own.buckets:
        what += f" They are left out, unless you press the button for all {everything.buckets}."
    return f"{what}\n{_describe_sums(everything)}"


def _describe_left_out(plan: FleetPlan) -> list[str]:
    """Return a paragraph for each reason: together they could be longer than Slack takes."""
    paragraphs = []
    for why, buckets in plan.left_out.items():
        until = f", until {date(plan.free_at)}" if why is LeftOut.BUSY and plan.free_at else ""
        paragraphs.append(f"*Left out* {len(buckets)}: {_LEFT_OUT[why]}{until}: {name_some(buckets)}")
    return paragraphs


def _start(action_id: str, fleet: Fleet, sums: Sums) -> Json:
    label = f"Rotate {'all ' if action_id == START_ALL else ''}{count_buckets(sums.buckets)}"
    text = f"The credentials in {count_buckets(sums.buckets)} are replaced, one first, then the others."
    if sums.first:
        text += f" {sums.first} of them hold no token of the bot's: what is there cannot be brought back."
    confirm = confirmation(f"{label}?", text, confirm="Rotate", deny="Cancel")
    return button(label, action_id, fleet.id, style="danger" if sums.first else "primary", confirm=confirm)


def _span(span: timedelta) -> str:
    """Return a duration as people say it."""
    minutes = max(1, round(span / timedelta(minutes=1)))
    hours, rest = divmod(minutes, 60)
    parts = [*([f"{hours} h"] if hours else []), *([f"{rest} min"] if rest or not hours else [])]
    return " ".join(parts)
