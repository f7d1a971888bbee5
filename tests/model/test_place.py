"""Where a result may go: which ids can be a channel's."""

import pytest

from bot.model.place import DIRECT, is_channel_id

IDS = {
    "a channel": ("C0DATAPLT", True),
    "an older private channel": ("G0INCID42", True),
    "a direct message": ("D0ADA0001", False),
    "a person": ("U0ADA0001", False),
    "a person of an organization": ("W0ADA0001", False),
    "a user group": ("S0DATAENG", False),
    "the person's own direct message": (DIRECT, False),
    "lower case": ("c0dataplt", False),
    "a name": ("#data-platform", False),
    "a letter alone": ("C", False),
    "nothing": ("", False),
    "a trailing line break": ("C0DATAPLT\n", False),
    "two": ("C0DATAPLT,C0ANALYTX", False),
    "markup": ("C0DATAPLT|x>", False),
    "digits of another script": ("C\uff11\uff12\uff13", False),
    "endless": ("C" * 10_000, False),
}


@pytest.mark.parametrize(("text", "is_channel"), IDS.values(), ids=IDS)
def test_a_channel_is_recognised_by_the_format_of_its_id(text: str, *, is_channel: bool) -> None:
    """Any other id is never posted to, whatever Slack would make of it."""
    assert is_channel_id(text) is is_channel
