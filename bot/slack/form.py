"""Builds the form and checks its fields. The only place that defines its block ids."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, is_bucket_name
from bot.model.errors import (
    GlobalApiKey,
    IdOfSomething,
    NamedValue,
    NotAToken,
    NothingPasted,
    NotStorable,
    OAuthToken,
    OtherSecret,
    S3AccessKeyId,
    S3SecretAccessKey,
    SeveralTokens,
)
from bot.model.pasted_token import CONFIRMED, DIGEST_MASK, MASK, trim_typed
from bot.model.place import DIRECT
from bot.model.similar_names import find_similar
from bot.model.submission import PastedToken, TokenKind
from bot.slack.blocks import Json, plain, section

CALLBACK_ID: Final = "store_credential"
BUCKET_BLOCK: Final = "bucket"
BUCKET_ACTION: Final = "bucket"
TOKEN_BLOCK: Final = "token"  # noqa: S105 - the name of a block
CHANNEL_BLOCK: Final = "channel"
DIRECT_BLOCK: Final = "direct"
REASON_BLOCK: Final = "reason"
CHECK_BLOCK: Final = "check"
REASON_LENGTH: Final = 300
SUBMIT: Final = "Check or store"
"""The button's text names both: an update of the form on each tick could come too late."""

_INPUT_LENGTH: Final = 3000
_MOST_OPTIONS: Final = 100
_OPTION_TEXT: Final = 75
_NO_NAMES: Final = frozenset({"none", "null", "nil", "undefined"})
"""What people type, or a broken client sends, for "no bucket": it is not offered as a bucket's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What a form is prefilled with: everything but the token.

    `channel_id` is where the result goes unless the person chooses otherwise: a channel, `DIRECT`, or, if empty, the
    channel in which the form is opened. `knows_better`: the bot has seen a catalog there, even if the list has none.
    """

    key: BucketKey | None = None
    channel_id: str = ""
    reason: str = ""
    check_only: bool = False
    knows_better: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Small print in the form: `known` about the bucket, below its field; `token`, advice below the token field.

    `needs_reason`: the hint of the reason says so. The field itself stays optional: another bucket may need none.
    """

    known: Sequence[Json] = ()
    token: Sequence[Json] = ()
    needs_reason: bool = False


_NO_REMARKS: Final = Remarks()


def build_form(
    *,
    nonce: str,
    filling: Filling,
    catalogs: Iterable[Catalog] | None,
    offers_direct: bool = True,
    remarks: Remarks = _NO_REMARKS,
) -> Json:
    """Return the form as a view. Its `private_metadata` is the opening's nonce and nothing else.

    Without a snapshot of the catalogs the bucket is a plain text field, since a type-ahead could offer nothing.
    `offers_direct`: whether the person may choose a direct message; else a channel is required. The block ids are the
    same in every form: when an open form is updated, Slack keeps what was typed by those ids.
    """
    return {
        "type": "modal",
        "callback_id": CALLBACK_ID,
        "private_metadata": nonce,
        "title": plain("Store a credential"),
        "submit": plain(SUBMIT),
        "close": plain("Cancel"),
        "blocks": [
            section(_INTRODUCTION if remarks.known else f"{_INTRODUCTION} {_REPLACES}"),
            bucket_input(BUCKET_ACTION, filling, catalogs),
            *remarks.known,
            _input(TOKEN_BLOCK, "Cloudflare API token", _TOKEN_ELEMENT, hint=_PASTE_HINT),
            *remarks.token,
            *result_inputs(filling, offers_direct=offers_direct, needs_reason=remarks.needs_reason),
            check_input(_CHECK_WORDS, is_ticked=filling.check_only),
        ],
    }


def bucket_input(action_id: str, filling: Filling, catalogs: Iterable[Catalog] | None) -> Json:
    """Return the field for the bucket; one of several options is reported at once when it is chosen."""
    bucket = _bucket_element(action_id, filling.key.bucket if filling.key else "", catalogs)
    return _input(BUCKET_BLOCK, "Bucket", bucket, hint=_BUCKET_HINT) | _dispatch(bucket)


def result_inputs(filling: Filling, *, offers_direct: bool, needs_reason: bool) -> list[Json]:
    """Return the fields that say where the result goes, and why it is done."""
    reason_hint = f"{_REASON_NEEDED} {_REASON_HINT}" if needs_reason else _REASON_HINT
    return [
        _input(CHANNEL_BLOCK, "Post the result to", _channel_element(filling.channel_id), optional=offers_direct),
        *([_direct_input(is_ticked=filling.channel_id == DIRECT)] if offers_direct else []),
        _input(REASON_BLOCK, "Reason", _reason_element(filling.reason), hint=reason_hint, optional=True),
    ]


def check_input(words: tuple[str, str], *, is_ticked: bool) -> Json:
    """Return the checkbox that changes nothing if ticked; `words` are its text and its description."""
    option = _option(words[0], CHECK_BLOCK, words[1])
    element = _tick_element(CHECK_BLOCK, option, is_ticked=is_ticked)
    return _input(CHECK_BLOCK, "Try it first", element, optional=True)


def build_options(names: Sequence[str], find: Callable[[str], Catalog], query: str) -> list[Json]:
    """Return the catalogs whose name contains the query, those that begin with it first; `names` are sorted.

    If there is none, return those with a similar name, and then the query itself if it is a possible name, since the
    list may be older than the bucket. On Enter, Slack takes the first option, so a misspelling must not come first.
    """
    query = trim_typed(query).lower()
    if MASK.lower() in query:
        return [_option(_MASKED_OPTION, MASK)]
    found = _find_names(names, query)
    if found or not is_bucket_name(query):
        return [_option(name, name, describe_catalog(find(name))) for name in found]
    if query in _NO_NAMES:
        return []
    similar = find_similar(query, names)
    return [
        *(_option(name, name, f"Did you mean this? {describe_catalog(find(name))}") for name in similar),
        _option(f'Use "{query}"', query, "Not in Cloudflare's latest list of catalogs"),
    ]


def _find_names(names: Sequence[str], query: str) -> list[str]:
    """Return as many as may be offered. The rest of 10,000 are searched only if few begin with the query: 0.5 ms."""
    start = bisect_left(names, query)
    found = list(takewhile(lambda name: name.startswith(query), names[start : start + _MOST_OPTIONS]))
    others = (name for name in names if query in name and not name.startswith(query))
    return [*found, *islice(others, _MOST_OPTIONS - len(found))]


def describe_catalog(catalog: Catalog) -> str:
    """Return a short description of a catalog's state."""
    if catalog.status is CatalogStatus.INACTIVE:
        return "Catalog switched off: enable it first"
    return _CREDENTIAL_WORDS[catalog.credential_status]


def check_bucket(bucket: str) -> str | None:
    """Return what is wrong with the bucket field, or None."""
    if MASK in bucket:
        return REVOKE_ADVICE
    if not bucket:
        return "Choose the bucket whose catalog gets the credential."
    return None if is_bucket_name(bucket) else _NO_BUCKET_NAME


def check_token(pasted: PastedToken) -> str | None:
    """Return what is wrong with the pasted value, judged by its shape alone, or None."""
    problem = NOT_STORABLE.get(pasted.kind)
    if problem is None:
        return None
    return f"This looks like {pasted.looks_like}. {problem.user_message}" if pasted.looks_like else problem.user_message


def form_error(problem: str, callback_id: str = CALLBACK_ID) -> Json:
    """Return the answer to a Submit that shows an error and leaves the form as it is: only this one has a token."""
    block = TOKEN_BLOCK if callback_id == CALLBACK_ID else BUCKET_BLOCK
    return {"response_action": "errors", "errors": {block: problem}}


def check_reason(reason: str, *, is_needed: bool = False) -> str | None:
    """Return what is wrong with the reason field, or None. `MaskedReasons` asks about a masked commit or checksum."""
    if is_needed and not _says_something(reason):
        return "Say why, in words: for this bucket and channel, a reason is needed."
    if MASK in reason:
        return REVOKE_ADVICE
    too_long = f"Shorten the reason to {REASON_LENGTH} characters; it has {len(reason)}."
    return too_long if len(reason) > REASON_LENGTH else None


def _says_something(reason: str) -> bool:
    """Return whether a letter or digit is left without masked words: many characters show as nothing at all."""
    return any(map(str.isalnum, reason.replace(DIGEST_MASK, "").replace(CONFIRMED, "")))


REVOKE_ADVICE: Final = (
    "This looks like a token, which does not belong here: others may have seen it. Revoke it in Cloudflare, or "
    "wherever it was created. Paste a new Cloudflare API token into the token field of the form."
)

NOT_STORABLE: Final[Mapping[TokenKind, type[NotStorable]]] = {
    TokenKind.EMPTY: NothingPasted,
    TokenKind.GLOBAL_KEY: GlobalApiKey,
    TokenKind.OAUTH: OAuthToken,
    TokenKind.S3_SECRET: S3SecretAccessKey,
    TokenKind.S3_KEY_ID: S3AccessKeyId,
    TokenKind.SEVERAL: SeveralTokens,
    TokenKind.NOT_A_TOKEN: NotAToken,
    TokenKind.OTHER_SECRET: OtherSecret,
    TokenKind.UUID: IdOfSomething,
    TokenKind.NAMED_VALUE: NamedValue,
}
"""The error that the form shows for each kind that must not be stored."""

_INTRODUCTION: Final = (
    "Stores the API token that a bucket's catalog works with. The token is checked first, stays encrypted until "
    "Cloudflare has it, and is then erased."
)
_REPLACES: Final = "A catalog has one credential: *the present one is replaced.*"  # unless said below the bucket
_BUCKET_HINT: Final = "Its R2 Data Catalog (Basin Catalog) must be enabled."
_PASTE_HINT: Final = "An R2 API token with permission for this bucket's data and catalog."
_REASON_NEEDED: Final = "Needed here."
_REASON_HINT: Final = "Kept with the record of this change and shown in the result."
_MASKED_OPTION: Final = "This looked like a token, which does not belong here. Revoke it."
_NO_BUCKET_NAME: Final = (
    "A bucket name has 3 to 63 characters: a-z, 0-9 and hyphens, with no hyphen at the beginning or the end."
)
_CHECK_WORDS: Final = ("Check only, change nothing", "Runs every check before the write; erases the token")
_CREDENTIAL_WORDS: Final = {
    CredentialStatus.VALID: "Credential works: it will be replaced",
    CredentialStatus.INVALID: "Credential does not work: it will be replaced",
    CredentialStatus.PRESENT: "Credential present: it will be replaced",
    CredentialStatus.ABSENT: "No credential yet",
    CredentialStatus.UNKNOWN: "Cloudflare did not say whether there is a credential",
}
_TOKEN_ELEMENT: Final[Json] = {
    "type": "plain_text_input",
    "action_id": TOKEN_BLOCK,
    "max_length": _INPUT_LENGTH,
    "placeholder": plain("cfat_..."),
}
_CHANNEL_ELEMENT: Final[Json] = {
    "type": "conversations_select",
    "action_id": CHANNEL_BLOCK,
    "placeholder": plain("Choose a channel"),
    "response_url_enabled": True,
    # `exclude_external_shared_channels` lets direct messages with another company through: include channels only.
    "filter": {"include": ["public", "private"], "exclude_external_shared_channels": True, "exclude_bot_users": True},
}
_REASON_ELEMENT: Final[Json] = {
    "type": "plain_text_input",
    "action_id": REASON_BLOCK,
    "max_length": REASON_LENGTH,
    "placeholder": plain("Such as a ticket, or: the old one expires on Friday"),
}


def _bucket_element(action_id: str, bucket: str, catalogs: Iterable[Catalog] | None) -> Json:
    if catalogs is None:
        element: Json = {"type": "plain_text_input", "action_id": action_id, "max_length": 63}
        return element | ({"initial_value": bucket} if bucket else {})
    element = {
        "type": "external_select",
        "action_id": action_id,
        "min_query_length": 0,
        "placeholder": plain("Type to search"),
    }
    known = next((catalog for catalog in catalogs if catalog.bucket == bucket), None)
    chosen = _option(bucket, bucket, describe_catalog(known) if known else "")
    return element | ({"initial_option": chosen} if bucket else {})


def _dispatch(bucket_element: Json) -> Json:
    """Have Slack report a chosen bucket at once; a typed one would be reported letter by letter."""
    return {"dispatch_action": True} if bucket_element["type"] == "external_select" else {}


def _channel_element(channel_id: str) -> Json:
    if not channel_id:
        return _CHANNEL_ELEMENT | {"default_to_current_conversation": True}
    return _CHANNEL_ELEMENT | ({} if channel_id == DIRECT else {"initial_conversation": channel_id})


def _direct_input(*, is_ticked: bool) -> Json:
    """Return the direct message checkbox; if ticked, it overrides the channel above it."""
    option = _option("Send it to me directly, not to a channel", DIRECT_BLOCK, "A channel chosen above is then ignored")
    return _input(
        DIRECT_BLOCK, "Direct message", _tick_element(DIRECT_BLOCK, option, is_ticked=is_ticked), optional=True
    )


def _reason_element(reason: str) -> Json:
    return _REASON_ELEMENT | ({"initial_value": reason} if reason else {})


def _tick_element(action_id: str, option: Json, *, is_ticked: bool) -> Json:
    element = {"type": "checkboxes", "action_id": action_id, "options": [option]}
    return element | ({"initial_options": [option]} if is_ticked else {})


def _input(block_id: str, label: str, element: Json, *, hint: str = "", optional: bool = False) -> Json:
    block = {
        "type": "input",
        "block_id": block_id,
        "label": plain(label),
        "element": element,
        "optional": optional,
    }
    return block | ({"hint": plain(hint)} if hint else {})


def _option(text: str, value: str, description: str = "") -> Json:
    option = {"text": plain(text[:_OPTION_TEXT]), "value": value}
    return option | ({"description": plain(description[:_OPTION_TEXT])} if description else {})
