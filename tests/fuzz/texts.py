"""What people type and what buttons say: the command's text, form fields, and the values of buttons."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hypothesis import strategies as st

from bot.model.catalog import BucketKey, is_bucket_name
from bot.model.foreign_text import one_line
from bot.model.pasted_token import classify, find_other_secret, mask_tokens, trim, trim_typed
from bot.model.place import DIRECT, is_channel_id
from bot.slack import form as modal
from bot.slack.blocks import escape
from bot.slack.button_values import bucket_value, place_value, read_bucket_value, read_place_value
from bot.slack.subcommands import SUBCOMMANDS, ask_back, guess_subcommand, read_text
from tests.fuzz.target import PLANTED, STAND_IN, TEXT, Check, Target, changed_bytes, plant
from tests.leaks import find_leaks
from tests.make import ACCOUNT

_TYPED: Final = tuple(
    text.encode()
    for text in (
        "",
        "analytics-events",
        "status analytics-events",
        "histroy",
        "--help",
        "/store lake",
        f"lake {STAND_IN}",
        f"Authorization: Bearer {STAND_IN}",
        f"CLOUDFLARE_API_TOKEN='{STAND_IN}'",
        "commit 0123456789abcdef0123456789abcdef01234567",
        "-----BEGIN PRIVATE KEY-----\nMADEUP",
        "\u202eb\u200bucket\u2066",
        "x" * 5000,
    )
)
_VALUES: Final = tuple(
    value.encode()
    for value in (
        f"{ACCOUNT}/lake",
        "lake",
        "V0MADEUP",
        f"{ACCOUNT}/lake C0DATAPLT",
        f"{ACCOUNT}/lake direct",
        f"{'0' * 32}/lake C0DATAPLT",
        "/ ",
        "a/b/c d e",
    )
)


def _decode(data: bytes) -> str:
    """Return a text as a client can send it, which may hold lone surrogates."""
    return data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("utf-8", "surrogateescape")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _check_typed(data: bytes) -> None:
    text = plant(_decode(data))
    line = one_line(text)
    line.encode()  # every part of the program can
    assert line == one_line(line)
    assert "\n" not in line
    masked = mask_tokens(line)
    assert find_leaks(masked.encode(), PLANTED) == []
    assert mask_tokens(masked) == masked
    subcommand, bucket = read_text(masked)
    assert subcommand in SUBCOMMANDS
    assert bucket == trim_typed(bucket) or subcommand.argument
    guess = guess_subcommand(masked)
    if guess is not None:
        ask_back(escape(bucket), guess)
    assert (modal.check_bucket(bucket) is None) == is_bucket_name(bucket)
    modal.check_reason(masked)
    trimmed = trim(text)
    assert trim(trimmed) == trimmed
    assert bool(find_other_secret(trimmed)) <= bool(trimmed)
    classify(trimmed)


def _check_value(data: bytes) -> None:
    value = _decode(data)
    key = read_bucket_value(value, ACCOUNT)
    if key is not None:
        assert key.account_id == ACCOUNT
        assert is_bucket_name(key.bucket)
        assert read_bucket_value(bucket_value(key), ACCOUNT) == key
    found = read_place_value(value, ACCOUNT)
    if found is not None:
        assert found[1] == DIRECT or is_channel_id(found[1])
        assert read_place_value(place_value(*found), ACCOUNT) == found
    assert read_bucket_value(bucket_value(BucketKey(account_id="f" * 32, bucket="lake")), ACCOUNT) is None


@contextmanager
def _typed() -> Iterator[Check]:
    yield _check_typed


@contextmanager
def _values() -> Iterator[Check]:
    yield _check_value


_ENCODED: Final = TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))

TARGETS: Final = (
    Target(name="typed text", open=_typed, seeds=_TYPED, inputs=_ENCODED | changed_bytes(_TYPED) | st.binary()),
    Target(name="values of buttons", open=_values, seeds=_VALUES, inputs=_ENCODED | changed_bytes(_VALUES)),
)
