"""Whether enabling a catalog is offered in a message that many can read."""

from collections.abc import Callable
from typing import TypeAlias

from bot.model.catalog import BucketKey

MayEnable: TypeAlias = Callable[[BucketKey, str], bool]
"""Whether anyone may enable this bucket's catalog, from this channel: the press itself is checked again."""


def nobody_may(_: BucketKey, __: str) -> bool:
    """Return False."""
    return False
