"""The one message of a fleet, which counts. Pure, and redacted by construction."""

from collections.abc import Sequence
from typing import Final

from bot.model.errors import error_of_code
from bot.model.fleet import MOST_FAILED, SUPERSEDED, Alarm, Count, Fleet, FleetState, Outcome, Result
from bot.slack.blocks import Json, actions, button, confirmation, context, escape, mention_user, section

STOP: Final = "stop_fleet"
"""The action id of the button; its value is the fleet's id."""

MOST_NAMES: Final = 10
"""In one list; then only how many more there are."""

_ALL: Final = "*"
_ALARMS: Final = {
    Alarm.NOT_WORKING: (
        "Cloudflare says that the credential in its slot does not work.",
        "Look at it with `/r2-credential status`, and rotate or store it on its own before you go on.",
    ),
    Alarm.NOT_TESTED: (
        "Cloudflare did not test the stored credential, so nothing is proven.",
        "Look at it with `/r2-credential status`; go on when Cloudflare tests credentials again.",
    ),
    Alarm.MANY_FAILED: (
        f"{MOST_FAILED} in a row failed.",
        "Their reasons are listed here: solve what they have in common, then go on.",
    ),
    Alarm.TOKEN_NEEDED: (
        "while an earlier token was disabled, the slot did not work; the token was enabled again.",
        "Find out who stored that token there, and see that the bot's own rotation of this bucket ends well.",
    ),
    Alarm.NO_ROOM: (
        "the account may have no more API tokens, and none is on its way to be revoked.",
        "Delete tokens that nobody uses, or ask Cloudflare to raise the quota and set R2_CREDENTIAL_ROTATE_QUOTA.",
    ),
    Alarm.NO_MINTER: (
        "no process that makes tokens has been at work for 5 minutes.",
        "The operator has to start it: its log says why it stopped.",
    ),
    Alarm.NO_MESSAGE: (
        "the message with the button that stops it could not be posted.",
        "Invite the bot to the channel, then go on.",
    ),
}
_GO_ON: Final = "To rotate the rest, type the same again: what was rotated today is left out."


def fleet_message(count: Count) -> Json:
    """Return the message that counts."""
    fleet, headline = count.fleet, _headline(count)
    paragraphs = [f"{_mark(count)} *{headline}*\n{_figures(count)}", *_why_stopped(count), *_list_failures(count)]
    stop = [] if count.is_over or fleet.state is not FleetState.RUNNING else [actions(_stop(fleet))]
    begun = f"{name_asked(fleet)} \u00b7 begun by {mention_user(fleet.user_id)} \u00b7 fleet.{fleet.id}"
    return {
        "text": f"{headline} {_figures(count)}",
        "blocks": [*map(section, paragraphs), context(begun), *stop],
    }


def name_asked(fleet: Fleet) -> str:
    """Return what was asked for; not within bold text, which an asterisk would end."""
    return "all buckets" if fleet.asked == _ALL else f"`{escape(fleet.asked)}`"


def name_some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(f"`{escape(name)}`" for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def count_buckets(number: int) -> str:
    """Return how many buckets."""
    return f"{number} bucket{'' if number == 1 else 's'}"


def _stop(fleet: Fleet) -> Json:
    text = "No further rotation begins. Those that are under way are finished, and nothing is undone."
    confirm = confirmation("Stop the rotation?", text, confirm="Stop", deny="Go on")
    return button("Stop", STOP, fleet.id, style="danger", confirm=confirm)


def _headline(count: Count) -> str:
    fleet, all_of_them = count.fleet, count_buckets(len(count.fleet.buckets))
    if count.is_over:
        done = len(count.of(Outcome.DONE))
        stopped = "" if fleet.state is FleetState.RUNNING else "Stopped: "
        return f"{stopped}{done} of {all_of_them} rotated."
    return (
        f"Rotating {all_of_them}." if fleet.state is FleetState.RUNNING else f"Stopping the rotation of {all_of_them}."
    )


def _mark(count: Count) -> str:
    if count.fleet.alarm is not None:
        return ":rotating_light:"
    if count.fleet.state is not FleetState.RUNNING:
        return ":octagonal_sign:"
    if not count.is_over:
        return ":arrows_counterclockwise:"
    return ":white_check_mark:" if len(count.of(Outcome.DONE)) == len(count.fleet.buckets) else ":warning:"


def _figures(count: Count) -> str:
    figures = {
        "done": len(count.of(Outcome.DONE)),
        "failed": len(count.of(Outcome.FAILED)) + len(count.of(Outcome.ALARM)),
        "under way": count.open,
        "not begun" if count.is_over else "waiting": count.waiting,
    }
    words = ", ".join(f"{number} {word}" for word, number in figures.items() if number or word == "done")
    if count.waits_for_room and not count.is_over:
        return f"{words}; the next ones begin when earlier tokens are revoked, since the account may have no more."
    return f"{words}."


def _why_stopped(count: Count) -> list[str]:
    fleet = count.fleet
    if fleet.alarm is not None:
        where = f"`{escape(fleet.alarm_bucket)}`: " if fleet.alarm_bucket else ""
        cause, fix = _explain(fleet.alarm)
        return [f"*It stopped by itself.* {where}{cause}\nWhat to do: {fix} {_GO_ON}"]
    if fleet.stopped_by is not None or fleet.state is not FleetState.RUNNING:
        return [f"Stopped by {mention_user(fleet.stopped_by or '')}. {_GO_ON}"]
    return []


def _explain(alarm: str) -> tuple[str, str]:
    """Return what happened, and what to do."""
    if alarm in _ALARMS:
        return _ALARMS[Alarm(alarm)]
    leaf = error_of_code(alarm)
    fix = "Solve it for this bucket alone first, with `/r2-credential rotate BUCKET`."
    if leaf.operator_fix:
        setting = f"{leaf.setting}: " if leaf.setting else ""
        fix = f"The operator can solve it: {setting}{escape(leaf.operator_fix)}."
    return _cause(alarm), fix


def _cause(code: str) -> str:
    leaf = error_of_code(code)
    return escape(getattr(leaf, "cause", leaf.user_message))


def _list_failures(count: Count) -> list[str]:
    failed = [result for result in count.ended if result.outcome is Outcome.FAILED]
    if not failed:
        return []
    lines = [f"\u2022 `{escape(result.bucket)}`: {_why(result)}" for result in failed[:MOST_NAMES]]
    more = len(failed) - MOST_NAMES
    return ["\n".join(["*Failed, each for a reason of its own*", *lines, *([f"and {more} more"] if more > 0 else [])])]


def _why(result: Result) -> str:
    return "somebody stored a newer token meanwhile" if result.why == SUPERSEDED else _cause(result.why)
