"""Attacks by text: lists, groups, texts of several lines, malformed ids, and disguised tokens."""

import asyncio
import json
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final

from bot.sandbox.blocks import JsonObject
from bot.sandbox.tokens import Behaviour, make_token
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.slack.inbound.ingress import seal_payload
from tests.attack.attack import Arena, Attack, Case
from tests.make import AUTHENTICITY
from tests.scene import ADA, CROWD, GRACE, MALLORY, PLATFORM, Scene, open_scene

LISTED: Final = "analytics-events"
EXCLUDED: Final = "billing-exports"
TOKEN: Final = make_token(Behaviour.GOOD, number=771)
OLDER: Final = "MadeUp883" + "Good0" * 6 + "x"
PATIENCE: Final = timedelta(seconds=10)

# Lists.

USELESS: Final = {
    "an exclusion in capitals": ("BUCKETS", "*,!Billing-exports"),
    "an exclusion with an underscore": ("BUCKETS", "*,!billing_*"),
    "an exclusion alone": ("BUCKETS", "!billing-exports"),
    "nothing but commas for buckets": ("BUCKETS", ","),
    "a direct message among channels": ("CHANNELS", "D0ADA0001"),
}


async def _lists_that_do_nothing(arena: Arena) -> AsyncIterator[Case]:
    async with open_scene(arena.transport, arena.new_directory()) as scene:
        for name, (setting, value) in USELESS.items():
            before = len(scene.printed())
            bot = await scene.start_bot({f"R2_CREDENTIAL_ALLOWED_{setting}": value})
            is_ready = await bot.wait_until_ready()
            said = scene.printed()[before:].decode()
            yield Case.of(name, got_in=is_ready, lied=not is_ready and f"R2_CREDENTIAL_ALLOWED_{setting}: " not in said)
            await bot.kill()


EXCLUSIONS: Final = {
    "behind": "*,!billing-exports",
    "before": "!billing-exports,*",
    "by glob": "billing-exports,analytics-*,!billing-*",
}


async def _excluded_buckets(arena: Arena) -> AsyncIterator[Case]:
    for name, globs in EXCLUSIONS.items():
        async with arena.scene({"R2_CREDENTIAL_ALLOWED_BUCKETS": globs}) as scene:
            for words in (EXCLUDED, f"store {EXCLUDED}", f"status {EXCLUDED}", f"history {EXCLUDED}"):
                outcome = await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {words}")
                text = outcome.message.text if outcome.message else ""
                yield Case.of(f"{name}: {words.split()[0]}", got_in="does not store credentials" not in text)
            await scene.open_form(LISTED)
            answer = await _submit(scene, ADA, bucket=EXCLUDED)
            yield Case.of(f"{name}: exchanged in the form", got_in=answer.get("response_action") != "errors")
            yield Case.of(f"{name}: the others", took_down=not await _is_taken(scene, GRACE))


# Groups.

GROUPS: Final = {
    "deleted": ("S0AGONE01,S0DATAENG", None),
    "deleted, named last": ("S0DATAENG,S0ZGONE01", None),
    "silent": ("S0AGONE01,S0DATAENG", "internal_error"),
    "unreadable": ("S0AGONE01,S0DATAENG", "missing_scope"),
}


async def _groups_that_fail(arena: Arena) -> AsyncIterator[Case]:
    for name, (groups, error) in GROUPS.items():
        async with arena.scene({"R2_CREDENTIAL_ALLOWED_USERGROUPS": groups}) as scene:
            if error is not None:  # the first group that is asked for, in the order of the ids
                scene.slack.fail_next("usergroups.users.list", error=error)
            stranger = await scene.slack.type_command(MALLORY, PLATFORM, f"/r2-credential {LISTED}")
            yield Case.of(f"{name}: a stranger", got_in=stranger.message is None)
            for user in (ADA, GRACE, CROWD[0]):
                yield Case.of(f"{name}: {user}", took_down=not await _is_taken(scene, user))


# Texts.

ENDS: Final = {
    "a line feed": "\n",
    "two line feeds": "\n\n>",
    "a Windows line end": "\r\n",
    "a line separator": "\u2028",
    "a paragraph separator": "\u2029",
    "a vertical tab": "\x0b",
    "a next line": "\x85",
    "a NUL": "\0",
    "an escape": "\x1b[2K\r",
    "a backspace": "\x08" * 20,
    "an override": "\u202e",
    "an isolate": "\u2066\u2067",
}


async def _texts_that_forge(arena: Arena) -> AsyncIterator[Case]:
    async with arena.scene() as scene:
        answers = []
        for number, (user, end) in enumerate(zip(CROWD, ENDS.values(), strict=False)):
            await scene.open_form(LISTED, user=user)
            answers.append(await _submit(scene, user, reason=f"ok{end}FORGED-{number}: stored by <@{GRACE}>"))
        await scene.slack.type_command(ADA, PLATFORM, "/r2-credential history")
        said = [text for message in scene.slack.messages(PLATFORM, as_user=ADA) for text in _texts_of(message.blocks)]
        for number, (name, answer) in enumerate(zip(ENDS, answers, strict=False)):
            shown = [text for text in said if f"FORGED-{number}:" in text]
            lied = any(_is_forged(text, f"FORGED-{number}:") for text in shown)
            yield Case.of(
                f"{name} in a reason", lied=lied, took_down=not shown or answer.get("response_action") != "update"
            )


def _is_forged(text: str, mark: str) -> bool:
    """Say whether the mark begins a line, or follows an invisible character."""
    lines = text.splitlines()
    odd = [each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"} and each != "\n"]
    return bool(odd) or any(line.lstrip(">").startswith(mark) for line in lines)


# Ids.

NO_IDS: Final = {
    "empty": "",
    "no text": 7,
    "a list": ["C0DATAPLT"],
    "markup": "<!channel>",
    "a line end": "C0DATAPLT\n",
    "a NUL": "C0DATA\0PLT",
    "in lower case": "c0dataplt",
    "a name": "#data-platform",
    "without end": "C" + "0" * 5000,
    "turned round": "\u202eC0DATAPLT",
}


async def _malformed_ids(arena: Arena) -> AsyncIterator[Case]:
    async with arena.scene() as scene:
        await scene.open_form(LISTED)
        for name, junk in NO_IDS.items():
            for place in ("user", "view", "channel", "team"):
                answer = await _submit(scene, ADA, **{place: junk})
                is_taken = answer.get("response_action") == "update" and "Nothing was sent" not in json.dumps(answer)
                yield Case.of(f"{name} for a {place}", got_in=is_taken, took_down=not answer)
        yield Case.of("the others", took_down=not await _is_taken(scene, GRACE))


# Tokens.

UNSEEN: Final = {
    "nothing": "",
    "a zero-width blank": "\u200b",
    "a joiner": "\u200d",
    "a soft hyphen": "\u00ad",
    "an override": "\u202e",
    "a word joiner": "\u2060",
    "a byte order mark": "\ufeff",
    "a variant": "\ufe0f",
    "a tag": "\U000e0041",
    "a filler": "\u3164",
}


async def _tokens_in_disguise(_: Arena) -> AsyncIterator[Case]:
    key = KeyRing(*load_private_keys(generate_private_key())).sealing_key
    for name, unseen in UNSEEN.items():
        for token in (TOKEN, OLDER):
            hidden = unseen.join(token)
            for place, body in _places_of(hidden):
                sealed = json.dumps(
                    seal_payload({"type": "block_actions", **body}, key, "0" * 32, AUTHENTICITY.fingerprint).body,
                    ensure_ascii=False,
                )
                plain = "".join(each for each in sealed if each.isascii())
                yield Case.of(f"{name} in {token[:5]}, {place}", leaked=token in plain)
    for place, body in _places_of(TOKEN, as_name=True):
        sealed = json.dumps(
            seal_payload({"type": "block_actions", **body}, key, "0" * 32, AUTHENTICITY.fingerprint).body
        )
        yield Case.of(f"as a name, {place}", leaked=TOKEN in sealed, lied=sealed.count('"part') < 2)


def _places_of(text: str, *, as_name: bool = False) -> Iterator[tuple[str, JsonObject]]:
    """Put the text where a payload has room; as a name, next to another name that is masked as well."""
    part: object = {text: "part 1", OLDER: "part 2"} if as_name else f"the new one: {text}."
    yield "at the top", {"found": part}
    yield "in a list", {"found": [["x", part]]}
    yield "in a state", {"view": {"state": {"values": {"reason": {"reason": {"value": part}}}}}}
    yield "for a trigger", {"trigger_id": {"deeper": part}}


# Time.


async def _texts_without_end(arena: Arena) -> AsyncIterator[Case]:
    endless = {"layers of quotes": "'Bearer " * 110_000, "layers behind blanks": " \u201cbearer\t" * 60_000}
    async with arena.scene() as scene:
        await scene.open_form(LISTED)
        for name, pasted in endless.items():
            payload = scene.slack.make_submission(ADA)
            payload["view"]["state"]["values"]["token"]["token"]["value"] = pasted
            sending = asyncio.create_task(scene.slack.deliver("interactive", payload))
            helped = False
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await sending
                    outcome = await scene.slack.type_command(GRACE, PLATFORM, "/r2-credential help")
                    helped = outcome.message is not None
            sending.cancel()
            yield Case.of(f"{name}: the others", took_down=not helped)


async def _submit(scene: Scene, who: str, /, **changes: object) -> JsonObject:
    """Submit the open form with contents that a person could not enter, and return the answer."""
    await scene.slack.fill(who, "token", TOKEN)
    payload = scene.slack.make_submission(who)
    values = payload["view"]["state"]["values"]
    for place, value in changes.items():
        if place == "bucket":
            values["bucket"]["bucket"]["selected_option"] = {"value": value}
        elif place == "reason":
            values["reason"]["reason"]["value"] = value
        elif place == "channel":
            values["channel"]["channel"]["selected_conversation"] = value
        elif place == "team":
            payload["view"]["app_installed_team_id"] = value or [7]
        else:
            payload[place]["id"] = value
    answer = await scene.slack.deliver("interactive", payload)
    return answer.body or {}


async def _is_taken(scene: Scene, user: str) -> bool:
    """Say whether a permitted user can open the form."""
    outcome = await scene.slack.type_command(user, PLATFORM, f"/r2-credential {LISTED}")
    return outcome.failure is None and outcome.message is None


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts_of(part)


ATTACKS: Final = (
    Attack(name="lists that do not do what they say", run=_lists_that_do_nothing, over=("http",)),
    Attack(name="buckets that a list excludes", run=_excluded_buckets, over=("http",)),
    Attack(name="user groups that are gone or silent", run=_groups_that_fail, over=("socket",)),
    Attack(name="texts that forge lines", run=_texts_that_forge),
    Attack(name="malformed ids", run=_malformed_ids),
    Attack(name="tokens in disguise, and as names", run=_tokens_in_disguise, over=("http",)),
    Attack(name="texts that take forever to trim", run=_texts_without_end, over=("socket",)),
)
