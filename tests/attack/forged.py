"""Forms and buttons of listed people with forged contents: nonces that are not theirs, values that no button has."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Final

from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from tests.attack.attack import Arena, Attack, Case
from tests.attack.entrances import MARK, Entrance, open_entrances, require_that_all_let_in, send
from tests.scene import CROWD, PLATFORM, Scene

_PRESSER, _OTHER, _USER_OF_ONE, _LATE = CROWD[7], CROWD[8], CROWD[9], CROWD[10]
_HIDDEN: Final = "vault-ledger"
_REASON: Final = "a secret project"
_MEGABYTE: Final = 900_000
"""As much as the HTTP port takes with what is around it."""


def _execute(scene: Scene, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(scene.data_dir / "bot.sqlite", isolation_level=None, timeout=10)) as connection:
        return connection.execute(statement, values).fetchall()


# Nonces.


async def _nonces(arena: Arena) -> AsyncIterator[Case]:
    """Submit a form under a nonce that is unknown, foreign, used, expired, of another workspace, or no nonce."""
    async with open_entrances(arena) as (scene, entrances):
        [submit] = [each for each in entrances if each.name == "Submit"]
        own = submit.payload["view"]["private_metadata"]
        for name, nonce in [*await _make_nonces(scene), *_distort(own)]:
            payload = deepcopy(submit.payload)
            payload["view"]["private_metadata"] = nonce
            yield await send(scene, "interactive", payload, name)
        await require_that_all_let_in(scene, [submit])


async def _make_nonces(scene: Scene) -> list[tuple[str, object]]:
    """Return nonces that the bot knows, each of a form that was really opened."""
    foreign = await _open(scene, _OTHER)
    used = await _open(scene, _USER_OF_ONE)
    await scene.slack.fill(_USER_OF_ONE, "token", make_token(Behaviour.GOOD, 31))
    await scene.slack.submit(_USER_OF_ONE)
    late, away = await _open(scene, _LATE), await _open(scene, CROWD[11])
    past = f"{datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1):%Y-%m-%d %H:%M:%S.%f}"
    _execute(scene, "UPDATE openings SET expires_at = ? WHERE nonce = ?", past, late)
    _execute(scene, "UPDATE openings SET team_id = 'T0PARTNER' WHERE nonce = ?", away)
    return [
        ("of another person", foreign),
        ("of another person, used", used),
        ("of another person, expired", late),
        ("of another workspace", away),
    ]


async def _open(scene: Scene, user: str) -> str:
    await scene.open_form("clickstream-raw", user=user)
    view = await scene.slack.wait_for_view(user, lambda view: view.has_submit)
    return view.private_metadata


def _distort(own: str) -> Iterator[tuple[str, object]]:
    yield from (("unknown", "0" * 32), ("empty", ""), ("missing", None), ("a number", 7), ("a list", [own]))
    yield from (("in capitals", own.upper() + "A"), ("cut", own[:-1]), ("twice", own * 2), ("of zeros", "\0" * 32))
    yield from (("with a line end", f"{own}\n{own}"), ("of half a character", "\ud800"), ("any", "%"))
    yield from (("of SQL", "' OR '1'='1"), ("a megabyte", "f" * _MEGABYTE), ("an object", {"nonce": own}))


async def _own_nonces(arena: Arena) -> AsyncIterator[Case]:
    """Submit one's own form again under another view, late, or as another task: one form, one submission, one hour."""
    async with arena.scene() as scene:
        for number, name in enumerate(("used", "expired")):
            user, bucket = CROWD[number], f"own-{number}"
            scene.cloudflare.add_bucket(bucket)
            await scene.open_form(bucket, user=user)
            await scene.slack.fill(user, "token", make_token(Behaviour.GOOD, 60 + number))
            payload = scene.slack.make_submission(user)
            if name == "used":
                await scene.slack.submit(user)
                await scene.wait_for_result(bucket)
            else:
                _execute(scene, "UPDATE openings SET expires_at = '2020-01-01 00:00:00.000000'")
            for view_id in ("V0ANOTHER1", "V0ANOTHER2", payload["view"]["id"]):
                if name == "used" and view_id == payload["view"]["id"]:
                    continue  # that is the same Submit once more, which gets the state
                forged = deepcopy(payload)
                forged["view"]["id"] = view_id
                yield await send(scene, "interactive", forged, f"{name}, as {view_id[:9]}")


# Values of buttons.


async def _values(arena: Arena) -> AsyncIterator[Case]:
    """Press every button with values that it does not have, as a listed person who may not see a hidden bucket."""
    async with open_entrances(arena) as (scene, entrances):
        hidden = await _submit_hidden(scene)
        buttons = [each for each in entrances if each.payload.get("type") == "block_actions" and _value(each)]
        for button in buttons:
            for name, value in _forge_values(scene, hidden):
                yield await _press(scene, button, value, hidden, f"{button.name}: {name}")
        await require_that_all_let_in(scene, entrances)


async def _submit_hidden(scene: Scene) -> str:
    """Submit something for a bucket that the bot then no longer serves, and return the submission's id."""
    scene.cloudflare.add_bucket(_HIDDEN)
    await scene.open_form(_HIDDEN, user=_OTHER)
    await scene.slack.fill(_OTHER, "token", make_token(Behaviour.DISABLED, 5))
    await scene.slack.fill(_OTHER, "reason", _REASON)
    await scene.slack.submit(_OTHER)
    await scene.wait_for_result(_HIDDEN)
    await scene.bot.stop()
    scene.environment["R2_CREDENTIAL_ALLOWED_BUCKETS"] = "*,!vault-*"
    await scene.start_ready_bot()
    return str(_execute(scene, "SELECT id FROM submissions WHERE bucket = ?", _HIDDEN)[0][0])


def _forge_values(scene: Scene, hidden: str) -> Iterator[tuple[str, object]]:
    account = scene.cloudflare.account_id
    yield from (("a hidden bucket", f"{account}/{_HIDDEN}"), ("its name alone", _HIDDEN))
    yield "a hidden bucket and a place", f"{account}/{_HIDDEN} {PLATFORM}"
    yield "a submission of another person, for a hidden bucket", hidden
    yield "a bucket of another account", f"{'0' * 32}/{MARK}-quai {PLATFORM}"
    yield "a place that another company reads", f"{account}/{MARK}-quai C0PARTNER"
    yield "a person for a place", f"{account}/{MARK}-quai U0MALLORY"
    yield "two buckets", f"{account}/{_HIDDEN}/{MARK}-quai {PLATFORM}"
    yield from (("a way up", f"{account}/../{_HIDDEN} direct"), ("SQL", "' OR '1'='1' --"), ("any", "%"))
    yield from (("a megabyte", "x" * _MEGABYTE), ("a megabyte of blanks", " " * _MEGABYTE), ("nothing", ""))
    yield from (("control characters", f"\0\x1b[2K\r{account}/{_HIDDEN}\n {PLATFORM}"), ("half a character", "\ud800"))
    yield from (("missing", None), ("a number", 7), ("a list", [f"{account}/{_HIDDEN}"]), ("an object", {"a": 1}))
    yield from (("a page without end", f"{'9' * 400} 00000000"), ("a page before the first", "-1 00000000"))


def _value(entrance: Entrance) -> object:
    return entrance.payload["actions"][0].get("value")


async def _press(scene: Scene, button: Entrance, value: object, hidden: str, name: str) -> Case:
    """Press, and judge what the bot says then, but not to the person of the hidden submission in its own view."""
    payload: JsonObject = deepcopy(button.payload)
    payload["actions"][0]["value"] = value
    payload["user"] |= {"id": _PRESSER, "name": _PRESSER.lower(), "username": _PRESSER.lower()}
    payload["trigger_id"] = scene.slack.triggers.issue(scene.slack.workspace.users[_PRESSER], PLATFORM)
    received = len(scene.slack._traffic)
    before = _execute(scene, "SELECT count(*) FROM submissions")
    answer = await scene.slack.deliver("interactive", payload)
    said = b"".join(each for each in scene.slack._traffic[received:] if hidden.encode() not in each).decode("latin-1")
    while scene.slack.modals.top(_PRESSER) is not None:
        await scene.slack.close(_PRESSER, whole_stack=True)
    return Case.of(
        name,
        got_in=_execute(scene, "SELECT count(*) FROM submissions") != before,
        leaked=_HIDDEN in said or _REASON in said,
        took_down=answer.failure is not None or "listener_broke" in scene.printed().decode(),
    )


ATTACKS: Final = (
    Attack(name="nonces that are foreign, used, expired or none", run=_nonces),
    Attack(name="one's own form, used or too old", run=_own_nonces),
    Attack(name="buttons with values that they do not have", run=_values),
)
