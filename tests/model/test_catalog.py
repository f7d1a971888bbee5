"""The names that a bucket can have."""

from hypothesis import example, given
from hypothesis import strategies as st

from bot.model.catalog import is_bucket_name


@given(name=st.text(max_size=70) | st.from_regex(r"[a-z0-9-]{1,70}"))
@example("lake\n")
@example("l\u0430ke")
@example("abc")
@example("ab")
@example("a" * 63)
@example("a" * 64)
@example("-lake")
@example("lake-")
def test_a_bucket_is_named_as_cloudflare_allows_it(name: str) -> None:
    """3 to 63 lower-case letters, digits and hyphens, with no hyphen at either end."""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    expected = 3 <= len(name) <= 63 and set(name) <= allowed and "-" not in (name[0], name[-1])
    assert is_bucket_name(name) is expected
