"""An attempt that was refused: who tried what, and why not. The audit and the metrics get each of them."""

from collections.abc import Callable
from dataclasses import dataclass

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused
from bot.policy.rules import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAttempt:
    """What a person tried in vain; a part that was not known yet, or is of no matter, is None or ""."""

    user_id: str
    refusal: AccessRefused
    team_id: str = ""
    verb: Verb | None = None
    key: BucketKey | None = None
    channel_id: str | None = None


Note = Callable[[RefusedAttempt], None]
"""Must not fail, nor wait."""


def keep_quiet(_: RefusedAttempt) -> None:
    """Note nothing: for a gate that only examines."""
