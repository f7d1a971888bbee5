"""Four eyes, and those who would do with two: forged presses, old buttons, lost rights, and ways around the rule."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Final

from bot.sandbox.blocks import JsonObject
from bot.sandbox.workspace import OUTSIDERS, Message
from bot.slack.messages.approval import APPROVE, DENY
from bot.slack.messages.render import ENABLE, TRY_AGAIN
from bot.slack.stories.no_catalog import OPEN_ANYWAY, USE_SIMILAR
from bot.slack.stories.table import NEXT_PAGE, STORE
from tests.attack.attack import Arena, Attack, Case
from tests.attack.entrances import Visitor
from tests.attack.office import (
    GROUP,
    HEDY,
    KATHERINE,
    READER,
    REASON,
    REQUESTER,
    Office,
    open_office,
    set_office,
    token_of,
    write_policy,
)
from tests.attack.outsiders import _ELSEWHERE, _NOT_LISTED, _OTHER_APPS, _as_person, _by_profile
from tests.attack.rows import _execute, _wait_for
from tests.e2e.test_replicas import running_fleet
from tests.postgres import running_postgres
from tests.scene import ADA, GRACE, PLATFORM

_BOTH: Final = (APPROVE, DENY)
_ELSEWHERE_ID: Final = "C0ANALYTX"
_LONG: Final = 500_000
_MINUTE: Final = 75.0
"""Within which a removed requester is noticed, and some more."""

# Who presses, and what.


def _visitors(office: Office) -> Iterator[Visitor]:
    """Yield those who may not decide on what REQUESTER asked for; some are listed as approvers by mistake."""
    users = office.scene.slack.workspace.users
    yield Visitor(name="the requester", forge=_as_person(users[REQUESTER]))
    yield Visitor(name="who may store only", forge=_as_person(users[READER]))
    yield from (*map(_by_profile, OUTSIDERS), *_NOT_LISTED, *_ELSEWHERE, *_OTHER_APPS)


async def _forge_people(arena: Arena) -> AsyncIterator[Case]:
    """Let each visitor press both buttons of one request; then it is an approver's press that counts."""
    async with open_office(arena) as office:
        request = await office.ask("prod-00", 0)
        for visitor in _visitors(office):
            for action in _BOTH:
                payload = visitor.forge("interactive", office.make_press(request, action=action))
                yield await office.press_in_vain(payload, f"{visitor.name}: {action}")
        own = await office.ask("prod-01", 1, ADA)
        for action in _BOTH:
            yield await office.press_in_vain(office.make_press(own, ADA, action), f"an approver's own: {action}")
        await office.scene.slack.click(GRACE, request, APPROVE)
        yield Case.of("an approver", took_down=not await office.is_stored("prod-00", 0))


def _value(payload: JsonObject) -> str:
    return str(payload["actions"][0]["value"])


def _forgeries(other: Message, office: Office) -> Iterator[tuple[str, Callable[[JsonObject], object]]]:
    """Yield values that the button does not have."""
    its = _value(office.make_press(other)).split()
    yield "another request's digest", lambda payload: f"{_value(payload).split()[0]} {its[1]}"
    yield "another request's id", lambda payload: f"{its[0]} {_value(payload).split()[1]}"
    yield "no digest", lambda payload: _value(payload).split()[0]
    yield "a digest of nothing", lambda payload: f"{_value(payload).split()[0]} {'0' * 32}"
    yield "the digest in capitals", lambda payload: _value(payload).upper()
    yield "behind a line end", lambda payload: f"\n{_value(payload)}"
    yield "before a blank", lambda payload: f"{_value(payload)} "
    yield "with more behind it", lambda payload: f"{_value(payload)} {PLATFORM}"
    yield "any", lambda _: f"% {'0' * 32}"
    yield "SQL", lambda _: "' OR '1'='1' --"
    yield "a bucket", lambda _: "prod-00"
    yield "a long one", lambda payload: _value(payload) + "0" * _LONG
    yield from (
        ("missing", lambda _: None),
        ("a number", lambda _: 7),
        ("a list", lambda _: [1]),
        ("nothing", lambda _: ""),
    )


async def _forge_presses(arena: Arena) -> AsyncIterator[Case]:
    """Let an approver with a modified client press with other values, from other places and over other entrances."""
    async with open_office(arena) as office:
        request, other = await office.ask("prod-00", 0), await office.ask("prod-01", 1, READER)
        for name, forge in _forgeries(other, office):
            for action in _BOTH:
                payload = office.make_press(request, action=action)
                payload["actions"][0]["value"] = forge(deepcopy(payload))
                yield await office.press_in_vain(payload, f"{name}: {action}", may_learn=True)
        for action in (TRY_AGAIN, ENABLE, OPEN_ANYWAY, USE_SIMILAR, STORE, NEXT_PAGE):
            payload = office.make_press(request)
            payload["actions"][0]["action_id"] = action
            yield await office.press_in_vain(payload, f"as {action}", may_learn=True)
        for kind in ("modal", "home"):
            payload = office.make_press(request) | {"view": {"id": "V0MADEUP1", "type": kind, "callback_id": "x"}}
            yield await office.press_in_vain(payload, f"in a {kind}", may_learn=True)
        yield await _press_from_elsewhere(office, request)


async def _press_from_elsewhere(office: Office, request: Message) -> Case:
    """Name another channel and message: the decision counts, and is shown where the approvers were asked."""
    payload = office.make_press(request)
    payload["channel"] = {"id": _ELSEWHERE_ID, "name": "analytics"}
    payload["container"] |= {"channel_id": _ELSEWHERE_ID, "message_ts": "1.000001"}
    payload["message"]["ts"] = "1.000001"
    payload["message"]["blocks"] = []
    await office.scene.slack.deliver("interactive", payload)
    is_stored = await office.is_stored("prod-00", 0) and await office.has_ended("prod-00", "stored")
    calls = [call.arguments for call in office.scene.slack.calls if _ELSEWHERE_ID in str(call.arguments)]
    return Case.of("from another channel", leaked=any(REASON in str(each) for each in calls), took_down=not is_stored)


# When it is pressed.


async def _press_too_late(arena: Arena) -> AsyncIterator[Case]:
    """Press the buttons of what was denied, stored, superseded and expired, which a client has kept."""
    async with open_office(arena) as office:
        slack = office.scene.slack
        denied, stored = await office.ask("prod-00", 0), await office.ask("prod-01", 1)
        await slack.click(GRACE, denied, DENY)
        await slack.click(GRACE, stored, APPROVE)
        older, newer = await office.ask("prod-02", 2), await office.ask("prod-02", 3)
        await slack.click(GRACE, newer, APPROVE)
        ends = {("prod-00", "denied"): denied, ("prod-01", "stored"): stored, ("prod-02", "superseded"): older}
        for bucket, state in ends:
            assert await office.has_ended(bucket, state), bucket
        for (_, state), request in ends.items():
            for action in _BOTH:
                payload = office.make_press(request, HEDY, action)
                yield await office.press_in_vain(payload, f"{state}: {action}", may_learn=True)
    async with open_office(arena, {"R2_CREDENTIAL_TTL": "6s"}) as office:
        request = await office.ask("prod-00", 0)
        assert await office.has_ended("prod-00", "expired")
        for action in _BOTH:
            payload = office.make_press(request, action=action)
            yield await office.press_in_vain(payload, f"expired: {action}", may_learn=True)


async def _submit_again(arena: Arena) -> AsyncIterator[Case]:
    """Send the form again, with another token or for another bucket, once an approver was asked about the first one."""
    async with open_office(arena) as office:
        scene = office.scene
        for bucket in ("prod-00", "prod-01"):
            scene.cloudflare.add_bucket(bucket)
        await scene.open_form("prod-00", user=REQUESTER)
        for name, value in (("token", token_of(0)), ("reason", f"{REASON} 0")):
            await scene.slack.fill(REQUESTER, name, value)
        payload = scene.slack.make_submission(REQUESTER)
        await scene.slack.deliver("interactive", payload)
        request = await scene.slack.wait_for_message(PLATFORM, lambda message: message.text.startswith("Approval"))
        again = deepcopy(payload)
        values = again["view"]["state"]["values"]
        values["token"]["token"]["value"] = token_of(1)
        await scene.slack.deliver("interactive", again)
        values["bucket"]["bucket"]["selected_option"] = {"value": "prod-01"}
        await scene.slack.deliver("interactive", again)
        await scene.slack.click(GRACE, request, APPROVE)
        is_stored = await office.is_stored("prod-00", 0)
        sent = [write.token for write in scene.cloudflare.writes]
        yield Case.of("another token, another bucket", got_in=token_of(1) in sent, took_down=not is_stored)


# Who it was.


async def _lose_the_right(arena: Arena) -> AsyncIterator[Case]:
    """Approve what is held back by a newer one; take a right away; deny the newer one: the older one is not stored."""
    async with open_office(arena) as office:
        scene, workspace = office.scene, office.scene.slack.workspace
        losses: dict[str, tuple[str, str, Callable[[], None]]] = {
            "an approver who left": (REQUESTER, HEDY, lambda: _change(office, HEDY, deleted=True)),
            "an approver who left the group": (
                READER,
                KATHERINE,
                lambda: workspace.user_groups.update({GROUP: replace(workspace.user_groups[GROUP], members=())}),
            ),
            "a requester who became a guest": (GRACE, ADA, lambda: _change(office, GRACE, is_restricted=True)),
        }
        for number, (requester, approver, _) in enumerate(losses.values()):
            first = await office.ask(f"prod-{number:02d}", number, requester)
            await office.ask(f"prod-{number:02d}", 10 + number, requester)
            await scene.slack.click(approver, first, APPROVE)
        yield Case.of("while they are held back", got_in=bool(scene.cloudflare.writes))
        assert len(_execute(scene, "SELECT 1 FROM decisions")) == len(losses)
        for _, _, lose in losses.values():
            lose()
        await scene.bot.kill()
        await scene.start_ready_bot()
        for number, name in enumerate(losses):
            bucket = f"prod-{number:02d}"
            [newer] = [each for each in scene.slack.messages(PLATFORM) if f"{REASON} {10 + number}" in each.shown_text]
            await scene.slack.click(ADA, newer, DENY)
            is_over = await _wait_for(lambda bucket=bucket: _are_over(office, bucket), _MINUTE)  # type: ignore[misc]  # one bucket
            is_stored = scene.cloudflare.stored_token(bucket) is not None
            yield Case.of(name, got_in=is_stored, took_down=not is_over)


def _change(office: Office, user_id: str, **flags: bool) -> None:
    workspace = office.scene.slack.workspace
    workspace.change_user(replace(workspace.users[user_id], **flags))  # type: ignore[arg-type]  # all are flags


def _are_over(office: Office, bucket: str) -> bool:
    query = f"SELECT ended_at FROM submissions WHERE bucket = '{bucket}'"  # noqa: S608 - our own words
    return all(ended_at is not None for (ended_at,) in _execute(office.scene, query))


async def _decide_at_once(arena: Arena) -> AsyncIterator[Case]:
    """Let two people press at the same instant, one of them to deny, at two gateways on one database."""
    with running_postgres(arena.new_directory() / "server") as server:
        fleet_of = running_fleet(
            set_office, arena.transport, arena.new_directory(), server, ["gateway", "gateway", "worker"]
        )
        async with fleet_of as fleet:
            office = Office(scene=fleet.scene)
            fleet.scene.environment["R2_CREDENTIAL_DATABASE_URL"] = fleet.url
            requests = [await office.ask(f"prod-{number:02d}", number) for number in range(6)]
            for number, request in enumerate(requests):
                presses = [office.make_press(request), office.make_press(request, HEDY, DENY)]
                await asyncio.gather(
                    *(fleet.scene.slack.deliver("interactive", press) for press in presses[:: (-1) ** number])
                )
            for number in range(len(requests)):
                yield await _judge_decision(office, f"prod-{number:02d}", number)


async def _judge_decision(office: Office, bucket: str, number: int) -> Case:
    """Compare what is recorded with what was written and told."""
    is_over = await _wait_for(lambda: _are_over(office, bucket))
    query = "SELECT choice, decisions.user_id, state FROM decisions JOIN submissions ON id = submission_id"
    decided = _execute(office.scene, f"{query} WHERE bucket = '{bucket}'")
    is_stored = office.scene.cloudflare.stored_token(bucket) == token_of(number)
    told = [("approve", GRACE, "stored")] if is_stored else [("deny", HEDY, "denied")]
    is_true = decided == told
    return Case.of(f"{bucket}: {decided}", lied=not is_true, took_down=not is_over)


# Around it.

_TICKED: Final[JsonObject] = {"type": "checkboxes", "selected_options": [{"value": "ticked"}]}


def _in_channel(channel_id: str) -> JsonObject:
    return {"channel": {"type": "conversations_select", "selected_conversation": channel_id}}


def _because(reason: str) -> JsonObject:
    return {"reason": {"type": "plain_text_input", "value": reason}}


async def _go_around(arena: Arena) -> AsyncIterator[Case]:
    """Have it taken on other terms than those of its rule: in another channel, or with a reason of nothing."""
    async with open_office(arena) as office:
        scene = office.scene
        for bucket in ("prod-00", "other"):
            scene.cloudflare.add_bucket(bucket)
        ways: dict[str, JsonObject] = {
            "a result in another channel": _in_channel(_ELSEWHERE_ID),
            "a result where others read it": _in_channel("C0PARTNER"),
            "a result in an archived channel": _in_channel("C0OLDWARE"),
            "a result in a direct message": {"direct": _TICKED},
            "a dry run in another channel, without a reason": _in_channel(_ELSEWHERE_ID)
            | _because("")
            | {"check": _TICKED},
            "no reason": _because(""),
            "a reason of Braille blanks": _because("\u2800" * 3),
            "a reason that shows as nothing": _because("\u3164\u200b\u180b"),
            "a reason of a masked commit": _because("9fceb02d0ae598e95dc970b74767f19372d61af8"),
            "a reason that is none": {"reason": {}},
        }
        for name, state in ways.items():
            is_taken = await office.submit("prod-00", 0, **state)
            yield Case.of(name, got_in=is_taken or bool(scene.cloudflare.writes))
        is_taken = await office.submit("other", 1, **_in_channel(_ELSEWHERE_ID))
        yield Case.of("another bucket", took_down=not is_taken or not await office.is_stored("other", 1))


async def _reload(arena: Arena) -> AsyncIterator[Case]:
    """Break the policy while something waits: the old rules hold, and the requester decides nothing."""
    async with open_office(arena) as office:
        request = await office.ask("prod-00", 0)
        broken = {"empty": "", "no TOML": "[[rule]", "of nobody": "[[rule]]\napprovals = 0", "gone": None}
        for name, text in broken.items():
            await office.reload(text, "policy_not_loaded")
            for user in (REQUESTER, READER):
                yield await office.press_in_vain(office.make_press(request, user), f"{name}: {user}")
        await office.reload(write_policy(requesters=(ADA, GRACE, HEDY, READER)), "policy_loaded")
        await office.scene.slack.click(GRACE, request, APPROVE)
        yield Case.of("a removed requester", got_in=office.outcome() != [])


ATTACKS: Final = (
    Attack(name="approvals by people who may not approve", run=_forge_people),
    Attack(name="approvals by forged buttons and places", run=_forge_presses),
    Attack(name="approvals of what has ended", run=_press_too_late, over=("http",)),
    Attack(name="approvals, and another token in the same form", run=_submit_again, over=("http",)),
    Attack(name="approvals whose right is gone at the work", run=_lose_the_right, over=("http",)),
    Attack(name="approvals and denials at once, at two gateways", run=_decide_at_once, over=("socket",)),
    Attack(name="ways around approvals", run=_go_around),
    Attack(name="approvals while the policy is broken", run=_reload, over=("http",)),
)
