"""Pasted strings are recognised by their format, trimmed of copying slips, and masked where they do not belong."""

import json
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bot.model.pasted_token import DIGEST_MASK, MASK, STORABLE, classify, mask_tokens, trim
from bot.model.submission import TokenKind

# All made up, in the formats that Cloudflare documents.
USER = "cfut_" + "MADEUP0user1" * 3 + "abcd" + "0badc0de"
ACCOUNT = "cfat_" + "MADEUP0acct1" * 3 + "abcd" + "0badc0de"
OLDER = "MADEUP-older_token-0123456789-abcdefghij"
HEX = "0123456789abcdef" * 5

WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
ANY_TEXT = st.lists(st.text() | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zs"])), max_size=4).map("".join)


def _spell(prefix: str) -> st.SearchStrategy[str]:
    body = st.text(WORD[:62], min_size=40, max_size=40)
    checksum = st.text("0123456789abcdef", min_size=8, max_size=8)
    return st.builds(lambda first, last: prefix + first + last, body, checksum)


def _is_mixed(text: str) -> bool:
    return any(c.isupper() for c in text) and any(c.islower() for c in text)


PREFIXED = st.sampled_from(["cfut_", "cfat_", "cfk_", "cfoat_"]).flatmap(_spell)
UNPREFIXED = st.text(WORD, min_size=40, max_size=40).filter(_is_mixed)
HEXADECIMAL = st.one_of(
    st.text("0123456789abcdef", min_size=37, max_size=45),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.text("0123456789ABCDEF", min_size=64, max_size=64),
)


@pytest.mark.parametrize(
    ("pasted", "kind"),
    [
        pytest.param(USER, TokenKind.USER, id="user token"),
        pytest.param(ACCOUNT, TokenKind.ACCOUNT, id="account token"),
        pytest.param(USER[:-1], TokenKind.USER, id="user token of another length"),
        pytest.param(ACCOUNT + "0", TokenKind.ACCOUNT, id="account token of another length"),
        pytest.param(OLDER, TokenKind.UNPREFIXED, id="older token"),
        pytest.param("A" * 40, TokenKind.UNPREFIXED, id="older token of capitals"),
        pytest.param(HEX[:40].upper(), TokenKind.UNPREFIXED, id="40 upper-case hex"),
        pytest.param(OLDER[:39], TokenKind.UNKNOWN, id="39 characters"),
        pytest.param(OLDER + "x", TokenKind.UNKNOWN, id="41 characters"),
        pytest.param("cfxt_" + OLDER, TokenKind.UNKNOWN, id="a prefix of the future"),
        pytest.param("MADEUP.jwt.like~token+with/signs=", TokenKind.UNKNOWN, id="other signs of a token"),
        pytest.param("MADEUP0123456789abcdef==", TokenKind.UNKNOWN, id="padded"),
        pytest.param("a" * 20, TokenKind.UNKNOWN, id="the shortest"),
        pytest.param("z" * 500, TokenKind.UNKNOWN, id="the longest"),
    ],
)
def test_a_possible_token_is_storable(pasted: str, kind: TokenKind) -> None:
    """Formats that Cloudflare documents or may introduce are left for Cloudflare to judge."""
    assert classify(pasted) is kind
    assert kind in STORABLE


@pytest.mark.parametrize(
    ("pasted", "kind"),
    [
        pytest.param("", TokenKind.EMPTY, id="nothing"),
        pytest.param("cfk_" + OLDER, TokenKind.GLOBAL_KEY, id="global key with its prefix"),
        *(pytest.param(HEX[:n], TokenKind.GLOBAL_KEY, id=f"{n} hex") for n in range(37, 46)),
        pytest.param("cfoat_" + OLDER, TokenKind.OAUTH, id="wrangler's token"),
        pytest.param(HEX[:64], TokenKind.S3_SECRET, id="64 hex"),
        pytest.param(HEX[:64].upper(), TokenKind.S3_SECRET, id="64 upper-case hex"),
        pytest.param(HEX[:32], TokenKind.S3_KEY_ID, id="32 hex"),
        pytest.param(f"{USER} {ACCOUNT}", TokenKind.SEVERAL, id="two tokens with a blank"),
        pytest.param(f"{USER}\n{ACCOUNT}", TokenKind.SEVERAL, id="two lines"),
        pytest.param(USER + ACCOUNT, TokenKind.SEVERAL, id="two tokens run together"),
        pytest.param(USER + USER, TokenKind.SEVERAL, id="the same token twice"),
        pytest.param(f"{OLDER[:20]}\n{OLDER[20:]}", TokenKind.SEVERAL, id="broken over two lines"),
        pytest.param("please store my token", TokenKind.SEVERAL, id="a sentence"),
        pytest.param(f"{OLDER}\u3000{OLDER}", TokenKind.SEVERAL, id="an ideographic blank between"),
        pytest.param("hunter2", TokenKind.NOT_A_TOKEN, id="too short"),
        pytest.param("a" * 19, TokenKind.NOT_A_TOKEN, id="one too short"),
        pytest.param("a" * 501, TokenKind.NOT_A_TOKEN, id="one too long"),
        pytest.param("Bearer", TokenKind.NOT_A_TOKEN, id="the word alone"),
        pytest.param(json.dumps({"token": OLDER}, separators=(",", ":")), TokenKind.NOT_A_TOKEN, id="JSON"),
        pytest.param(f"CLOUDFLARE_API_TOKEN:{OLDER}", TokenKind.NAMED_VALUE, id="a line of YAML without a blank"),
        pytest.param(f"api_token: {OLDER}", TokenKind.NAMED_VALUE, id="a line of YAML"),
        pytest.param(f"CLOUDFLARE_API_TOKEN={OLDER}", TokenKind.NAMED_VALUE, id="a line of .env"),
        pytest.param(f"TOKEN={ACCOUNT}", TokenKind.NAMED_VALUE, id="a line of .env with a prefix"),
        pytest.param(f'export TOKEN="{ACCOUNT}', TokenKind.NAMED_VALUE, id="a line of a shell"),
        pytest.param(f"$env:TOKEN = '{ACCOUNT}", TokenKind.NAMED_VALUE, id="a line of PowerShell"),
        pytest.param(f"token = \u201c{OLDER}", TokenKind.NAMED_VALUE, id="a line with curly quotes"),
        pytest.param("12345678-90ab-cdef-1234-567890abcdef", TokenKind.UUID, id="a UUID"),
        pytest.param("12345678-90AB-CDEF-1234-567890ABCDEF", TokenKind.UUID, id="a UUID of capitals"),
        pytest.param(f"={OLDER}", TokenKind.NOT_A_TOKEN, id="the end of such a line"),
        pytest.param(f"https://example.com/?token={OLDER}", TokenKind.NOT_A_TOKEN, id="a URL"),
        pytest.param("\U0001f600" * 40, TokenKind.NOT_A_TOKEN, id="emoji"),
        pytest.param("é" * 40, TokenKind.NOT_A_TOKEN, id="letters beyond ASCII"),
        pytest.param("\u0661" * 40, TokenKind.NOT_A_TOKEN, id="digits beyond ASCII"),
        pytest.param(OLDER[:20] + "\0" + OLDER[20:39], TokenKind.NOT_A_TOKEN, id="NUL inside"),
        pytest.param(OLDER[:20] + "\u200b" + OLDER[20:], TokenKind.NOT_A_TOKEN, id="zero-width space inside"),
        pytest.param(OLDER[:20] + "\u202e" + OLDER[20:], TokenKind.NOT_A_TOKEN, id="right-to-left mark inside"),
        pytest.param("\ud800" * 40, TokenKind.NOT_A_TOKEN, id="half a character"),
    ],
)
def test_each_slip_is_recognised(pasted: str, kind: TokenKind) -> None:
    """Each slip has its own kind, so that the form can name the fix; none of them is stored."""
    assert classify(pasted) is kind
    assert kind not in STORABLE


@pytest.mark.parametrize(
    "filling",
    ["a", "A1b_", "f", "F", "\0", "\n", "\u200f", "\U0001f600", '{"a":1},', "cfut_", USER, '"', "Bearer ", "\ud800"],
    ids=repr,
)
def test_every_length_has_one_kind(filling: str) -> None:
    """From 1 to 3000 characters, the field's limit, nothing crashes and every result is a kind."""
    text = filling * 3000
    for length in range(1, 3001):
        kind = classify(trim(text[:length]))
        assert kind in TokenKind
        assert kind not in STORABLE or length >= 20


@given(ANY_TEXT)
@example("cfk_" * 12)
def test_any_text_has_one_kind(pasted: str) -> None:
    """No text crashes it, and a storable one fits into an HTTP header."""
    trimmed = trim(pasted)
    if classify(trimmed) in STORABLE:
        assert re.fullmatch(r"[\x21-\x7e]{20,500}", trimmed)


BLANKS = [chr(code) for code in range(0x3001) if chr(code).isspace()]
MARKS = list("\0\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
QUOTES = list("\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb")
AROUND = "".join(BLANKS + MARKS + QUOTES) + "\u00ad\u061c\u200c\u200d\u2060"
LEADS = ["Bearer ", "bearer\t", "BEARER  ", "Authorization: Bearer ", "authorization:bearer "]


@given(
    st.lists(st.sampled_from(BLANKS + MARKS + QUOTES + LEADS), max_size=8),
    st.one_of(PREFIXED, UNPREFIXED, HEXADECIMAL),
    st.lists(st.sampled_from(BLANKS + MARKS + QUOTES), max_size=8),
)
@example(["'", "Bearer ", '"', " "], USER, [" ", '"', "\n", "'"])
@example(["Bearer ", "Bearer "], OLDER, [])
def test_copying_slips_are_trimmed_in_any_order(before: list[str], token: str, after: list[str]) -> None:
    """Blanks, quotes, direction marks and `Bearer`, repeated and nested at will, are removed from around the token."""
    assert trim("".join(before) + token + "".join(after)) == token


@given(ANY_TEXT)
def test_trimming_twice_changes_nothing(pasted: str) -> None:
    """The result is trimmed completely, and is a part of what was pasted."""
    trimmed = trim(pasted)
    assert trim(trimmed) == trimmed
    assert trimmed in pasted


def _trim_layer_by_layer(pasted: str) -> str:
    """Trim in the obvious way, with one pass for each layer."""
    trimmed = re.sub(r"\A(?:authorization\s*:\s*)?bearer\s+", "", pasted.strip(AROUND), flags=re.IGNORECASE)
    return trimmed if trimmed == pasted else _trim_layer_by_layer(trimmed)


LAYERS = st.sampled_from([*BLANKS[:8], *MARKS, *QUOTES, *LEADS, "Bearer", "authorization", ":", "x"])


@given(st.lists(LAYERS, max_size=12))
def test_one_pass_trims_what_many_would(pieces: list[str]) -> None:
    """The order of the layers does not matter."""
    pasted = "".join(pieces)
    assert trim(pasted) == _trim_layer_by_layer(pasted)


ENDLESS = {
    "layers": "'Bearer " * (1 << 17),
    "layers on both sides": "'Bearer " * (1 << 16) + USER + "' " * (1 << 18),
    "a word and blanks": "authorization" + " " * (1 << 20),
    "half a word": "authorization:  " * (1 << 16),
}


@pytest.mark.parametrize("pasted", ENDLESS.values(), ids=ENDLESS)
def test_many_layers_are_trimmed_in_one_pass(pasted: str) -> None:
    """With a pass for each layer this test would not finish."""
    assert len(trim(pasted)) <= len(pasted)
    assert USER not in pasted or trim(pasted) == USER


@pytest.mark.parametrize(
    "token", [USER, "Bearertoken-MADEUP-0123456789", "-MADEUP-token-with-hyphens-around-", "=MADEUP=0123456789abcdef="]
)
def test_trimming_takes_nothing_from_a_token(token: str) -> None:
    """The word Bearer is removed only before a blank, and the token's own characters stay."""
    assert trim(token) == token


@given(ANY_TEXT, PREFIXED, ANY_TEXT)
def test_a_token_with_a_prefix_is_masked_anywhere(before: str, token: str, after: str) -> None:
    """Nothing of it is left, whatever it is attached to."""
    assume(token[4:] not in before + after)
    masked = mask_tokens(before + token + after)
    assert MASK in masked
    assert token[4:] not in masked


@given(ANY_TEXT, UNPREFIXED, ANY_TEXT)
@example("token=", "AbcdefghijKlmnopqrstUvwxyzabcdEfghijklmn", "")  # one in a thousand has no digit
@example("https://example.com/?t=", OLDER, "&x=1")
def test_an_older_token_is_masked_anywhere(before: str, token: str, after: str) -> None:
    """It is recognised by its length and mix of characters, from one word boundary to the next."""
    assume(before[-1:] not in set(WORD) and after[:1] not in set(WORD))
    assert mask_tokens(before + token + after) == mask_tokens(before) + MASK + mask_tokens(after)


@given(ANY_TEXT, HEXADECIMAL, ANY_TEXT)
@example("CLOUDFLARE_API_KEY=", HEX[:37], "")
@example("", "0" * 37, ":G" + "0" * 37)  # the same digits again in a longer word, which stays
def test_a_long_hexadecimal_number_is_masked_anywhere(before: str, key: str, after: str) -> None:
    """A Global API key and an S3 secret are masked at word boundaries: a bucket's name may contain a hash."""
    assume(before[-1:] not in set(WORD) and after[:1] not in set(WORD))
    assert mask_tokens(before + key + after) == mask_tokens(before) + MASK + mask_tokens(after)


@given(ANY_TEXT, HEXADECIMAL, ANY_TEXT)
@example("sha256:", "5a4d" * 16, "")
@example("", "5A4D" * 10, ".")
@example("", "5A4d" * 10, "")
def test_what_may_be_a_commit_or_a_checksum_gets_a_mark_on_request(before: str, key: str, after: str) -> None:
    """It is 40 or 64 digits in one case, and nothing else; it is masked all the same."""
    assume(before[-1:] not in set(WORD) and after[:1] not in set(WORD))
    mark = DIGEST_MASK if len(key) in {40, 64} and key in {key.lower(), key.upper()} else MASK

    masked = mask_tokens(f"{before}{key}{after}", digest_mask=DIGEST_MASK)

    around = [mask_tokens(text, digest_mask=DIGEST_MASK) for text in (before, after)]
    assert masked == around[0] + mark + around[1]
    assert mask_tokens(masked, digest_mask=DIGEST_MASK) == masked


@pytest.mark.parametrize("token", ["cfut_x", "cfat_x", "cfk_xy", "cfoat_x"])
def test_the_beginning_of_a_token_is_masked(token: str) -> None:
    """A search box sends each letter as it is typed: the first ones after the prefix are masked already."""
    assert mask_tokens(token) == MASK


@given(st.lists(st.one_of(PREFIXED, UNPREFIXED, HEXADECIMAL), min_size=2, max_size=4))
def test_all_of_several_tokens_are_masked(tokens: list[str]) -> None:
    """Two lines of an .env file lose both values."""
    assert mask_tokens("\n".join(tokens)).replace(MASK, "").strip() == ""


@given(ANY_TEXT)
def test_masking_twice_changes_nothing(text: str) -> None:
    """The mask itself does not look like a token."""
    assert mask_tokens(mask_tokens(text)) == mask_tokens(text)


SENTENCES = [
    "",
    "ok",
    "The nightly export needs a new credential, see INFRA-1234.",
    "Rotation of 2026-11-20, asked for by @alice in #data-platform",
    "https://example.atlassian.net/browse/INFRA-1234?focusedCommentId=123456",
    "cfut is a prefix, and so are cfat and cfk",
    "team-analytics-production-events-eu-west-2026-daily-aggregates",
    "0123456789abcdef0123456789abcdef",  # an account id
    "0123456789abcdef0123456789abcdef_analytics-events",
    "8f00a1b2c3d4e5f6-AMS",  # a Ray ID
    "T0123ABCD U0123ABCD C0123ABCDEF V0123ABCDEF S0123ABCD",
    "1234567890.1234567890.0123456789abcdef0123456789abcdef",  # a trigger id
    "Donaudampfschiffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_ordinary_text_is_not_masked(text: str) -> None:
    """Reasons, tickets, ids and names must not cause the advice to revoke them."""
    assert mask_tokens(text) == text


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True))
@example("a" * 36)
@example("g" * 63)
@example("prod-" + HEX[:40])
def test_a_bucket_name_is_not_masked(name: str) -> None:
    """Every possible name stays, except a long hexadecimal number."""
    assume(not re.fullmatch(r"[0-9a-f]{37,}", name))
    assert mask_tokens(name) == name
    assert mask_tokens(f"store it in {name}, please") == f"store it in {name}, please"


@given(st.uuids().map(str) | st.uuids().map(lambda value: value.hex))
def test_a_uuid_is_not_masked(identifier: str) -> None:
    """Catalogs, accounts and messages have them, with or without hyphens."""
    assert mask_tokens(f"id={identifier}") == f"id={identifier}"


@given(st.from_regex(r"[A-Z][A-Z0-9]{8,14}", fullmatch=True))
def test_a_slack_id_is_not_masked(identifier: str) -> None:
    """Users, channels, views and workspaces keep their ids in every payload."""
    assert mask_tokens(f"<@{identifier}|x>") == f"<@{identifier}|x>"
