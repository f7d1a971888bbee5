"""docs/diagnosis.md matches the code, and lists every error that the code can report."""

from bot.cloudflare.diagnosis import ERROR_OF_CLIENT_CODE, ERROR_OF_CODE, ERROR_OF_STATUS
from bot.cloudflare.errors import CloudflareError, OperatorError, TokenRefusal
from bot.cloudflare.minting_errors import RotationError
from bot.model.errors import (
    AccessRefused,
    DatabaseRestored,
    GivenUp,
    NotApproved,
    NotStorable,
    SealedValueUnreadable,
    leaves,
)
from tests.diagnosis_page import ACTORS, COMMAND, DOCUMENT, ask_all, ask_minter, build_document, list_samples


def test_the_page_matches_the_code() -> None:
    """A change of a table or a sentence must regenerate the page."""
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == build_document(), f"docs/diagnosis.md is out of date: run {COMMAND}"


def test_every_cause_is_listed_once() -> None:
    """Cloudflare's errors, refusals of the form and of the gate, and what came too late or cannot be opened."""
    written = DOCUMENT.read_text(encoding="utf-8")
    kinds = (CloudflareError, NotStorable, GivenUp, DatabaseRestored, AccessRefused, SealedValueUnreadable, NotApproved)
    for error in (leaf for kind in (*kinds, RotationError) for leaf in leaves(kind)):
        assert written.count(f" | `{error.code}` | {ACTORS[error.who_acts]} | ") == 1


def test_every_code_and_status_of_the_tables_is_asked_about() -> None:
    """A new code appears on the page as soon as it is in the code."""
    labels = [sample.label for sample in list_samples()]
    for code in (*ERROR_OF_CODE, *ERROR_OF_CLIENT_CODE):
        assert f"code {code}" in labels
    for status in ERROR_OF_STATUS:
        assert f"HTTP {int(status)} without a code" in labels
    assert len(labels) == len(set(labels))


def test_every_error_of_cloudflares_comes_from_an_answer() -> None:
    """Every leaf of the tree is the result of some answer."""
    reached = str(list(ask_all())) + str(list(ask_minter()))
    unreached = {error.code for error in leaves(CloudflareError) if f"`{error.code}`" not in reached}
    assert unreached == set()


def test_the_bots_own_credentials_are_never_called_the_users() -> None:
    """Nor the reverse: refusing the bot's credentials refuses no token, except for codes about the token."""
    own = {error.code for error in leaves(OperatorError)}
    about_nobody = {"challenge_page", "blocked_on_the_way", "request_rejected"}
    about_the_token = {error.code for error in leaves(TokenRefusal)}
    for write, catalog, active, reach in ask_all():
        assert not any(
            f"`{code}`" in write + catalog for code in about_the_token - {"credential_refused", "lacks_storage_rights"}
        )
        assert not any(f"`{code}`" in active + reach for code in own - about_nobody)
