"""A minted token's name: what builds it reads it, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import BucketKey
from bot.model.token_name import LONGEST_NAME, TokenName, is_installation

MARK = "4f3a9c1e"
NAME = TokenName(installation=MARK, bucket="my-bucket", random="9k2m4p7q1x")
TEXT = "r2-credential-bot 4f3a9c1e my-bucket 9k2m4p7q1x"
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True)


def test_a_name_as_people_see_it() -> None:
    """In the dashboard, in the log and in the audit."""
    assert str(NAME) == TEXT
    assert TokenName.parse(TEXT) == NAME
    assert NAME.key("0" * 32) == BucketKey(account_id="0" * 32, bucket="my-bucket")


@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), BUCKETS)
def test_every_name_that_is_built_can_be_read_and_is_short_enough(mark: str, bucket: str) -> None:
    """For every bucket that there can be."""
    name = TokenName.new(mark, bucket)
    assert TokenName.parse(str(name)) == name
    assert len(str(name)) <= LONGEST_NAME


def test_names_are_random() -> None:
    """A counted name could be given twice, after a backup was put back."""
    assert len({TokenName.new(MARK, "lake") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "r2-credential-bot",
        "r2-credential-bot 4f3a9c1e my-bucket",
        TEXT + " more",
        TEXT + " ",
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace(" ", "  "),
        TEXT.replace("r2-", "r3-"),
        TEXT.upper(),
        TEXT.replace(MARK, "4F3A9C1E"),
        TEXT.replace(MARK, MARK + "0"),
        TEXT.replace(MARK, MARK[:7]),
        TEXT.replace("my-bucket", "My_Bucket"),
        TEXT.replace("my-bucket", "b" * 64),
        TEXT.replace("9k2m4p7q1x", "9k2m4p7q1"),
        TEXT.replace("9k2m4p7q1x", "9k2m4p7q1x0"),
        TEXT.replace("9k2m4p7q1x", "9K2m4p7q1x"),
        TEXT.replace("9k2m4p7q1x", "\uff19k2m4p7q1x"),
        TEXT.replace("4f3a9c1e", "\u0664f3a9c1e"),
    ],
)
def test_any_other_name_is_not_the_bots(text: str) -> None:
    """What cannot be read is never touched."""
    assert TokenName.parse(text) is None


@pytest.mark.parametrize(
    ("mark", "bucket", "random"),
    [("4f3a9c1", "lake", "0" * 10), (MARK, "Lake", "0" * 10), (MARK, "lake", "0" * 9), (MARK, "lake other", "0" * 10)],
)
def test_parts_of_another_shape_are_refused(mark: str, bucket: str, random: str) -> None:
    """Such a name could not be found again."""
    with pytest.raises(ValueError, match="minted token"):
        TokenName(installation=mark, bucket=bucket, random=random)


@pytest.mark.parametrize(
    ("mark", "is_ours"), [(MARK, True), ("4f3a9c1f", False), ("4f3a9c1", False), ("", False), ("4F3A9C1E", False)]
)
def test_only_the_whole_mark_makes_a_name_ours(mark: str, *, is_ours: bool) -> None:
    """Sweeping by a prefix has deleted the tokens of other deployments elsewhere."""
    assert NAME.is_ours(mark) is is_ours


@pytest.mark.parametrize(("text", "is_one"), [(MARK, True), ("4f3a9c1", False), ("4f3a9c1e\n", False), ("", False)])
def test_marks(text: str, *, is_one: bool) -> None:
    """Eight lower-case hexadecimal digits."""
    assert is_installation(text) is is_one
