"""What holds for every story: no token after the command, a possible bucket, a reference for each fault."""

import io
import json

import pytest

from bot.model.errors import AccessRefused
from bot.policy.rules import Person, Rule, Who
from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from bot.slack.messages.approval import APPROVE
from bot.slack.stories.no_catalog import OPEN_ANYWAY
from bot.slack.subcommands import COMMAND
from tests.desk import (
    ADA,
    BUCKET,
    TOKEN_TEXT,
    Desk,
    shown_in,
)
from tests.make import BAD_BUCKETS


class Broken(Who):
    """Has a fault of our own."""

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def refuse(self, person: Person | None) -> AccessRefused | None:
        """Raise an error whose text no one may read."""
        message = "MARKER"
        raise RuntimeError(message)


TOKENS_TYPED = {
    "bare": TOKEN_TEXT,
    "after a bucket": f"{BUCKET} {TOKEN_TEXT}",
    "of a user": make_token(Behaviour.GOOD, 992, TokenKind.USER),
    "part of one": TOKEN_TEXT[:20],
    "a Global API key": "5a4db0c0" * 5,
}


@pytest.mark.parametrize("text", TOKENS_TYPED.values(), ids=TOKENS_TYPED)
async def test_a_token_after_the_command_is_refused(desk: Desk, log: io.StringIO, text: str) -> None:
    """The advice is to revoke it, no form opens, and the log says that it happened, not what was typed."""
    answer = await desk.command(text)

    assert "Revoke it in Cloudflare" in answer
    assert desk.slack.modal(ADA) is None
    assert "token_typed_in_command" in log.getvalue()
    assert "MADEUP" not in log.getvalue() + answer


@pytest.mark.parametrize("bucket", BAD_BUCKETS.values(), ids=BAD_BUCKETS)
async def test_a_bad_bucket_name_after_the_command_is_explained(desk: Desk, bucket: str) -> None:
    """The answer has the rule, no form opens, and markup in the name mentions no one."""
    answer = await desk.command(bucket)

    assert "A bucket name has 3 to 63 characters" in answer
    assert "<!" not in answer
    assert desk.slack.modal(ADA) is None


async def test_typed_text_is_quoted_as_typed(desk: Desk) -> None:
    """Slack has already escaped a command's text."""
    assert "`a&amp;b`" in await desk.command("a&b")


async def test_a_fault_at_submission_keeps_the_form_and_gives_a_reference(desk: Desk, log: io.StringIO) -> None:
    """The person can give the operator a reference that is in the log; the log has only the error's type."""
    await desk.open_form()
    desk.serve(Rule(name="broken", who=Broken()))

    answer = await desk.deliver(desk.slack.make_submission(ADA))

    [line] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "listener_broke"]
    assert line["reference"].startswith("V")  # the submission's, as everywhere
    assert f"reference {line['reference']}" in answer["errors"]["token"]
    assert "MARKER" not in shown_in(answer) + log.getvalue()
    assert set(line) == {"timestamp", "level", "event", "error", "reference", "logger"}


async def test_a_fault_at_the_command_gives_a_reference(desk: Desk, log: io.StringIO) -> None:
    """A fault is always answered."""
    desk.serve(Rule(name="broken", who=Broken()))

    answer = await desk.command()

    [line] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "listener_broke"]
    assert f"reference {line['reference']}" in answer
    assert "MARKER" not in answer + log.getvalue()


MISSHAPEN: dict[str, JsonObject] = {
    "a button without its action": {"type": "block_actions", "actions": [{"value": "x"}]},
    "no button": {"type": "block_actions", "actions": [None]},
    "two kinds in one": {"type": "block_suggestion", "command": COMMAND},
}


@pytest.mark.parametrize("payload", MISSHAPEN.values(), ids=MISSHAPEN)
async def test_a_payload_of_no_known_shape_is_no_fault_of_a_story(
    desk: Desk, log: io.StringIO, payload: JsonObject
) -> None:
    """Bolt trusts the shape, down to any KeyError; the log says that it was the payload, with a reference."""
    await desk.slack.deliver("interactive", payload)

    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert "slack_payload_broke" in events
    assert "listener_broke" not in events


@pytest.mark.parametrize("action_id", [APPROVE, OPEN_ANYWAY])
async def test_a_button_in_a_place_where_it_never_stands_does_nothing(
    desk: Desk, log: io.StringIO, action_id: str
) -> None:
    """Approve stands in messages and the notice's button in views: a modified client may say something else."""
    view = {"view": {"type": "modal", "id": "V0MADEUP1"}} if action_id == APPROVE else {}
    user = {"id": ADA, "team_id": desk.slack.config.team_id}
    payload = {"type": "block_actions", "user": user, "actions": [{"action_id": action_id, "value": "x"}], **view}
    answer = await desk.slack.deliver("interactive", payload)
    assert answer.failure is None
    assert "broke" not in log.getvalue()


async def test_a_fault_at_the_options_offers_nothing(desk: Desk) -> None:
    """The type-ahead cannot show a sentence."""
    await desk.command()
    desk.serve(Rule(name="broken", who=Broken()))

    found = await desk.slack.search_options(ADA, "bucket", "")

    assert found.options == ()


@pytest.mark.parametrize("text", ["status My_Bucket", "history ab", "store my bucket"])
async def test_a_bad_bucket_name_after_any_subcommand_is_explained(desk: Desk, text: str) -> None:
    """Whichever story would have handled it."""
    assert "A bucket name has 3 to 63 characters" in await desk.command(text)
