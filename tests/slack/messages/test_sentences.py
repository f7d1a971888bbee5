"""Every sentence for a person is short, in plain words, and links to pages without showing their address."""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType

import pytest

from bot.cloudflare import errors as cloudflare_errors
from bot.cloudflare import minting_errors
from bot.cloudflare.errors import CloudflareError
from bot.model import errors as model_errors
from bot.model.errors import BotError, Transient, WhoActs, leaves
from bot.model.submission import State, Submission
from bot.slack.messages import explanation, history, outcome, posting, progress, redacted, render
from bot.slack.messages.explanation import (
    EARLIER_REQUEST,
    NO_CLEAR_ANSWER,
    find_cause,
    list_fixes,
    list_unchecked,
    list_warnings,
)
from bot.slack.messages.outcome import OUTCOMES, TASK_WORDS
from bot.slack.messages.redacted import RedactedResult
from tests.make import NOW
from tests.slack.messages.test_outcome import ENDED, ROTATED, STORED, without_times

MOST_WORDS = 35
"""For the cause and the fix together."""

_URL = re.compile(r"https?:|www\.|\b[a-z]+\.(?:com|dev)\b/")
_TO_LEAVE = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|for ever|whoever|gives? way|your move|the small Slack|told)\b|\ba look\b", re.IGNORECASE
)
LEAVES = sorted(leaves(BotError), key=lambda kind: kind.__name__)
MODULES = (
    model_errors,
    cloudflare_errors,
    minting_errors,
    explanation,
    history,
    outcome,
    posting,
    progress,
    redacted,
    render,
)


def count_words(text: str) -> int:
    """Count the words between blanks; a time and a mention are one each."""
    return len(without_times(text).split())


def find_faults(text: str) -> list[str]:
    """Return what must not be in a sentence."""
    plain = re.sub(r"<https://dash\.cloudflare\.com/[^|>]*\|([^>]*)>", r"\1", text)
    return _URL.findall(plain) + _TO_LEAVE.findall(plain)


def _sentences_of(kind: type[BotError]) -> Iterator[str]:
    yield kind.user_message
    yield kind.cause
    yield from kind.fixes
    yield from filter(None, (kind.rotating.cause, *(kind.rotating.fixes or ())))
    if issubclass(kind, Transient):
        yield from (kind.told.waiting, kind.told.lasted, kind.told.at_once)
    if issubclass(kind, CloudflareError):
        yield kind.waiting


@pytest.mark.parametrize("kind", LEAVES)
def test_each_error_has_few_and_plain_words(kind: type[BotError]) -> None:
    """The cause and the fix together; no address, and none of the words to avoid."""
    assert count_words(kind.user_message) <= MOST_WORDS, count_words(kind.user_message)
    for sentence in filter(None, _sentences_of(kind)):
        assert find_faults(sentence) == []
        assert sentence[0].isupper()
        assert sentence.endswith(".")


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if issubclass(kind, CloudflareError) and not kind.retryable])
def test_what_the_operator_can_fix_is_one_sentence_in_the_channel(kind: type[CloudflareError]) -> None:
    """The log says what to do; everyone else reads what they can do."""
    is_operators = kind.who_acts is WhoActs.OPERATOR
    assert bool(kind.operator_fix) is is_operators
    assert bool(kind.fixes) is not is_operators
    if is_operators:
        assert kind.cause.count(". ") == 0


def _submissions() -> list[Submission]:
    return [
        submission
        for param in ENDED + STORED + ROTATED
        for submission in param.values
        if isinstance(submission, Submission)
    ]


@pytest.mark.parametrize("submission", _submissions(), ids=lambda each: f"{each.task}-{each.state}-{each.error_code}")
def test_each_outcome_has_few_and_plain_words(submission: Submission) -> None:
    """The cause and the fix together, the headline, and each remark; also in the blocks."""
    result = RedactedResult.of(submission)
    cause, fixes = find_cause(result), list_fixes(result)
    behind = cause.removeprefix(EARLIER_REQUEST).removeprefix(NO_CLEAR_ANSWER)  # one line that all of these begin with
    assert sum(map(count_words, (behind, *fixes))) <= MOST_WORDS, (cause, fixes)
    for text in (result.headline, cause, *fixes, *list_unchecked(result), *list_warnings(result)):
        assert find_faults(text) == []
    message = render.result_message(result, contact="", may_enable=True)
    for block in message["blocks"]:
        assert find_faults(str(block)) == []
    assert find_faults(message["text"]) == []


def test_what_to_do_is_a_list_of_its_own() -> None:
    """A headline, one line of what happened, then each fix separately; the codes are small print."""
    for submission in _submissions():
        result = RedactedResult.of(submission)
        first, second, *others = render.result_message(result, contact="")["blocks"]
        assert first["text"]["text"].count("\n") == 1
        fixes = list_fixes(result)
        if fixes:
            assert second["text"]["text"].splitlines()[0] == "*What to do*"
            assert second["text"]["text"].count("\u2022 ") == len(fixes)
        if submission.error_code and submission.state is not State.STORED:
            assert submission.error_code not in str([first, second])
            assert f"error {submission.error_code}" in str(others)


def test_the_headlines_are_plain() -> None:
    """Of each row of the table."""
    for row in (row for outcomes in OUTCOMES.values() for row in outcomes.values()):
        for text in (row.title, row.view_title, row.headline, row.words):
            assert find_faults(text) == []
    assert [words for words in TASK_WORDS.values() if find_faults(words.title + words.sentence)] == []


def _texts_of(module: ModuleType) -> Iterator[str]:
    """Yield the string literals of a module, without its docstrings."""
    tree = ast.parse(inspect.getsource(module))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_advice_is_written_twice(module: ModuleType) -> None:
    """The same words in two messages are a constant: otherwise a change of the advice would miss one of them."""
    long = [text for text in _texts_of(module) if count_words(text) >= 6]
    assert sorted({text for text in long if long.count(text) > 1}) == []


@pytest.mark.parametrize("left", [timedelta(days=3), timedelta(days=-3)])
def test_reminders_have_plain_words(left: timedelta) -> None:
    """Messages posted later follow the same rules."""
    from tests.slack.messages.test_render import CREDENTIAL  # noqa: PLC0415 - its tests would be collected twice

    for message in (render.expiry_reminder(CREDENTIAL, NOW - left), render.broken_notice(CREDENTIAL)):
        assert find_faults(message["text"]) == []
