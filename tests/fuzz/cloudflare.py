"""Cloudflare's answers, or those of whatever answers in its place: each call returns its type or raises our error."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import httpx

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.pace import LocalPace
from bot.model.catalog import BucketKey
from bot.model.clock_comparison import ClockComparison
from bot.model.secret import Secret
from bot.model.submission import TokenKind
from bot.sandbox.cloudflare import SANDBOX_API_TOKEN
from tests.captured_log import captured_log
from tests.clock import Clock
from tests.fuzz.answers import Answer, inputs_of, seeds_of
from tests.fuzz.target import PLANTED, Check, Target
from tests.leaks import find_leaks
from tests.make import ACCOUNT

_LAKE: Final = BucketKey(account_id=ACCOUNT, bucket="lake")
_TOKEN_ID: Final = "0f" * 16
_TOKEN: Final = Secret(PLANTED)


async def _may_send() -> bool:
    return True


_CALLS: Final[dict[str, Callable[[CloudflareClient], Awaitable[object]]]] = {
    "list": lambda client: client.list_catalogs(),
    "own": lambda client: client.verify_own_token(TokenKind.ACCOUNT),
    "right": lambda client: client.may_own_token_write(TokenKind.ACCOUNT, _TOKEN_ID),
    "get": lambda client: client.get_catalog(_LAKE),
    "verify": lambda client: client.verify_token(_TOKEN, TokenKind.USER, _may_send),
    "read": lambda client: client.get_catalog_as(_LAKE, _TOKEN, _may_send),
    "test": lambda client: client.test_credential(_LAKE),
    "enable": lambda client: client.enable_catalog(_LAKE, _may_send),
    "store": lambda client: client.store_credential(_LAKE, _TOKEN, _may_send),
}


@dataclass(slots=True)
class _Server:
    """Gives the same answer to every request."""

    answer: Answer = field(default_factory=lambda: Answer.read(b"200\n\n"))

    def reply(self, _: httpx.Request) -> httpx.Response:
        body = httpx.ByteStream(self.answer.body)
        return httpx.Response(self.answer.status, headers=list(self.answer.headers), stream=body)


@contextmanager
def _answers() -> Iterator[Check]:
    server = _Server()
    with asyncio.Runner() as runner, captured_log() as log:

        def check(data: bytes) -> None:
            server.answer = Answer.read(data)
            log.seek(0)
            log.truncate()
            runner.run(_call_all(server))
            assert find_leaks(log.getvalue().encode(), PLANTED) == []
            assert "Traceback" not in log.getvalue()

        yield check


async def _call_all(server: _Server) -> None:
    for name, call in _CALLS.items():
        client = CloudflareClient(
            account_id=ACCOUNT,
            base_url="http://127.0.0.1/client/v4",
            auth=ApiToken(token=Secret(SANDBOX_API_TOKEN)),
            pace=LocalPace(Clock()),
            transport=httpx.MockTransport(server.reply),
            comparison=(comparison := ClockComparison()),
        )
        try:
            result = await call(client)
        except CloudflareError as error:
            assert error.__cause__ is error.__context__ is None, name
            shown = repr((error, vars(error)))
            assert error.retry_after is None or timedelta(0) <= error.retry_after <= timedelta(days=1)
        else:
            shown = repr(result)
            assert 200 <= server.answer.status < 300 or name == "enable", name
        finally:
            await client.aclose()
        comparison.find(refuses=True)
        if name in {"verify", "read", "store"}:  # the token belongs to this request: its answer may echo it
            assert find_leaks(shown.encode("utf-8", "replace"), PLANTED) == [], name


_CATALOG: Final = {"bucket": "lake", "id": "a", "status": "active", "credential_status": "present", "name": "a_lake"}
_POLICY: Final = {
    "effect": "allow",
    "permission_groups": [{"id": "d229766a2f7f4d299f20eaa8c9b1fde9", "name": "Workers R2 Data Catalog Write"}],
    "resources": {f"com.cloudflare.api.account.{ACCOUNT}": "*"},
}
_RESULTS: Final = (
    {"warehouses": [_CATALOG, _CATALOG | {"bucket": "events"}]},
    _CATALOG,
    {"id": _TOKEN_ID, "status": "active", "expires_on": "2027-01-01T00:00:00Z", "not_before": "2026-01-01T00:00:00Z"},
    {"status": "valid"},
    {"id": _TOKEN_ID, "policies": [_POLICY]},
    None,
)
_FAULT: Final = {"code": 10001, "message": f"Method not allowed for {PLANTED[:20]}", "documentation_url": "https://a.b"}
_DOCUMENTS: Final = (
    *({"success": True, "errors": [], "messages": [], "result": result} for result in _RESULTS),
    {"success": False, "errors": [_FAULT, {"code": "6003", "error_chain": [_FAULT]}], "messages": [], "result": None},
    {"success": False, "errors": [{"code": 10000, "message": "forbidden"}], "result": None},
    {"error_code": 1015, "retry_after": 30},
)

TARGETS: Final = (
    Target(
        name="Cloudflare's answers", open=_answers, slice=12, seeds=seeds_of(_DOCUMENTS), inputs=inputs_of(_DOCUMENTS)
    ),
)
