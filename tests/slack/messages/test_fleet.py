"""The one message of a fleet: what it counts and names, whatever happens, within what Slack accepts."""

from datetime import timedelta

import pytest

from bot.cloudflare.minting_errors import MintingRightMissing
from bot.model.errors import BotError, NotAllowed, leaves
from bot.model.fleet import MOST_BUCKETS, SUPERSEDED, Alarm, Count, Fleet, FleetState, Outcome, Result
from bot.model.fleet_plan import FleetPlan, LeftOut, Wanted
from bot.model.fleet_sums import Sums
from bot.slack.blocks import Json
from bot.slack.messages.fleet_count import MOST_NAMES, STOP, fleet_message, name_some
from bot.slack.messages.fleet_dry_run import dry_run_message
from tests.make import ACCOUNT, NOW

ADA, GRACE = "U0ADA0001", "U0GRACE01"
LONGEST = tuple(f"{number:04d}{'b' * 59}" for number in range(MOST_BUCKETS))


def make_fleet(**fields: object) -> Fleet:
    """Return a fleet of five that runs."""
    known: dict[str, object] = {
        "id": "f123456789",
        "account_id": ACCOUNT,
        "team_id": "T1",
        "user_id": ADA,
        "channel_id": "C1",
        "asked": "team-*",
        "state": FleetState.RUNNING,
        "buckets": ("team-a", "team-b", "team-c", "team-d", "team-e"),
        "proposed_at": NOW,
    }
    return Fleet(**known | fields)  # type: ignore[arg-type]  # its fields


def result(bucket: str, outcome: Outcome = Outcome.DONE, why: str = "") -> Result:
    """Return how one ended."""
    return Result(bucket=bucket, outcome=outcome, why=why, ended_at=NOW)


def shown(message: Json) -> str:
    """Return all that a person reads."""
    texts = [block["text"]["text"] for block in message["blocks"] if block["type"] == "section"]
    small = [block["elements"][0]["text"] for block in message["blocks"] if block["type"] == "context"]
    return "\n".join([*texts, *small])


def has_stop(message: Json) -> bool:
    """Return whether it can be stopped by it."""
    rows = [block["elements"] for block in message["blocks"] if block["type"] == "actions"]
    return [each["action_id"] for row in rows for each in row] == [STOP]


def test_it_counts() -> None:
    """With who began it and what was typed; its button asks once more."""
    ended = (result("team-a"), result("team-b", Outcome.FAILED, SUPERSEDED))
    message = fleet_message(Count(fleet=make_fleet(), ended=ended, open=1))
    assert message["text"] == "Rotating 5 buckets. 1 done, 1 failed, 1 under way, 2 waiting."
    assert "`team-b`: somebody stored a newer token meanwhile" in shown(message)
    assert f"`team-*` \u00b7 begun by <@{ADA}> \u00b7 fleet.f123456789" in shown(message)
    assert has_stop(message)
    assert message["blocks"][-1]["elements"][0]["confirm"]


def test_no_asterisk_of_what_was_asked_stands_in_bold_text() -> None:
    """It would end it: all buckets are called so, and a pattern stands behind the bold words."""
    for asked, words in (("*", "all buckets"), ("team-*", "`team-*`")):
        fleet = make_fleet(asked=asked)
        plan = FleetPlan(wanted=Wanted.read(asked), own=["team-a"])
        sums = Sums(buckets=1, first=0, tokens=1, quota=500, grace=timedelta(hours=1))
        assert f"\n{words} \u00b7 begun by" in shown(fleet_message(Count(fleet=fleet)))
        assert shown(dry_run_message(plan, fleet, sums, sums)).startswith(f"*Rotate credentials*: {words}\n")


def test_it_says_that_it_waits_for_room() -> None:
    """An hour without a change would look like a fault."""
    words = "the next ones begin when earlier tokens are revoked"
    assert words in fleet_message(Count(fleet=make_fleet(), waits_for_room=True))["text"]


@pytest.mark.parametrize(
    ("fleet", "done", "mark", "words"),
    [
        (make_fleet(), 5, ":white_check_mark:", "5 of 5 buckets rotated."),
        (make_fleet(), 4, ":warning:", "4 of 5 buckets rotated."),
        (
            make_fleet(state=FleetState.STOPPING, stopped_by=GRACE),
            2,
            ":octagonal_sign:",
            f"Stopped by <@{GRACE}>. To rotate the rest, type the same again",
        ),
        (
            make_fleet(state=FleetState.STOPPING, alarm=Alarm.NOT_WORKING, alarm_bucket="team-c"),
            2,
            ":rotating_light:",
            "`team-c`: Cloudflare says that the credential in its slot does not work.",
        ),
        (
            make_fleet(state=FleetState.STOPPING, alarm=MintingRightMissing.code),
            0,
            ":rotating_light:",
            "The operator can solve it: CLOUDFLARE_MINTING_TOKEN: give it the permission",
        ),
    ],
)
def test_the_end_is_told(fleet: Fleet, done: int, mark: str, words: str) -> None:
    """In the same message, without a button."""
    ended = tuple(result(bucket) for bucket in fleet.buckets[:done])
    failed = (result(fleet.buckets[-1], Outcome.FAILED, NotAllowed.code),) if done == 4 else ()
    message = fleet_message(Count(fleet=fleet, ended=(*ended, *failed), is_over=True))
    assert mark in shown(message)
    assert words in shown(message)
    assert not has_stop(message)


@pytest.mark.parametrize("alarm", [*Alarm, *(leaf.code for leaf in leaves(BotError))])
def test_each_alarm_says_what_to_do(alarm: str) -> None:
    """Whatever error it was; and what is left can be rotated later."""
    fleet = make_fleet(state=FleetState.STOPPING, alarm=str(alarm), alarm_bucket="team-a")
    text = shown(fleet_message(Count(fleet=fleet, is_over=True)))
    assert "*It stopped by itself.* `team-a`: " in text
    assert "What to do: " in text
    assert "type the same again" in text


def test_of_many_names_some_are_shown() -> None:
    """A list of 1,000 would be no message that Slack takes."""
    assert name_some(LONGEST[:2]) == f"`{LONGEST[0]}`, `{LONGEST[1]}`"
    assert name_some(LONGEST).endswith(f" and {MOST_BUCKETS - MOST_NAMES} more")
    longest_cause = max(leaves(BotError), key=lambda leaf: len(leaf.user_message)).code
    ended = tuple(result(bucket, Outcome.FAILED, longest_cause) for bucket in LONGEST)
    fleet = make_fleet(buckets=LONGEST, asked="x" * 300, state=FleetState.STOPPING, alarm=longest_cause)
    message = fleet_message(Count(fleet=fleet, ended=ended, is_over=True))
    assert f"and {MOST_BUCKETS - MOST_NAMES} more" in shown(message)


def test_the_longest_sums_are_a_message() -> None:
    """With every reason to leave something out."""
    plan = FleetPlan(wanted=Wanted.read(" ".join(LONGEST[:5])), own=[*LONGEST], others=[*LONGEST], free_at=NOW)
    for why in LeftOut:
        for bucket in LONGEST:
            plan.leave_out(bucket, why)
    sums = Sums(buckets=MOST_BUCKETS, first=3, tokens=100, quota=500, grace=timedelta(hours=36))
    message = dry_run_message(plan, make_fleet(state=FleetState.PROPOSED), sums, sums)
    assert "36 h later" in shown(message)
    assert shown(message).count(" more\n") + shown(message).count(" more") > len(LeftOut)


def test_where_nothing_matches_there_is_no_button() -> None:
    """Nor where all that matches is left out."""
    nothing = Sums(buckets=0, first=0, tokens=1, quota=500, grace=timedelta(hours=1))
    plan = FleetPlan(wanted=Wanted.read("team-*"))
    message = dry_run_message(plan, make_fleet(), nothing, nothing)
    assert message["text"] == "No catalog matches. Nothing has been changed yet."
    plan.leave_out("team-a", LeftOut.SWITCHED_OFF)
    message = dry_run_message(plan, make_fleet(), nothing, nothing)
    assert "1 bucket matched, and none can be rotated now." in message["text"]
    assert not [block for block in message["blocks"] if block["type"] == "actions"]
