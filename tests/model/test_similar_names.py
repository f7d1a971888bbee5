"""Suggestions for a misspelled name."""

import pytest

from bot.model.similar_names import find_similar

NAMES = ["analytics-events", "billing-exports", "lake", "lake-2", "logs"]


@pytest.mark.parametrize(
    ("typed", "similar"),
    [
        pytest.param("analytcs-events", ["analytics-events"], id="a letter is missing"),
        pytest.param("biling-export", ["billing-exports"], id="two letters are missing"),
        pytest.param("lkae", ["lake"], id="two letters changed places"),
        pytest.param("lake", [], id="one of them"),
        pytest.param("lake-3", [], id="another number"),
        pytest.param("lake2", ["lake-2"], id="a hyphen is missing"),
        pytest.param("photos", [], id="nothing like it"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_a_misspelled_name_finds_the_intended_one(typed: str, similar: list[str]) -> None:
    """One slip in four letters is tolerated; an existing name gets no suggestion."""
    assert find_similar(typed, NAMES)[:1] == similar
