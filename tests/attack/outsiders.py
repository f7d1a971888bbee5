"""People who must not get in, at every entrance: guests, strangers, other companies, organizations and apps."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.transport import PayloadKind
from bot.sandbox.workspace import OUTSIDERS, PATIENCE, Channel, User, dm_id
from tests.attack.attack import Arena, Attack, Case, Run
from tests.attack.entrances import Forge, Visitor, enter, open_entrances, require_that_all_let_in
from tests.scene import CROWD, MALLORY, Scene

_PARTNER: Final = "T0PARTNER"
_SISTER: Final = "T0SISTERS"
_ORGANIZATION: Final = "E0NORTHWD"
_OTHER_APP, _OTHER_BOT = "A0OTHERAP", "B0OTHERBT"

# Who they are.


def _as_person(user: User) -> Forge:
    """Make a payload that of another person of the workspace, as Slack names people."""

    def forge(kind: PayloadKind, payload: JsonObject) -> JsonObject:
        if kind == "slash_commands":
            return payload | {"user_id": user.id, "user_name": user.name}
        if kind == "events_api":
            event = payload["event"] | {"user": user.id, "channel": dm_id(user.id)}
            return payload | {"event": event}
        return payload | {"user": payload["user"] | {"id": user.id, "username": user.name, "name": user.name}}

    return forge


def _by_profile(user: User) -> Visitor:
    return Visitor(name=user.real_name, forge=_as_person(user))


_NOT_LISTED: Final = (
    Visitor(name="on no list", forge=_as_person(User(id=MALLORY, name="mallory", real_name="Mallory"))),
    Visitor(name="nobody", forge=_as_person(User(id="U0NOBODY1", name="nobody", real_name="Nobody"))),
    Visitor(name="without an id", forge=_as_person(User(id="", name="", real_name=""))),
    Visitor(name="a bot's id", forge=_as_person(User(id="B0R2BOT01", name="bot", real_name="Bot"))),
    Visitor(name="Slack's own bot", forge=_as_person(User(id="USLACKBOT", name="slackbot", real_name="Slackbot"))),
)

# Where they are.


def _of_team(team_id: str | None, **more: object) -> Forge:
    """Make a payload come from a person of another workspace, wherever Slack names one."""

    def forge(kind: PayloadKind, payload: JsonObject) -> JsonObject:
        if kind == "slash_commands":
            return payload | {"team_id": team_id or "", "team_domain": "acme"} | more
        if kind == "events_api":
            event = payload["event"] | {"user_team": team_id, "source_team": team_id}
            return payload | {"team_id": team_id, "event": event, "is_ext_shared_channel": True} | more
        team = None if team_id is None else {"id": team_id, "domain": "acme"}
        return payload | {"team": team, "user": payload["user"] | {"team_id": team_id}} | more

    return forge


def _only_in(name: str) -> Forge:
    """Name another workspace in one place only, as Slack does for a person of Slack Connect."""

    def forge(kind: PayloadKind, payload: JsonObject) -> JsonObject:
        if kind == "slash_commands":
            return payload | {"team_id": _PARTNER}
        if kind == "events_api":
            return payload | {"event": payload["event"] | {"user_team": _PARTNER}}
        if name == "team":
            return payload | {"team": {"id": _PARTNER, "domain": "acme"}}
        if name == "user" or "view" not in payload:
            return payload | {"user": payload["user"] | {"team_id": _PARTNER}}
        return payload | {"view": payload["view"] | {name: _PARTNER}}

    return forge


def _of_organization(enterprise_id: str, team_id: str | None = None) -> Forge:
    """Make a payload that of an app that is installed in a whole organization."""

    def forge(kind: PayloadKind, payload: JsonObject) -> JsonObject:
        enterprise = {"id": enterprise_id, "name": "Northwind Group"}
        if kind == "slash_commands":
            named = {"enterprise_id": enterprise_id, "enterprise_name": "Northwind Group"}
            return payload | named | {"team_id": team_id or enterprise_id, "is_enterprise_install": "true"}
        if kind == "events_api":
            event = payload["event"] | {"user_team": team_id or enterprise_id}
            authorization = payload["authorizations"][0] | {"enterprise_id": enterprise_id, "team_id": team_id}
            return payload | {
                "enterprise_id": enterprise_id,
                "team_id": team_id or enterprise_id,
                "event": event,
                "authorizations": [authorization | {"is_enterprise_install": True}],
            }
        user = payload["user"] | {"team_id": team_id or enterprise_id, "enterprise_id": enterprise_id}
        forged = payload | {"team": None, "enterprise": enterprise, "is_enterprise_install": True, "user": user}
        if "view" in payload:
            forged["view"] = payload["view"] | {"app_installed_team_id": enterprise_id, "team_id": team_id}
        return forged

    return forge


_ELSEWHERE: Final = (
    Visitor(name="of another workspace", forge=_of_team(_PARTNER)),
    Visitor(name="of no workspace", forge=_of_team(None)),
    Visitor(name="whose team is another", forge=_only_in("team")),
    Visitor(name="who is of another", forge=_only_in("user")),
    Visitor(name="in a view of another", forge=_only_in("team_id")),
    Visitor(name="in a view installed in another", forge=_only_in("app_installed_team_id")),
    Visitor(name="of an organization", forge=_of_organization(_ORGANIZATION)),
    Visitor(name="of a workspace of an organization", forge=_of_organization(_ORGANIZATION, _SISTER)),
    Visitor(name="of a team that is no id", forge=_of_team("T0SANDBOX\n")),
    Visitor(name="of a team in small letters", forge=_of_team("t0sandbox")),
)

# Which app they come from.


def _in_view(**named: str) -> Forge:
    """Name another app in a view, in a message where there is no view, or else as that of the payload."""

    def forge(_: PayloadKind, payload: JsonObject) -> JsonObject:
        for part in ("view", "message"):
            if part in payload:
                app = named | ({} if part == "view" else {"app_id": _OTHER_APP})
                return payload | {part: payload[part] | app}
        return payload | {"api_app_id": _OTHER_APP}

    return forge


def _of_app(kind: PayloadKind, payload: JsonObject) -> JsonObject:
    """Make all of it another app's."""
    return _in_view(app_id=_OTHER_APP, bot_id=_OTHER_BOT)(kind, payload) | {"api_app_id": _OTHER_APP}


_OTHER_APPS: Final = (
    Visitor(name="of another app", forge=_of_app),
    Visitor(name="with another app's id", forge=lambda _, payload: payload | {"api_app_id": _OTHER_APP}),
    Visitor(name="in a view of another app", forge=_in_view(app_id=_OTHER_APP)),
    Visitor(name="in a view of another bot", forge=_in_view(bot_id=_OTHER_BOT)),
)


def _try_all(visitors: tuple[Visitor, ...]) -> Run:
    """Let each visitor try each entrance; then each must still let in the person who sent it."""

    async def run(arena: Arena) -> AsyncIterator[Case]:
        listed = ",".join(user.id for user in (*OUTSIDERS, *_EXTRA))
        async with open_entrances(arena, {"R2_CREDENTIAL_ALLOWED_USERS": listed}) as (scene, entrances):
            for user in OUTSIDERS:
                scene.slack.workspace.change_user(user)
            for visitor in visitors:
                for entrance in entrances:
                    yield await enter(scene, entrance, visitor.forge, f"{visitor.name}: {entrance.name}")
            await require_that_all_let_in(scene, entrances)

    return run


_EXTRA: Final = (
    User(id="USLACKBOT", name="slackbot", real_name="Slackbot"),
    User(id="U0NOBODY1", name="nobody", real_name="Nobody"),
)
"""Ids that an operator can list by mistake."""

# While a submission waits.


async def _leave_while_it_waits(arena: Arena) -> AsyncIterator[Case]:
    """Deactivate people, or make them guests, while their tokens wait for Cloudflare; another process takes over."""
    changes = {user.real_name: user for user in OUTSIDERS}
    async with arena.scene() as scene:
        people = dict(zip(changes, CROWD, strict=False))
        for number, (name, user_id) in enumerate(people.items()):
            scene.cloudflare.add_bucket(f"leave-{number}")
            await scene.submit(f"leave-{number}", make_token(Behaviour.VERIFY_DOWN, number), user=user_id)
            known = scene.slack.workspace.users[user_id]
            scene.slack.workspace.change_user(replace(changes[name], id=user_id, name=known.name))
        scene.cloudflare.add_bucket("stay")
        await scene.bot.kill()
        await scene.start_ready_bot()
        for number, name in enumerate(people):
            result = await scene.wait_for_result(f"leave-{number}")
            is_stored = scene.cloudflare.stored_token(f"leave-{number}") is not None
            yield Case.of(name, got_in=is_stored, lied="no active member" not in result.shown_text)
        await scene.submit("stay", make_token(Behaviour.GOOD, 9), user=CROWD[-1])
        await scene.wait_for_result("stay")
        yield Case.of("the others", took_down=scene.cloudflare.stored_token("stay") is None)


# While Slack says nothing.


async def _while_slack_says_nothing(arena: Arena) -> AsyncIterator[Case]:
    """Let a guest, and a person who is on no list, try every entrance while Slack describes nobody."""
    silences: dict[str, dict[str, int | str]] = {
        "down": {"status": 503},
        "at its limit": {"retry_after": 1},
        "broken": {"error": "internal_error"},
    }
    guest = OUTSIDERS[0]
    async with open_entrances(arena, {"R2_CREDENTIAL_ALLOWED_USERS": guest.id}) as (scene, entrances):
        scene.slack.workspace.change_user(guest)
        for name, silence in silences.items():
            scene.slack.fail_next("users.info", **silence, times=100_000)  # type: ignore[arg-type]  # by their names
            for visitor in (_by_profile(guest), _NOT_LISTED[0]):
                for entrance in entrances:
                    yield await enter(scene, entrance, visitor.forge, f"{name}, {visitor.name}: {entrance.name}")
            scene.slack.faults._next.clear()
        await require_that_all_let_in(scene, entrances)


# Where results go.

_SIGNS: Final[dict[str, Callable[[Channel], Channel]]] = {
    "shared with another company": lambda channel: replace(channel, is_ext_shared=True),
    "offered to another company": lambda channel: replace(channel, is_pending_ext_shared=True),
    "shared in the organization and outside": lambda channel: replace(channel, is_ext_shared=True, is_org_shared=True),
    "shared in the organization, offered outside": lambda channel: replace(
        channel, is_pending_ext_shared=True, is_org_shared=True
    ),
}


async def _post_where_others_read(arena: Arena) -> AsyncIterator[Case]:
    """Choose a channel of Slack Connect for a result, in the form or from a modified client, or share it later."""
    async with arena.scene() as scene:
        number = 0
        for name, sign in _SIGNS.items():
            for is_private in (False, True):
                for when in ("before", "while it waits"):
                    number += 1
                    channel = Channel(
                        id=f"C0SHARE{number:02d}", name=f"share-{number}", bot_is_member=True, is_private=is_private
                    )
                    word = "private" if is_private else "public"
                    yield await _post_to(scene, channel, sign, number, f"{name} {when}, {word}")
        within = Channel(id="C0WITHIN1", name="within", bot_is_member=True, is_org_shared=True)
        scene.slack.workspace.change_channel(within)
        scene.cloudflare.add_bucket("within")
        await scene.submit("within", make_token(Behaviour.GOOD, 99), user=CROWD[-1], to=within.id)
        await scene.wait_for_result("within", within.id)
        yield Case.of("the organization alone reads its result")


async def _post_to(scene: Scene, channel: Channel, sign: Callable[[Channel], Channel], number: int, name: str) -> Case:
    user, bucket = CROWD[number % len(CROWD)], f"share-{number}"
    scene.cloudflare.add_bucket(bucket)
    is_before = "before" in name
    scene.slack.workspace.change_channel(sign(channel) if is_before else channel)
    await scene.open_form(bucket, user=user)
    await scene.slack.fill(user, "token", make_token(Behaviour.GOOD, 500 + number))
    payload = scene.slack.make_submission(user)
    payload["view"]["state"]["values"]["channel"]["channel"]["selected_conversation"] = channel.id
    url = scene.slack.response_urls.issue(user, channel.id)
    payload["response_urls"] = [{"block_id": "channel", "channel_id": channel.id, "response_url": url}]
    if not is_before:
        scene.slack.fail_next("chat.postMessage", error="ratelimited", retry_after=1)
    answer = await scene.slack.deliver("interactive", payload)
    if not is_before:
        scene.slack.workspace.change_channel(sign(channel))
        await scene.bot.kill()
        await scene.start_ready_bot()
        await scene.slack.workspace.changes.wait_until(lambda: scene.results(bucket) or None, PATIENCE, "the result")
    posted = [message for message in scene.results(bucket) if message.channel_id == channel.id]
    is_taken = (answer.body or {}).get("response_action") == "update"
    return Case.of(name, leaked=bool(posted), got_in=is_before and is_taken, took_down=answer.failure is not None)


ATTACKS: Final = (
    Attack(name="guests, bots and people who left, all listed", run=_try_all(tuple(map(_by_profile, OUTSIDERS)))),
    Attack(name="people on no list, and ids of nobody", run=_try_all(_NOT_LISTED)),
    Attack(name="other workspaces, Slack Connect, organizations", run=_try_all(_ELSEWHERE)),
    Attack(name="views, messages and payloads of other apps", run=_try_all(_OTHER_APPS)),
    Attack(name="people who leave while their token waits", run=_leave_while_it_waits),
    Attack(name="guests while Slack says nothing of people", run=_while_slack_says_nothing),
    Attack(name="results where another company reads", run=_post_where_others_read),
)
