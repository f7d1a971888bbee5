"""The ingress: nothing unsigned, malformed or too big passes, and nothing behind it holds a plain token."""

import asyncio
import io
import json
import logging
import pickle
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import FrameType
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.cloudflare.auth import Bearer
from bot.model.catalog import BucketKey
from bot.model.errors import SealedValueUnreadable
from bot.model.pasted_token import DIGEST_MASK, MASK, trim
from bot.model.submission import PastedToken
from bot.model.submission import TokenKind as PastedKind
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Message
from bot.sealing.hpke import RESPONSE_URL, TOKEN, KeyRing, SealingContext, generate_private_key, load_private_keys
from bot.slack import form as modal
from bot.slack.blocks import Json
from bot.slack.inbound.http import BODY_LIMIT, READ_TIMEOUT, HttpIngress
from bot.slack.inbound.ingress import Ingress, SealedPayload, seal_payload
from bot.slack.inbound.payloads import Submit
from bot.slack.inbound.routes import PAYLOAD
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.subcommands import COMMAND
from tests.clock import Clock
from tests.desk import Desk
from tests.ingress import make_ingress
from tests.leaks import find_leaks
from tests.make import AUTHENTICITY
from tests.noted_way import NotedWay

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
PRIVATE = "G0INCID42"
BUCKET = "analytics-events"
ACCOUNT = "5a4db0c0000000000000000000000001"
FILLED_IN = modal.Filling(key=BucketKey(account_id=ACCOUNT, bucket=BUCKET))
FORM_TYPE = "application/x-www-form-urlencoded"
SECRET = "0123456789abcdef-made-up"
OLDER_SECRET = "fedcba9876543210-made-up"
TOKEN_TEXT = make_token(Behaviour.GOOD, number=881)
UNPREFIXED = "MadeUp882" + "Good0" * 6 + "x"
"""Forty random characters hold all three character classes, as this made-up token does."""


@pytest.fixture(autouse=True)
def usual_depth() -> Iterator[None]:
    """Set the recursion limit that the bot has: libraries of other tests raise it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture(scope="module")
def key_ring() -> KeyRing:
    """Make a key ring of one key."""
    return KeyRing(*load_private_keys(generate_private_key()))


# Sealing payloads of every kind that Slack sends. The fake Slack makes them; nothing is sent.


@pytest.fixture
def slack() -> FakeSlack:
    """Return such a workspace."""
    return make_workspace()


def make_workspace() -> FakeSlack:
    """Return a workspace that is not started: its people can still fill in a form."""
    slack = FakeSlack()
    form = modal.build_form(nonce="the-nonce", filling=FILLED_IN, catalogs=())
    slack.modals.open(slack.workspace.users[ADA], PLATFORM, form)
    return slack


def fill(slack: FakeSlack, block_id: str, text: str) -> None:
    """Type into a field of the open form without sending anything."""
    view = slack.modals.top(ADA)
    assert view is not None
    slack.modals.fill(view, view.field_at(block_id), text)


def seal(payload: Json, key_ring: KeyRing) -> SealedPayload:
    """Seal a payload as the ingress does."""
    return seal_payload(payload, key_ring.sealing_key, ACCOUNT, AUTHENTICITY.fingerprint)


def everything_of(sealed: SealedPayload) -> bytes:
    """Serialize it in every way that a program may use; a Secret refuses to be pickled."""
    picklable = replace(sealed, answer_url=None)
    return b"\n".join(
        (repr(sealed).encode(), str(sealed.body).encode(), json.dumps(sealed.body).encode(), pickle.dumps(picklable))
    )


def make_suggestion(slack: FakeSlack, token: str) -> Json:
    """Type a token into the bucket search while another one is half-typed below it."""
    fill(slack, modal.TOKEN_BLOCK, token)
    view = slack.modals.top(ADA)
    assert view is not None
    return slack.payloads.options(view, modal.BUCKET_BLOCK, modal.BUCKET_ACTION, token)


def make_view_action(slack: FakeSlack, token: str) -> Json:
    """Press a button in the form while a token is half-typed: the payload carries the whole state."""
    fill(slack, modal.TOKEN_BLOCK, token[:-10])
    view = slack.modals.top(ADA)
    assert view is not None
    return slack.payloads.view_action(view, {"action_id": "x", "value": token})


def make_closed(slack: FakeSlack, token: str) -> Json:
    """Close the form with a token in it."""
    fill(slack, modal.TOKEN_BLOCK, token)
    view = slack.modals.top(ADA)
    assert view is not None
    return slack.payloads.closed(view, is_cleared=True)


def make_command(slack: FakeSlack, token: str) -> Json:
    """Type a token after the command."""
    return slack.make_command(ADA, PLATFORM, f"/r2-credential {BUCKET} {token}")


def make_button(slack: FakeSlack, token: str) -> Json:
    """Press a button of a message in which a person quoted a token."""
    said = slack.workspace.post(
        Message(ts="", channel_id=PLATFORM, user_id=ADA, text=f"use {token}", blocks=({"type": "x", "y": [token]},))
    )
    return slack.make_message_action(ADA, said, {"action_id": "try_again", "value": token})


def make_submission(slack: FakeSlack, token: str) -> Json:
    """Submit the token in its field, and again in the reason."""
    fill(slack, modal.TOKEN_BLOCK, token)
    fill(slack, modal.REASON_BLOCK, f"the new one is {token}.")
    return slack.make_submission(ADA)


def make_bucket_slip(slack: FakeSlack, token: str) -> Json:
    """Paste the token into the bucket's field, which is plain text if no catalogs are known."""
    form = modal.build_form(nonce="the-nonce", filling=modal.Filling(), catalogs=None)
    slack.modals.open(slack.workspace.users[ADA], PLATFORM, form)
    fill(slack, modal.BUCKET_BLOCK, token)
    return slack.make_submission(ADA)


def make_deep(slack: FakeSlack, token: str) -> Json:
    """Hide a token deep in a payload of no known kind."""
    return {"type": "shortcut", "a": [{"b": [[{"c": f"..{token}.."}]]}, token], "d": {"e": {"f": token}}}


KINDS: dict[str, Callable[[FakeSlack, str], Json]] = {
    "slash_commands": make_command,
    "block_suggestion": make_suggestion,
    "view_submission": make_submission,
    "view_submission with a token as bucket": make_bucket_slip,
    "block_actions of a form": make_view_action,
    "block_actions of a message": make_button,
    "view_closed": make_closed,
    "shortcut": make_deep,
}


@pytest.mark.parametrize("token", [TOKEN_TEXT, UNPREFIXED], ids=["with prefix", "without prefix"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_no_kind_of_payload_keeps_a_token(
    slack: FakeSlack, key_ring: KeyRing, make: Callable[[FakeSlack, str], Json], token: str
) -> None:
    """No serialization of the sealed payload contains the token in any encoding."""
    payload = make(slack, token)
    assert token[:-10] in json.dumps(payload)

    sealed = seal(payload, key_ring)

    assert find_leaks(everything_of(sealed), token) == []
    assert find_leaks(everything_of(sealed), token[:-10]) == []


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_no_kind_of_payload_keeps_a_plain_response_url(
    slack: FakeSlack, key_ring: KeyRing, make: Callable[[FakeSlack, str], Json]
) -> None:
    """Slack puts one into commands, buttons and submissions; none of them passes in plain text."""
    payload = make(slack, TOKEN_TEXT)
    payload["response_url"] = "https://hooks.slack.test/commands/T0/made-up"

    sealed = everything_of(seal(payload, key_ring))

    assert find_leaks(sealed, "/response/") == []
    assert find_leaks(sealed, "hooks.slack.test") == []


@pytest.mark.parametrize("name", ["slash_commands", "block_actions of a message"])
def test_the_response_url_of_a_command_or_button_is_kept_in_memory_only(
    slack: FakeSlack, key_ring: KeyRing, name: str
) -> None:
    """It is a Secret next to the payload: shown as a mask, and refusing to be pickled or copied."""
    sealed = seal(KINDS[name](slack, TOKEN_TEXT) | {"response_url": "https://hooks.slack.test/made-up"}, key_ring)

    assert sealed.answer_url is not None
    assert sealed.answer_url.reveal() == "https://hooks.slack.test/made-up"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(sealed)


@pytest.mark.parametrize("answer_url", [None, "", 7, ["https://hooks.slack.test/made-up"]], ids=repr)
def test_an_unusable_response_url_is_dropped(slack: FakeSlack, key_ring: KeyRing, answer_url: object) -> None:
    """No value of another type passes, and nothing of it stays in the body."""
    sealed = seal(make_command(slack, TOKEN_TEXT) | {"response_url": answer_url}, key_ring)

    assert (sealed.answer_url, "response_url" in sealed.body) == (None, False)


def test_a_submission_has_no_second_response_url(slack: FakeSlack, key_ring: KeyRing) -> None:
    """Only the URL of the chosen channel passes, sealed; any other one is dropped."""
    sealed = seal(make_submission(slack, TOKEN_TEXT) | {"response_url": "https://hooks.slack.test/made-up"}, key_ring)

    assert sealed.answer_url is None
    assert find_leaks(everything_of(sealed), "hooks.slack.test") == []


PLACES: dict[str, Callable[[Json], object]] = {
    "command text": lambda body: body["text"],
    "option search": lambda body: body["value"],
    "reason": lambda body: body["view"]["state"]["values"]["reason"]["reason"]["value"],
    "bucket": lambda body: body["view"]["state"]["values"]["bucket"]["bucket"]["value"],
    "value of a button": lambda body: body["actions"][0]["value"],
    "deep places": lambda body: body["a"][0]["b"][0][0]["c"],
}
MASKED = [
    ("command text", make_command, f"{BUCKET} {MASK}"),
    ("option search", make_suggestion, MASK),
    ("reason", make_submission, f"the new one is {MASK}."),
    ("bucket", make_bucket_slip, MASK),
    ("value of a button", make_button, MASK),
    ("deep places", make_deep, f"..{MASK}.."),
]


@pytest.mark.parametrize(("place", "make", "shown"), MASKED, ids=PLACES)
def test_a_misplaced_token_is_masked_and_marked(
    slack: FakeSlack, key_ring: KeyRing, place: str, make: Callable[[FakeSlack, str], Json], shown: str
) -> None:
    """The listeners see that a token was there, and can advise the person to revoke it."""
    assert PLACES[place](seal(make(slack, TOKEN_TEXT), key_ring).body) == shown


@pytest.mark.parametrize(("place", "make"), [(place, make) for place, make, _ in MASKED], ids=PLACES)
def test_what_may_be_a_commit_is_marked_in_the_reason_only(
    slack: FakeSlack, key_ring: KeyRing, place: str, make: Callable[[FakeSlack, str], Json]
) -> None:
    """Elsewhere nobody types one, and it is a key for all the bot knows."""
    masked = str(PLACES[place](seal(make(slack, "5a4d" * 10), key_ring).body))

    assert (DIGEST_MASK in masked, MASK in masked) == (place == "reason", place != "reason")


@pytest.mark.parametrize("name", ["trigger_id", "api_app_id", "user", "team", "token"])
def test_needed_fields_pass_unchanged(slack: FakeSlack, key_ring: KeyRing, name: str) -> None:
    """Sealing does not change what the listeners need."""
    payload = slack.make_submission(ADA)
    before = json.loads(json.dumps(payload[name]))

    assert seal(payload, key_ring).body[name] == before


def submit(slack: FakeSlack, key_ring: KeyRing, pasted: str) -> PastedToken:
    """Return what the ingress passes on about a pasted text."""
    fill(slack, modal.TOKEN_BLOCK, pasted)
    pasted_token = seal(slack.make_submission(ADA), key_ring).pasted
    assert pasted_token is not None
    return pasted_token


def context_of(slack: FakeSlack, purpose: str = TOKEN) -> SealingContext:
    """Return the context that the submission of the open form is bound to."""
    view = slack.modals.top(ADA)
    assert view is not None
    return SealingContext(
        purpose=purpose,
        task="store",
        team_id=slack.config.team_id,
        user_id=ADA,
        view_id=view.id,
        channel_id=PLATFORM,
        account_id=ACCOUNT,
        bucket=BUCKET,
    )


@pytest.mark.parametrize("pasted", [TOKEN_TEXT, f'  "Bearer {TOKEN_TEXT}"\n'], ids=["bare", "with copy slips"])
def test_the_token_opens_where_it_belongs(slack: FakeSlack, key_ring: KeyRing, pasted: str) -> None:
    """The pasted text is trimmed, and its kind and last four characters are in plain text."""
    pasted_token = submit(slack, key_ring, pasted)

    assert pasted_token.sealed is not None
    assert key_ring.open(pasted_token.sealed, context_of(slack)).reveal() == TOKEN_TEXT
    assert (pasted_token.kind, pasted_token.last_four) == (PastedKind.ACCOUNT, TOKEN_TEXT[-4:])


ELSEWHERE = {
    "purpose": RESPONSE_URL,
    "team_id": "T0ANOTHER",
    "user_id": "U0MALLORY",
    "view_id": "V0ANOTHER",
    "task": "check",
    "channel_id": "C0ANOTHER",
    "account_id": "0" * 32,
    "bucket": "another-bucket",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_token_opens_nowhere_else(slack: FakeSlack, key_ring: KeyRing, name: str) -> None:
    """Moved to another workspace, person, view, task, channel, account, bucket or purpose, it cannot be opened."""
    pasted_token = submit(slack, key_ring, TOKEN_TEXT)
    moved = replace(context_of(slack), **{name: ELSEWHERE[name]})

    with pytest.raises(SealedValueUnreadable):
        key_ring.open(pasted_token.sealed or "", moved)


UNSTORABLE = {
    "nothing": ("", PastedKind.EMPTY),
    "a Global API key": (f"cfk_{'a' * 40}5a4db0c1", PastedKind.GLOBAL_KEY),
    "an OAuth token": (f"cfoat_{'a' * 40}5a4db0c1", PastedKind.OAUTH),
    "the secret of an S3 key pair": ("5a4d" * 16, PastedKind.S3_SECRET),
    "the id of an S3 key pair": ("5a4d" * 8, PastedKind.S3_KEY_ID),
    "two tokens": (f"{TOKEN_TEXT} {TOKEN_TEXT}", PastedKind.SEVERAL),
    "a UUID": ("12345678-90ab-cdef-1234-567890abcdef", PastedKind.UUID),
    "a name and a token": (f'export CLOUDFLARE_API_TOKEN="{TOKEN_TEXT}"', PastedKind.NAMED_VALUE),
    "a word": ("hunter2", PastedKind.NOT_A_TOKEN),
    "an emoji": ("\U0001f511" * 30, PastedKind.NOT_A_TOKEN),
    "half a character": ("\ud800" * 30, PastedKind.NOT_A_TOKEN),
}


@pytest.mark.parametrize(("pasted", "kind"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_an_unstorable_token_is_not_even_sealed(
    slack: FakeSlack, key_ring: KeyRing, pasted: str, kind: PastedKind
) -> None:
    """Only its kind passes: no ciphertext, and not its last four characters either."""
    assert submit(slack, key_ring, pasted) == PastedToken(kind=kind, last_four="", sealed=None)


def test_the_response_url_of_the_chosen_channel_is_sealed(slack: FakeSlack, key_ring: KeyRing) -> None:
    """It opens for its own purpose only, and the others are dropped."""
    fill(slack, modal.TOKEN_BLOCK, TOKEN_TEXT)
    payload = slack.make_submission(ADA)
    [entry] = payload["response_urls"]
    payload["response_urls"] = [entry | {"channel_id": PRIVATE, "response_url": "https://x.test/no"}, entry]

    pasted_token = seal(payload, key_ring).pasted

    assert pasted_token is not None
    assert pasted_token.sealed_response_url is not None
    opened = key_ring.open(pasted_token.sealed_response_url, context_of(slack, RESPONSE_URL))
    assert opened.reveal() == entry["response_url"]
    with pytest.raises(SealedValueUnreadable):
        key_ring.open(pasted_token.sealed_response_url, context_of(slack, TOKEN))


URLS: dict[str, object] = {
    "none": None,
    "no list": "https://x.test",
    "empty": [],
    "of another channel": [{"channel_id": PRIVATE, "response_url": "https://x.test/1"}],
    "no address": [{"channel_id": PLATFORM, "response_url": 7}],
    "no objects": ["https://x.test/2", None],
}


@pytest.mark.parametrize("response_urls", URLS.values(), ids=URLS)
def test_an_unfit_response_url_is_dropped(slack: FakeSlack, key_ring: KeyRing, response_urls: object) -> None:
    """A submission without one, or with a malformed one, is still sealed."""
    fill(slack, modal.TOKEN_BLOCK, TOKEN_TEXT)

    sealed = seal(slack.make_submission(ADA) | {"response_urls": response_urls}, key_ring)

    assert sealed.pasted is not None
    assert sealed.pasted.sealed is not None
    assert sealed.pasted.sealed_response_url is None
    assert b"x.test" not in everything_of(sealed)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
STRANGE = st.fixed_dictionaries(
    {"type": st.sampled_from(["view_submission", "block_actions", "view_closed"])},
    optional={
        "user": JSON_VALUES,
        "view": JSON_VALUES
        | st.fixed_dictionaries(
            {},
            optional={
                "id": JSON_VALUES,
                "private_metadata": JSON_VALUES,
                "app_installed_team_id": JSON_VALUES,
                "state": JSON_VALUES
                | st.fixed_dictionaries(
                    {
                        "values": JSON_VALUES
                        | st.fixed_dictionaries(
                            {"token": JSON_VALUES, "bucket": JSON_VALUES, "channel": JSON_VALUES, "reason": JSON_VALUES}
                        )
                    }
                ),
            },
        ),
        "response_urls": JSON_VALUES,
    },
)


@settings(deadline=None)
@given(payload=STRANGE)
def test_no_shape_of_a_payload_breaks_the_sealing(key_ring: KeyRing, payload: Json) -> None:
    """Slack may omit or change anything: sealing never fails, and never finds a token where there is none."""
    sealed = seal(payload, key_ring)

    assert sealed.body["type"] in {"view_submission", "block_actions", "view_closed"}


@settings(deadline=None)
@given(
    token=st.sampled_from([TOKEN_TEXT, UNPREFIXED, f"cfk_{'a' * 40}5a4db0c1"]),
    around=st.lists(JSON_VALUES, max_size=3),
    path=st.lists(st.sampled_from(["view", "state", "list", "token", "value", "text"]), max_size=6),
)
def test_a_token_is_masked_at_any_depth(key_ring: KeyRing, token: str, around: list[object], path: list[str]) -> None:
    """A token is masked everywhere in a payload."""
    value: Any = f"<{token}>"
    for name in path:
        value = [*around, value] if name == "list" else {name: value}

    sealed = seal({"type": "block_actions", "found": value}, key_ring)

    assert find_leaks(everything_of(sealed), token) == []


@pytest.mark.parametrize("token", [TOKEN_TEXT, UNPREFIXED], ids=["with a prefix", "older"])
@pytest.mark.parametrize(
    "unseen", ["\u200b", "\u200d", "\u00ad", "\u202e", "\u2060", "\ufeff", "\ufe0f", "\U000e0041", "\u3164"], ids=ascii
)
def test_a_token_is_masked_despite_invisible_characters(key_ring: KeyRing, token: str, unseen: str) -> None:
    """They are removed first: if they were removed afterwards, the two halves would form a token again."""
    body = seal({"type": "block_actions", "text": f"<{unseen.join(token)}>"}, key_ring).body

    assert body["text"] == f"<{MASK}>"


@pytest.mark.parametrize("text", ["\u202eC0DATAPLT", "U0ADA0001\u200b", "two\nlines", "\u200dT0SANDBOX"], ids=ascii)
def test_text_without_a_token_is_unchanged(key_ring: KeyRing, text: str) -> None:
    """Removing characters would turn a text into an id, or into another id."""
    assert seal({"type": "block_actions", "text": text}, key_ring).body["text"] == text


def test_a_token_is_masked_in_a_name(key_ring: KeyRing) -> None:
    """Names stay distinct after masking: no field is lost."""
    names = [TOKEN_TEXT, f"{MASK} 2", f"{UNPREFIXED}", MASK, "plain", f"x{TOKEN_TEXT}"]

    body = seal({"found": {name: number for number, name in enumerate(names)}}, key_ring).body

    assert sorted(body["found"].values()) == list(range(len(names)))
    assert body["found"]["plain"] == 4
    assert not [token for token in (TOKEN_TEXT, UNPREFIXED) if token in json.dumps(body)]


@given(
    names=st.lists(st.sampled_from([TOKEN_TEXT, UNPREFIXED, MASK, *(f"{MASK} {n}" for n in range(12))]), unique=True)
)
def test_no_name_replaces_another(key_ring: KeyRing, names: list[str]) -> None:
    """In any order."""
    body = seal({"found": {name: number for number, name in enumerate(names)}}, key_ring).body

    assert sorted(body["found"].values()) == list(range(len(names)))


@pytest.mark.parametrize(
    ("trigger_id", "is_kept"),
    [
        ("1337.2674.0123456789abcdef0123456789abcdef", True),
        (f"1337.2674.{'0123456789abcdef' * 4}", True),
        (TOKEN_TEXT, False),
        (f"1337.2674.{TOKEN_TEXT}", False),
        ({"deeper": TOKEN_TEXT}, False),
        ([UNPREFIXED], False),
    ],
    ids=["short", "long", "a token", "a token behind it", "an object", "a list"],
)
def test_only_a_trigger_id_is_left_unmasked(key_ring: KeyRing, trigger_id: object, *, is_kept: bool) -> None:
    """It is needed as it is; any other value in its place is masked."""
    body = seal({"type": "block_actions", "trigger_id": trigger_id}, key_ring).body

    assert (body["trigger_id"] == trigger_id) is is_kept
    assert is_kept or MASK in json.dumps(body)


# Anything that a person may paste.

MARK = "MADEUPq7Zk"
"""Part of everything that is pasted below, so that an echo of it is found."""

PIECES = st.one_of(
    st.sampled_from(
        [
            TOKEN_TEXT,
            UNPREFIXED,
            "Bearer ",
            "cfut_",
            "cfoat_",
            '"',
            "\0",
            "\r\n",
            "\u202e",
            "\u200b",
            "\ufeff",
            "\U0001f511",
        ]
    ),
    st.sampled_from(
        ['{"token": "', '"}', "${jndi:ldap://x}", "<script>", "<!channel>", "%00", "' OR 1=1 --", "\\u0000"]
    ),
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Mn"]), max_size=10),
    st.text("abcdefXYZ0123456789_-", max_size=60),
    st.integers(1, 3000).map(lambda length: "a1B" * (length // 3)),
)
PASTED = st.tuples(st.lists(PIECES, max_size=4).map("".join), st.lists(PIECES, max_size=4).map("".join)).map(
    lambda around: (around[0] + MARK + around[1])[:3000]
)


OTHER_SECRETS = {
    "a Slack token": "xoxb-" + "1234567890-MADEUP0123456789",
    "an AWS access key ID": "AKIA" + "MADEUP0123456789",
    "a GitHub token": "ghp_" + "MADEUP0123456789abcdefghijklmnopqrst",
    "a JSON Web Token, or a token of cloudflared": "eyJ" + "MADEUP0123.eyJMADEUP4567.MADEUP89",
    "a key or certificate in PEM": "-----BEGIN PRIVATE " + "KEY----- MADEUP0123456789",
}


@pytest.mark.parametrize(("name", "pasted"), OTHER_SECRETS.items(), ids=OTHER_SECRETS)
async def test_a_secret_of_another_service_is_named_in_the_form_and_goes_nowhere(
    desk: Desk, log: io.StringIO, name: str, pasted: str
) -> None:
    """It is neither sealed nor recorded, and not even four characters of it are shown."""
    await desk.open_form(token=pasted)

    outcome = await desk.slack.submit(ADA)

    assert outcome.errors[modal.TOKEN_BLOCK].startswith(f"This looks like {name}. It is not a Cloudflare API token")
    assert (await desk.find(), desk.dispatched) == (None, [])
    for place in (outcome.errors[modal.TOKEN_BLOCK], log.getvalue(), desk.database_path.read_bytes()):
        assert_no_leak("MADEUP0123", place)
        assert pasted[-4:] not in (place if isinstance(place, str) else place.decode("latin-1"))


def assert_no_leak(mark: str, text: str | bytes) -> None:
    """Assert that the text contains the mark in no encoding."""
    assert find_leaks(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"), mark) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pasted=PASTED)
def test_any_pasted_text_is_sealed_or_refused_and_never_shown(slack: FakeSlack, key_ring: KeyRing, pasted: str) -> None:
    """It opens trimmed of copying slips, and fits into a header; or the form says what is wrong with it."""
    assume(MARK in pasted)
    payload = slack.make_submission(ADA)
    payload["view"]["state"]["values"][modal.TOKEN_BLOCK] = {modal.TOKEN_BLOCK: {"type": "x", "value": pasted}}

    sealed = seal(payload, key_ring)

    assert_no_leak(MARK, everything_of(sealed))
    assert sealed.pasted is not None
    if sealed.pasted.sealed is None:
        looks_like = sealed.pasted.looks_like
        assert sealed.pasted == PastedToken(kind=sealed.pasted.kind, last_four="", sealed=None, looks_like=looks_like)
        assert_no_leak(MARK, looks_like + modal.NOT_STORABLE[sealed.pasted.kind].user_message)
    else:
        opened = key_ring.open(sealed.pasted.sealed, context_of(slack))
        assert opened.reveal() == trim(pasted)
        assert opened.reveal().endswith(sealed.pasted.last_four)
        Bearer(opened, _may_send)


async def _may_send() -> bool:
    return False


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(pasted=PASTED, place=st.sampled_from([modal.TOKEN_BLOCK, modal.REASON_BLOCK, "private_metadata", "elsewhere"]))
def test_text_pasted_anywhere_reaches_the_app_in_one_piece(
    slack: FakeSlack, key_ring: KeyRing, pasted: str, place: str
) -> None:
    """Bolt accepts every payload that holds it, and its listener answers."""
    heard = Heard()
    payload = slack.make_submission(ADA)
    if place in (modal.TOKEN_BLOCK, modal.REASON_BLOCK):
        payload["view"]["state"]["values"][place] = {place: {"type": "x", "value": pasted}}
    else:
        payload["view"][place] = pasted

    answer = asyncio.run(make_ingress(make_app(heard), Clock(), key_ring).dispatch(payload))

    assert (answer.status, len(heard.bodies)) == (200, 1)
    for token in (TOKEN_TEXT, UNPREFIXED):
        is_alone = place == modal.TOKEN_BLOCK or token is TOKEN_TEXT  # an older token ends at a word boundary
        assert not is_alone or find_leaks(repr((heard.bodies, answer.body)).encode("utf-8", "replace"), token) == []


UNUSUAL = {
    "one character": "x",
    "as many as the field takes": "x" * 3000,
    "one more than a token has": "x" * 501,
    "nothing but a NUL": "\0",
    "NUL inside": f"{TOKEN_TEXT[:20]}\0{TOKEN_TEXT[20:]}",
    "a line break inside": f"{TOKEN_TEXT[:20]}\r\nX-Injected: {TOKEN_TEXT[20:]}",
    "control characters": "\x01\x02\x1b[2J" * 10,
    "right to left": f"{TOKEN_TEXT[:20]}\u202e{TOKEN_TEXT[20:]}",
    "only invisible characters": "\u200b\u200e\u202e\ufeff",
    "emoji": "\U0001f511" * 40,
    "combining marks": "a\u0301" * 40,
    "half a character": "\ud800" * 40,
    "JSON": json.dumps({"token": TOKEN_TEXT}),
    "JSON of the S3 pair": json.dumps({"accessKeyId": "5a4d" * 8, "secretAccessKey": "5a4d" * 16}),
    "a line of .env": f"CLOUDFLARE_API_TOKEN={TOKEN_TEXT}",
    "a line of .env with a comment": f"CLOUDFLARE_API_TOKEN={TOKEN_TEXT} # new",
    "a line of curl": f'curl -H "Authorization: Bearer {TOKEN_TEXT}" https://api.cloudflare.com',
    "two tokens": f"{TOKEN_TEXT} {TOKEN_TEXT}",
    "two tokens in two lines": f"{TOKEN_TEXT}\n{make_token(Behaviour.GOOD, 882)}",
    "two tokens run together": TOKEN_TEXT * 2,
    "Slack markup": f"<https://x.test|{TOKEN_TEXT}>",
    "a mention of everyone": "<!channel> " * 5,
    "the mask itself": MASK,
}


@pytest.mark.parametrize("pasted", UNUSUAL.values(), ids=UNUSUAL)
async def test_a_text_that_is_no_token_is_explained_and_not_quoted(desk: Desk, log: io.StringIO, pasted: str) -> None:
    """The message is at the field, the form stays, and neither the log nor the database has the pasted text."""
    await desk.open_form(token=pasted)

    outcome = await desk.slack.submit(ADA)

    assert (outcome.kind, list(outcome.errors)) == ("errors", [modal.TOKEN_BLOCK])
    said = outcome.errors[modal.TOKEN_BLOCK]
    assert said in {each.user_message for each in modal.NOT_STORABLE.values()}
    assert (await desk.find(), desk.dispatched) == (None, [])
    for secret in (TOKEN_TEXT[:20], TOKEN_TEXT[20:], "5a4d" * 8):
        assert_no_leak(secret, said + log.getvalue())
        assert_no_leak(secret, desk.database_path.read_bytes())
    assert len(pasted) < 20 or pasted not in said + log.getvalue()


# Over HTTP: a real server, and a Bolt app with the test's listeners.


@dataclass(slots=True)
class Heard:
    """What the app behind the ingress received, and what its listeners do."""

    bodies: list[Json] = field(default_factory=list)
    headers: list[dict[str, object]] = field(default_factory=list)
    pasted: list[PastedToken | None] = field(default_factory=list)
    work: Callable[[AsyncAck], Awaitable[object]] = lambda ack: ack()


def make_app(heard: Heard) -> AsyncApp:
    """Build an app that records what it receives."""

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id="T0SANDBOX", enterprise_id=None)

    app = AsyncApp(
        client=AsyncWebClient(),
        authorize=authorize,
        request_verification_enabled=False,
        process_before_response=True,
        logger=logging.getLogger("slack_bolt"),
    )

    async def listen(ack: AsyncAck, body: Json, context: AsyncBoltContext) -> None:
        heard.bodies.append(body)
        payload = context[PAYLOAD]
        heard.pasted.append(payload.pasted if isinstance(payload, Submit) else None)
        await heard.work(ack)

    async def answer_error(error: Exception) -> BoltResponse:
        return BoltResponse(status=200, body="reference 5a4d")

    app.command(COMMAND)(listen)
    app.view(modal.CALLBACK_ID)(listen)
    app.options(modal.BUCKET_ACTION)(listen)
    app.error(answer_error)
    return app


@dataclass(slots=True, kw_only=True)
class Door:
    """A server with an ingress, and a client for it."""

    client: TestClient[web.Request, web.Application]
    ingress: Ingress
    heard: Heard

    async def post(
        self,
        body: bytes,
        *,
        secret: str = SECRET,
        content_type: str = "application/x-www-form-urlencoded",
        minutes: float = 0,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        """Send bytes signed so many minutes from now; `headers` override the signature's, an empty one is omitted."""
        timestamp = str(int(time.time() + 60 * minutes))
        try:
            signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body) or ""
        except UnicodeDecodeError:
            signature = "v0=nobody-can-sign-this"
        given = {
            "Content-Type": content_type,
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature,
        } | (headers or {})
        older = str(int(timestamp) - 60)
        sent = {name: value.replace("OLDER", older) for name, value in given.items() if value}
        async with self.client.post("/slack/events", data=io.BytesIO(body), headers=sent) as answer:
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def door(key_ring: KeyRing) -> AsyncIterator[Door]:
    """Serve an ingress that accepts two signing secrets."""
    heard = Heard()
    ingress = make_ingress(make_app(heard), Clock(), key_ring)
    verifiers = [SignatureVerifier(SECRET), SignatureVerifier(OLDER_SECRET)]
    server = web.Application(client_max_size=BODY_LIMIT)
    server.router.add_post("/slack/events", HttpIngress(ingress, verifiers).handle)
    running = TestServer(server, host="127.0.0.1")
    async with TestClient(running, cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield Door(client=client, ingress=ingress, heard=heard)
        for task in ingress._under_way.tasks:
            task.cancel()


COMMAND_BODY = urlencode(
    {"command": COMMAND, "text": BUCKET, "user_id": ADA, "team_id": "T0SANDBOX", "trigger_id": "1.2.3"}
).encode()


@pytest.mark.parametrize("secret", [SECRET, OLDER_SECRET], ids=["the new secret", "the old one during a rotation"])
async def test_a_good_signature_is_accepted(door: Door, secret: str) -> None:
    """A request signed with either secret by Slack's own SDK reaches the app."""
    assert (await door.post(COMMAND_BODY, secret=secret))[0] == 200

    assert [body["text"] for body in door.heard.bodies] == [BUCKET]


UNSIGNED: dict[str, dict[str, Any]] = {
    "wrong secret": {"secret": "made-up-by-mallory"},
    "signature of nothing": {"headers": {"X-Slack-Signature": "v0="}},
    "no signature": {"headers": {"X-Slack-Signature": ""}},
    "no timestamp": {"headers": {"X-Slack-Request-Timestamp": ""}},
    "neither": {"headers": {"X-Slack-Signature": "", "X-Slack-Request-Timestamp": ""}},
    "timestamp in words": {"headers": {"X-Slack-Request-Timestamp": "now"}},
    "timestamp with a fraction": {"headers": {"X-Slack-Request-Timestamp": "1.5"}},
    "timestamp in non-ASCII digits": {"headers": {"X-Slack-Request-Timestamp": "١٢٣"}},
    "negative timestamp": {"headers": {"X-Slack-Request-Timestamp": "-1"}},
    "endless timestamp": {"headers": {"X-Slack-Request-Timestamp": "9" * 5000}},
    "an older timestamp than signed": {"headers": {"X-Slack-Request-Timestamp": "OLDER"}},
    "signature in non-ASCII letters": {"headers": {"X-Slack-Signature": "v0=ÄÖÜ"}},
    "stale by six minutes": {"minutes": -6},
    "ahead by six minutes": {"minutes": 6},
}


@pytest.mark.parametrize("how", UNSIGNED.values(), ids=UNSIGNED)
async def test_a_bad_signature_is_refused(door: Door, log: io.StringIO, how: dict[str, Any]) -> None:
    """The answer is 401, the app gets nothing, and the log has only the reason."""
    body = COMMAND_BODY + b"&MARKER-in-the-body=1"

    status, text = await door.post(body, **how)

    assert (status, door.heard.bodies) == (401, [])
    [line] = log.getvalue().splitlines()
    entry = json.loads(line)
    reason = "stale_timestamp" if "minutes" in how else "bad_signature"
    assert text == f"{reason}\n"
    assert set(entry) - {"seconds"} == {"timestamp", "level", "event", "reasons", "logger"}
    assert entry["reasons"] == {reason: 1}


async def test_a_body_that_is_no_text_is_refused(door: Door) -> None:
    """Bytes that are no UTF-8 cannot have been signed by Slack."""
    assert (await door.post(b"text=\xff\xfe"))[0] == 401


@pytest.mark.parametrize("minutes", [-4.9, 4.9])
async def test_a_clock_that_is_somewhat_wrong_is_tolerated(door: Door, minutes: float) -> None:
    """Five minutes are allowed either way."""
    assert (await door.post(COMMAND_BODY, minutes=minutes))[0] == 200


JSON_TYPE = "application/json"
MALFORMED: dict[str, tuple[bytes, str]] = {
    "many fields": (b"&".join(b"a%d=MARKER" % number for number in range(65)), "application/x-www-form-urlencoded"),
    "empty form": (b"", "application/x-www-form-urlencoded"),
    "no form": (b"MARKER", "application/x-www-form-urlencoded"),
    "no JSON in the payload": (b"payload=MARKER", "application/x-www-form-urlencoded"),
    "a list in the payload": (b"payload=[%22MARKER%22]", "application/x-www-form-urlencoded"),
    "a text in the payload": (b"payload=%22MARKER%22", "application/x-www-form-urlencoded"),
    "empty payload": (b"payload=", "application/x-www-form-urlencoded"),
    "no JSON": (b"{MARKER", JSON_TYPE),
    "empty JSON": (b"", JSON_TYPE),
    "a JSON list": (b'["MARKER"]', JSON_TYPE),
    "a JSON number": (b"7", JSON_TYPE),
    "JSON nested too deep to parse": (b'{"MARKER":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON_TYPE),
    "JSON nested too deep to seal": (b'{"MARKER":' + b"[" * 900 + b"]" * 900 + b"}", JSON_TYPE),
    "a payload nested too deep": (b"payload=" + b'{"a":' * 100_000, "application/x-www-form-urlencoded"),
    "a form sent as JSON": (COMMAND_BODY, JSON_TYPE),
}


@pytest.mark.parametrize(("body", "content_type"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_body_is_refused(door: Door, log: io.StringIO, body: bytes, content_type: str) -> None:
    """Even with a good signature the answer is 400, and nothing of the body is answered or logged."""
    status, text = await door.post(body, content_type=content_type)

    assert status == 400
    assert text == "malformed_body\n"
    assert "MARKER" not in log.getvalue()
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["slack_request_refused"]


def make_request(body: bytes) -> web.Request:
    """Return a signed request whose body has arrived."""
    stamp = str(int(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body=body) or ""
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature, "Content-Type": FORM_TYPE}
    payload = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), len(body))
    payload.feed_data(body)
    payload.feed_eof()
    return make_mocked_request("POST", "/slack/events", headers=headers, payload=payload)


async def test_a_body_that_takes_long_to_parse_holds_up_no_other(door: Door, slack: FakeSlack) -> None:
    """A command that arrives after it is answered before it."""
    answered = list[str]()
    http = HttpIngress(door.ingress, [SignatureVerifier(SECRET)])

    async def take(name: str, body: bytes) -> None:
        await http.handle(make_request(body))
        answered.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(take("hard", b"command=%2Fother&text=" + b"%" * 1_000_000))
        group.create_task(take("usual", urlencode(make_command(slack, "")).encode()))
    assert answered == ["usual", "hard"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=200), content_type=st.sampled_from([JSON_TYPE, "application/x-www-form-urlencoded", ""]))
def test_no_bytes_break_the_ingress(key_ring: KeyRing, body: bytes, content_type: str) -> None:
    """Any signed bytes get an answer of ours: refused, or passed to the app, which has no listener for them."""
    assume(not body.startswith(b"ssl_check=1"))

    async def knock() -> int:
        ingress = make_ingress(make_app(Heard()), Clock(), key_ring)
        server = web.Application()
        server.router.add_post("/slack/events", HttpIngress(ingress, [SignatureVerifier(SECRET)]).handle)
        async with TestClient(TestServer(server, host="127.0.0.1")) as client:
            return (await Door(client=client, ingress=ingress, heard=Heard()).post(body, content_type=content_type))[0]

    assert asyncio.run(knock()) in {400, 401, 404}


@pytest.mark.parametrize("name", ["user", "team", "view", "actions", "enterprise", "type", "command"])
@pytest.mark.parametrize("value", ["MARKER", ["MARKER"], 7, {}], ids=["text", "list", "number", "empty"])
async def test_a_malformed_payload_gets_an_answer(
    door: Door, slack: FakeSlack, log: io.StringIO, name: str, value: object
) -> None:
    """A signed payload of an unknown shape gets a reference at worst, and is not quoted."""
    body = slack.make_submission(ADA) | {name: value}

    status, text = await door.post(urlencode({"payload": json.dumps(body)}).encode())

    assert status in {200, 404, 500}
    assert "MARKER" not in log.getvalue() + text
    assert "Traceback" not in log.getvalue()
    assert status != 500 or json.loads(log.getvalue().splitlines()[0])["reference"] in text


async def test_a_body_over_the_limit_is_refused(door: Door) -> None:
    """1 MiB is read, one byte more is not, even with a good signature."""
    start = b"command=%2Fr2-credential&team_id=T0SANDBOX&user_id=U0ADA0001&text="

    fits = await door.post(start + b"x" * (BODY_LIMIT - len(start)))
    over = await door.post(start + b"x" * (BODY_LIMIT - len(start) + 1))

    assert (fits[0], over[0]) == (200, 413)
    assert len(door.heard.bodies) == 1


async def test_a_long_body_without_a_length_is_cut_off(door: Door) -> None:
    """A stream of unknown length is read no further than the limit."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    headers = {"X-Slack-Request-Timestamp": str(int(time.time())), "X-Slack-Signature": "v0=made-up"}
    async with door.client.post("/slack/events", data=endless(), headers=headers) as answer:
        assert answer.status == 413


UNREAD: dict[str, tuple[dict[str, str], int]] = {
    "unsigned": ({}, 401),
    "stale": ({"X-Slack-Signature": "v0=x", "X-Slack-Request-Timestamp": "1"}, 401),
    "too large": ({"Content-Length": str(BODY_LIMIT + 1)}, 413),
    "compressed": ({"Content-Encoding": "gzip"}, 415),
    "compressed, somehow": ({"Content-Encoding": "made-up"}, 415),
}


@pytest.mark.parametrize(("headers", "status"), UNREAD.values(), ids=UNREAD)
async def test_a_stranger_cannot_make_the_bot_read_a_body(door: Door, headers: dict[str, str], status: int) -> None:
    """A request that must be refused is answered before its body arrives."""
    lines = {"Host": "bot", "Content-Length": "1000", "Content-Type": "application/json"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", door.client.port)

    writer.write(f"POST /slack/events HTTP/1.1\r\n{head}\r\n".encode())
    answered = await asyncio.wait_for(reader.readline(), timeout=60)

    assert answered.startswith(f"HTTP/1.1 {status} ".encode())
    writer.close()


async def test_a_body_that_never_arrives_is_abandoned(
    door: Door, log: io.StringIO, pass_time: Callable[[timedelta], None]
) -> None:
    """Slack sends a request at once: after three seconds the answer is 408."""
    began = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"MARKER"
        began.set()
        await asyncio.Event().wait()

    headers = {"X-Slack-Request-Timestamp": str(int(time.time())), "X-Slack-Signature": "v0=made-up"}
    request = asyncio.create_task(_status_of(door, drip(), headers))
    await began.wait()
    while not request.done():
        await asyncio.sleep(0.01)  # no event says that the server has begun to read
        pass_time(READ_TIMEOUT / 10)

    assert await request == 408
    assert "MARKER" not in log.getvalue()


async def _status_of(door: Door, body: AsyncIterator[bytes], headers: dict[str, str]) -> int:
    async with door.client.post("/slack/events", data=body, headers=headers) as answer:
        return answer.status


async def test_slack_verifies_the_address(door: Door) -> None:
    """`url_verification` is answered with its challenge and nothing else."""
    body = json.dumps({"type": "url_verification", "challenge": "made-up", "token": "x"}).encode()

    status, text = await door.post(body, content_type=JSON_TYPE)

    assert (status, json.loads(text)) == (200, {"challenge": "made-up"})


async def test_an_unsigned_url_verification_is_refused(door: Door) -> None:
    """No one can use the bot as an echo."""
    body = json.dumps({"type": "url_verification", "challenge": "made-up"}).encode()

    assert (await door.post(body, content_type=JSON_TYPE, secret="mallory"))[0] == 401


@pytest.mark.parametrize("body", [b"ssl_check=1&token=made-up", b"ssl_check=1"])
async def test_slack_checks_the_certificate(door: Door, body: bytes) -> None:
    """`ssl_check` is unsigned, gets a 200 and reaches no listener."""
    assert await door.post(body, headers={"X-Slack-Signature": "", "X-Slack-Request-Timestamp": ""}) == (200, "")
    assert door.heard.bodies == []


NO_SSL_CHECKS = {
    "with a command": b"ssl_check=1&" + COMMAND_BODY,
    "with a payload": b"ssl_check=1&payload=%7B%7D",
    "another value": b"ssl_check=10",
    "twice, the last one no": b"ssl_check=1&ssl_check=0",
    "very long": b"ssl_check=1&token=" + b"x" * 300,
}


@pytest.mark.parametrize("body", NO_SSL_CHECKS.values(), ids=NO_SSL_CHECKS)
async def test_ssl_check_does_not_bypass_the_signature(door: Door, body: bytes) -> None:
    """A request cannot skip the signature by calling itself an `ssl_check`."""
    assert (await door.post(body, headers={"X-Slack-Signature": ""}))[0] == 401
    assert door.heard.bodies == []


LAZY = {"X-Slack-Bolt-Lazy-Only": "1", "X-Slack-Bolt-Lazy-Function-Name": "listen"}


async def test_headers_of_bolts_lazy_listeners_have_no_effect(door: Door) -> None:
    """No one can make Bolt run a function without its listener."""
    assert (await door.post(COMMAND_BODY, headers=LAZY))[0] == 200
    assert len(door.heard.bodies) == 1


def submission_body(slack: FakeSlack) -> bytes:
    """Return the body of a submission with a token in it."""
    fill(slack, modal.TOKEN_BLOCK, TOKEN_TEXT)
    return urlencode({"payload": json.dumps(slack.make_submission(ADA))}).encode()


async def test_behind_the_ingress_nothing_holds_the_token(door: Door, slack: FakeSlack, log: io.StringIO) -> None:
    """The app gets the payload with the sealed token next to it, and neither is logged."""
    await door.post(submission_body(slack))

    [body], [pasted] = door.heard.bodies, door.heard.pasted
    assert pasted is not None
    assert pasted.last_four == TOKEN_TEXT[-4:]
    assert find_leaks(pickle.dumps(body) + repr(pasted).encode() + log.getvalue().encode(), TOKEN_TEXT) == []


async def test_an_acknowledgement_has_the_right_of_way_until_it_is_given(slack: FakeSlack, key_ring: KeyRing) -> None:
    """Deliveries give way to it, and no longer than that."""
    way, heard, noted = NotedWay(), Heard(), list[bool]()

    async def work(ack: AsyncAck) -> None:
        noted.append(way.is_acknowledging)
        await ack()

    heard.work = work
    ingress = make_ingress(make_app(heard), Clock(), key_ring, right_of_way=way)
    assert (await ingress.dispatch(slack.make_submission(ADA))).status == 200
    assert noted == [True]
    assert not way.is_acknowledging

    assert (await ingress.dispatch(slack.make_command(ADA, PLATFORM, "/r2-credential status"))).status == 200
    assert noted == [True, False]  # it may wait for Slack, which needs no CPU


async def test_a_late_answer_is_given_in_time_and_the_work_goes_on(
    door: Door, slack: FakeSlack, log: io.StringIO, pass_time: Callable[[timedelta], None]
) -> None:
    """The person reads what is known, with the reference; the listener's work is not cut off."""
    began, let_go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(ack: AsyncAck) -> None:
        began.set()
        await let_go.wait()
        ended.set()
        await ack()

    door.heard.work = work
    view = slack.modals.top(ADA)
    assert view is not None
    request = asyncio.create_task(door.post(submission_body(slack)))
    await began.wait()
    pass_time(timedelta(seconds=2.5))

    status, text = await asyncio.wait_for(request, timeout=60)

    answer = json.loads(text)
    assert (status, answer["response_action"]) == (200, "errors")
    assert "it is not known whether this was recorded" in answer["errors"][modal.TOKEN_BLOCK]
    assert f"Reference: {view.id}" in answer["errors"][modal.TOKEN_BLOCK]
    assert view.id in log.getvalue()
    assert not ended.is_set()
    let_go.set()
    await door.ingress.drain()
    assert ended.is_set()


async def test_a_late_answer_to_a_command_says_so(
    door: Door, log: io.StringIO, pass_time: Callable[[timedelta], None]
) -> None:
    """The person does not get Slack's own "operation_timeout"."""
    began = asyncio.Event()

    async def work(ack: AsyncAck) -> None:
        began.set()
        await asyncio.Event().wait()

    door.heard.work = work
    request = asyncio.create_task(door.post(COMMAND_BODY))
    await began.wait()
    pass_time(timedelta(seconds=2.5))

    status, text = await asyncio.wait_for(request, timeout=60)

    assert status == 200
    assert "did not answer in time" in text
    assert json.loads(log.getvalue().splitlines()[0])["reference"] in text


async def test_a_failing_listener_is_answered_with_a_reference(door: Door) -> None:
    """The app's error handler answers; a server error would not explain anything."""

    async def work(ack: AsyncAck) -> None:
        raise KeyError(TOKEN_TEXT)

    door.heard.work = work

    assert await door.post(COMMAND_BODY) == (200, "reference 5a4d")


# Over Socket Mode: the fake Slack.


@pytest_asyncio.fixture
async def socket(key_ring: KeyRing) -> AsyncIterator[tuple[FakeSlack, Heard, SocketModeIngress]]:
    """Connect an ingress to a fake Slack."""
    heard = Heard()
    async with FakeSlack() as slack:
        client = AsyncWebClient(token=slack.config.bot_tokens[0], base_url=slack.api_url)
        client.proxy = None
        ingress = SocketModeIngress(
            make_ingress(make_app(heard), Clock(), key_ring),
            app_token=slack.config.app_token or "",
            web_client=client,
            logger=logging.getLogger("slack_sdk"),
            connections=1,
        )
        await ingress.connect()
        watch = asyncio.create_task(ingress.watch())
        await slack.wait_for_connections()
        form = modal.build_form(nonce="the-nonce", filling=FILLED_IN, catalogs=())
        slack.modals.open(slack.workspace.users[ADA], PLATFORM, form)
        yield slack, heard, ingress
        await ingress.close()
        await watch


Socket = tuple[FakeSlack, Heard, SocketModeIngress]


async def test_a_frame_is_sealed_before_the_app_sees_it(socket: Socket, log: io.StringIO) -> None:
    """As over HTTP: the body has no token, the sealed one is next to it, and nothing is logged."""
    slack, heard, _ = socket
    fill(slack, modal.TOKEN_BLOCK, TOKEN_TEXT)

    outcome = await slack.submit(ADA)

    assert outcome.failure is None
    [body], [pasted] = heard.bodies, heard.pasted
    assert pasted is not None
    assert pasted.last_four == TOKEN_TEXT[-4:]
    assert find_leaks(pickle.dumps(body) + log.getvalue().encode(), TOKEN_TEXT) == []


async def test_the_apps_answer_goes_back_over_the_socket(socket: Socket) -> None:
    """The acknowledgement of a command carries the app's text."""
    slack, heard, _ = socket
    heard.work = lambda ack: ack("heard you")

    outcome = await slack.type_command(ADA, PLATFORM, "/r2-credential")

    assert outcome.message is not None
    assert outcome.message.text == "heard you"


FRAMES = {
    "no JSON": "MARKER {",
    "a list": '["MARKER"]',
    "no envelope": '{"type": "interactive", "payload": {"text": "MARKER"}}',
    "no payload": '{"type": "interactive", "envelope_id": "MARKER"}',
    "a list for a payload": '{"type": "interactive", "envelope_id": "1", "payload": ["MARKER"]}',
    "null for a payload": '{"type": "interactive", "envelope_id": "MARKER", "payload": null}',
    "nested too deep to parse": '{"envelope_id": "1", "payload": ' + "[" * 100_000,
    "nested too deep to seal": (
        '{"envelope_id": "1", "type": "interactive", "payload": {"MARKER": ' + "[" * 900 + "]" * 900 + "}}"
    ),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
async def test_a_malformed_frame_does_no_harm(socket: Socket, log: io.StringIO, frame: str) -> None:
    """It is not quoted in the log, and the next frame is processed as usual."""
    slack, heard, _ = socket

    await slack.transport.connections[0].send_str(frame)
    outcome = await slack.type_command(ADA, PLATFORM, "/r2-credential")

    assert outcome.failure is None
    assert len(heard.bodies) == 1
    assert "MARKER" not in log.getvalue()
    assert "socket_mode_down" not in log.getvalue()  # the connection stays


async def test_a_frame_does_not_wait_for_the_previous_one(socket: Socket) -> None:
    """A slow listener does not hold up others."""
    slack, heard, _ = socket
    began, let_go = asyncio.Event(), asyncio.Event()

    async def work(ack: AsyncAck) -> None:
        if not began.is_set():
            began.set()
            await let_go.wait()
        await ack("done")

    heard.work = work
    first = asyncio.create_task(slack.type_command(ADA, PLATFORM, "/r2-credential one"))
    await began.wait()

    second = await slack.type_command(ADA, PLATFORM, "/r2-credential two")

    assert second.message is not None
    assert not first.done()
    let_go.set()
    assert (await first).failure is None


async def test_a_dropped_connection_is_reopened(socket: Socket) -> None:
    """At once, and with a new address: the ticket of the old one is used up."""
    slack, heard, _ = socket

    await slack.transport.drop_connections()
    await slack.wait_for_connections()
    outcome = await slack.type_command(ADA, PLATFORM, "/r2-credential")

    assert outcome.failure is None
    assert len(heard.bodies) == 1
    assert len(slack.calls_of("apps.connections.open")) == 2


async def test_a_refused_connection_is_retried(
    socket: Socket, log: io.StringIO, pass_time: Callable[[timedelta], None]
) -> None:
    """Each try asks for a new address, and the log has the failure's type, not the ticket."""
    slack, _, _ = socket
    slack.transport.refuses_connections = True

    await slack.transport.drop_connections()
    while len(slack.calls_of("apps.connections.open")) < 3:
        await asyncio.sleep(0.01)  # no event says how far the SDK has come
        pass_time(timedelta(seconds=0.5))
    slack.transport.refuses_connections = False
    while not slack.transport.connections:
        await asyncio.sleep(0.01)
        pass_time(timedelta(seconds=0.5))

    assert "socket_mode_not_connected" in log.getvalue()
    assert "ticket" not in log.getvalue()


@pytest.mark.parametrize(
    "trouble",
    [{"error": "internal_error"}, {"status": 503}, {"drop_connection": True}],
    ids=["internal error", "a proxy's page", "broken connection"],
)
async def test_slack_is_asked_again_if_it_gives_no_address(
    socket: Socket, trouble: dict[str, Any], pass_time: Callable[[timedelta], None]
) -> None:
    """Whatever fails when a connection is renewed, the next try follows."""
    slack, _, _ = socket
    slack.fail_next("apps.connections.open", **trouble)

    await slack.transport.drop_connections()
    while not slack.transport.connections:
        await asyncio.sleep(0.01)  # no event says how far the SDK has come
        pass_time(timedelta(seconds=0.5))

    assert len(slack.calls_of("apps.connections.open")) == 3


async def test_no_frame_is_kept_while_waiting_for_the_next_one(socket: Socket) -> None:
    """That may take hours; no task's stack frame holds the last payload."""
    slack, _, _ = socket
    fill(slack, modal.TOKEN_BLOCK, TOKEN_TEXT)

    await slack.submit(ADA)
    await asyncio.sleep(0)

    held = [name for frame in _frames_of_the_ingress() for name, value in frame.f_locals.items() if _is_raw(value)]
    assert held == []


def _frames_of_the_ingress() -> Iterator[FrameType]:
    """Yield the current stack frames of every task that are code of the ingress or of the SDK below it."""
    for task in asyncio.all_tasks():
        step: Any = task.get_coro()
        while (frame := getattr(step, "cr_frame", None)) is not None:
            if "/bot/slack/" in frame.f_code.co_filename or "/slack_sdk/socket_mode/" in frame.f_code.co_filename:
                yield frame
            step = step.cr_await


def _is_raw(value: object) -> bool:
    """Say whether this is a WebSocket message, its text, or an unsealed payload."""
    is_data = isinstance(value, str | tuple | dict)
    return is_data and "envelope_id" in repr(value) and "MADEUP" in repr(value)
