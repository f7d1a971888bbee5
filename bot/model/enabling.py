"""Whether enabling a catalog, or rotating its credential, is offered in a message that many can read."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from bot.model.catalog import BucketKey

MayEnable: TypeAlias = Callable[[BucketKey, str], bool]
"""Whether anyone may enable this bucket's catalog, from this channel: the press itself is checked again."""


MayRotate: TypeAlias = Callable[[BucketKey, str], Awaitable[bool]]
"""The same of rotating it, which also takes a process that makes tokens."""


def nobody_may(_: BucketKey, __: str) -> bool:
    """Return False."""
    return False


async def nobody_may_rotate(_: BucketKey, __: str) -> bool:
    """Return False."""
    return False
