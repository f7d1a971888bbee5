"""The values of buttons for a bucket. A value comes back from a client, maybe years later."""

from bot.model.catalog import BucketKey, is_bucket_name
from bot.model.place import DIRECT, is_channel_id


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
