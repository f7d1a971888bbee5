"""Recognizes Slack's ids, and explains wrong ones. Pure.

Slack's own description of its Web API has patterns such as `^[UW][A-Z0-9]{2,}$`, without an upper limit.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

_REST: Final = r"[A-Z0-9]{1,40}"


class SlackId(Enum):
    """The kinds of ids, by their first letters. An Enterprise Grid organization can take the place of a team."""

    USER = "UW"
    TEAM = "TE"
    USERGROUP = "S"
    CHANNEL = "CG"
    CONVERSATION = "CGD"
    VIEW = "V"
    APP = "A"
    BOT = "B"

    def fits(self, text: str) -> bool:
        """Return whether a text can be such an id."""
        return re.fullmatch(f"[{self.value}]{_REST}", text) is not None


def find_slip(entries: Sequence[str], wanted: SlackId, lists: Mapping[SlackId, str]) -> str | None:
    """Return which entry of an operator's list is not such an id, and the fix; None if all are.

    `lists` names the setting to which each kind belongs.
    """
    slips = ((number, entry) for number, entry in enumerate(entries, 1) if not wanted.fits(entry))
    return next((f"entry {number} {_fix(entry, wanted, lists)}" for number, entry in slips), None)


_EXAMPLES: Final = {SlackId.USER: "U0123ABCD", SlackId.USERGROUP: "S0123ABCD", SlackId.CHANNEL: "C0123ABCD"}


def _fix(entry: str, wanted: SlackId, lists: Mapping[SlackId, str]) -> str:
    home = next((name for kind, name in lists.items() if kind.fits(entry)), None)
    if home is not None:
        return f"is the id of another kind: move it to {home}"
    if SlackId.CONVERSATION.fits(entry):
        return "is a direct message: remove it, since only channels (C0123ABCD) can be listed"
    if entry.startswith(("@", "#", "<")):
        return f"is a name or a mention: write the id ({_EXAMPLES[wanted]}), which Slack shows in its details"
    if wanted.fits(entry.upper()):
        return "has small letters: write the id in capitals, as Slack shows it"
    return f"is no such id: write ids like {_EXAMPLES[wanted]}, with a comma between two"
