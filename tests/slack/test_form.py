"""The form: valid in every shape, with correct options and clear errors."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, is_bucket_name
from bot.model.pasted_token import MASK, STORABLE, mask_tokens
from bot.model.place import DIRECT
from bot.model.submission import TokenKind
from bot.sandbox.block_rules import options_problems, view_problems
from bot.sandbox.blocks import texts_of
from bot.sandbox.tokens import Behaviour, make_token
from bot.slack import form as modal
from bot.slack.form import Filling

LONGEST_NAME = "a" * 63
TOKEN = make_token(Behaviour.GOOD)


def _catalog(
    bucket: str,
    status: CatalogStatus = CatalogStatus.ACTIVE,
    credential: CredentialStatus = CredentialStatus.ABSENT,
) -> Catalog:
    return Catalog(key=BucketKey(account_id="0f" * 16, bucket=bucket), status=status, credential_status=credential)


def _key(bucket: str) -> BucketKey:
    return BucketKey(account_id="a" * 32, bucket=bucket)


def _filling(bucket: str) -> Filling:
    return Filling(key=_key(bucket) if bucket else None)


def _form(bucket: str = "", catalogs: Iterable[Catalog] | None = ()) -> dict[str, Any]:
    """Return the form as it opens, with or without a bucket."""
    return modal.build_form(nonce="n", filling=_filling(bucket), catalogs=catalogs)


def _options(catalogs: Iterable[Catalog], query: str) -> list[dict[str, Any]]:
    by_name = {catalog.bucket: catalog for catalog in catalogs}
    return modal.build_options(sorted(by_name), by_name.__getitem__, query)


def _element(view: dict[str, Any], block_id: str) -> dict[str, Any]:
    [element] = [block["element"] for block in view["blocks"] if block.get("block_id") == block_id]
    assert isinstance(element, dict)
    return element


@pytest.mark.parametrize("catalogs_known", [True, False], ids=["with a snapshot", "without a snapshot"])
@pytest.mark.parametrize("bucket", ["", "lake", LONGEST_NAME], ids=["empty", "filled in", "the longest name"])
def test_the_form_is_valid_and_holds_nothing_but_the_nonce(bucket: str, *, catalogs_known: bool) -> None:
    """A client gets and returns no account, no user and no token."""
    catalogs = [_catalog("lake")] if catalogs_known else None
    view = modal.build_form(nonce="nonce-1", filling=_filling(bucket), catalogs=catalogs)
    assert view_problems(view) == []
    assert view["private_metadata"] == "nonce-1"
    assert [block.get("block_id") for block in view["blocks"]] == [
        *(None, "bucket", "token", "channel", "direct", "reason", "check"),
    ]
    assert [block.get("optional") for block in view["blocks"]] == [None, False, False, True, True, True, True]
    assert "initial_value" not in _element(view, "token")


def test_with_a_snapshot_the_bucket_is_a_type_ahead() -> None:
    """It offers options before the first letter, and the command's bucket is chosen."""
    element = _element(_form("lake"), "bucket")
    assert (element["type"], element["min_query_length"]) == ("external_select", 0)
    assert element["initial_option"]["value"] == "lake"
    assert "initial_option" not in _element(_form(), "bucket")


def test_without_a_snapshot_the_bucket_is_a_plain_field() -> None:
    """A type-ahead without options would be unusable."""
    element = _element(_form("lake", catalogs=None), "bucket")
    assert (element["type"], element["initial_value"]) == ("plain_text_input", "lake")
    assert "initial_value" not in _element(_form(catalogs=None), "bucket")


STATES = {
    "works": (CatalogStatus.ACTIVE, CredentialStatus.VALID, "Credential works: it will be replaced"),
    "broken": (CatalogStatus.ACTIVE, CredentialStatus.INVALID, "Credential does not work: it will be replaced"),
    "present": (CatalogStatus.ACTIVE, CredentialStatus.PRESENT, "Credential present: it will be replaced"),
    "none": (CatalogStatus.ACTIVE, CredentialStatus.ABSENT, "No credential yet"),
    "not known": (
        CatalogStatus.ACTIVE,
        CredentialStatus.UNKNOWN,
        "Cloudflare did not say whether there is a credential",
    ),
    "off": (CatalogStatus.INACTIVE, CredentialStatus.VALID, "Catalog switched off: enable it first"),
}


@pytest.mark.parametrize(("status", "credential", "words"), STATES.values(), ids=STATES)
def test_the_state_is_shown_next_to_the_name(status: CatalogStatus, credential: CredentialStatus, words: str) -> None:
    """In the type-ahead and in a form that opens filled in: no one replaces a working credential unawares."""
    catalog = _catalog("lake", status, credential)

    [offered] = _options([catalog], "lake")
    chosen = _element(_form("lake", [catalog]), "bucket")["initial_option"]

    assert offered["description"]["text"] == chosen["description"]["text"] == words
    assert options_problems({"options": [offered]}) == []


def test_a_bucket_that_is_not_listed_has_no_state() -> None:
    """Nothing is claimed about an unknown bucket."""
    assert "description" not in _element(_form("lake", [_catalog("pond")]), "bucket")["initial_option"]


def test_a_form_can_be_filled_in_except_the_token() -> None:
    """With the values of the failed one; the token cannot be filled in."""
    filling = Filling(key=_key("lake"), channel_id="C1", reason="x" * modal.REASON_LENGTH, check_only=True)
    view = modal.build_form(nonce="n", filling=filling, catalogs=[])

    assert view_problems(view) == []
    assert _element(view, "bucket")["initial_option"]["value"] == "lake"
    assert _element(view, "channel")["initial_conversation"] == "C1"
    assert _element(view, "reason")["initial_value"] == filling.reason
    assert _element(view, "check")["initial_options"] == _element(view, "check")["options"]
    assert "initial_value" not in _element(view, "token")


def test_the_longest_form_fits_into_slacks_limits() -> None:
    """With and without a list of options."""
    filling = Filling(key=_key(LONGEST_NAME), channel_id="C1", reason="&" * modal.REASON_LENGTH, check_only=True)
    catalogs = [_catalog(LONGEST_NAME, CatalogStatus.ACTIVE, CredentialStatus.UNKNOWN)]
    for known in (catalogs, None):
        assert view_problems(modal.build_form(nonce="n" * 64, filling=filling, catalogs=known)) == []


def test_an_empty_form_has_no_values() -> None:
    """Nor those of an earlier form: the parts that never change are shared."""
    before = json.dumps(_form())
    modal.build_form(
        nonce="n", filling=Filling(key=_key("lake"), channel_id="C1", reason="x", check_only=True), catalogs=[]
    )
    assert json.dumps(_form()) == before
    assert "initial_" not in before


def test_a_dry_run_says_that_it_changes_nothing() -> None:
    """And that the token is not kept."""
    [option] = _element(_form(), "check")["options"]
    assert option["text"]["text"] == "Check only, change nothing"
    assert option["description"]["text"] == "Runs every check before the write; erases the token"


def test_the_channel_field_requests_a_response_url() -> None:
    """It is filled in with the command's channel, and offers none that is shared with another company.

    Slack's filter for shared channels does not exclude direct messages with people of that company.
    """
    element = _element(_form(), "channel")
    assert element["default_to_current_conversation"] is True
    assert element["response_url_enabled"] is True
    assert element["filter"] == {
        "include": ["public", "private"],
        "exclude_external_shared_channels": True,
        "exclude_bot_users": True,
    }


def test_a_form_without_a_channel_starts_with_the_direct_message() -> None:
    """The current conversation may be one with another company, so it is no default."""
    view = modal.build_form(nonce="n", filling=Filling(channel_id=DIRECT), catalogs=())
    assert view_problems(view) == []
    assert not {"default_to_current_conversation", "initial_conversation"} & set(_element(view, "channel"))
    direct = _element(view, "direct")
    assert direct["initial_options"] == direct["options"]
    assert "initial_options" not in _element(_form(), "direct")


@pytest.mark.parametrize("channel_id", ["", "C1", DIRECT])
def test_without_a_direct_message_a_channel_is_required(channel_id: str) -> None:
    """If the operator lists channels."""
    filling = Filling(channel_id=channel_id)
    view = modal.build_form(nonce="n", filling=filling, catalogs=(), offers_direct=False)
    assert view_problems(view) == []
    assert {block.get("block_id"): block.get("optional") for block in view["blocks"]}["channel"] is False
    assert "direct" not in {block.get("block_id") for block in view["blocks"]}


def test_the_form_warns_before_anything_is_pasted() -> None:
    """The slot is overwritten; the advice on the token says that Slack hides nothing."""
    text = "\n".join(texts_of(_form()))
    assert "the present one is replaced" in text
    assert "R2 Data Catalog (Basin Catalog)" in text


def test_what_is_said_of_the_chosen_bucket_is_not_said_twice() -> None:
    """Below it stands whether anything is replaced."""
    remarks = modal.Remarks(known=[{"type": "section", "text": {"type": "mrkdwn", "text": "*It will be replaced.*"}}])
    view = modal.build_form(nonce="n", filling=_filling("lake"), catalogs=(), remarks=remarks)
    assert "\n".join(texts_of(view)).count("replaced") == 1


@pytest.mark.parametrize("count", [0, 1, 100, 101, 500])
@pytest.mark.parametrize("query", ["", "bucket", "bucket-0", "nowhere", "UPPER", "-"])
def test_any_number_of_catalogs_makes_valid_options(count: int, query: str) -> None:
    """At most a hundred, each once."""
    options = _options([_catalog(f"bucket-{number:03d}") for number in range(count)], query)
    assert options_problems({"options": options}) == []
    assert len(options) <= 100
    assert len({option["value"] for option in options}) == len(options)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", ["alake", "lake", "lake-2", "pond"], id="nothing typed: all, by name"),
        pytest.param("lake", ["lake", "lake-2", "alake"], id="prefixes come first"),
        pytest.param(" LAKE ", ["lake", "lake-2", "alake"], id="blanks and capitals do not matter"),
        pytest.param("lak", ["lake", "lake-2", "alake"], id="matches come before guesses"),
        pytest.param("ond", ["pond"], id="found in the middle"),
        pytest.param("lkae", ["lake", "lkae"], id="a slip: the suggestion, then as typed"),
        pytest.param("\u200b\u201clake\u201d", ["lake", "lake-2", "alake"], id="invisible characters and quotes"),
        pytest.param("new-bucket", ["new-bucket"], id="not listed: as typed"),
        pytest.param("none", [], id="a word for nothing"),
        pytest.param("NULL", [], id="another word for nothing"),
        pytest.param("la", ["lake", "lake-2", "alake"], id="too short for a name"),
        pytest.param("a_b", [], id="impossible: an underscore"),
        pytest.param("-lake", [], id="impossible: a hyphen at the beginning"),
        pytest.param("lake-", ["lake-2"], id="impossible: a hyphen at the end"),
        pytest.param("a" * 64, [], id="impossible: too long"),
        pytest.param("new bucket", [], id="impossible: a blank"),
        pytest.param("bücket", [], id="impossible: an umlaut"),
    ],
)
def test_the_type_ahead_offers_matching_names(query: str, expected: list[str]) -> None:
    """Listed catalogs and, if it could be a bucket, the typed name."""
    catalogs = [_catalog(bucket) for bucket in ("pond", "lake-2", "lake", "alake")]
    options = _options(catalogs, query)
    assert [option["value"] for option in options] == expected
    assert options_problems({"options": options}) == []


def test_an_unlisted_name_says_so() -> None:
    """The person sees that the list does not have it."""
    [option] = _options([], LONGEST_NAME)
    assert option["text"]["text"] == f'Use "{LONGEST_NAME}"'
    assert option["description"]["text"].startswith("Not in Cloudflare's latest list")


def test_a_token_typed_into_the_search_is_answered_with_advice() -> None:
    """The ingress masked it; the option says so, and choosing it is a form error."""
    [option] = _options([_catalog("lake")], mask_tokens(f"lake {TOKEN}"))
    assert "Revoke it" in option["text"]["text"]
    assert options_problems({"options": [option]}) == []
    assert modal.check_bucket(option["value"]) == modal.REVOKE_ADVICE


@pytest.mark.parametrize("status", list(CatalogStatus))
@pytest.mark.parametrize("credential", list(CredentialStatus))
def test_every_state_of_a_catalog_is_described(status: CatalogStatus, credential: CredentialStatus) -> None:
    """The text fits below the name without being cut."""
    catalog = _catalog("lake", status, credential)
    described = modal.describe_catalog(catalog)
    assert 0 < len(described) <= 75
    assert ("switched off" in described) is (status is CatalogStatus.INACTIVE)
    [option] = _options([catalog], "")
    assert option["description"]["text"] == described


@pytest.mark.parametrize(
    ("bucket", "problem"),
    [
        pytest.param("", "Choose the bucket", id="empty"),
        pytest.param("ab", "3 to 63 characters", id="too short"),
        pytest.param("a" * 64, "3 to 63 characters", id="too long"),
        pytest.param("Lake", "a-z", id="a capital"),
        pytest.param("la_ke", "a-z", id="an underscore"),
        pytest.param("la.ke", "a-z", id="a dot"),
        pytest.param("la ke", "a-z", id="a blank"),
        pytest.param("lake\n", "a-z", id="a newline"),
        pytest.param("-lake", "no hyphen at the beginning", id="a hyphen at the beginning"),
        pytest.param("lake-", "no hyphen at the beginning or the end", id="a hyphen at the end"),
        pytest.param("l\u00e4ke", "a-z", id="an umlaut"),
        pytest.param("lak\u0435", "a-z", id="a letter that looks like an e"),
        pytest.param("\uff11\uff12\uff13", "a-z", id="digits of another script"),
        pytest.param("../lake", "a-z", id="a path"),
        pytest.param(MASK, "Revoke it", id="a masked token"),
        pytest.param(f"lake {MASK}", "Revoke it", id="a masked token next to a name"),
    ],
)
def test_an_impossible_bucket_name_is_an_error_with_the_fix(bucket: str, problem: str) -> None:
    """At the field, in a whole sentence."""
    error = modal.check_bucket(bucket)
    assert error is not None
    assert problem in error
    assert error.endswith(".")
    assert not is_bucket_name(bucket)


@pytest.mark.parametrize("bucket", ["abc", "a-b", "0a0", LONGEST_NAME, "a--b"])
def test_a_possible_bucket_name_is_no_error(bucket: str) -> None:
    """From three to sixty-three characters."""
    assert modal.check_bucket(bucket) is None


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        pytest.param("", None, id="none"),
        pytest.param("x" * 300, None, id="the longest"),
        pytest.param("x" * 301, "Shorten the reason to 300 characters; it has 301.", id="too long"),
        pytest.param(mask_tokens(f"see {TOKEN}"), modal.REVOKE_ADVICE, id="a token in it"),
    ],
)
def test_a_reason_is_checked(reason: str, problem: str | None) -> None:
    """It may be missing, but neither endless nor a token."""
    assert modal.check_reason(reason) == problem


def test_each_unstorable_kind_has_its_form_error() -> None:
    """And no storable kind has one."""
    assert set(modal.NOT_STORABLE) == set(TokenKind) - STORABLE


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        pytest.param(TokenKind.EMPTY, "Paste the Cloudflare API token", id="empty"),
        pytest.param(TokenKind.GLOBAL_KEY, "Roll it", id="a Global API key is to be replaced"),
        pytest.param(TokenKind.GLOBAL_KEY, '"Admin Read & Write"', id="and a token takes its place"),
        pytest.param(TokenKind.OAUTH, "Create a token", id="wrangler's own token"),
        pytest.param(TokenKind.S3_SECRET, "the API token is disclosed too", id="an S3 secret is disclosed"),
        pytest.param(TokenKind.S3_KEY_ID, "Paste the API token it came from", id="an S3 key id"),
        pytest.param(TokenKind.SEVERAL, "Paste one token", id="several words"),
        pytest.param(TokenKind.NOT_A_TOKEN, "Copy it again", id="something else"),
        pytest.param(TokenKind.OTHER_SECRET, "revoke it where it was created", id="a secret of another service"),
        pytest.param(TokenKind.UUID, "paste that value", id="a UUID"),
        pytest.param(TokenKind.NAMED_VALUE, "without the name and the =", id="a name with its value"),
    ],
)
def test_a_form_error_names_the_fix(kind: TokenKind, fix: str) -> None:
    """In whole sentences of plain text, which Slack shows as it is, without quoting anything."""
    problem = modal.NOT_STORABLE[kind].user_message
    assert not re.search(r"&amp;|[*`<>]", problem)
    assert fix in problem
    assert problem[0].isupper()
    assert problem.endswith(".")
