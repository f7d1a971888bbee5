"""Each switch lets its step of a rotation fail, once or until it is off, and nothing else."""

from collections.abc import Awaitable, Callable

import pytest

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.tokens import Behaviour, judge_token
from bot.sandbox.troubles import Troubles
from tests.clock import Clock
from tests.sandbox.account import Account

Step = Callable[[Account], Awaitable[int | str | None]]


@pytest.fixture
def server() -> FakeCloudflare:
    """Return a fake Cloudflare with two buckets."""
    clock = Clock()
    small = FakeCloudflare(clock=clock, timer=lambda: clock().timestamp())
    small.add_bucket("lake")
    small.add_bucket("pond")
    return small


@pytest.fixture
def troubles(server: FakeCloudflare) -> Troubles:
    """Return its switches, joined to it."""
    switches = Troubles(server)
    server.on_write, server.tokens.on_change = switches.hear_write, switches.hear_token
    return switches


def is_on(troubles: Troubles, trouble_id: str) -> bool:
    """Return whether a switch is on."""
    return next(each.switch.is_on for each in troubles.all if each.id == trouble_id)


async def create(account: Account) -> int | None:
    """Create a token."""
    return await account.create("lake")


async def disable(account: Account) -> int | None:
    """Create and disable one."""
    assert await create(account) is None
    return await account.disable()


async def store(account: Account) -> int | None:
    """Create and store one."""
    assert await create(account) is None
    return await account.store("lake")


async def verify(account: Account) -> int | None:
    """Create one that asks about itself."""
    assert await create(account) is None
    return await account.verify()


async def probe(account: Account) -> str:
    """Create and store one, and have the slot tested."""
    assert await store(account) is None
    return await account.probe("lake")


LASTING: list[tuple[str, Step, int | str]] = [
    ("quota", create, 1040),
    ("expired", create, 10000),
    ("lacks-the-right", create, 10000),
    ("limited-to-addresses", create, 9109),
    ("group", create, 1001),
    ("no-test", probe, "7003"),
]
ONCE: list[tuple[str, Step, int | str]] = [
    ("lost", create, -1),
    ("unknown", verify, 1000),
    ("useless", store, 30004),
    ("refused", store, 30004),
    ("invalid", probe, "invalid"),
    ("switched-off", store, 40402),
    ("disable", disable, 1004),
]
ELSEWHERE = {"overwritten", "put-back"}


@pytest.mark.parametrize(("trouble_id", "step", "expected"), LASTING, ids=[each[0] for each in LASTING])
async def test_what_lasts_fails_until_it_is_turned_off(
    server: FakeCloudflare, troubles: Troubles, trouble_id: str, step: Step, expected: int | str
) -> None:
    """Each time; and no more afterwards."""
    troubles.flip(trouble_id)
    assert [await step(Account(server)) for _ in range(2)] == [expected, expected]
    assert is_on(troubles, trouble_id)
    troubles.flip(trouble_id)
    assert not is_on(troubles, trouble_id)
    assert await step(Account(server)) in (None, "valid")


@pytest.mark.parametrize(("trouble_id", "step", "expected"), ONCE, ids=[each[0] for each in ONCE])
async def test_what_concerns_one_request_or_token_fails_once(
    server: FakeCloudflare, troubles: Troubles, trouble_id: str, step: Step, expected: int | str
) -> None:
    """It turns itself off, can be turned on again, and called off before it came."""
    for _ in range(2):
        troubles.flip(trouble_id)
        assert is_on(troubles, trouble_id)
        assert await step(Account(server)) == expected
        assert not is_on(troubles, trouble_id)
        server.tokens.tokens.clear()
        server.add_bucket("lake")
    troubles.flip(trouble_id)
    troubles.flip(trouble_id)
    assert not is_on(troubles, trouble_id)
    assert await step(Account(server)) in (None, "valid")


def test_each_switch_is_tried(troubles: Troubles) -> None:
    """And has an id of its own."""
    ids = [each.id for each in troubles.all]
    assert sorted(ids) == sorted([*(each[0] for each in LASTING + ONCE), *ELSEWHERE])


async def test_a_switched_off_catalog_is_that_of_the_new_token(server: FakeCloudflare, troubles: Troubles) -> None:
    """A token for a bucket that is not there leaves the switch on."""
    troubles.flip("switched-off")
    await Account(server).create("sea")
    assert is_on(troubles, "switched-off")
    await Account(server).create("pond")
    assert (server.buckets["lake"].catalog, server.buckets["pond"].catalog) == ("active", "inactive")


async def test_somebody_else_writes_right_after_the_bot(server: FakeCloudflare, troubles: Troubles) -> None:
    """A good token of theirs: the slot works, and holds another token than the bot thinks."""
    troubles.flip("overwritten")
    assert await probe(Account(server)) == "valid"
    held = server.stored_token("lake")
    assert held is not None
    assert server.tokens.find(held) is None
    assert judge_token(held) is Behaviour.GOOD
    assert not is_on(troubles, "overwritten")


async def test_somebody_puts_the_replaced_token_back(server: FakeCloudflare, troubles: Troubles) -> None:
    """It waits until a token of the bot's is replaced by another one of the bot's, in the same bucket."""
    troubles.flip("put-back")
    server.write_by_hand("lake", "pasted")
    assert await store(Account(server)) is None
    first = server.stored_token("lake")
    assert is_on(troubles, "put-back")
    assert await store(Account(server)) is None
    assert server.stored_token("lake") == first
    assert not is_on(troubles, "put-back")
    assert [write.bucket for write in server.writes] == ["lake"] * 4


def test_an_unknown_switch_is_refused(troubles: Troubles) -> None:
    """Nothing is turned on."""
    with pytest.raises(KeyError):
        troubles.flip("nothing")
