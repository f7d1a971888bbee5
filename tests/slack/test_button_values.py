"""The values of buttons for a bucket: they name the account, and are checked when they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import BucketKey
from bot.model.pasted_token import mask_tokens
from bot.slack.button_values import bucket_value, read_bucket_value

ACCOUNT = "5a4db0c0000000000000000000000001"
OTHER_ACCOUNT = "f" * 32
BUCKETS = st.from_regex(r"[a-z][a-z0-9-]{1,61}[a-z]", fullmatch=True)
LONGEST_VALUE = 2000
"""Slack's limit (https://docs.slack.dev/reference/block-kit/block-elements/button-element)."""


@given(BUCKETS)
def test_a_value_is_parsed_back_into_its_bucket(bucket: str) -> None:
    """It fits a button, and nothing in it is taken for a token on the way."""
    key = BucketKey(account_id=ACCOUNT, bucket=bucket)
    value = bucket_value(key)

    assert len(value) <= LONGEST_VALUE
    assert mask_tokens(value) == value
    assert read_bucket_value(value, ACCOUNT) == key


def test_an_older_button_names_the_bucket_alone() -> None:
    """Messages keep their buttons for years; there was one account then."""
    assert read_bucket_value("lake", ACCOUNT) == BucketKey(account_id=ACCOUNT, bucket="lake")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"{OTHER_ACCOUNT}/lake", id="another account's"),
        pytest.param("/lake", id="no account"),
        pytest.param(f"{ACCOUNT}/", id="no bucket"),
        pytest.param(f"{ACCOUNT}/La_ke", id="no bucket's name"),
        pytest.param(f"{ACCOUNT}/lake/pond", id="two buckets"),
        pytest.param(f"{ACCOUNT.upper()}/lake", id="another case"),
        pytest.param("V0MADEUP01", id="a submission's id"),
        pytest.param("../lake", id="a path"),
        pytest.param("", id="nothing"),
    ],
)
def test_any_other_value_is_rejected(value: str) -> None:
    """It comes from a client."""
    assert read_bucket_value(value, ACCOUNT) is None
