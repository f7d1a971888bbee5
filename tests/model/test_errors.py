"""The error tree: stable codes, whole sentences, nothing to hide."""

import copy
import inspect
import pickle
from collections.abc import Iterator
from datetime import timedelta

import pytest

import bot.model.errors
from bot.cloudflare.errors import CloudflareError, Throttled
from bot.model.errors import BotError, WhoseMove


def _list_below(kind: type[BotError]) -> Iterator[type[BotError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _list_below(below)


LEAVES = sorted({kind for kind in _list_below(BotError) if not kind.__subclasses__()}, key=lambda kind: kind.__name__)
CLOUDFLARE_LEAVES = [kind for kind in LEAVES if issubclass(kind, CloudflareError)]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_is_complete(kind: type[BotError]) -> None:
    """A leaf has a snake_case code, a sentence, a retry rule and somebody whose move it is."""
    assert kind.code.replace("_", "").isalnum()
    assert kind.code == kind.code.lower()
    assert kind.user_message.endswith((".", "?"))
    assert isinstance(kind.retryable, bool)
    assert kind.whose_move in WhoseMove


def test_codes_are_unique() -> None:
    """Two leaves with one code could not be told apart in a log."""
    assert len({kind.code for kind in LEAVES}) == len(LEAVES)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_is_drawn_in_the_tree(kind: type[BotError]) -> None:
    """The docstring of the module is the map."""
    assert f"── {kind.__name__}" in (inspect.getdoc(bot.model.errors) or "")


@pytest.mark.parametrize("kind", CLOUDFLARE_LEAVES)
def test_a_message_says_whose_move_it_is(kind: type[BotError]) -> None:
    """Who has to act reads it in the first person or finds himself named."""
    words = {
        WhoseMove.YOU: "Your move:",
        WhoseMove.OPERATOR: " act: ",
        WhoseMove.CLOUDFLARE: "by itself",
        WhoseMove.NOBODY: "Nobody has to do anything",
    }
    said = kind.user_message.replace("has to look: ", "has to act: ")
    assert words[kind.whose_move] in said


@pytest.mark.parametrize("kind", CLOUDFLARE_LEAVES)
def test_a_message_names_the_product_by_both_names(kind: type[BotError]) -> None:
    """Whoever must find the catalogs in the dashboard knows one of the two names."""
    assert ("R2 Data Catalog" in kind.user_message) == ("Basin Catalog" in kind.user_message)


@pytest.mark.parametrize("kind", CLOUDFLARE_LEAVES)
def test_a_cloudflare_error_survives_pickle_and_copy(kind: type[CloudflareError]) -> None:
    """All that is known of the answer comes out again."""
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
    """No message of Cloudflare's gets into a traceback."""
    error = Throttled(status=429, cloudflare_code=971, cloudflare_message="anything at all", cf_ray="8f00-BOX")
    assert str(error) == "throttled status=429 cloudflare_code=971 cf_ray=8f00-BOX"
    assert str(Throttled()) == "throttled"
    assert "anything" not in repr(error)
