"""Who sees which catalogs: kept once for all who see the same, and apart for those who do not."""

from dataclasses import dataclass

import pytest

from bot.model.catalog import CredentialStatus, Snapshot
from bot.model.errors import AccessRefused, BucketNotAllowed
from bot.policy.gate import Permit
from bot.policy.rules import Allowlist, Person, Request, Rule
from bot.slack.stories.need import Need
from bot.slack.stories.visibility import _MOST, Visibility
from bot.storage.catalogs import Catalogs
from bot.storage.sqlite import SqliteDatabase
from tests.make import ACCOUNT, NOW, make_catalog, make_key

LIST = Allowlist(users=frozenset({"ada", "bob"}), usergroups=frozenset(), channels=frozenset(), buckets=("*-lake",))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBuckets(Rule):
    """A rule that no list can express: people see the buckets that begin with their name."""

    def refuse(self, request: Request) -> AccessRefused | None:
        """Return BucketNotAllowed for any other."""
        if request.person is None or request.key is None or request.key.bucket.startswith(request.person.user_id):
            return None
        return BucketNotAllowed()


def _permit(user: str, *more: Rule) -> Permit:
    return Permit(person=Person(user_id=user, usergroups=frozenset()), rules=(*LIST.rules(), *more))


@pytest.fixture
async def catalogs(database: SqliteDatabase) -> Catalogs:
    """Return the records of three catalogs, of which two are served."""
    catalogs = Catalogs(database, ACCOUNT)
    listed = tuple(make_catalog(bucket, tested_at=None) for bucket in ("ada-lake", "bob-lake", "pond"))
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    return catalogs


async def test_those_who_see_the_same_share_it(catalogs: Catalogs) -> None:
    """The list says what is served for everyone."""
    visibility = Visibility(catalogs, lambda: NOW)
    seen = await visibility.of(_permit("ada"))
    assert seen.names == ["ada-lake", "bob-lake"]
    assert await visibility.of(_permit("bob")) is seen


async def test_a_rule_can_tell_people_apart(catalogs: Catalogs) -> None:
    """No one is shown what was put in order for another person."""
    visibility = Visibility(catalogs, lambda: NOW)
    for user in ("ada", "bob", "ada"):
        assert (await visibility.of(_permit(user, OwnBuckets()))).names == [f"{user}-lake"]
    for number in range(2 * _MOST):
        assert (await visibility.of(_permit(f"user{number}", OwnBuckets()))).names == []
    assert len(visibility._seen) == _MOST


async def test_a_change_is_seen_by_all(catalogs: Catalogs, database: SqliteDatabase) -> None:
    """Also one that another process made, in each order that is kept."""
    visibility, permits = Visibility(catalogs, lambda: NOW), (_permit("ada"), _permit("ada", OwnBuckets()))
    for permit in permits:
        assert (await visibility.of(permit)).counts[Need.BROKEN] == 0
    await Catalogs(database, ACCOUNT).save_test(make_key("ada-lake"), CredentialStatus.INVALID, NOW)
    for permit in permits:
        seen = await visibility.of(permit)
        assert [(row.need, row.catalog.bucket) for row in seen.rows(0, 1)] == [(Need.BROKEN, "ada-lake")]


async def test_before_the_first_list_nothing_is_seen(database: SqliteDatabase) -> None:
    """A single catalog that was enabled is no list."""
    catalogs = Catalogs(database, ACCOUNT)
    await catalogs.note_enabled(make_key("ada-lake"))
    assert (await Visibility(catalogs, lambda: NOW).of(_permit("ada"))).names == []


def test_no_rule_of_the_lists_tells_people_apart() -> None:
    """So one order is enough; a rule that says nothing of it is taken to do so."""
    every = Allowlist(users=frozenset({"ada"}), usergroups=frozenset(), channels=frozenset({"C1"}), buckets=("*",))
    assert [rule.tells_people_apart for rule in every.rules()] == [False] * 4
    assert OwnBuckets().tells_people_apart
    assert _permit("ada").outlook is None
    assert _permit("ada", OwnBuckets()).outlook == Person(user_id="ada", usergroups=frozenset())
