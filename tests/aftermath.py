"""Marked tokens take every path; this collects all that is left behind afterwards, and all that was seen meanwhile."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from bot.sandbox.blocks import JsonObject
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.tokens import Behaviour, TokenKind, make_token
from bot.sandbox.workspace import PATIENCE, Message
from bot.slack.messages.approval import APPROVE, DENY
from tests.leaks import find_leaks
from tests.scene import ADA, CROWD, GRACE, MALLORY, PLATFORM, Scene, is_result
from tests.talkative import children, loggers_below_warning, tracked

PRIVATE: Final = "G0INCID42"
GLOBAL_KEY: Final = "cfk_" + "MADEUPKEY".ljust(40, "0") + "5a4db0c1"
OAUTH: Final = "cfoat_" + "MADEUPOAUTH".ljust(40, "0") + "5a4db0c2"
PROXY_LOGIN: Final = "operator:MADEUP-proxy-password"
AUDIT_KEY: Final = "MADEUP-audit-key-5a4db0c35a4db0c35a4db0c3"
PARTS: Final = {f"MADEUP{behaviour.value}" for behaviour in Behaviour} | {"MADEUPKEY", "MADEUPOAUTH"}
"""Of the marked tokens, one of which is in each."""

SETTINGS: Final = {
    "R2_CREDENTIAL_LOG_LEVEL": "debug",
    "R2_CREDENTIAL_TTL": "30s",
    "R2_CREDENTIAL_AUDIT_KEY": AUDIT_KEY,
    "HTTPS_PROXY": f"http://{PROXY_LOGIN}@127.0.0.1:9",  # not used: the fakes are reached over plain http
}


_POLICY: Final = """
[[rule]]
users = ["{ada}"]
buckets = ["eyes-*"]
approvals = 1
approvers = ["{grace}"]

[[rule]]
usergroups = ["{group}"]
verbs = ["store", "check", "status", "history", "enable"]
"""
_DECISIONS: Final = {"eyes-approved": APPROVE, "eyes-denied": DENY, "eyes-late": None}


def give_policy(environment: dict[str, str], directory: Path) -> None:
    """Put a policy in the place of the lists, with buckets for which another person has to approve."""
    group = environment.pop("R2_CREDENTIAL_ALLOWED_USERGROUPS")
    environment.pop("R2_CREDENTIAL_ALLOW_ENABLE")
    path = directory / "policy.toml"
    path.write_text(_POLICY.format(ada=ADA, grace=GRACE, group=group), encoding="utf-8")
    path.chmod(0o600)
    environment["R2_CREDENTIAL_POLICY"] = str(path)


@dataclass(slots=True, kw_only=True)
class Aftermath:
    """What was left behind at the end or seen meanwhile, and what must not be in it."""

    printed: bytes
    data_while_running: bytes
    data_afterwards: bytes
    traffic: bytes
    modals: bytes
    pages: bytes
    processes: bytes
    children: bytes
    tracker: bytes
    loggers: frozenset[str]
    cloudflare: bytes
    tokens: Sequence[str]
    response_urls: Sequence[str]
    secrets: Mapping[str, str]
    results: Mapping[str, str] = field(default_factory=dict)
    database: bytes = b""

    def find(self, place: str, texts: Sequence[str]) -> list[str]:
        """Return those of the texts that are in a place, in any encoding. An empty place is an error."""
        found: bytes = getattr(self, place)
        assert found
        return [text for text in texts if find_leaks(found, text)]


class Watch:
    """Looks at the bot's processes while they run: each with its port for metrics, its data and its notes."""

    def __init__(
        self, scene: Scene, ports: Mapping[str, str], directories: Sequence[Path], notes: Sequence[Path]
    ) -> None:
        """Take `ports`: for each port for metrics that of health."""
        self._scene, self._ports, self._directories, self._notes = scene, ports, directories, notes
        self._pages = self._processes = self._data = self._modals = b""

    async def look(self) -> None:
        """Look at what is gone when the bot ends."""
        self._data = read_files(self._directories)
        self._modals = repr([self._scene.slack.modal(user) for user in (ADA, GRACE, MALLORY, *CROWD)]).encode()
        for bot in self._scene.bots:
            self._processes += look_at(Path(f"/proc/{bot.pid}"))
        async with aiohttp.ClientSession() as http:
            for metrics, health in self._ports.items():
                for place in (f"{metrics}/metrics", f"{metrics}/readyz", f"{health}/readyz", f"{health}/nowhere"):
                    async with http.get(f"http://127.0.0.1:{place}") as answer:
                        self._pages += repr(answer.headers).encode() + await answer.read()

    def report(self, marked: "Marked", secrets: Mapping[str, str], printed: bytes) -> Aftermath:
        """Return all of it, once the bot has ended."""
        scene = self._scene
        return Aftermath(
            printed=printed,
            data_while_running=self._data,
            data_afterwards=read_files(self._directories),
            traffic=scene.slack.traffic_received(),
            modals=self._modals,
            pages=self._pages,
            processes=self._processes,
            children=b"".join(map(children, self._notes)),
            tracker=b"".join(map(tracked, self._notes)),
            loggers=frozenset(name for notes in self._notes for name in loggers_below_warning(notes)),
            cloudflare=out_of_place(scene.cloudflare),
            tokens=marked.given,
            response_urls=[url.rpartition("/")[2] for url in _issued_urls(scene)],
            secrets={**secrets, **secrets_of(scene)},
            results={message.text: repr(message) for message in scene.slack.workspace.messages if message.bot_id},
        )


def secrets_of(scene: Scene) -> dict[str, str]:
    """Return the secrets of the settings, by name."""
    config = scene.slack.config
    return {
        "bot token": config.bot_tokens[0],
        "app token": config.app_token or "",
        "signing secret": config.signing_secret,
        "Cloudflare token": scene.cloudflare.api_token,
        "audit key": AUDIT_KEY,
        "proxy login": PROXY_LOGIN,
        "proxy password": PROXY_LOGIN.partition(":")[2],
    }


def read_files(places: Sequence[Path]) -> bytes:
    """Return the content of these files, and of all files in these directories."""
    paths = [path for place in places for path in (place, *sorted(place.rglob("*"))) if path.is_file()]
    return b"\n".join(map(_read_if_there, paths))


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # removed meanwhile
        return b""


def out_of_place(cloudflare: FakeCloudflare) -> bytes:
    """Return what Cloudflare received, except for the places where a token belongs: the header, and a write's body."""
    return b"\n".join(
        repr((each.method, each.path, {**each.headers, "authorization": ""})).encode()
        + (b"" if each.path.endswith("/credential") and each.method == "POST" else each.body)
        for each in cloudflare.requests
    )


def look_at(process: Path) -> bytes:
    """Return what `ps` shows of a process and, to root, its environment."""
    environment = b""
    with suppress(PermissionError):
        environment = (process / "environ").read_bytes()
    return (process / "cmdline").read_bytes() + environment


def _issued_urls(scene: Scene) -> Iterator[str]:
    for sent in scene.slack.sent:
        if sent.kind == "slash_commands":
            yield sent.payload["response_url"]
        yield from (entry["response_url"] for entry in sent.payload.get("response_urls", ()))


class Marked:
    """Hands out marked tokens and remembers them."""

    def __init__(self) -> None:
        self.given: list[str] = [GLOBAL_KEY, OAUTH]

    def __call__(self, behaviour: Behaviour, kind: TokenKind = TokenKind.ACCOUNT) -> str:
        """Return a token that was not handed out before."""
        # A number with many digits, so that the text of a token cannot be found by chance.
        self.given.append(make_token(behaviour, 771_300 + len(self.given), kind))
        return self.given[-1]


async def go_all_ways(scene: Scene, marked: Marked) -> None:
    """Take each path with a different token; the slow ones concurrently."""
    endings = [*Behaviour, Behaviour.GOOD]
    buckets = [f"leak-{at:02d}" for at in range(len(endings))]
    for bucket in buckets[:-1]:
        scene.cloudflare.add_bucket(bucket)  # the last one does not exist at Cloudflare
    scene.slack.fail_next("chat.postMessage", status=503)
    scene.slack.fail_next("chat.postMessage", drop_connection=True)
    few_at_once = asyncio.Semaphore(4)  # the talkative bot is slow

    async def submit(at: int, bucket: str, token: str) -> None:
        async with few_at_once:
            await scene.submit(bucket, token, user=CROWD[at], channel=PRIVATE if at % 3 == 0 else PLATFORM)

    await asyncio.gather(
        *(
            submit(at, bucket, marked(behaviour))
            for at, (bucket, behaviour) in enumerate(zip(buckets, endings, strict=True))
        )
    )
    await _ask_for_approvals(scene, marked)
    await _misplace(scene, marked)
    await _forge(scene, marked)
    await _send_what_nobody_expects(scene, marked)
    await _never_succeed(scene, marked)
    await _look_around(scene, marked)
    for bucket in (*buckets, *_DECISIONS):
        await scene.slack.workspace.changes.wait_until(
            lambda bucket=bucket: scene.results(bucket) or None,  # type: ignore[misc]  # mypy cannot infer this lambda
            within=PATIENCE,
            what=bucket,
        )


async def _ask_for_approvals(scene: Scene, marked: Marked) -> None:
    """Have a token approved, one denied, and one that nobody decides on."""
    for bucket, action_id in _DECISIONS.items():
        scene.cloudflare.add_bucket(bucket)
        await scene.submit(bucket, marked(Behaviour.GOOD))
        request = await scene.slack.wait_for_message(PLATFORM, partial(_is_request, bucket))
        await scene.slack.close(ADA, whole_stack=True)
        if action_id is not None:
            await scene.slack.click(GRACE, request, action_id)


def _is_request(bucket: str, message: Message) -> bool:
    return message.text.startswith("Approval needed") and f"`{bucket}`" in message.text


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
