"""Results and notices that others could read: another company, an archived channel, a person who left."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import create_engine, false

from bot.model.audit import Entry, Event
from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE, Channel, Message, User, dm_id
from bot.sealing.audit_key import load_audit_key
from bot.sealing.authenticity import Authenticity
from bot.storage.adoption import adopt
from bot.storage.audit import AuditChain
from bot.storage.chain_start import AUDIT_KEY
from tests.attack.attack import Arena, Attack, Case
from tests.scene import ADA, GRACE, MALLORY, PLATFORM, Scene

_GOOD: Final = make_token(Behaviour.GOOD, number=71)
_PARTNER: Final = User(id="U0PARTNER", name="oscar", real_name="Oscar of Acme", team_id="T0PARTNER")
_PAIR: Final = frozenset({ADA, _PARTNER.id})
_SHARED: Final = "C0PARTNER"

_CONVERSATIONS: Final = (
    Channel(id="D0PARTNER", name="oscar", is_im=True, is_ext_shared=True, members=_PAIR),
    Channel(id="D0FRIEND1", name="grace", is_im=True, members=frozenset({ADA, GRACE})),
    Channel(id="G0PARTNER", name="ada--oscar", is_mpim=True, is_ext_shared=True, members=_PAIR),
    Channel(id="C0GROUPDM", name="ada--oscar--grace", is_mpim=True, is_ext_shared=True, members=_PAIR | {GRACE}),
    Channel(id="G0WITHBOT", name="ada--bot", is_mpim=True, bot_is_member=True, members=frozenset({ADA, GRACE})),
)
_NO_CHANNELS: Final = (
    *(_PARTNER.id, ADA, GRACE, MALLORY, "W0PARTNER", dm_id(ADA), dm_id(GRACE), dm_id(MALLORY)),
    *(
        "direct ",
        "DIRECT",
        "@oscar",
        "#partner-acme",
        "c0partner",
        " C0PARTNER",
        "C0PARTNER\n",
        "S0DATAENG",
        "B0R2BOT01",
    ),
    *("T0SANDBOX", "USLACKBOT", "*", "C", "G", "0", "D0PARTNER,C0DATAPLT", "<#C0PARTNER>", "C0PARTNER/", "null"),
)
_NO_TEXTS: Final = (True, 7, ["D0PARTNER"], {"id": "D0PARTNER"})


async def _post_elsewhere(arena: Arena) -> AsyncIterator[Case]:
    """Have a result posted to a conversation that is no channel: typed there, or chosen by a modified client."""
    async with arena.scene() as scene:
        scene.slack.workspace.users[_PARTNER.id] = _PARTNER
        for conversation in _CONVERSATIONS:
            scene.slack.workspace.change_channel(conversation)
        for number, (name, typed_in, chosen) in enumerate(_elsewhere()):
            bucket = f"elsewhere-{number}"
            scene.cloudflare.add_bucket(bucket)
            yield await _choose(scene, bucket, name, typed_in, chosen)


def _elsewhere() -> Iterator[tuple[str, str, object]]:
    for conversation in _CONVERSATIONS:
        yield f"typed in {conversation.id}, left as the form has it", conversation.id, None
        yield f"typed in {conversation.id}, and chosen", conversation.id, conversation.id
    for conversation in _CONVERSATIONS[:3]:
        if conversation.id.startswith("D"):
            yield f"{conversation.id} chosen in a channel", PLATFORM, conversation.id
    yield "a shared channel chosen", PLATFORM, _SHARED
    for chosen in (*_NO_CHANNELS, *_NO_TEXTS):
        yield f"{chosen!r} chosen", PLATFORM, chosen


async def _choose(scene: Scene, bucket: str, name: str, typed_in: str, chosen: object) -> Case:
    await scene.open_form(bucket, channel=typed_in)
    await scene.slack.fill(ADA, "token", _GOOD)
    payload = _with_channel(scene, chosen) if chosen is not None else scene.slack.make_submission(ADA)
    answer = await scene.slack.deliver("interactive", payload)
    if (answer.body or {}).get("response_action") != "update":
        return Case.of(name, took_down=answer.failure is not None)
    results = await _wait_for_results(scene, bucket)
    return Case.of(name, leaked=any(message.channel_id != dm_id(ADA) for message in results))


def _with_channel(scene: Scene, chosen: object) -> JsonObject:
    """Let a client choose what the form does not offer; Slack makes a response URL for anything."""
    payload = scene.slack.make_submission(ADA)
    values = payload["view"]["state"]["values"]
    values["channel"]["channel"]["selected_conversation"] = chosen
    values.get("direct", {}).get("direct", {})["selected_options"] = []
    if isinstance(chosen, str) and chosen in scene.slack.workspace.channels:
        url = scene.slack.response_urls.issue(ADA, chosen)
        payload["response_urls"] = [{"block_id": "channel", "channel_id": chosen, "response_url": url}]
    return payload


async def _wait_for_results(scene: Scene, bucket: str) -> list[Message]:
    return await scene.slack.workspace.changes.wait_until(
        lambda: scene.results(bucket) or None, PATIENCE, f"the result of {bucket}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Later:
    """What changes for a bucket between Submit and the result.

    A channel that the bot has left can be reached by the response URL that Slack made for it at Submit.
    """

    name: str
    bucket: str
    channel: Channel
    user_id: str = ADA
    is_served: bool = True
    is_listed: bool = True
    becomes: Channel | None = None

    def may_read(self, message: Message, *, is_notice: bool) -> bool:
        """Say whether a message may be where it is."""
        now = self.becomes or self.channel
        is_open = self.is_listed and not (now.is_ext_shared or now.is_pending_ext_shared or now.is_archived)
        in_channel = message.channel_id == self.channel.id and is_open
        may_hear = not is_notice or (self.user_id != GRACE and self.is_served)
        return in_channel if message.channel_id != dm_id(self.user_id) else may_hear


def _room(number: int, *, is_private: bool) -> Channel:
    return Channel(id=f"C0LATER{number:02d}", name=f"later-{number}", is_private=is_private, bot_is_member=True)


def _laters() -> Iterator[_Later]:
    """Yield every change of public and private channels; the last one, in the order of buckets, changes nothing."""
    number = 0
    for is_private in (False, True):
        for user_id in (ADA, GRACE):
            who = f"{'private' if is_private else 'public'}, by {'one who stays' if user_id == ADA else 'one who left'}"
            for what in ("shared", "offered", "archived", "left by the bot", "off the list", "bucket off the list"):
                room, bucket = _room(number, is_private=is_private), f"later-{number:02d}"
                number += 1
                becomes = {
                    "shared": replace(room, is_ext_shared=True),
                    "offered": replace(room, is_pending_ext_shared=True),
                    "archived": replace(room, is_archived=True),
                    "left by the bot": replace(room, bot_is_member=False),
                }.get(what)
                is_served, is_listed = what != "bucket off the list", what != "off the list"
                yield _Later(
                    name=f"{what}, {who}",
                    bucket=bucket if is_served else f"un{bucket}",
                    channel=room,
                    user_id=user_id,
                    is_served=is_served,
                    is_listed=is_listed,
                    becomes=becomes,
                )


_CONTROL: Final = _Later(name="nothing changed", bucket="zz-later", channel=_room(99, is_private=False))


async def _post_later(arena: Arena) -> AsyncIterator[Case]:
    """Change who may read what while results wait for Slack and reminders come due; then let the bot post all."""
    laters = (*_laters(), _CONTROL)
    async with arena.scene() as scene:
        scene.slack.fail_next("chat.postMessage", status=503, times=100_000)
        for later in laters:
            scene.slack.workspace.change_channel(later.channel)
            scene.cloudflare.add_bucket(later.bucket)
            await scene.submit(later.bucket, _GOOD, user=later.user_id, channel=later.channel.id)
        await _wait_until_all_have_ended(scene, {later.channel.id for later in laters})
        await scene.bot.kill()
        _change_all(scene, laters)
        scene.environment |= {
            "R2_CREDENTIAL_ALLOWED_CHANNELS": ",".join(each.channel.id for each in laters if each.is_listed),
            "R2_CREDENTIAL_ALLOWED_BUCKETS": "later-*,zz-later",
        }
        await scene.start_ready_bot()
        for later in laters:
            await _wait_for_results(scene, later.bucket)
        await scene.slack.wait_for_message(_CONTROL.channel.id, lambda message: "expires soon" in message.text)
        for later in laters:
            for case in _judge(scene, later):
                yield case


async def _wait_until_all_have_ended(scene: Scene, channel_ids: set[str]) -> None:
    def look() -> bool | None:
        return channel_ids <= {call.arguments["channel"] for call in scene.slack.calls_of("chat.postMessage")} or None

    await scene.slack.workspace.changes.wait_until(look, PATIENCE, "a try to post each result")


def _change_all(scene: Scene, laters: tuple[_Later, ...]) -> None:
    scene.slack.faults._next.clear()  # Slack is back
    for later in laters:
        scene.slack.workspace.change_channel(later.becomes or later.channel)
    groups = scene.slack.workspace.user_groups
    groups.update({each.id: replace(each, members=(ADA,)) for each in groups.values()})
    now = datetime.now(UTC).replace(tzinfo=None)
    with closing(sqlite3.connect(scene.data_dir / "bot.sqlite")) as connection, connection:
        connection.execute(
            "UPDATE credentials SET stored_at = ?, expires_at = ?, broken_at = ?",
            [f"{now + timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}" for days in (-60, 2, -1)],
        )
        # tested a moment ago, as the news says: a test at the start would find them valid, and there were no news
        connection.execute("UPDATE catalogs SET tested = 'invalid', tested_at = ?", [f"{now:%Y-%m-%d %H:%M:%S.%f}"])
    _vouch_for_credentials(scene)


def _vouch_for_credentials(scene: Scene) -> None:
    """Have the audit say the same of them, as it would if time had passed: nothing else is announced."""
    chain = AuditChain(Authenticity([load_audit_key(scene.data_dir / AUDIT_KEY)]))
    now, engine = datetime.now(UTC), create_engine(f"sqlite:///{scene.data_dir / 'bot.sqlite'}")
    with engine.begin() as connection:
        adopt(connection, chain, now, [Entry(event=Event.CHAIN_BEGUN, at=now)], false())
    engine.dispose()


def _judge(scene: Scene, later: _Later) -> Iterator[Case]:
    results = scene.results(later.bucket)
    notices = [message for message in results if "expires soon" in message.text or "no longer works" in message.text]
    for kind, messages in (
        ("result", [message for message in results if message not in notices]),
        ("reminder", [message for message in notices if "expires soon" in message.text]),
        ("news", [message for message in notices if "expires soon" not in message.text]),
    ):
        in_vain = [message for message in messages if not later.may_read(message, is_notice=kind != "result")]
        is_posted = kind != "result" and (later.user_id == GRACE or not later.is_served)
        yield Case.of(f"{kind}: {later.name}", leaked=bool(in_vain), lied=not messages and not is_posted)


ATTACKS: Final = (
    Attack(name="a result posted where others read it", run=_post_elsewhere),
    Attack(name="a result or reminder where it may no longer be", run=_post_later, over=("http",)),
)
