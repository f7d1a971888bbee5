"""Rendered messages: valid blocks within Slack's limits, foreign text escaped, four characters of a token at most."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from bot.cloudflare.diagnosis import LONGEST_MESSAGE, Answer, read_result
from bot.cloudflare.echo import Echo
from bot.cloudflare.errors import CatalogInactive, CatalogNotEnabled, CatalogRefusal, CloudflareError, NoSuchBucket
from bot.cloudflare.minting_errors import CatalogSwitchedOff
from bot.model.catalog import BucketKey, CredentialStatus, StoredCredential
from bot.model.errors import (
    AccessRefused,
    BotError,
    BucketNotInChannel,
    DatabaseRestored,
    DatabaseUnavailable,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    OtherWorkspace,
    Outsider,
    OwnRequest,
    PersonUnknown,
    SlackUnavailable,
    TokenLivesTooLong,
    WhoActs,
    error_of_code,
    leaves,
)
from bot.model.submission import ENDINGS, FOR_THE_SLOT, Check, Findings, State, Submission, Task, TokenFacts, TokenKind
from bot.sandbox.block_rules import message_problems, view_problems
from bot.sandbox.blocks import texts_of
from bot.sandbox.tokens import Behaviour, make_token
from bot.slack.button_values import bucket_value
from bot.slack.messages import render
from bot.slack.messages.explanation import find_cause, list_fixes, list_unchecked, list_warnings
from bot.slack.messages.outcome import OUTCOMES
from bot.slack.messages.redacted import RedactedProgress, RedactedResult
from bot.slack.progress_steps import steps_of
from tests.make import FINDINGS, NOW, TOKEN
from tests.slack.messages.test_outcome import (
    ENDED,
    ENDED_BY,
    ROTATED,
    STORED,
    ended,
    find_faults,
    result_of,
    without_times,
)

DAY = timedelta(days=1)
LONGEST_NAME = "a" * 63
CREDENTIAL = StoredCredential(
    key=BucketKey(account_id="0f" * 16, bucket="lake"),
    submission_id="V0MADEUP",
    stored_by="U0ADA0001",
    stored_at=NOW - 60 * DAY,
    channel_id="C0DATAPLT",
    token_id="5a4d0001",
    expires_at=NOW,
    reminded_at=None,
    broken_at=None,
)


def _read(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(texts_of(blocks))


def without_links(text: str) -> str:
    """Replace our own links to Cloudflare's dashboard by their words."""
    return re.sub(r"<https://dash\.cloudflare\.com/\?to=/:account/r2/[a-z-]+\|([^<>|]+)>", r"\1", text)


def _failed(error: type[BotError], **changes: Any) -> RedactedResult:  # noqa: ANN401 - fields of a submission
    return RedactedResult.of(ended(Task.STORE, State.FAILED, error.code, **changes))


def _buttons(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [element for block in message["blocks"] if block["type"] == "actions" for element in block["elements"]]


def _small_print(result: RedactedResult) -> str:
    [first, *_] = [block for block in render.result_message(result, contact="")["blocks"] if block["type"] == "context"]
    return _read([first])


CONTACTS = ["", "S0PLATFORM", "the & team " * 20]


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_each_ending_is_rendered_in_whole_sentences_and_valid_blocks(submission: Submission) -> None:
    """In the channel and in the modal; the text, which is all that a screen reader reads, is complete."""
    result = RedactedResult.of(submission)
    for contact, may_enable in product(CONTACTS, (False, True)):
        message = render.result_message(result, contact=contact, may_enable=may_enable, placement="Posted by a test.")
        view = render.result_view(result, contact=contact)
        assert message_problems(message["blocks"]) == []
        assert view_problems(view) == []
        assert set(message) == {"text", "blocks"}
        assert find_faults(message["text"].replace("&amp; team ", "and team")) == []
        assert message["text"].startswith(result.headline)
        assert message["text"].endswith("Posted by a test.")
        for said in (find_cause(result), *list_warnings(result), *list_unchecked(result)):
            assert said in message["text"]
            assert said in _read(message["blocks"])
            assert said in _read(view["blocks"])
        for fix in () if may_enable else list_fixes(result):
            assert fix in message["text"]
            assert fix in without_links(_read(message["blocks"]))
            assert fix in without_links(_read(view["blocks"]))


def _longest(submission: Submission) -> Submission:
    """Return the same ending with every field at its longest, in characters that grow when escaped."""
    token = TokenFacts(id="&" * 64, owner=TokenKind.USER, expires_at=NOW + 9 * DAY)
    findings = Findings(token=token, unchecked=frozenset(Check), credential=CredentialStatus.VALID)
    return replace(
        submission,
        id="V" + "0" * 254,
        key=BucketKey(account_id="made-up", bucket=LONGEST_NAME),
        user_id="U" * 15,
        reason="&" * 300,
        last_four="&" * 4,
        findings=findings if submission.findings else None,
        cloudflare_code=999_999_999,
        cloudflare_message="&" * LONGEST_MESSAGE,
        cf_ray="r" * 31,
        superseded_by="U" * 15 if submission.superseded_by else None,
        ended_at=NOW + timedelta(minutes=59),
    )


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_the_longest_input_fits_into_slacks_limits(submission: Submission) -> None:
    """Escaping makes a text up to five times longer."""
    result = RedactedResult.of(_longest(submission))
    message = render.result_message(result, contact="&" * 200, may_enable=True, placement="&" * 300)
    assert message_problems(message["blocks"]) == []
    assert view_problems(render.result_view(result, contact="&" * 200)) == []
    assert len(message["text"]) < 4000


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_unchanged_is_said_exactly_where_it_is_true(submission: Submission) -> None:
    """A result after which the slot may hold the token never says that nothing changed."""
    result = RedactedResult.of(submission)
    message = render.result_message(result, contact="")
    is_of_the_slot = submission.task is not Task.ENABLE
    is_unchanged = is_of_the_slot and submission.state not in {State.STORED, State.UNCERTAIN, State.SUPERSEDED}
    if submission.task in FOR_THE_SLOT and submission.error_code == DatabaseRestored.code:
        is_unchanged = False  # the backup does not know what was done since
    assert ("nothing was changed" in message["text"]) is is_unchanged
    if is_of_the_slot:
        assert ("nothing changed" in _read(message["blocks"])) is is_unchanged
    if result.outcome is OUTCOMES[result.task].get(State.UNCERTAIN):
        assert not re.search(r"nothing was|not sent|unchanged|nothing changed", _read(message["blocks"]))


@pytest.mark.parametrize("submission", ENDED)
def test_the_person_who_has_to_act_is_named(submission: Submission) -> None:
    """If it is the operator, the message says whom to ask; otherwise no one is sent away."""
    text = render.result_message(RedactedResult.of(submission), contact="S0PLATFORM")["text"]
    error = error_of_code(submission.error_code) if submission.error_code else None
    asks = error is not None and error.who_acts is WhoActs.OPERATOR
    assert ("Please ask <!subteam^S0PLATFORM>." in text) is asks


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_nothing_is_shown_of_the_token_but_its_kind_id_and_last_four(submission: Submission) -> None:
    """The sealed token, the response URL and the account are not shown either."""
    result = RedactedResult.of(submission)
    shown = json.dumps([render.result_message(result, contact=""), render.result_view(result, contact="")])
    assert ("ending in `Zq9x`" in shown) is (submission.task in {Task.STORE, Task.CHECK})
    for hidden in ("sealed.v1", "MADEUP" + "TOKEN", "MADEUP" + "URL", "0000000000facade", "madeupaccount", "T0SANDBOX"):
        assert hidden not in shown
        assert hidden not in repr(result)


@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_foreign_text_is_escaped_everywhere(submission: Submission) -> None:
    """Text that a person typed or Cloudflare sent cannot notify a channel or pose as a link."""
    foreign = "<!channel> & <https://example.com|x>"
    hostile = replace(
        submission,
        id=foreign,
        key=BucketKey(account_id="made-up", bucket=foreign),
        reason=foreign,
        last_four="<&>`",
        cloudflare_message=foreign,
        cf_ray=foreign,
        findings=replace(FINDINGS, token=replace(TOKEN, id=foreign)) if submission.findings else None,
    )
    result = RedactedResult.of(hostile)
    message = render.result_message(result, contact=foreign, may_enable=True)
    view = render.result_view(result, contact=foreign)
    shown = (message["text"], _read(message["blocks"]), _read(view["blocks"]))
    for text in map(without_links, map(without_times, shown)):
        assert "<!" not in text
        assert "<http" not in text
        assert not re.search(r"&(?!amp;|lt;|gt;)", text)
        assert re.findall(r"<[^@]", text) == []
    assert message_problems(message["blocks"]) == []


def test_a_mention_of_everyone_in_a_reason_stays_text() -> None:
    """Escaping does not affect `@here`: Slack makes no mention of it in a verbatim text."""
    blocks = render.result_message(
        _failed(error_of_code("caller_rejected"), reason="@here", cloudflare_message="@here"), contact=""
    )["blocks"]
    foreign = [part for part in _parts(blocks) if "@here" in part["text"]]
    assert len(foreign) == 2
    assert all(part["verbatim"] for part in foreign)


def _parts(part: object) -> Iterator[dict[str, Any]]:
    """Yield every text object."""
    if isinstance(part, list):
        for item in part:
            yield from _parts(item)
    elif isinstance(part, dict):
        if part.get("type") in {"plain_text", "mrkdwn"}:
            yield part
        for item in part.values():
            yield from _parts(item)


TITLES: dict[tuple[Task, State], tuple[str, str]] = {
    (Task.STORE, State.STORED): (":white_check_mark: *Credential stored*", "Credential stored"),
    (Task.STORE, State.REFUSED): (":no_entry: *Token refused, nothing changed*", "Token refused"),
    (Task.STORE, State.DENIED): (":no_entry: *Not allowed, nothing changed*", "Not allowed"),
    (Task.STORE, State.FAILED): (":x: *Not stored, nothing changed*", "Not stored"),
    (Task.STORE, State.EXPIRED): (":hourglass: *Too late, nothing changed*", "Too late"),
    (Task.STORE, State.UNCERTAIN): (":warning: *Not known whether it was stored*", "Not known if stored"),
    (Task.STORE, State.SUPERSEDED): (
        ":arrows_counterclockwise: *Token replaced by a newer submission*",
        "Replaced by a newer one",
    ),
    (Task.ROTATE, State.STORED): (":white_check_mark: *Credential rotated*", "Credential rotated"),
    (Task.ROTATE, State.REFUSED): (":no_entry: *Not rotated, nothing changed*", "Not rotated"),
    (Task.ROTATE, State.DENIED): (":no_entry: *Not allowed, nothing changed*", "Not allowed"),
    (Task.ROTATE, State.FAILED): (":x: *Not rotated, nothing changed*", "Not rotated"),
    (Task.ROTATE, State.EXPIRED): (":hourglass: *Too late, nothing changed*", "Too late"),
    (Task.ROTATE, State.UNCERTAIN): (":warning: *Not known whether it was rotated*", "Not known if rotated"),
    (Task.ROTATE, State.SUPERSEDED): (
        ":arrows_counterclockwise: *Rotation replaced by a newer submission*",
        "Replaced by a newer one",
    ),
    (Task.CHECK, State.CHECKED): (
        ":mag: *Passed every check before the write, nothing changed*",
        "Checked, not stored",
    ),
    (Task.CHECK, State.REFUSED): (":no_entry: *Check not passed, nothing changed*", "Check not passed"),
    (Task.CHECK, State.DENIED): (":no_entry: *Not allowed, nothing changed*", "Not allowed"),
    (Task.CHECK, State.FAILED): (":x: *Not checked, nothing changed*", "Not checked"),
    (Task.CHECK, State.EXPIRED): (":hourglass: *Too late, nothing changed*", "Too late"),
    (Task.ENABLE, State.ENABLED): (":white_check_mark: *Catalog enabled*", "Catalog enabled"),
    (Task.ENABLE, State.REFUSED): (":x: *Catalog not enabled*", "Not enabled"),
    (Task.ENABLE, State.DENIED): (":no_entry: *Not allowed, nothing changed*", "Not allowed"),
    (Task.ENABLE, State.FAILED): (":x: *Catalog not enabled*", "Not enabled"),
    (Task.ENABLE, State.EXPIRED): (":hourglass: *Too late, nothing changed*", "Too late"),
}


@pytest.mark.parametrize(("task", "state"), TITLES, ids=[f"{task}-{state}" for task, state in TITLES])
def test_each_ending_of_each_task_has_its_title(task: Task, state: State) -> None:
    """In the channel and above the modal."""
    code = {State.FAILED: "caller_rejected", State.REFUSED: "token_expired"}.get(state, ENDED_BY[task][state][0])
    result = RedactedResult.of(ended(task, state, code))
    title, view_title = TITLES[task, state]
    assert _read(render.result_message(result, contact="")["blocks"]).startswith(f"{title}\n")
    assert render.result_view(result, contact="")["title"]["text"] == view_title


def test_each_ending_has_a_title() -> None:
    """The table above has all endings."""
    assert set(TITLES) == {(task, state) for task, states in ENDED_BY.items() for state in states}


@pytest.mark.parametrize("error", [CatalogNotEnabled, CatalogInactive, NoSuchBucket])
def test_a_token_without_a_place_is_not_called_refused(error: type[BotError]) -> None:
    """The token was not judged: the bucket accepts none."""
    result = RedactedResult.of(ended(Task.STORE, State.REFUSED, error.code))
    assert _read(render.result_message(result, contact="")["blocks"]).startswith(
        ":no_entry: *No usable catalog, nothing changed*"
    )
    assert render.result_view(result, contact="")["title"]["text"] == "No usable catalog"
    assert set(leaves(CatalogRefusal)) == {CatalogNotEnabled, CatalogInactive, NoSuchBucket}


def test_an_enabling_without_an_answer_is_not_called_failed() -> None:
    """It may have taken effect."""
    result = RedactedResult.of(ended(Task.ENABLE, State.FAILED, "cloudflare_unreachable"))
    assert _read(render.result_message(result, contact="")["blocks"]).startswith(
        ":warning: *Not known whether it was enabled*"
    )
    assert render.result_view(result, contact="")["title"]["text"] == "Not known if enabled"


@pytest.mark.parametrize(
    ("status", "words", "asks"),
    [
        pytest.param(CredentialStatus.INVALID, "says that the stored credential does not work", False, id="invalid"),
        pytest.param(CredentialStatus.ABSENT, "still says that the slot is empty", True, id="absent"),
    ],
)
def test_a_success_that_does_not_work_is_an_alarm(status: CredentialStatus, words: str, *, asks: bool) -> None:
    """The title is not that of a plain success; Cloudflare's Ray ID is shown, and a button to try again."""
    message = render.result_message(result_of(confirmation=status), contact="S0PLATFORM")
    shown = _read(message["blocks"])
    assert shown.startswith(":rotating_light: *Credential stored, but check it*")
    assert words in message["text"]
    assert "Ray ID madeupray-BOX" in shown
    assert [button["action_id"] for button in _buttons(message)] == [render.TRY_AGAIN]
    assert ("Please ask <!subteam^S0PLATFORM>." in message["text"]) is asks


@pytest.mark.parametrize("may_enable", [False, True], ids=["may not enable", "may enable"])
@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_the_buttons_are_those_that_can_help(submission: Submission, *, may_enable: bool) -> None:
    """Try again after anything but a success; enable if a catalog is missing or inactive, and only if allowed.

    A rotation can also be replaced by pasting a token.

    Each carries the submission's id and nothing else.
    """
    result = RedactedResult.of(submission)
    is_missing = result.error in {CatalogNotEnabled, CatalogInactive, CatalogSwitchedOff}
    buttons = _buttons(render.result_message(result, contact="", may_enable=may_enable))
    expected: list[tuple[str, str]] = []
    if submission.state in {State.CHECKED, State.ENABLED}:
        expected = [("Store a credential", render.TRY_AGAIN)]
    elif submission.state is State.SUPERSEDED or (submission.state is State.STORED and not result.is_alarm):
        pass
    elif submission.task is Task.ENABLE:
        expected = [("Enable the catalog", render.ENABLE)] if may_enable else []
    else:
        enable = [("Enable the catalog", render.ENABLE)] if may_enable and is_missing else []
        rotate = [("Rotate again", render.ROTATE), ("Paste a token instead", render.TRY_AGAIN)]
        again = rotate if submission.task is Task.ROTATE else [("Try again", render.TRY_AGAIN)]
        expected = [*again, *enable]
    assert [(button["text"]["text"], button["action_id"]) for button in buttons] == expected
    assert {button["value"] for button in buttons} <= {"V0MADEUP"}


@pytest.mark.parametrize("error", [CatalogNotEnabled, CatalogInactive])
def test_enabling_a_catalog_asks_for_confirmation(error: type[BotError]) -> None:
    """The dialog says what will happen, with both names of the product; the message mentions the button."""
    result = RedactedResult.of(ended(Task.STORE, State.REFUSED, error.code))
    message = render.result_message(result, contact="", may_enable=True)
    [_, enable] = _buttons(message)
    assert enable["confirm"] == {
        "title": {"type": "plain_text", "text": "Enable the catalog?"},
        "text": {
            "type": "mrkdwn",
            "text": "This enables R2 Data Catalog (Basin Catalog) on the bucket `lake`. The data in it stays as it is. "
            "The token has to be pasted again afterwards.",
        },
        "confirm": {"type": "plain_text", "text": "Enable"},
        "deny": {"type": "plain_text", "text": "Cancel"},
    }
    assert 'What to do: Press "Enable the catalog" below. Submit the token again.' in message["text"]
    without = render.result_message(result, contact="", may_enable=False)
    assert "Enable the catalog" not in without["text"] + _read(without["blocks"])


def test_a_catalog_that_was_switched_off_during_a_rotation_can_be_enabled() -> None:
    """By the same button; what follows is a rotation, since there is no token to paste."""
    result = RedactedResult.of(ended(Task.ROTATE, State.REFUSED, CatalogSwitchedOff.code))
    message = render.result_message(result, contact="", may_enable=True)
    [*_, enable] = _buttons(message)
    assert enable["confirm"]["text"]["text"].endswith("The data in it stays as it is. Then rotate it again.")
    assert 'What to do: Press "Enable the catalog" below. Rotate again.' in message["text"]


@pytest.mark.parametrize("may_enable", [False, True], ids=["may not enable", "may enable"])
@pytest.mark.parametrize("submission", ENDED + STORED + ROTATED)
def test_the_modal_has_the_buttons_of_the_message(submission: Submission, *, may_enable: bool) -> None:
    """A person who has it open need not find the message in the channel."""
    result = RedactedResult.of(submission)
    view = render.result_view(result, contact="", may_enable=may_enable)
    assert _buttons(view) == _buttons(render.result_message(result, contact="", may_enable=may_enable))
    assert ("below" in _read(view["blocks"])) is (
        may_enable and submission.error_code in _TO_BE_ENABLED and submission.task is not Task.ENABLE
    )


_TO_BE_ENABLED = {CatalogNotEnabled.code, CatalogInactive.code}


CHECKS = {
    "all": (frozenset(), [True, True, True]),
    "not the token": (frozenset({Check.TOKEN}), [True, False, True]),
    "not its reach": (frozenset({Check.REACH}), [True, True, False]),
}


@pytest.mark.parametrize(("unchecked", "ticked"), CHECKS.values(), ids=CHECKS)
def test_a_dry_run_ticks_what_was_checked(unchecked: frozenset[Check], ticked: list[bool]) -> None:
    """And shows what is in the slot, which a real submission would replace."""
    findings = replace(FINDINGS, unchecked=unchecked, credential=CredentialStatus.VALID)
    result = RedactedResult.of(ended(Task.CHECK, State.CHECKED, None, findings=findings))
    shown = _read(render.result_message(result, contact="")["blocks"])
    lines = [
        "The catalog is there, and active.",
        "Cloudflare knows the token, and it is active.",
        "The token reaches this catalog.",
    ]
    assert [f":white_check_mark: {line}" in shown for line in lines] == ticked
    assert "*Credential now*\nworks" in shown


def test_remarks_stand_out() -> None:
    """Each problem that does not stop a token is a separate block with a sign."""
    token = TokenFacts(id="5a4d0001", owner=TokenKind.USER, expires_at=None)
    result = result_of(
        findings=Findings(token=token, unchecked=frozenset({Check.REACH}), credential=CredentialStatus.PRESENT)
    )
    [remarks] = [
        block["text"]["text"]
        for block in render.result_message(result, contact="")["blocks"]
        if block["type"] == "section" and ":warning:" in json.dumps(block)
    ]
    assert [line.split(":warning: ")[1][:16] for line in remarks.splitlines()] == [
        "Not checked: whe",
        "This token never",
        "This token belon",
    ]


@pytest.mark.parametrize(
    ("confirmation", "before", "expected"),
    [
        pytest.param(CredentialStatus.VALID, CredentialStatus.VALID, "works \u2192 works", id="replaced"),
        pytest.param(CredentialStatus.VALID, CredentialStatus.INVALID, "does not work \u2192 works", id="fixed"),
        pytest.param(CredentialStatus.PRESENT, CredentialStatus.ABSENT, "none \u2192 present", id="the first one"),
        pytest.param(CredentialStatus.ABSENT, CredentialStatus.UNKNOWN, "not known \u2192 none", id="an alarm"),
        pytest.param(None, CredentialStatus.UNKNOWN, "not known \u2192 not known", id="nothing known"),
    ],
)
def test_the_slot_before_and_after_is_shown(
    confirmation: CredentialStatus | None, before: CredentialStatus, expected: str
) -> None:
    """In a few words, for a success only."""
    findings = replace(FINDINGS, credential=before)
    result = result_of(confirmation=confirmation, findings=findings)
    assert f"*Credential before, and now*\n{expected}" in _read(render.result_message(result, contact="")["blocks"])
    failed = _failed(error_of_code("throttled"), findings=findings)
    assert "Credential before" not in _read(render.result_message(failed, contact="")["blocks"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "error caller_rejected \u00b7 Ray ID madeupray-BOX", id="a Ray ID"),
        pytest.param({"cloudflare_code": 10000}, "Cloudflare code 10000 \u00b7 Ray ID", id="a code"),
        pytest.param({"cloudflare_code": 0}, "Cloudflare code 0", id="the code 0"),
        pytest.param(
            {"cloudflare_code": 10000, "cloudflare_message": "Authentication <error>"},
            "Cloudflare code 10000 \u00b7 Cloudflare's words: Authentication &lt;error&gt; \u00b7 Ray ID madeupray-BOX",
            id="all of it, escaped",
        ),
        pytest.param(
            {"cloudflare_message": "Forbidden https://developers.cloudflare.com/r2/"},
            "words: Forbidden \u00b7 <https://developers.cloudflare.com/r2/|Cloudflare's documentation> \u00b7 Ray",
            id="a page of Cloudflare's documentation",
        ),
        pytest.param(
            {"cloudflare_message": "See https://example.com/r2/"},
            "words: See https://example.com/r2/",
            id="another page",
        ),
        pytest.param({"cf_ray": None}, "error caller_rejected", id="neither"),
    ],
)
def test_a_failure_names_what_support_asks_for(changes: dict[str, Any], expected: str) -> None:
    """The reference of the log, our code, and Cloudflare's code, words and Ray ID if there are any."""
    small_print = _small_print(_failed(error_of_code("caller_rejected"), **changes))
    assert small_print.startswith("Reference V0MADEUP")
    assert expected in small_print
    assert "None" not in small_print


def test_cloudflares_message_is_shown_and_nothing_else_of_its_answer() -> None:
    """Without tokens, escaped and cut; the rest of the body is nowhere."""
    token = make_token(Behaviour.GOOD)
    message = f"Token {token} is <b>not</b> allowed. " + "So it is. " * 40
    document = {
        "success": False,
        "errors": [{"code": 9109, "message": message, "documentation_url": "MARKER-1"}],
        "messages": [{"code": 1, "message": "MARKER-2"}],
        "result": {"token": token, "echo": "MARKER-3"},
    }
    headers = [("cf-ray", "8f00a1b2c3d4e5f6-BOX")]
    answer = Answer.parse(status=403, headers=headers, body=json.dumps(document).encode(), echo=Echo())
    with pytest.raises(CloudflareError) as raised:
        read_result(answer, is_write=True)
    error = raised.value
    result = _failed(
        type(error),
        cloudflare_code=error.cloudflare_code,
        cloudflare_message=error.cloudflare_message,
        cf_ray=error.cf_ray,
    )
    shown = json.dumps([render.result_message(result, contact=""), render.result_view(result, contact="")])
    assert "Token [removed] is &lt;b&gt;not&lt;/b&gt; allowed. So it is." in shown
    assert "Cloudflare code 9109" in shown
    assert "Ray ID 8f00a1b2c3d4e5f6-BOX" in shown
    assert len(result.cloudflare_message) <= LONGEST_MESSAGE == 200
    assert "MARKER" not in shown
    assert token not in shown


@pytest.mark.parametrize(
    ("task", "state"),
    [
        (Task.STORE, State.STORED),
        (Task.STORE, State.SUPERSEDED),
        (Task.CHECK, State.CHECKED),
        (Task.ENABLE, State.ENABLED),
    ],
)
def test_a_success_names_no_error(task: Task, state: State) -> None:
    """No one has to investigate anything."""
    assert _small_print(RedactedResult.of(ended(task, state, None))) == "Reference V0MADEUP \u00b7 took 2.3 s"


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        pytest.param(timedelta(0), "took 0 ms", id="no time"),
        pytest.param(timedelta(milliseconds=420), "took 420 ms", id="a moment"),
        pytest.param(timedelta(seconds=1), "took 1.0 s", id="a second"),
        pytest.param(timedelta(seconds=59.94), "took 59.9 s", id="under a minute"),
        pytest.param(timedelta(seconds=60), "took 1 min 0 s", id="a minute"),
        pytest.param(timedelta(minutes=59, seconds=59.9), "took 59 min 59 s", id="nearly an hour"),
        pytest.param(timedelta(seconds=-5), "took 0 ms", id="a clock that was set back"),
    ],
)
def test_the_duration_is_shown(took: timedelta, expected: str) -> None:
    """In milliseconds, seconds, or minutes and seconds."""
    assert _small_print(result_of(ended_at=NOW + took)).endswith(expected)


TOKENS: dict[str, tuple[TokenFacts | None, TokenKind, list[str]]] = {
    "of the account": (
        TOKEN,
        TokenKind.UNPREFIXED,
        ["*Token*\naccount API token ending in `Zq9x`", f"*Token ID*\n`{TOKEN.id}`", "*Expires*\nthen, in 89 days"],
    ),
    "of a user": (replace(TOKEN, owner=TokenKind.USER), TokenKind.UNKNOWN, ["*Token*\nuser API token ending in"]),
    "never expires": (replace(TOKEN, expires_at=None), TokenKind.ACCOUNT, ["*Expires*\nnever"]),
    "by its format: a user's": (None, TokenKind.USER, ["*Token*\nuser API token ending in"]),
    "by its format: the account's": (None, TokenKind.ACCOUNT, ["*Token*\naccount API token ending in"]),
    "by its format: older": (None, TokenKind.UNPREFIXED, ["*Token*\nAPI token ending in"]),
    "by its format: new": (None, TokenKind.UNKNOWN, ["*Token*\ntoken ending in"]),
}


@pytest.mark.parametrize(("token", "kind", "expected"), TOKENS.values(), ids=TOKENS)
def test_the_token_is_described(token: TokenFacts | None, kind: TokenKind, expected: list[str]) -> None:
    """By Cloudflare's description, or else by its format."""
    result = result_of(token_kind=kind, findings=replace(FINDINGS, token=token))
    shown = without_times(_read(render.result_message(result, contact="")["blocks"]))
    assert [part for part in expected if part not in shown] == []
    assert ("Token ID" in shown) is (token is not None)


def test_a_reason_is_shown_when_there_is_one() -> None:
    """An empty field is left out."""
    assert "*Reason*\nticket 42" in _read(render.result_message(result_of(), contact="")["blocks"])
    assert "*Reason*" not in _read(render.result_message(result_of(reason=""), contact="")["blocks"])


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        pytest.param("U0ADA0001", "<@U0ADA0001>", id="a user"),
        pytest.param("W0ADA0001", "<@W0ADA0001>", id="a user of an organization"),
        pytest.param("S0DATAENG", "<!subteam^S0DATAENG>", id="a user group"),
        pytest.param("C0DATAPLT", "<#C0DATAPLT>", id="a channel"),
        pytest.param("the platform team", "the platform team", id="words"),
        pytest.param("SECURITY", "SECURITY", id="a team in capitals"),
        pytest.param("SRE", "SRE", id="a short team"),
        pytest.param("PLATFORM1", "PLATFORM1", id="a word with a number"),
        pytest.param("u0ada0001", "u0ada0001", id="small letters"),
        pytest.param("ops@example.com", "ops@example.com", id="an address"),
        pytest.param("<!channel>", "&lt;!channel&gt;", id="a mention of everyone"),
        pytest.param("U0ADA0001>", "U0ADA0001&gt;", id="an id with a tail"),
    ],
)
def test_the_contact_is_a_mention_or_text(contact: str, expected: str) -> None:
    """Ids become mentions; everything else is shown as it is."""
    assert render.mention(contact) == expected
    assert f"Please ask {expected}." in render.refusal(NotAllowed(), contact=contact)


_READERS_TURN = {MembershipUnknown, PersonUnknown, EnablingNotAllowed, OtherWorkspace, BucketNotInChannel, OwnRequest}


@pytest.mark.parametrize(
    ("error", "asks"),
    [
        *(
            pytest.param(leaf(), leaf not in _READERS_TURN, id=leaf.code)
            for leaf in sorted(leaves(AccessRefused), key=lambda leaf: leaf.code)
        ),
        pytest.param(SlackUnavailable(), False, id="slack_unavailable"),
        pytest.param(DatabaseUnavailable(), False, id="database_unavailable"),
    ],
)
def test_a_refusal_says_why_and_whom_to_ask(error: BotError, *, asks: bool) -> None:
    """It names a contact if someone can change it, and names no list and no other person."""
    text = render.refusal(error, contact="")
    assert text.startswith(error.user_message)
    assert text.endswith("Please ask the operator of this bot." if asks else error.user_message)


def test_an_outsider_is_refused_in_plain_words() -> None:
    """Friendly, and with the reason."""
    assert "another one" in render.refusal(Outsider(), contact="")


_WAITS, _DONE, _YET = ":hourglass_flowing_sand:", ":white_check_mark:", ":white_circle:"
PROGRESS: dict[str, tuple[Task, State, list[str]]] = {
    "accepted": (Task.STORE, State.ACCEPTED, [_WAITS, _YET, _YET]),
    "verifying": (Task.STORE, State.VERIFYING, [_WAITS, _YET, _YET]),
    "storing": (Task.STORE, State.STORING, [_DONE, _WAITS, _YET]),
    "confirming": (Task.STORE, State.CONFIRMING, [_DONE, _DONE, _WAITS]),
    "to be checked": (Task.CHECK, State.ACCEPTED, [_WAITS]),
    "being checked": (Task.CHECK, State.VERIFYING, [_WAITS]),
    "being enabled": (Task.ENABLE, State.ACCEPTED, [_WAITS]),
}


@pytest.mark.parametrize(("task", "state", "marks"), PROGRESS.values(), ids=PROGRESS)
def test_progress_ticks_one_step_after_another(task: Task, state: State, marks: list[str]) -> None:
    """Each step has a different mark, in a view without any input."""
    progress = RedactedProgress(task=task, bucket="<lake>", state=state, steps=steps_of(task))
    view = render.progress_view(progress)
    assert view_problems(view) == []
    assert re.findall(r":[a-z_]+:", _read([view["blocks"][1]])) == marks
    assert "*&lt;lake&gt;*" in _read(view["blocks"])
    assert all(block["type"] != "input" for block in view["blocks"])
    assert "submit" not in view


@pytest.mark.parametrize("task", Task)
def test_progress_of_the_longest_bucket_fits(task: Task) -> None:
    """In the words of each task, even while it waits."""
    submission = ended(task, State.ACCEPTED, "cloudflare_unavailable", next_attempt_at=NOW + DAY)
    longest = replace(submission, key=BucketKey(account_id="made-up", bucket=LONGEST_NAME))
    view = render.progress_view(RedactedProgress.of(longest, NOW, steps_of(task)))
    assert view_problems(view) == []
    assert ":hourglass: Cloudflare is having problems. The bot tries again by itself at" in _read(view["blocks"])


REMINDERS = {
    "two weeks before": (14 * DAY, "expires soon (then, in 14 days)", "store it before that."),
    "three days before": (3 * DAY, "expires soon (then, in 3 days)", "store it before that."),
    "on the day": (timedelta(0), "has expired (then, in less than a day)", "and store it."),
    "missed by a week": (-7 * DAY, "has expired (then, 7 days ago)", "and store it."),
}


@pytest.mark.parametrize(("left", "when", "fix"), REMINDERS.values(), ids=REMINDERS)
def test_a_reminder_says_which_credential_and_until_when(left: timedelta, when: str, fix: str) -> None:
    """Who stored it, how much time is left, what to do, and a button that opens the form for this bucket."""
    message = render.expiry_reminder(replace(CREDENTIAL, expires_at=NOW + left), NOW)
    assert message_problems(message["blocks"]) == []
    assert without_times(message["text"]) == (
        f"The credential of the catalog of `lake`, which <@U0ADA0001> stored on then, {when}. What to do: Create a "
        f'token with "Admin Read &amp; Write" {"and " if "before" in fix else ""}{fix}'
    )
    assert message["text"] in _read(message["blocks"])
    [button] = _buttons(message)
    assert (button["action_id"], button["value"], button["text"]["text"]) == (
        render.TRY_AGAIN,
        bucket_value(CREDENTIAL.key),
        "Store a new one",
    )


@pytest.mark.parametrize("broken_at", [NOW, None], ids=["known since when", "not known since when"])
def test_the_notice_of_a_broken_credential_says_what_to_do(broken_at: datetime | None) -> None:
    """And that Cloudflare says so."""
    message = render.broken_notice(replace(CREDENTIAL, broken_at=broken_at))
    assert message_problems(message["blocks"]) == []
    assert find_faults(message["text"]) == []
    assert message["text"].startswith("Cloudflare says that the credential of the catalog of `lake` no longer works")
    assert ("(found " in message["text"]) is (broken_at is not None)
    assert "<@U0ADA0001> stored it on" in message["text"]
    assert "What to do: Find out whether that token was disabled, changed or deleted" in message["text"]
    assert message["text"] in _read(message["blocks"])
    [button] = _buttons(message)
    assert (button["action_id"], button["value"]) == (render.TRY_AGAIN, bucket_value(CREDENTIAL.key))


def test_notices_of_a_hostile_or_long_bucket_are_valid() -> None:
    """Foreign markup has no effect, and nothing is too long."""
    for bucket in (LONGEST_NAME, "<!channel>"):
        credential = replace(CREDENTIAL, key=replace(CREDENTIAL.key, bucket=bucket), broken_at=NOW)
        for message in (render.expiry_reminder(credential, NOW), render.broken_notice(credential)):
            assert message_problems(message["blocks"]) == []
            assert "<!channel" not in without_times(message["text"] + _read(message["blocks"]))


def test_a_notice_is_a_valid_view() -> None:
    """It has a title, a text and a way to close it."""
    view = render.notice_view("Nothing was sent", "Made up for a test.")
    assert view_problems(view) == []
    assert _read(view["blocks"]) == "Made up for a test."


def test_all_endings_are_tested_here() -> None:
    """The tables of the sentences are those of the blocks."""
    assert {state for states in ENDED_BY.values() for state in states} == ENDINGS


LIVES: dict[str, tuple[TokenFacts | None, str]] = {
    "forever": (replace(TOKEN, expires_at=None), "This token never expires, and this bot does not allow that."),
    "for too long": (TOKEN, "This token expires later than this bot allows."),
    "nobody knows": (None, "This bot limits how long a token may live, and Cloudflare does not say when this one"),
}


@pytest.mark.parametrize(("token", "cause"), LIVES.values(), ids=LIVES)
def test_which_limit_a_token_is_over_is_said(token: TokenFacts | None, cause: str) -> None:
    """One of three reasons, not all of them; what to do is a line of its own."""
    message = render.result_message(_failed(TokenLivesTooLong, findings=replace(FINDINGS, token=token)), contact="")
    text = _read(message["blocks"])
    assert cause in text
    assert "\u2022 Create one that expires within the time that the form names." in text


APPROVALS: dict[str, tuple[Task, State, str | None, list[str], str]] = {
    "a token that waits": (
        Task.STORE,
        State.AWAITING_APPROVAL,
        None,
        [_DONE, _WAITS, _YET, _YET],
        "Waiting for approval",
    ),
    "checked once more": (Task.STORE, State.VERIFYING, "U2", [_DONE, _DONE, _WAITS, _YET], ""),
    "a catalog that waits": (Task.ENABLE, State.AWAITING_APPROVAL, None, [_WAITS, _YET], "Waiting"),
    "an approved catalog": (Task.ENABLE, State.AWAITING_APPROVAL, "U2", [_DONE, _WAITS], ""),
}


@pytest.mark.parametrize(("task", "state", "by", "marks", "words"), APPROVALS.values(), ids=APPROVALS)
def test_progress_shows_an_approval_where_one_is_needed(
    task: Task, state: State, by: str | None, marks: list[str], words: str
) -> None:
    """Who can give it, and until when; without such a rule, no line speaks of it."""
    waiting = replace(
        ended(task, state, None), ended_at=None, approval_channel="C0APPROVE", decided_by=by, expires_at=NOW + DAY
    )
    view = render.progress_view(RedactedProgress.of(waiting, NOW, steps_of(task)))
    shown = _read(view["blocks"])
    assert view_problems(view) == []
    assert re.findall(r":[a-z_]+:", _read([view["blocks"][1]])) == marks
    assert ("an approver in <#C0APPROVE> can decide until" in shown) is bool(words)
    assert (view["title"]["text"] == "Waiting for approval") is bool(words)


def test_a_result_names_who_approved_or_denied_it() -> None:
    """As a fact, and in the text for a screen reader."""
    for ending, error, words in ((State.STORED, None, "Approved by"), (State.DENIED, "approval_denied", "Denied by")):
        result = RedactedResult.of(replace(ended(Task.STORE, ending, error), decided_by="U0GRACE01"))
        message = render.result_message(result, contact="")
        assert f"*{words}*\n<@U0GRACE01>" in _read(message["blocks"])
        assert f"{words} <@U0GRACE01>." in message["text"]
