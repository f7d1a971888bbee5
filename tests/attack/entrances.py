"""Every entrance of the bot, as a payload that a listed person has really sent, and what came of one that is forged."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Final

from bot.sandbox.blocks import JsonObject, elements_of
from bot.sandbox.modals import Modal
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.transport import Answer, PayloadKind
from bot.sandbox.workspace import Message, User
from bot.slack.messages.render import ENABLE, TRY_AGAIN
from bot.slack.stories.no_catalog import OPEN_ANYWAY, USE_SIMILAR
from bot.slack.stories.table import NEXT_PAGE, STORE
from tests.attack.attack import Arena, Case
from tests.scene import CROWD, PLATFORM, Scene

MARK: Final = "harbour"
"""Part of the names of all buckets that only a listed person may learn of."""

_LISTED: Final = (f"{MARK}-quay", *(f"{MARK}-{number:02d}" for number in range(25)))
_WITHOUT_CATALOG: Final = f"{MARK}-quai"
_OPENER, _READER, _AT_HOME, _NOTICED, _SUBMITTER, _FAILED = CROWD[:6]

Forge = Callable[[PayloadKind, JsonObject], JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """A payload that gets a listed person in."""

    name: str
    kind: PayloadKind
    payload: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Someone who must not get in; `forge` makes a payload theirs."""

    name: str
    forge: Forge


@asynccontextmanager
async def open_entrances(
    arena: Arena, settings: dict[str, str] | None = None
) -> AsyncIterator[tuple[Scene, list[Entrance]]]:
    """Start a bot, let listed people use every entrance, and give the payloads that they sent."""
    async with arena.scene(settings) as scene:
        for bucket in _LISTED:
            scene.cloudflare.add_bucket(bucket)
        scene.cloudflare.add_bucket(_WITHOUT_CATALOG, catalog=None)
        await _refresh(scene)
        yield (
            scene,
            [
                *await _commands(scene),
                *await _form(scene),
                *await _results(scene),
                *await _notice(scene),
                *await _home(scene),
            ],
        )


async def _refresh(scene: Scene) -> None:
    """Have the catalogs listed anew, by asking until the last one is known."""
    await scene.slack.type_command(_READER, PLATFORM, "/r2-credential status")
    await scene.slack.wait_for_message(PLATFORM, lambda message: _is_fresh(message.shown_text), as_user=_READER)


def _is_fresh(text: str) -> bool:
    """Say whether a table is the last one that comes: a later one would count as what an attack brought."""
    return MARK in text and "being asked again" not in text


async def _commands(scene: Scene) -> list[Entrance]:
    found = []
    for words in ("", "clickstream-raw", "status", "history"):
        payload = scene.slack.make_command(_READER, PLATFORM, f"/r2-credential {words}")
        found.append(Entrance(name=f"command {words or 'alone'}", kind="slash_commands", payload=payload))
    [status] = [each for each in scene.slack.ephemerals(_READER, PLATFORM) if MARK in each.shown_text][:1]
    return [*found, await _press(scene, _READER, status, NEXT_PAGE, "in a table")]


async def _form(scene: Scene) -> list[Entrance]:
    """Return what can be sent from an open form, whose Submit is not sent."""
    await scene.open_form("clickstream-raw", user=_OPENER)
    await scene.slack.search_options(_OPENER, "bucket", MARK)
    search = scene.slack.sent[-1].payload
    await scene.slack.fill(_OPENER, "bucket", f"{MARK}-01")
    choice = scene.slack.sent[-1].payload
    await scene.slack.fill(_OPENER, "token", make_token(Behaviour.GOOD, 77))
    return [
        Entrance(name="type-ahead", kind="interactive", payload=search),
        Entrance(name="choice", kind="interactive", payload=choice),
        Entrance(name="Submit", kind="interactive", payload=scene.slack.make_submission(_OPENER)),
    ]


async def _results(scene: Scene) -> list[Entrance]:
    """Return the buttons of a result that failed, and of one that found no catalog."""
    await scene.submit(f"{MARK}-02", make_token(Behaviour.DISABLED, 1), user=_FAILED)
    failed = await scene.wait_for_result(f"{MARK}-02")
    await scene.submit(_WITHOUT_CATALOG, make_token(Behaviour.GOOD, 2), user=_SUBMITTER)
    missing = await scene.wait_for_result(_WITHOUT_CATALOG)
    for user, title in ((_FAILED, "Token refused"), (_SUBMITTER, "No usable catalog")):
        await scene.slack.wait_for_view(user, partial(_is_called, title))  # a later one would count as well
    return [
        await _press(scene, _FAILED, failed, TRY_AGAIN, "in a result"),
        Entrance(
            name="enable in a result", kind="interactive", payload=_make_press(scene, _SUBMITTER, missing, ENABLE)
        ),
    ]


def _is_called(title: str, view: Modal) -> bool:
    return view.title == title


async def _notice(scene: Scene) -> list[Entrance]:
    """Return the buttons of the notice that a bucket has no catalog, which are not pressed."""
    await scene.slack.type_command(_NOTICED, PLATFORM, f"/r2-credential {_WITHOUT_CATALOG}")
    view = await scene.slack.wait_for_view(_NOTICED)
    found = []
    for action_id in (OPEN_ANYWAY, USE_SIMILAR, ENABLE):
        element = _find(list(view.blocks), action_id)
        payload = scene.slack.payloads.view_action(scene.slack._open_view(_NOTICED), element)
        found.append(Entrance(name=f"{action_id} in a notice", kind="interactive", payload=payload))
    return found


async def _home(scene: Scene) -> list[Entrance]:
    await scene.slack.open_home(_AT_HOME)
    opened = scene.slack.sent[-1].payload
    home = await scene.slack.wait_for_home(_AT_HOME, lambda home: _is_fresh(home.text))
    found = [Entrance(name="App Home", kind="events_api", payload=opened)]
    for action_id in (STORE, NEXT_PAGE):
        payload = scene.slack.make_home_action(_AT_HOME, home, _find(list(home.blocks), action_id))
        found.append(Entrance(name=f"{action_id} in the Home", kind="interactive", payload=payload))
    return found


async def _press(scene: Scene, user: str, message: Message, action_id: str, where: str) -> Entrance:
    payload = _make_press(scene, user, message, action_id)
    return Entrance(name=f"{action_id} {where}", kind="interactive", payload=payload)


def _make_press(scene: Scene, user: str, message: Message, action_id: str) -> JsonObject:
    return scene.slack.make_message_action(user, message, _find(list(message.blocks), action_id))


def _find(blocks: list[JsonObject], action_id: str) -> JsonObject:
    """Return the action of a pressed button."""
    return next(
        {"block_id": block["block_id"], "type": one["type"], "action_id": action_id, "value": one["value"]}
        for block in blocks
        for one in elements_of(block)
        if one.get("action_id") == action_id
    )


async def enter(scene: Scene, entrance: Entrance, forge: Forge, name: str) -> Case:
    """Send a forged payload with fresh handles, and judge what came of it."""
    payload = forge(entrance.kind, _fresh(scene, entrance))
    return await send(scene, entrance.kind, payload, name)


async def send(scene: Scene, kind: PayloadKind, payload: JsonObject, name: str) -> Case:
    """Send a payload, and judge what came of it: a form, a row, an option, the name of a bucket."""
    calls, received, rows = len(scene.slack.calls), len(scene.slack.traffic_received()), _count_rows(scene)
    answer = await scene.slack.deliver(kind, payload)
    said = [call.arguments for call in scene.slack.calls[calls:]]
    shown = json.dumps([answer.body, answer.text]) + scene.slack.traffic_received()[received:].decode("latin-1")
    is_submit = payload.get("type") == "view_submission"
    return Case.of(
        name,
        got_in=_count_rows(scene) != rows or _has_form(said) or bool((answer.body or {}).get("options")),
        leaked=MARK in shown,
        lied=is_submit and not _says_no(answer),
        took_down=answer.failure is not None,
    )


async def require_that_all_let_in(scene: Scene, entrances: list[Entrance]) -> None:
    """Send each payload as it was: each must count as got in, or what was tried with it proved nothing."""
    for entrance in entrances:
        case = await enter(scene, entrance, lambda _, payload: payload, entrance.name)
        if not case.breaches:
            message = f"{entrance.name} lets nobody in"
            raise AssertionError(message)


def _fresh(scene: Scene, entrance: Entrance) -> JsonObject:
    """Return a copy with a trigger and a response URL that were not used, if it has any."""
    payload = deepcopy(entrance.payload)
    user_id = payload.get("user_id") or payload.get("user", {}).get("id")
    if "trigger_id" in payload or payload.get("type") == "block_actions":
        user = User(id=user_id, name="someone", real_name="Someone")
        payload["trigger_id"] = scene.slack.triggers.issue(user, PLATFORM)
    if "response_url" in payload:
        payload["response_url"] = scene.slack.response_urls.issue(user_id, PLATFORM)
    return payload


def _count_rows(scene: Scene) -> object:
    """Return how many forms and submissions there are, and in which states the fleets are."""
    query = (
        "SELECT (SELECT count(*) FROM submissions) + (SELECT count(*) FROM openings), group_concat(state) FROM fleets"
    )
    with closing(sqlite3.connect(scene.data_dir / "bot.sqlite", timeout=10)) as connection:
        return connection.execute(query).fetchone()


def _has_form(said: list[JsonObject]) -> bool:
    return any('"input"' in json.dumps(each.get("view")) for each in said)


def _says_no(answer: Answer) -> bool:
    """Say whether the answer to a Submit tells that it was not taken."""
    body = answer.body or {}
    return body.get("response_action") == "errors" or "Nothing was sent" in json.dumps(body)
