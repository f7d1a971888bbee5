"""What is typed about many buckets, and which of them can be rotated."""

from datetime import timedelta

import pytest

from bot.model.fleet_plan import FleetPlan, LeftOut, OwnTokens, Wanted
from bot.model.minted import MintedState, MintedToken
from tests.make import NOW, make_minted_token


@pytest.mark.parametrize(
    ("text", "globs", "is_many"),
    [
        ("", (), False),
        ("lake", ("lake",), False),
        ("lake pond", ("lake", "pond"), True),
        ("lake,pond", ("lake", "pond"), True),
        ("lake, pond ,", ("lake", "pond"), True),
        ("team-*", ("team-*",), True),
        ("team-? !team-a", ("team-?", "!team-a"), True),
        ("--all", ("*",), True),
        ("--ALL !lake", ("*", "!lake"), True),
        ("\u2014all", ("*",), True),
        ("\u2013all", ("*",), True),
        ("-all", ("*",), True),
    ],
)
def test_what_is_typed_is_read(text: str, globs: tuple[str, ...], *, is_many: bool) -> None:
    """Names and globs, with blanks or commas; a phone makes one dash of two hyphens."""
    wanted = Wanted.read(text)
    assert wanted.globs == globs
    assert wanted.is_many is is_many
    assert str(wanted) == " ".join(globs)


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [("team-* lake", True), ("!lake", False), ("", False), ("Team", False), ("a_b lake", False), ("<!channel>", False)],
)
def test_what_can_match_nothing_is_invalid(text: str, *, is_valid: bool) -> None:
    """A slip must not become another list of buckets."""
    assert Wanted.read(text).is_valid is is_valid


def _token(bucket: str, state: MintedState, *, hours_ago: float = 100, was_sent: bool = True) -> MintedToken:
    at, due_at = NOW - timedelta(hours=hours_ago), NOW + timedelta(minutes=30)
    return make_minted_token(bucket, state=state, due_at=due_at, changed_at=at, was_sent=was_sent)


@pytest.mark.parametrize(
    ("tokens", "own", "others", "left_out"),
    [
        ([], [], ["lake"], {}),
        ([_token("lake", MintedState.PROVEN)], ["lake"], [], {}),
        ([_token("lake", MintedState.KEPT)], [], ["lake"], {}),
        ([_token("lake", MintedState.PROVEN, hours_ago=23)], [], [], {LeftOut.RECENT: ["lake"]}),
        ([_token("lake", MintedState.PROVEN), _token("lake", MintedState.RETIRED)], [], [], {LeftOut.BUSY: ["lake"]}),
        ([_token("lake", MintedState.PROVEN), _token("lake", MintedState.RETIRED, was_sent=False)], ["lake"], [], {}),
    ],
    ids=["nothing of ours", "ours", "kept in nobody's hands", "rotated today", "being taken back", "never sent"],
)
def test_a_bucket_is_put_where_it_belongs(
    tokens: list[MintedToken], own: list[str], others: list[str], left_out: dict[LeftOut, list[str]]
) -> None:
    """By what is recorded of our own tokens."""
    plan = FleetPlan(wanted=Wanted.read("la*"))
    plan.take("lake", OwnTokens.of(tokens), NOW)
    assert (plan.own, plan.others, plan.left_out) == (own, others, left_out)
    assert plan.first == ({"lake"} if others else set())


def test_a_bucket_that_is_named_in_full_is_meant() -> None:
    """Whatever its slot holds, and however lately it was rotated; not while its earlier token is being taken back."""
    plan = FleetPlan(wanted=Wanted.read("lake pond sea"))
    busy = [_token("sea", MintedState.DISABLED), _token("sea", MintedState.TESTED)]
    tokens = OwnTokens.of([_token("pond", MintedState.PROVEN, hours_ago=1), *busy])
    for bucket in ("lake", "pond", "sea"):
        plan.take(bucket, tokens, NOW)
    assert (plan.own, plan.others, plan.first) == (["lake", "pond"], [], {"lake"})
    assert plan.left_out == {LeftOut.BUSY: ["sea"]}
    assert plan.free_at == NOW + timedelta(minutes=30)
