"""A reason with a git commit or a SHA-256 in it, which by its shape may be a token: sent masked, after a warning."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from bot.model.memory import Memory
from bot.model.pasted_token import CONFIRMED, DIGEST_MASK
from bot.slack.stories.open_form import OPENING_LIFETIME

_WARNING: Final = (
    "This looks like a token, so it was masked. If it is one, revoke it where it was created. If it is a commit or a "
    "checksum, press the button again: it is sent masked."
)


class MaskedReasons:
    """Remembers, in this process, which forms have shown the warning; another process shows it once more."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._warned = Memory[str, bool](clock)

    def find_problem(self, view_id: str, reason: str) -> str | None:
        """Return the warning the first time that this form has such a reason, then None."""
        if DIGEST_MASK not in reason or self._warned.get(view_id):
            return None
        self._warned.keep(view_id, True, OPENING_LIFETIME)  # noqa: FBT003 - a set whose entries expire
        return _WARNING


def confirm_reason(reason: str) -> str:
    """Return the reason to record: the word itself never passed the ingress."""
    return reason.replace(DIGEST_MASK, CONFIRMED)
