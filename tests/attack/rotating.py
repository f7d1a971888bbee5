"""Who must not rotate, at every entrance of rotation: the command, its form, its buttons, and those of a fleet."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bot.sandbox.blocks import JsonObject, elements_of
from bot.sandbox.homes import Home
from bot.sandbox.modals import Modal
from bot.sandbox.workspace import OUTSIDERS, Message, User
from bot.slack.messages.fleet_dry_run import START, START_ALL
from bot.slack.messages.render import ROTATE
from bot.slack.stories.look import ROTATE_NOW
from bot.slack.stories.table import ROTATE_ANY
from tests.attack.attack import Arena, Attack, Case, Run
from tests.attack.entrances import MARK, Entrance, Visitor, _find, enter, require_that_all_let_in
from tests.attack.minted_rows import open_rotating
from tests.attack.outsiders import _ELSEWHERE, _NOT_LISTED, _OTHER_APPS, _as_person, _by_profile
from tests.scene import CROWD, PLATFORM, Scene, press_rotate

_OPENER, _READER, _AT_HOME, _LOOKER, _OF_FLEETS, _ELSE, _STORES = CROWD[:7]
_BUCKETS: Final = tuple(f"{MARK}-{number:02d}" for number in range(4))
_OF_ANY_BUCKET: Final = ("command rotate", "rotate in the Home")
"""They open a form in which no bucket is chosen, for anyone who may rotate one."""

_VERBS: Final = '["store", "check", "status", "history", "rotate"]'
_POLICY: Final = """
[[rule]]
users = ["{else_}"]
buckets = ["other-*"]
verbs = {verbs}

[[rule]]
users = ["{stores}"]
verbs = ["store"]

[[rule]]
users = [{people}]
verbs = {verbs}
"""


def _policy() -> str:
    """Return rules that list outsiders by mistake, one person for other buckets, and one who may only store."""
    people = [*CROWD[:5], *(user.id for user in OUTSIDERS)]
    quoted = ", ".join(f'"{each}"' for each in people)
    return _POLICY.format(else_=_ELSE, stores=_STORES, people=quoted, verbs=_VERBS)


@asynccontextmanager
async def _open(arena: Arena) -> AsyncIterator[tuple[Scene, list[Entrance]]]:
    """Start a bot that makes tokens, and let listed people use every entrance of rotation, but for the last press."""
    async with open_rotating(arena, policy=_policy(), buckets=(*_BUCKETS, "other-lake")) as scene:
        for user in OUTSIDERS:
            scene.slack.workspace.change_user(user)
        await press_rotate(scene, _BUCKETS[0], _OPENER)
        await scene.wait_for_result(_BUCKETS[0])
        await scene.slack.close(_OPENER, whole_stack=True)
        found = [*await _commands(scene), *await _form(scene), *await _look(scene), *await _home(scene)]
        yield scene, [*found, await _fleet(scene)]


async def _commands(scene: Scene) -> list[Entrance]:
    found = []
    for words in ("rotate", f"rotate {_BUCKETS[1]}"):
        payload = scene.slack.make_command(_READER, PLATFORM, f"/r2-credential {words}")
        found.append(Entrance(name=f"command {words}", kind="slash_commands", payload=payload))
    await scene.slack.type_command(_READER, PLATFORM, f"/r2-credential status {_BUCKETS[1]}")
    message = await scene.slack.wait_for_message(PLATFORM, _offers, as_user=_READER)
    return [*found, _press_of(scene, _READER, message, ROTATE)]


def _offers(message: Message) -> bool:
    return ROTATE in str(message.blocks) and "being asked again" not in message.shown_text


async def _form(scene: Scene) -> list[Entrance]:
    """Return what can be sent from an open form, whose Submit is not sent."""
    await scene.slack.type_command(_OPENER, PLATFORM, f"/r2-credential rotate {_BUCKETS[2]}")
    await scene.pass_notice(_OPENER)
    await scene.slack.wait_for_view(_OPENER, lambda view: view.has_submit)
    submit = scene.slack.make_submission(_OPENER)
    return [Entrance(name="Submit of a rotation", kind="interactive", payload=submit)]


async def _look(scene: Scene) -> list[Entrance]:
    """Return the button under what "only look" has found."""
    await scene.slack.type_command(_LOOKER, PLATFORM, f"/r2-credential rotate {_BUCKETS[3]}")
    await scene.pass_notice(_LOOKER)
    await scene.slack.wait_for_view(_LOOKER, lambda view: view.has_submit)
    await scene.slack.fill(_LOOKER, "check", ["check"])
    await scene.slack.submit(_LOOKER)
    view = await scene.slack.wait_for_view(_LOOKER, _is_looked_at)
    payload = scene.slack.payloads.view_action(scene.slack._open_view(_LOOKER), _find(list(view.blocks), ROTATE_NOW))
    return [Entrance(name="rotate what was looked at", kind="interactive", payload=payload)]


def _is_looked_at(view: Modal) -> bool:
    return ROTATE_NOW in str(view.blocks) and "being asked again" not in view.text


async def _home(scene: Scene) -> list[Entrance]:
    await scene.slack.open_home(_AT_HOME)
    home = await scene.slack.wait_for_home(_AT_HOME, _is_complete)
    payload = scene.slack.make_home_action(_AT_HOME, home, _find(list(home.blocks), ROTATE_ANY))
    return [Entrance(name="rotate in the Home", kind="interactive", payload=payload)]


def _is_complete(home: Home) -> bool:
    return ROTATE_ANY in str(home.blocks) and "being asked again" not in home.text  # a later one would count as well


async def _fleet(scene: Scene) -> Entrance:
    """Return the button that begins many rotations."""
    await scene.slack.type_command(_OF_FLEETS, PLATFORM, f"/r2-credential rotate {MARK}-*")
    sums = await scene.slack.wait_for_message(PLATFORM, lambda each: bool(_starts(each)), as_user=_OF_FLEETS)
    return _press_of(scene, _OF_FLEETS, sums, _starts(sums)[0])


def _starts(message: Message) -> list[str]:
    """Return the action ids of the buttons that begin a fleet: one with what is left out for a reason, one without."""
    there = [one.get("action_id") for block in message.blocks for one in elements_of(block)]
    return [each for each in (START, START_ALL) if each in there]


def _press_of(scene: Scene, user: str, message: Message, action_id: str) -> Entrance:
    payload = scene.slack.make_message_action(user, message, _find(list(message.blocks), action_id))
    return Entrance(name=action_id, kind="interactive", payload=payload)


def _try_all(visitors: Callable[[], tuple[Visitor, ...]]) -> Run:
    """Let each visitor try each entrance; then each must still let in the person who sent it."""

    async def run(arena: Arena) -> AsyncIterator[Case]:
        async with _open(arena) as (scene, entrances):
            made = len(scene.cloudflare.tokens.tokens)
            for visitor in visitors():
                for entrance in entrances:
                    yield await enter(scene, entrance, visitor.forge, f"{visitor.name}: {entrance.name}")
            yield Case.of("tokens that were made", got_in=len(scene.cloudflare.tokens.tokens) != made)
            await require_that_all_let_in(scene, entrances)

    return run


async def _without_the_verb(arena: Arena) -> AsyncIterator[Case]:
    """Let people who may store, or rotate other buckets, try what names a bucket; and replay a used Submit."""
    people = {"who may only store": _STORES, "who may rotate other buckets": _ELSE}
    async with _open(arena) as (scene, entrances):
        made = len(scene.cloudflare.tokens.tokens)
        for name, user_id in people.items():
            forge = _as_person(User(id=user_id, name=user_id.lower(), real_name=user_id))
            for entrance in entrances:
                if user_id == _STORES or entrance.name not in _OF_ANY_BUCKET:
                    yield await enter(scene, entrance, forge, f"{name}: {entrance.name}")
        yield Case.of("tokens that were made", got_in=len(scene.cloudflare.tokens.tokens) != made)
        [submit] = [each for each in entrances if each.name == "Submit of a rotation"]
        await require_that_all_let_in(scene, [submit])
        yield await enter(scene, submit, _under_another_view, "its Submit again, in another view")


def _under_another_view(_: object, payload: JsonObject) -> JsonObject:
    return payload | {"view": payload["view"] | {"id": "V0ANOTHER1"}}


ATTACKS: Final = (
    Attack(name="rotations by outsiders who are listed", run=_try_all(lambda: tuple(map(_by_profile, OUTSIDERS)))),
    Attack(name="rotations by people on no list", run=_try_all(lambda: _NOT_LISTED), over=("socket",)),
    Attack(name="rotations from other workspaces", run=_try_all(lambda: _ELSEWHERE), over=("socket",)),
    Attack(name="rotations from other apps", run=_try_all(lambda: _OTHER_APPS), over=("socket",)),
    Attack(name="rotations by people without the verb", run=_without_the_verb, over=("socket",)),
)
