"""Who sees which catalogs: kept once for all who see the same, and apart for those who do not."""

from dataclasses import replace

import pytest

from bot.model.catalog import CredentialStatus, Snapshot
from bot.policy.gate import Gate, Home
from bot.policy.permit import Permit
from bot.policy.rules import Allowlist, People, Person, Rule, Verb
from bot.slack.memberships import Memberships
from bot.slack.stories.need import Need
from bot.slack.stories.visibility import _MOST, Visibility
from bot.storage.catalogs import Catalogs
from bot.storage.sqlite import SqliteDatabase
from tests.everybody import EVERYBODY
from tests.make import ACCOUNT, NOW, make_catalog, make_key
from tests.rotation.scene import GRANT, make_scheduled

LIST = Allowlist(users=frozenset({"ada", "bob"}), usergroups=frozenset(), channels=frozenset(), buckets=("*-lake",))


def _permit(user: str, *rules: Rule) -> Permit:
    return Permit(person=Person(user_id=user, usergroups=frozenset()), rules=rules or LIST.rules())


def _own_buckets(user: str, *channels: str, verb: Verb = Verb.STATUS) -> Rule:
    """Return a rule by which a user sees the buckets that begin with this name."""
    return Rule(
        name=f"of {user}",
        who=People(users=frozenset({user})),
        verbs=frozenset({verb}),
        buckets=(f"{user}-*",),
        channels=frozenset(channels),
    )


OWN = (_own_buckets("ada"), _own_buckets("bob"))


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


async def test_rules_can_tell_people_apart(catalogs: Catalogs) -> None:
    """No one is shown what was put in order for another person; those whom no rule names see nothing."""
    visibility = Visibility(catalogs, lambda: NOW)
    for user in ("ada", "bob", "ada"):
        assert (await visibility.of(_permit(user, *OWN))).names == [f"{user}-lake"]
    for number in range(2 * _MOST):
        user = f"user{number}"
        assert (await visibility.of(_permit(user, *OWN))).names == []
        assert (await visibility.of(_permit(user, *OWN, _own_buckets(user)))).names == []
    assert len(visibility._seen) == _MOST


async def test_the_verb_and_the_channel_tell_what_is_seen(catalogs: Catalogs) -> None:
    """A table in one channel does not show what may be asked for in another only, nor what may only be stored."""
    visibility = Visibility(catalogs, lambda: NOW)
    permit = _permit("ada", _own_buckets("ada", "C1"), replace(LIST.rules()[0], verbs=frozenset({Verb.STORE})))

    assert (await visibility.of(permit, Verb.STATUS, channel_id="C1")).names == ["ada-lake"]
    assert (await visibility.of(permit, Verb.STATUS, channel_id="C2")).names == []
    assert (await visibility.of(permit, Verb.STORE, channel_id="C2")).names == ["ada-lake", "bob-lake"]
    assert (await visibility.of(permit)).names == ["ada-lake", "bob-lake"]


async def test_other_rules_show_other_buckets_at_once(catalogs: Catalogs) -> None:
    """What is kept depends on the lists of buckets alone, so it outlives no rule."""
    visibility = Visibility(catalogs, lambda: NOW)
    memberships = Memberships(None, lambda: NOW)  # type: ignore[arg-type]  # no groups
    gate = Gate(LIST.rules(), Home(team_id="T1", enterprise_id=None), memberships, EVERYBODY)
    assert (await visibility.of(await gate.permit_user("ada"))).names == ["ada-lake", "bob-lake"]
    gate.follow(OWN)
    assert (await visibility.of(await gate.permit_user("ada"))).names == ["ada-lake"]


async def test_a_change_is_seen_by_all(catalogs: Catalogs, database: SqliteDatabase) -> None:
    """Also one that another process made, in each order that is kept."""
    visibility, permits = Visibility(catalogs, lambda: NOW), (_permit("ada"), _permit("ada", *OWN))
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


def test_the_lists_tell_no_people_apart() -> None:
    """So one order is enough for all whom they name, whatever the channel."""
    every = replace(LIST, channels=frozenset({"C1"}), buckets=("*",)).rules()
    assert _permit("ada", *every).outlook() == _permit("bob", *every).outlook(Verb.STATUS, channel_id="C1")
    assert _permit("ada", *OWN).outlook() != _permit("bob", *OWN).outlook()


async def test_other_rules_put_all_in_another_order(catalogs: Catalogs) -> None:
    """What the schedule covers has its place by when it is overdue, and whether it does is for the rules to say."""
    rules: list[Rule] = []
    scheduled = replace(make_scheduled(), rules=lambda: tuple(rules))
    visibility = Visibility(catalogs, lambda: NOW, scheduled)
    before = await visibility.of(_permit("ada"))
    assert await visibility.of(_permit("ada")) is before
    rules.append(GRANT)
    after = await visibility.of(_permit("ada"))
    assert after is not before
    assert await visibility.of(_permit("ada")) is after
