"""Marked tokens take every path; afterwards everything left behind is searched for them, in every encoding."""

import asyncio
import base64
import pickle
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.blocks import JsonObject
from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from bot.sandbox.workspace import PATIENCE
from tests.leaks import find_leaks
from tests.scene import ADA, CROWD, GRACE, MALLORY, PLATFORM, Scene, SetScene, is_result

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOG_FORMATS: dict[Transport, str] = {"socket": "json", "http": "console"}
PRIVATE = "G0INCID42"
GLOBAL_KEY = "cfk_" + "MADEUPKEY".ljust(40, "0") + "5a4db0c1"
OAUTH = "cfoat_" + "MADEUPOAUTH".ljust(40, "0") + "5a4db0c2"


@dataclass(slots=True, kw_only=True)
class Aftermath:
    """What was left behind at the end, and what must not be in it."""

    printed: bytes
    data_while_running: bytes
    data_afterwards: bytes
    traffic: bytes
    modals: bytes
    tokens: list[str]
    response_urls: list[str]
    secrets: list[str]
    results: dict[str, str] = field(default_factory=dict)


class Marked:
    """Hands out marked tokens and remembers them."""

    def __init__(self) -> None:
        self.given: list[str] = [GLOBAL_KEY, OAUTH]

    def __call__(self, behaviour: Behaviour, kind: TokenKind = TokenKind.ACCOUNT) -> str:
        """Return a token that was not handed out before."""
        # A number with many digits, so that the text of a token cannot be found by chance.
        self.given.append(make_token(behaviour, 771_300 + len(self.given), kind))
        return self.given[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aftermath(
    set_scene: SetScene, transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aftermath]:
    """Take tokens through success and every failure with the most verbose log, then stop the bot."""
    settings = {
        "R2_CREDENTIAL_LOG_LEVEL": "debug",
        "R2_CREDENTIAL_LOG_FORMAT": LOG_FORMATS[transport],
        "R2_CREDENTIAL_TTL": "30s",
    }
    async with set_scene(transport, tmp_path_factory.mktemp("leaks"), settings) as scene:
        await scene.start_ready_bot()
        marked = Marked()
        await _go_all_ways(scene, marked)
        data_while_running = _read_files(scene.data_dir)
        modals = repr([scene.slack.modal(user) for user in (ADA, GRACE, MALLORY, *CROWD)]).encode()
        assert await scene.bot.stop() == 0
        yield Aftermath(
            printed=scene.printed(),
            data_while_running=data_while_running,
            data_afterwards=_read_files(scene.data_dir),
            traffic=scene.slack.traffic_received(),
            modals=modals,
            tokens=marked.given,
            response_urls=[url.rpartition("/")[2] for url in _issued_urls(scene)],
            secrets=[
                scene.slack.config.bot_tokens[0],
                scene.slack.config.app_token or "",
                scene.slack.config.signing_secret,
                scene.cloudflare.api_token,
            ],
            results={message.text: repr(message) for message in scene.slack.workspace.messages if message.bot_id},
        )


async def _go_all_ways(scene: Scene, marked: Marked) -> None:
    """Take each path with a different token; the slow ones concurrently."""
    endings = [*Behaviour, Behaviour.GOOD]
    buckets = [f"leak-{at:02d}" for at in range(len(endings))]
    for bucket in buckets[:-1]:
        scene.cloudflare.add_bucket(bucket)  # the last one does not exist at Cloudflare
    scene.slack.fail_next("chat.postMessage", status=503)
    scene.slack.fail_next("chat.postMessage", drop_connection=True)
    await asyncio.gather(
        *(
            scene.submit(bucket, marked(behaviour), user=CROWD[at], channel=PRIVATE if at % 3 == 0 else PLATFORM)
            for at, (bucket, behaviour) in enumerate(zip(buckets, endings, strict=True))
        )
    )
    await _misplace(scene, marked)
    await _forge(scene, marked)
    await _send_what_nobody_expects(scene, marked)
    await _never_succeed(scene, marked)
    await _look_around(scene, marked)
    for bucket in buckets:
        await scene.slack.workspace.changes.wait_until(
            lambda bucket=bucket: scene.results(bucket) or None,  # type: ignore[misc]  # mypy cannot infer this lambda
            within=PATIENCE,
            what=bucket,
        )


async def _misplace(scene: Scene, marked: Marked) -> None:
    """Put tokens where they do not belong, and leave one in a form that is never submitted."""
    for line in (marked(Behaviour.GOOD), f"analytics-events {marked(Behaviour.GOOD, TokenKind.USER)}"):
        await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {line}")
    await scene.open_form("")
    await scene.slack.fill(ADA, "token", marked(Behaviour.GOOD))  # half-typed while the search goes on
    await scene.slack.search_options(ADA, "bucket", marked(Behaviour.GOOD))
    await scene.slack.fill(ADA, "bucket", "analytics-events")
    await scene.slack.fill(ADA, "reason", f"because {marked(Behaviour.GOOD)} is new")
    await scene.slack.submit(ADA)
    await scene.slack.fill(ADA, "reason", "")
    for refused in (GLOBAL_KEY, OAUTH, f"{marked(Behaviour.GOOD)} {marked(Behaviour.GOOD)}"):
        await scene.slack.fill(ADA, "token", refused)
        await scene.slack.submit(ADA)
    await scene.slack.close(ADA)


async def _forge(scene: Scene, marked: Marked) -> None:
    """Submit what is refused: another person's form, and one that was never opened."""
    await scene.open_form("analytics-events", user=GRACE)
    await scene.slack.fill(GRACE, "token", marked(Behaviour.GOOD))
    payload = scene.slack.make_submission(GRACE)
    mallory = {"user": payload["user"] | {"id": MALLORY}}
    unknown = {"view": payload["view"] | {"private_metadata": "nobody-opened-this"}}
    for forged in (mallory, unknown, mallory | unknown):
        await scene.slack.deliver("interactive", payload | forged)


async def _send_what_nobody_expects(scene: Scene, marked: Marked) -> None:
    """Send payloads that no listener takes, and one that breaks a listener, each with a token in it."""
    await scene.open_form("analytics-events", user=GRACE)
    await scene.slack.fill(GRACE, "token", marked(Behaviour.GOOD))
    payload = scene.slack.make_submission(GRACE)
    kinds = ("view_closed", "block_actions", "shortcut", "never_heard_of")
    strange: list[JsonObject] = [{"type": kind, "actions": [{"action_id": "x"}]} for kind in kinds]
    broken: list[JsonObject] = [
        {name: marked(Behaviour.GOOD)} for name in ("user", "team", "view", "actions", "enterprise")
    ]
    scene.slack.transport.config = replace(scene.slack.config, answer_timeout=timedelta(seconds=1))  # no one answers
    await asyncio.gather(
        *(scene.slack.deliver("interactive", payload | part) for part in (*strange, *broken, {"view": {}}))
    )
    scene.slack.transport.config = scene.slack.config
    if scene.transport == "http":
        token = marked(Behaviour.GOOD).encode()
        await scene.slack.post_raw(b"payload=" + token)
        await scene.slack.post_raw(b"text=" + token, headers={"X-Slack-Signature": "v0=0"})
        await scene.slack.post_raw(b"payload=" + token * 15_000)


async def _never_succeed(scene: Scene, marked: Marked) -> None:
    """Let one submission fail until its deadline."""
    scene.cloudflare.add_bucket("leak-00")
    await scene.open_form("billing-exports", user=GRACE)
    await scene.slack.fill(GRACE, "token", marked(Behaviour.CHALLENGED))
    await scene.slack.submit(GRACE)
    await scene.slack.wait_for_message(PLATFORM, lambda message: is_result(message, "billing-exports"))


async def _look_around(scene: Scene, marked: Marked) -> None:
    """Check a token without storing it, and query the outcome of the others in each way."""
    scene.cloudflare.add_bucket("leak-dry")
    await scene.open_form("leak-dry")
    await scene.slack.fill(ADA, "token", marked(Behaviour.GOOD))
    await scene.slack.fill(ADA, "check", ["check"])
    await scene.slack.submit(ADA)
    await scene.wait_for_result("leak-dry")
    for line in ("status", "history", "status leak-00", f"history {marked(Behaviour.GOOD)}"):
        await scene.slack.type_command(ADA, PLATFORM, f"/r2-credential {line}")
    for user in (ADA, MALLORY):
        await scene.slack.open_home(user)
        await scene.slack.wait_for_home(user)


def _issued_urls(scene: Scene) -> Iterator[str]:
    for sent in scene.slack.sent:
        if sent.kind == "slash_commands":
            yield sent.payload["response_url"]
        yield from (entry["response_url"] for entry in sent.payload.get("response_urls", ()))


def _read_files(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


async def test_the_search_finds_each_encoding() -> None:
    """Finding nothing proves something only if the search finds a token in each encoding."""
    token = make_token(Behaviour.GOOD, 771_399)
    raw = token.encode()

    assert find_leaks(pickle.dumps({"token": token}), token) == ["plain", "url-encoded"]
    assert find_leaks(raw.hex().upper().encode(), token) == ["hex"]
    assert find_leaks(raw[::-1], token) == ["reversed"]
    assert find_leaks(token.encode("utf-16"), token) == ["utf-16"]
    for ahead in (b"", b"a", b"ab"):
        assert any("base64" in name for name in find_leaks(base64.b64encode(ahead + raw + b"xyz"), token))
    assert find_leaks(b"cfat_ and nothing else", token) == []


@pytest.mark.parametrize("place", ["printed", "data_while_running", "data_afterwards", "traffic", "modals"])
async def test_no_token_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """Not in the output, the data directory, or what Slack was sent; in no encoding, not even in part."""
    found: bytes = getattr(aftermath, place)
    assert found

    leaks = {token: find_leaks(found, token) for token in aftermath.tokens}

    assert {token: forms for token, forms in leaks.items() if forms} == {}
    parts = {f"MADEUP{behaviour.value}" for behaviour in Behaviour} | {"MADEUPKEY", "MADEUPOAUTH"}
    assert [part for part in parts if find_leaks(found, part)] == []


@pytest.mark.parametrize("place", ["printed", "data_while_running", "data_afterwards"])
async def test_no_response_url_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """The holder of one can post into a channel: none is in a file or in the output."""
    found: bytes = getattr(aftermath, place)
    assert len(aftermath.response_urls) > len(Behaviour)

    assert [url for url in aftermath.response_urls if find_leaks(found, url)] == []


@pytest.mark.parametrize("place", ["printed", "data_while_running", "data_afterwards"])
async def test_no_secret_of_the_settings_is_left_anywhere(aftermath: Aftermath, place: str) -> None:
    """The tokens and secrets that the bot itself uses are written nowhere."""
    found: bytes = getattr(aftermath, place)

    assert [secret for secret in aftermath.secrets if find_leaks(found, secret)] == []


async def test_the_bots_cloudflare_token_is_not_sent_to_slack(aftermath: Aftermath) -> None:
    """Slack gets its own token in the headers, and nothing of Cloudflare's."""
    assert find_leaks(aftermath.traffic, aftermath.secrets[-1]) == []


async def test_every_path_was_really_taken(aftermath: Aftermath) -> None:
    """The log has refusals and faults, and the channel has stored and failed submissions."""
    texts = " ".join(aftermath.results)

    assert "stored a new credential" in texts
    assert "was not stored" in texts
    assert "has no bucket of this name" in texts
    assert "passed every check" in texts
    for event in (b"token_typed_in_command", b"submission_refused", b"submission_ended", b"submission_postponed"):
        assert event in aftermath.printed
    assert len(aftermath.tokens) > 20
