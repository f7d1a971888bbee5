"""The values of buttons for a bucket. A value comes back from a client, maybe years later."""

import re
from typing import Final

from bot.model.catalog import BucketKey, is_bucket_name
from bot.model.place import DIRECT, is_channel_id
from bot.model.slack_ids import SlackId

_DIGEST: Final = re.compile(r"[0-9a-f]{32}")


def bucket_value(key: BucketKey) -> str:
    """Return the value of a button for this bucket."""
    return f"{key.account_id}/{key.bucket}"


def read_bucket_value(value: str, account_id: str) -> BucketKey | None:
    """Return the bucket, or None if the value names another account's bucket or none (a submission id).

    A bare bucket name, as in the buttons of older messages, is of the bot's account.
    """
    account, slash, bucket = value.rpartition("/")
    is_ours = account == account_id if slash else True
    return BucketKey(account_id=account_id, bucket=bucket) if is_ours and is_bucket_name(bucket) else None


def place_value(key: BucketKey, place: str) -> str:
    """Return the value of a button for this bucket whose result goes to `place`."""
    return f"{bucket_value(key)} {place}"


def read_place_value(value: str, account_id: str) -> tuple[BucketKey, str] | None:
    """Return the bucket and the place, or None. Both come from a client: neither is checked for permission yet."""
    bucket, blank, place = value.partition(" ")
    key = read_bucket_value(bucket, account_id) if blank else None
    is_place = place == DIRECT or is_channel_id(place)
    return (key, place) if key is not None and is_place else None


def request_value(submission_id: str, digest: str) -> str:
    """Return the value of a button that decides on what this digest stands for."""
    return f"{submission_id} {digest}"


def read_request_value(value: str) -> tuple[str, str] | None:
    """Return the submission's id and the digest, or None. Both come from a client."""
    submission_id, _, digest = value.partition(" ")
    return (submission_id, digest) if SlackId.VIEW.fits(submission_id) and _DIGEST.fullmatch(digest) else None
