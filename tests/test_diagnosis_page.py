"""docs/diagnosis.md is what the code does, and all that the code can tell is on it."""

from bot.cloudflare.diagnosis import ERROR_OF_CLIENT_CODE, ERROR_OF_CODE, ERROR_OF_STATUS
from bot.cloudflare.errors import CloudflareError, OperatorError, TokenRefusal
from bot.model.errors import AccessRefused, GivenUp, NotStorable, SealedValueUnreadable, leaves
from tests.diagnosis_page import COMMAND, DOCUMENT, MOVES, ask_all, build_document, list_samples


def test_the_page_is_what_the_code_does() -> None:
    """Whoever changes a table or a sentence renews the page."""
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == build_document(), f"docs/diagnosis.md is out of date: run {COMMAND}"


def test_every_cause_is_listed_once() -> None:
    """All that Cloudflare may say, what the form refuses, who may not, what came too late or does not open."""
    written = DOCUMENT.read_text(encoding="utf-8")
    kinds = (CloudflareError, NotStorable, GivenUp, AccessRefused, SealedValueUnreadable)
    for error in (leaf for kind in kinds for leaf in leaves(kind)):
        assert written.count(f" | `{error.code}` | {MOVES[error.whose_move]} | ") == 1


def test_every_code_and_status_of_the_tables_is_asked_about() -> None:
    """A new one is on the page as soon as it is in the code."""
    labels = [sample.label for sample in list_samples()]
    for code in (*ERROR_OF_CODE, *ERROR_OF_CLIENT_CODE):
        assert f"code {code}" in labels
    for status in ERROR_OF_STATUS:
        assert f"HTTP {int(status)} without a code" in labels
    assert len(labels) == len(set(labels))


def test_every_error_of_cloudflares_comes_from_an_answer() -> None:
    """No leaf of the tree is without an answer that leads to it."""
    reached = str(list(ask_all()))
    unreached = {error.code for error in leaves(CloudflareError) if f"`{error.code}`" not in reached}
    assert unreached == set()


def test_the_bots_own_credentials_are_never_called_yours() -> None:
    """And the other way round: what is said with the bot's own credentials refuses no token, but for codes about it."""
    own = {error.code for error in leaves(OperatorError)}
    about_the_token = {error.code for error in leaves(TokenRefusal)}
    for write, catalog, active, reach in ask_all():
        assert not any(
            f"`{code}`" in write + catalog for code in about_the_token - {"credential_refused", "lacks_storage_rights"}
        )
        assert not any(f"`{code}`" in active + reach for code in own - {"challenge_page", "blocked_on_the_way"})
