"""The type-ahead of the bucket field: what it offers to whom."""

import pytest

from bot.model.pasted_token import MASK
from tests.desk import ADA, BUCKET, STRANGERS, TOKEN_TEXT, Desk, Forge, only


async def test_the_type_ahead_offers_what_matches(desk: Desk) -> None:
    """Names with that prefix come first, each with the state of its slot."""
    await desk.command()

    found = await desk.slack.search_options(ADA, "bucket", "events")

    assert [(option.value, option.description) for option in found.options] == [
        (BUCKET, "No credential yet"),
        ("old-events", "Catalog switched off: enable it first"),
    ]
    assert desk.looks == ["listed", "listed"]


SEARCHES: dict[str, tuple[str, list[str]]] = {
    "nothing typed": ("", [BUCKET, "billing-exports", "old-events"]),
    "capitals and blanks": ("  BILLING ", ["billing-exports"]),
    "the whole name": (BUCKET, [BUCKET]),
    "not listed": ("new-lake", ["new-lake"]),
    "a slip": ("biling-exports", ["billing-exports", "biling-exports"]),
    "no possible name": ("no_such", []),
    "a token": (TOKEN_TEXT, [MASK]),
}


@pytest.mark.parametrize(("query", "values"), SEARCHES.values(), ids=SEARCHES)
async def test_each_query_has_its_options(desk: Desk, query: str, values: list[str]) -> None:
    """Case does not matter; a token is no name and is not repeated."""
    await desk.command()

    found = await desk.slack.search_options(ADA, "bucket", query)

    assert sorted(option.value for option in found.options) == sorted(values)
    assert "MADEUP" not in repr(found)


async def test_only_the_served_buckets_are_offered(desk: Desk) -> None:
    """Catalogs that the bot does not serve are not shown."""
    desk.serve(only(buckets=("billing-*",)))
    await desk.command()

    found = await desk.slack.search_options(ADA, "bucket", "")

    assert [option.value for option in found.options] == ["billing-exports"]


@pytest.mark.parametrize(("forge", "_words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_is_offered_nothing(desk: Desk, forge: Forge, _words: str) -> None:
    """The names of the account's buckets are not for everyone."""
    await desk.command()
    await desk.slack.search_options(ADA, "bucket", "")
    payload = desk.slack.sent[-1].payload

    assert await desk.deliver(forge(payload)) == {"options": []}


@pytest.mark.parametrize("statement", ["DROP TABLE snapshots", "DROP TABLE catalog_changes"])
async def test_without_a_database_nothing_is_offered(desk: Desk, statement: str) -> None:
    """The type-ahead stays empty, and raises no error."""
    await desk.command()
    desk.execute(statement)

    found = await desk.slack.search_options(ADA, "bucket", "")

    assert (found.options, found.failure) == ((), None)
