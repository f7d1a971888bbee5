"""What a button says of the bucket that it is for; its value comes back from a client, maybe years later."""

from bot.model.catalog import BucketKey, is_bucket_name


def bucket_value(key: BucketKey) -> str:
    """Return the value of a button for this bucket."""
    return f"{key.account_id}/{key.bucket}"


def read_bucket_value(value: str, account_id: str) -> BucketKey | None:
    """Return the bucket, or None if the value names another account's bucket or none at all (a submission's id).

    A bare bucket name is one of the bot's only account: older messages have buttons with that.
    """
    account, slash, bucket = value.rpartition("/")
    is_ours = account == account_id if slash else True
    return BucketKey(account_id=account_id, bucket=bucket) if is_ours and is_bucket_name(bucket) else None
