"""The error tree: stable codes, whole sentences, nothing secret."""

import copy
import inspect
import pickle
import re
from datetime import timedelta

import mypy.api
import pytest

from bot.cloudflare.diagnosis import ERROR_OF_CLIENT_CODE, ERROR_OF_CODE
from bot.cloudflare.errors import CloudflareError, Throttled
from bot.cloudflare.minting_errors import MintingError
from bot.model.errors import BotError, Transient, UnknownCause, WhoActs, error_of_code, leaves

LEAVES = sorted(leaves(BotError), key=lambda kind: kind.__name__)
CLOUDFLARE_LEAVES = [kind for kind in LEAVES if issubclass(kind, CloudflareError)]
TRANSIENT = [kind for kind in LEAVES if issubclass(kind, Transient)]
DEFINITE = [kind for kind in CLOUDFLARE_LEAVES if not kind.retryable]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_is_complete(kind: type[BotError]) -> None:
    """A leaf has a snake_case code, a sentence and a person who has to act."""
    assert kind.code.replace("_", "").isalnum()
    assert kind.code == kind.code.lower()
    assert kind.user_message.endswith((".", "?"))
    assert "code" in vars(kind)


@pytest.mark.parametrize("code", ["of_tomorrow", "", "Expired", "BotError"])
def test_an_unknown_code_is_an_unknown_cause(code: str) -> None:
    """It may come from a newer version, or from a damaged row."""
    assert error_of_code(code) is UnknownCause


def test_the_errors_of_rotation_are_known() -> None:
    """Anyone who reads a recorded code finds its sentences."""
    assert {*leaves(MintingError)} <= {*CLOUDFLARE_LEAVES}


def test_codes_are_unique() -> None:
    """A log could not distinguish two leaves with one code."""
    assert len({kind.code for kind in LEAVES}) == len(LEAVES)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_is_drawn_in_the_tree(kind: type[BotError]) -> None:
    """The docstring of its module is the map."""
    assert f"── {kind.__name__}" in (inspect.getdoc(inspect.getmodule(kind)) or "")


@pytest.mark.parametrize("kind", DEFINITE)
def test_a_message_says_who_can_do_what(kind: type[BotError]) -> None:
    """The reader learns what to do; the operator reads it in the log, and everyone else that it is not the token."""
    is_readers = kind.who_acts is WhoActs.YOU
    assert ("What to do: " in kind.user_message) is is_readers
    assert bool(kind.operator_fix) is not is_readers
    assert kind.user_message.startswith(kind.cause)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_transient_error_does_not_say_what_to_do(kind: type[Transient]) -> None:
    """The caller says when the bot tries again, or what to do at the end: that depends on the submission."""
    for sentence in (kind.told.waiting, kind.told.lasted):
        assert sentence.endswith(".")
        assert not re.search("by itself|again|What to do", sentence)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_an_error_that_a_person_waits_for_is_explained_at_once(kind: type[Transient]) -> None:
    """A database and Slack also affect people who wait for an answer; Cloudflare is asked later."""
    assert ("again" in kind.told.at_once) is not issubclass(kind, CloudflareError)
    assert kind.user_message == (kind.told.at_once or kind.told.lasted)


def test_only_errors_with_such_sentences_are_retried() -> None:
    """No error may be waited for without a sentence for it."""
    assert [kind for kind in LEAVES if kind.retryable] == TRANSIENT


_WITHOUT_A_SENTENCE = """
from bot.cloudflare.errors import CloudflareTrouble
from bot.model.errors import Told

class ToldNothing(CloudflareTrouble):
    code = "told_nothing"

class ToldHalf(CloudflareTrouble, told=Told(waiting="It is waited for.")):
    code = "told_half"
"""


def test_mypy_says_which_sentence_a_new_error_lacks() -> None:
    """A missing sentence is found before a person sees a modal."""
    output, _, _ = mypy.api.run(["--config-file=", "--strict", "--cache-dir=/dev/null", "-c", _WITHOUT_A_SENTENCE])
    assert '<string>:5: error: Missing named argument "told"' in output
    assert '<string>:8: error: Missing named argument "lasted" for "Told"' in output


def test_no_answer_of_cloudflare_means_two_errors() -> None:
    """The diagnosis tables are made from the leaves: of two with one code, one would be lost."""
    for answers in ("cloudflare_codes", "client_codes", "statuses"):
        stated = [answer for kind in CLOUDFLARE_LEAVES for answer in getattr(kind, answers)]
        assert len(stated) == len(set(stated))
    assert not {*ERROR_OF_CODE} & {*ERROR_OF_CLIENT_CODE}


@pytest.mark.parametrize("kind", CLOUDFLARE_LEAVES)
def test_a_message_names_the_product_by_both_names(kind: type[BotError]) -> None:
    """A person who searches the dashboard for the catalogs knows one of the two names."""
    said = re.sub('"Workers R2 Data Catalog Write"', "", kind.user_message + kind.operator_fix)  # a name of Cloudflare
    assert ("R2 Data Catalog" in said) == ("Basin Catalog" in said)


@pytest.mark.parametrize("kind", CLOUDFLARE_LEAVES)
def test_a_cloudflare_error_survives_pickle_and_copy(kind: type[CloudflareError]) -> None:
    """All that is known of the answer is restored."""
    error = kind(
        status=400,
        cloudflare_code=30004,
        cloudflare_message="no",
        cf_ray="8f00-BOX",
        retry_after=timedelta(seconds=7),
        possibly_landed=True,
    )
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 - our own pickle
        assert type(twin) is kind
        assert vars(twin) == vars(error)


def test_the_text_of_an_error_is_its_code_and_what_support_asks_for() -> None:
    """A traceback holds no message of Cloudflare."""
    error = Throttled(status=429, cloudflare_code=971, cloudflare_message="anything at all", cf_ray="8f00-BOX")
    assert str(error) == "throttled status=429 cloudflare_code=971 cf_ray=8f00-BOX"
    assert str(Throttled()) == "throttled"
    assert "anything" not in repr(error)
