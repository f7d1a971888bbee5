"""Slack ids are recognised by their format, and a slip in a list is reported with its fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.slack_ids import SlackId, find_slip

LISTS = {SlackId.USER: "USERS", SlackId.USERGROUP: "GROUPS", SlackId.CHANNEL: "CHANNELS"}
IDS = {
    SlackId.USER: ["U0123ABCD", "W0123ABCD", "USLACKBOT", "U1"],
    SlackId.TEAM: ["T0123ABCD", "E0123ABCD"],
    SlackId.USERGROUP: ["S0123ABCD"],
    SlackId.CHANNEL: ["C0123ABCDEF", "G0123ABCD"],
    SlackId.CONVERSATION: ["C0123ABCD", "G0123ABCD", "D0123ABCD"],
    SlackId.VIEW: ["V0123ABCDEF"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in IDS.items() for text in texts])
def test_an_id_fits(kind: SlackId, text: str) -> None:
    """Users and teams of an Enterprise Grid have other first letters."""
    assert kind.fits(text)


@pytest.mark.parametrize("kind", SlackId)
@pytest.mark.parametrize(
    "rest",
    ["", "0abc", "0ABC ", "0ABC\n", "0ABC\0", "0ABC|x", "0ABC>", "0\u0410BC", "0\u200bABC", "\u0661\u0662", "A" * 41],
    ids=repr,
)
def test_a_malformed_id_does_not_fit(kind: SlackId, rest: str) -> None:
    """A prefix, another alphabet or the length alone is not enough."""
    assert not kind.fits(f"{kind.value[0]}{rest}")
    assert not kind.fits(f" {kind.value[0]}0ABC")


@given(st.text())
def test_a_fitting_id_is_harmless(text: str) -> None:
    """An id can be used in a message, a log line and a database as it is."""
    assert not any(kind.fits(text) for kind in SlackId) or (text.isascii() and text.isalnum() and len(text) <= 41)


SLIPS = {
    "a group": (SlackId.USER, "S0123ABCD", "move it to GROUPS"),
    "a channel": (SlackId.USER, "C0123ABCD", "move it to CHANNELS"),
    "a user": (SlackId.CHANNEL, "W0123ABCD", "move it to USERS"),
    "a direct message": (SlackId.CHANNEL, "D0123ABCD", "remove it"),
    "a name": (SlackId.USER, "@alice", "write the id (U0123ABCD)"),
    "a channel's name": (SlackId.CHANNEL, "#data", "write the id (C0123ABCD)"),
    "a mention": (SlackId.USERGROUP, "<!subteam^S0123ABCD>", "write the id (S0123ABCD)"),
    "small letters": (SlackId.USER, "u0123abcd", "in capitals"),
    "two ids with a blank": (SlackId.USER, "U0123ABCD U0456EFGH", "with a comma between two"),
    "a star": (SlackId.USER, "*", "write ids like U0123ABCD"),
}


@pytest.mark.parametrize(("wanted", "entry", "fix"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_reported_with_its_fix(wanted: SlackId, entry: str, fix: str) -> None:
    """The message has the number of the entry and does not quote it."""
    good = {SlackId.USER: "U0GOOD", SlackId.USERGROUP: "S0GOOD", SlackId.CHANNEL: "C0GOOD"}[wanted]
    slip = find_slip((good, entry, entry), wanted, LISTS)
    assert slip is not None
    assert slip.startswith("entry 2 ")
    assert fix in slip
    assert entry not in slip or entry == "*"
    assert find_slip((good,), wanted, LISTS) is None
