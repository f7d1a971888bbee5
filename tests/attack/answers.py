"""Hosts that answer in place of Slack or Cloudflare, and answers of Cloudflare that no bot should trust."""

import asyncio
import base64
import gzip
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from bot.sandbox.cloudflare import RateLimit
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.attack.attack import Arena, Attack, Case
from tests.between import BODY, Between, stand_between
from tests.scene import ADA, CROWD, MALLORY, PLATFORM, Scene, open_scene

_MOST_GROWTH_KIB: Final = 64 * 1024
_PAUSE: Final = 0.05


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not is_so():  # noqa: ASYNC110 - another process does it: there is no event to wait for
            await asyncio.sleep(_PAUSE)


def _json(document: object, status: int = 200, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        status=status, body=json.dumps(document).encode(), headers={"Content-Type": "application/json"} | named
    )


# Echoes.


def _new_token() -> str:
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"
    return "cfat_" + "".join(secrets.choice(alphabet) for _ in range(40)) + secrets.token_hex(4)


_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "in capitals": str.upper,
    "its first half": lambda secret: secret[: len(secret) // 2],
    "with a word in its middle": lambda secret: f"{secret[:26]} and {secret[26:]}",
    "spelled": " ".join,
    "with invisible characters between": "\u200b".join,
    "percent-encoded": lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
    "in HTML entities": lambda secret: "".join(f"&#{byte};" for byte in secret.encode()),
    "in JSON escapes": lambda secret: "".join(f"\\u{byte:04x}" for byte in secret.encode()),
    "in hex with blanks": lambda secret: secret.encode().hex(" "),
    "in base64 with blanks": lambda secret: " ".join(re.findall(".{1,20}", base64.b64encode(secret.encode()).decode())),
    "half of its hash": lambda secret: hashlib.sha256(secret.encode()).hexdigest()[:32],
}
"""How a server can quote a secret; each form breaks up runs of 32 characters and more, which are masked everywhere."""


_SHORT: Final = ("plain", "its first half", "half of its hash")


def _written(form: str, *, escaped: bool) -> str:
    """Write a JSON text with slashes and letters escaped or not: a parser reads the same."""
    return "".join(f"\\u{ord(sign):04x}" for sign in form) if escaped else json.dumps(form)[1:-1]


def _answer_words(status: int, code: int, text: str) -> web.Response:
    body = f'{{"success": false, "errors": [{{"code": {code}, "message": "no: {text}"}}]}}'
    return web.Response(status=status, body=body.encode(), content_type="application/json")


_PLACES: Final[dict[str, Callable[[str], web.Response]]] = {
    "verify, as words": lambda text: _answer_words(401, 1000, text),
    "store, as words": lambda text: _answer_words(400, 30005, text),
    "verify, as an id": lambda text: web.Response(
        body=f'{{"success": true, "errors": [], "result": {{"id": "{text}", "status": "active"}}}}'.encode(),
        content_type="application/json",
    ),
}


@dataclass(slots=True, kw_only=True)
class _Echo:
    """One case: a token on its way to a bucket, whose check or write is answered by an echo of a secret."""

    name: str
    bucket: str
    secret: str
    answers: str
    response: Callable[[], web.Response]
    token: str
    asked: int = 0


def _echoes(own: str) -> Iterator[_Echo]:
    """Yield the cases: every form in every place, of the pasted token and of the bot's own."""
    tries: list[tuple[str, str, str, Callable[[str], web.Response]]] = []
    for whose in ("pasted", "own"):
        for place, respond in _PLACES.items():
            for form, quote in _FORMS.items():
                for escaped in (False, True) if form in _SHORT else (False,):
                    named = f"{whose}, {form}, {'escaped, ' if escaped else ''}{place}"
                    answer = _respond_with(respond, quote, escaped=escaped)
                    tries.append((named, whose, place.partition(",")[0], answer))
        for length in (16, 20, 31):
            tries.append((f"{whose}, {length} characters as the ray", whose, "store", _respond_with_ray(length)))
    for number, (name, whose, answers, respond) in enumerate(tries):
        token = _new_token()
        secret = token if whose == "pasted" else own
        yield _Echo(
            name=name,
            bucket=f"echo-{number:03d}",
            secret=secret,
            answers=answers,
            response=_bind(respond, secret),
            token=token,
        )


def _bind(respond: Callable[[str], web.Response], secret: str) -> Callable[[], web.Response]:
    return lambda: respond(secret)


def _respond_with(
    respond: Callable[[str], web.Response], quote: Callable[[str], str], *, escaped: bool
) -> Callable[[str], web.Response]:
    return lambda secret: respond(_written(quote(secret), escaped=escaped))


def _respond_with_ray(length: int) -> Callable[[str], web.Response]:
    def respond(secret: str) -> web.Response:
        response = _answer_words(400, 30005, "made up")
        response.headers["cf-ray"] = re.sub("[^0-9A-Za-z]", "", secret)[-length:]
        return response

    return respond


class _Echoing:
    """A Cloudflare that accepts every token, and echoes a secret in the one answer that a case is about."""

    def __init__(self, echoes: Iterable[_Echo]) -> None:
        self._by_token = {f"Bearer {echo.token}": echo for echo in echoes}
        self._by_bucket = {echo.bucket: echo for echo in self._by_token.values()}

    def __call__(self, request: web.Request) -> web.StreamResponse | None:
        """Answer requests that carry the token of a case."""
        parts = request.path.split("/")
        echo = self._by_token.get(request.headers.get("Authorization", ""))
        if echo is None:
            stored = self._by_bucket.get(parts[-2]) if parts[-1] == "credential" else None
            return None if stored is None else self._echo(stored)
        if parts[-1] == "verify":
            return self._echo(echo) if echo.answers == "verify" else _json(_VERIFIED)
        return _json({"success": True, "errors": [], "result": {"bucket": parts[-1], "status": "active"}})

    def _echo(self, echo: _Echo) -> web.Response:
        echo.asked += 1
        return echo.response()


_VERIFIED: Final = {
    "success": True,
    "errors": [],
    "result": {"id": "ed17574386854bf78a67040be0a770b0", "status": "active"},
}


async def _echo_secrets(arena: Arena) -> AsyncIterator[Case]:
    """Let Cloudflare repeat secrets; afterwards search the log, the files and what went to Slack."""
    own = _new_token()
    async with _between(arena) as (scene, between, _):
        scene.cloudflare.api_token = own
        scene.cloudflare.limit = RateLimit(requests=10**6, window_seconds=10)  # or retries use most of it
        scene.environment["CLOUDFLARE_API_TOKEN"] = own
        echoes = list(_echoes(own))
        between.tamper = _Echoing(echoes)
        await scene.start_ready_bot()
        for echo in echoes:
            scene.cloudflare.add_bucket(echo.bucket)
        await asyncio.gather(
            *(_submit_all(scene, user, echoes[place :: len(CROWD)]) for place, user in enumerate(CROWD))
        )
        await _until(lambda: all(echo.asked for echo in echoes))
        scene.cloudflare.add_bucket("afterwards")
        await scene.submit("afterwards", make_token(Behaviour.GOOD, 7))
        await scene.wait_for_result("afterwards")
        await scene.bot.stop()
        left = _left_behind(scene)
    for echo in echoes:
        yield Case.of(echo.name, leaked=_has_piece(left, echo.secret))


async def _submit_all(scene: Scene, user: str, echoes: Iterable[_Echo]) -> None:
    for echo in echoes:
        await scene.submit(echo.bucket, echo.token, user=user)


def _left_behind(scene: Scene) -> str:
    files = [path.read_bytes() for path in scene.data_dir.rglob("*") if path.is_file()]
    return b"\n".join([scene.printed(), scene.slack.traffic_received(), *files]).decode("latin-1").lower()


def _has_piece(left: str, secret: str) -> bool:
    """Say whether twelve characters are left of the secret, or of its hash, which grants as much."""
    wholes = (secret.removeprefix("cfat_"), hashlib.sha256(secret.encode()).hexdigest())
    return any(whole[start : start + 12].lower() in left for whole in wholes for start in range(len(whole) - 11))


# A host in between.


@asynccontextmanager
async def _between(arena: Arena) -> AsyncIterator[tuple[Scene, Between, Between]]:
    """Make a scene whose bot, not started yet, reaches Cloudflare and Slack through one host each."""
    async with open_scene(arena.transport, arena.new_directory()) as scene:
        cloudflare_host = scene.cloudflare.base_url.removesuffix("/client/v4")
        slack_host = scene.slack.api_url.removesuffix("/api/")
        async with stand_between(cloudflare_host) as cloudflare, stand_between(slack_host) as slack:
            scene.environment["CLOUDFLARE_BASE_URL"] = f"{cloudflare.address}/client/v4"
            scene.environment["SLACK_API_URL"] = f"{slack.address}/api/"
            yield scene, cloudflare, slack


# Cookies.


async def _hand_out_cookies(arena: Arena) -> AsyncIterator[Case]:
    """Let every answer of Cloudflare set a cookie with the credentials of its request."""
    async with _between(arena) as (scene, between, _):
        between.tamper = _echo_in_cookie
        await scene.start_ready_bot()
        for number in range(8):
            bucket = f"cookie-{number}"
            scene.cloudflare.add_bucket(bucket)
            await scene.submit(bucket, make_token(Behaviour.GOOD, number), user=CROWD[number])
            await scene.wait_for_result(bucket)
        for method, path, headers in between.asked:
            yield Case.of(f"{method} {path}", leaked="cookie" in headers)


def _echo_in_cookie(request: web.Request) -> web.StreamResponse | None:
    """Answer as Cloudflare would, with a cookie."""
    echoed = request.headers.get("Authorization", "").removeprefix("Bearer ")
    parts = request.path.split("/")
    result: object = {"bucket": parts[-1], "status": "active"}
    if parts[-1] == "verify":
        result = _VERIFIED["result"]
    elif parts[-1] in {"r2-catalog", "basin-catalog"}:
        result = {"warehouses": []}
    elif parts[-1] == "status":
        result = {"status": "valid"}
    elif parts[-1] == "credential":
        result = None
    document = {"success": True, "errors": [], "result": result}
    return _json(document, Set_Cookie=f"echo={echoed}; Path=/")


# Expensive answers.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bomb:
    """An answer that is small to send and expensive to read."""

    name: str
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)

    def respond(self) -> web.Response:
        response = web.Response(body=self.body, content_type="application/json")
        for name, value in self.headers:
            response.headers.add(name, value)
        return response


def _bombs() -> Iterator[_Bomb]:
    """Yield bombs of a bounded size: each unpacks to 192 MiB at most."""
    zeros = gzip.compress(b"0" * (192 << 20), 1)
    yield _Bomb(name="gzip", body=zeros, headers=[("Content-Encoding", "gzip")])
    yield _Bomb(name="gzip in gzip", body=gzip.compress(zeros), headers=[("Content-Encoding", "gzip, gzip")])
    yield _Bomb(name="deflate that is gzip", body=zeros, headers=[("Content-Encoding", "deflate")])
    yield _Bomb(name="100 MiB", body=b" " * (100 << 20))
    yield _Bomb(name="lists in lists", body=b"[" + b"[]," * (5 << 20) + b"[]]")
    yield _Bomb(name="as many lists as are read", body=b"[" + b"[]," * 1_390_000 + b"[]]")
    yield _Bomb(name="as deep as long", body=b"[" * (1 << 20))
    yield _Bomb(name="10,000 headers", body=b"{}", headers=[(f"x{number}", "1") for number in range(10_000)])
    yield _Bomb(name="10,000 cookies", body=b"{}", headers=[("Set-Cookie", f"a{n}=1") for n in range(5_000)])
    yield _Bomb(
        name="an encoding of names",
        body=b"x" * 100_000 + b"-9",
        headers=[("Content-Type", "application/json; charset=punycode")],
    )


async def _answer_with_bombs(arena: Arena) -> AsyncIterator[Case]:
    """Let Cloudflare, then Slack, send expensive answers while others open a form."""
    async with _between(arena) as (scene, cloudflare, slack):
        await scene.start_ready_bot()
        await scene.open_form("analytics-events", user=ADA)
        for number, bomb in enumerate(_bombs()):
            bucket = f"bomb-{number}"
            scene.cloudflare.add_bucket(bucket)
            for host, between, at in (
                ("Cloudflare", cloudflare, "/tokens/verify"),
                ("Slack", slack, "/chat.postMessage"),
            ):
                bombing = _Bombing(bomb, at)
                before = _peak_kib(scene)
                between.tamper = bombing
                token = make_token(Behaviour.GOOD, number)
                await scene.submit(f"{bucket}", token, user=CROWD[number])
                await _until(lambda bombing=bombing: bombing.asked > 0)  # type: ignore[misc]  # mypy knows no lambda with a default
                await scene.open_form("analytics-events", user=ADA)
                between.tamper = _let_through
                await _until(lambda bucket=bucket: bool(scene.results(bucket)))  # type: ignore[misc]  # the same
                scene.slack.workspace.messages.clear()
                grown = _peak_kib(scene) - before
                yield Case.of(
                    f"{bomb.name}, of {host}: {max(grown, 0) // 1024} MiB", took_down=grown > _MOST_GROWTH_KIB
                )


def _let_through(_: web.Request) -> web.StreamResponse | None:
    return None


class _Bombing:
    """Answers one request at a path with a bomb."""

    def __init__(self, bomb: _Bomb, at: str) -> None:
        self.asked = 0
        self._bomb = bomb
        self._at = at

    def __call__(self, request: web.Request) -> web.StreamResponse | None:
        """Answer the first one only."""
        if self.asked or not request.path.endswith(self._at):
            return None
        self.asked += 1
        return self._bomb.respond()


def _peak_kib(scene: Scene) -> int:
    status = Path(f"/proc/{scene.bot.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


# Redirects.

_STATUSES: Final = (301, 302, 303, 307, 308)
_ELSEWHERE: Final = tuple(f"elsewhere-{number}" for number in range(len(_STATUSES)))


class _Redirecting:
    """Redirects the calls of some methods to another host, once for each status; `asked` is what was redirected.

    Each message is redirected once: the bot retries it with growing pauses.
    """

    def __init__(self, elsewhere: str, *methods: str) -> None:
        self.asked: list[tuple[str, int]] = []
        self._elsewhere = elsewhere
        self._messages: set[bytes] = set()
        self._left = {method: list(_STATUSES) for method in methods}

    def __call__(self, request: web.Request) -> web.StreamResponse | None:
        """Redirect, or forward once all statuses were tried."""
        method = request.path.rpartition("/")[2]
        message = re.search(rb"elsewhere-[0-9]", request[BODY])
        if not self._left.get(method) or (message is not None and message[0] in self._messages):
            return None
        if message is not None and method == "chat.postMessage":
            self._messages.add(message[0])
        status = self._left[method].pop()
        self.asked.append((method, status))
        return web.Response(status=status, headers={"Location": f"{self._elsewhere}/api/{method}"})

    def is_over(self, method: str) -> bool:
        """Say whether all statuses of a method were tried."""
        return not self._left[method]


_SAYS: Final = {
    "ok": True,
    "team_id": "T0SANDBOX",
    "url": "ws://127.0.0.1:9/elsewhere",
    "users": [MALLORY, ADA, *CROWD],
    "channel": {"id": PLATFORM, "is_member": True},
    "view": {"id": "V0ELSEWHERE"},
    "ts": "1.2",
}


async def _lead_elsewhere(arena: Arena) -> AsyncIterator[Case]:
    """Redirect Slack's calls to a host that accepts everything."""
    async with _between(arena) as (scene, _, slack), stand_between() as elsewhere:
        elsewhere.tamper = lambda _: _json(_SAYS)
        starting = ["auth.test", *(["apps.connections.open"] if arena.transport == "socket" else [])]
        calls = ["usergroups.users.list", "conversations.info", "views.open", "views.publish", "views.update"]
        slack.tamper = redirecting = _Redirecting(elsewhere.address, *starting, *calls, "chat.postMessage")
        for bucket in _ELSEWHERE:  # listed from the start on: the form opens at once, without a notice before it
            scene.cloudflare.add_bucket(bucket)
        await scene.start_bot()
        await _until(lambda: all(redirecting.is_over(method) or elsewhere.asked for method in starting))
        assert await scene.bot.wait_until_ready()
        got_in = []
        while not redirecting.is_over("usergroups.users.list"):
            before = len(redirecting.asked)
            outcome = await scene.slack.type_command(MALLORY, PLATFORM, "/r2-credential")
            got_in.append(outcome.message is None and outcome.failure is None)
            if got_in[-1]:
                break
            if len(redirecting.asked) == before:
                await asyncio.sleep(_PAUSE)  # until the bot stops remembering that Slack gave no answer
        while not (redirecting.is_over("views.open") or elsewhere.asked):
            await scene.slack.type_command(ADA, PLATFORM, "/r2-credential analytics-events")
        lied = await _submit_until_posted(scene, redirecting, elsewhere)
        for method, status in redirecting.asked:
            went = [path for _, path, _ in elsewhere.asked if path.endswith(method)]
            yield Case.of(
                f"{method}, {status}",
                got_in=method == "usergroups.users.list" and any(got_in),
                leaked=bool(went),
                lied=method == "chat.postMessage" and lied,
            )


async def _submit_until_posted(scene: Scene, redirecting: _Redirecting, elsewhere: Between) -> bool:
    """Submit until no status is left; return whether the bot took a result for posted that no one can read."""
    for number, bucket in enumerate(_ELSEWHERE):
        if elsewhere.asked:
            return True
        outcome = await scene.submit(bucket, make_token(Behaviour.GOOD, number), user=CROWD[number])
        while outcome.errors:  # the bot could not learn about the channel
            outcome = await scene.slack.submit(CROWD[number])
    for bucket in _ELSEWHERE:
        await _until(lambda bucket=bucket: bool(scene.results(bucket) or elsewhere.asked))  # type: ignore[misc]  # mypy knows no lambda with a default
    return not all(scene.results(bucket) for bucket in _ELSEWHERE)


async def _lead_handshakes_elsewhere(arena: Arena) -> AsyncIterator[Case]:
    """Let the address of a Socket Mode connection redirect to another host."""
    for status in _STATUSES[:3]:
        async with _between(arena) as (scene, _, slack), stand_between() as elsewhere:
            dialled: list[str] = []

            def tamper(
                request: web.Request, status: int = status, dialled: list[str] = dialled, to: str = elsewhere.address
            ) -> web.StreamResponse | None:
                if request.path.endswith("apps.connections.open") and not dialled:
                    return _json({"ok": True, "url": f"ws://{request.host}/link?ticket=made-up"})
                if request.path == "/link":
                    dialled.append(request.path)
                    return web.Response(status=status, headers={"Location": f"{to}/link", "Set-Cookie": "a=1"})
                return None

            slack.tamper = tamper
            elsewhere.tamper = lambda _: web.Response(status=404)
            await scene.start_bot()
            await _until(lambda dialled=dialled: bool(dialled))  # type: ignore[misc]  # mypy knows no lambda with a default
            ready = await scene.bot.wait_until_ready()
            await scene.slack.wait_for_connections()
            yield Case.of(
                f"handshake, {status}", got_in=bool(elsewhere.asked), leaked=bool(slack.cookies()), took_down=not ready
            )


ATTACKS: Final = (
    Attack(name="secrets echoed by Cloudflare", run=_echo_secrets, over=("http",)),
    Attack(name="cookies of Cloudflare", run=_hand_out_cookies, over=("http",)),
    Attack(name="answers that cost more than they weigh", run=_answer_with_bombs, over=("http",)),
    Attack(name="redirected calls to Slack", run=_lead_elsewhere),
    Attack(name="redirected handshakes of Socket Mode", run=_lead_handshakes_elsewhere, over=("socket",)),
)
