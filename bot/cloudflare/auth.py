"""The secret part of a request: the bot's own credentials, or a pasted token, as a header or as the body.

Each is passed to httpx at the last moment, so that no stack frame, log or kept request exposes it by accident.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass

import httpx

from bot.cloudflare.echo import Echo
from bot.cloudflare.errors import TokenMalformed
from bot.model.errors import LeaseLost
from bot.model.pasted_token import classify
from bot.model.secret import Secret
from bot.model.submission import TokenKind

_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """The bot's own credentials, as an API token."""

    token: Secret

    def __post_init__(self) -> None:
        _require_header_value(self.token, "the API token")

    @property
    def secret(self) -> Secret:
        """The token itself."""
        return self.token

    @property
    def kind(self) -> TokenKind:
        """What it is, judged by its shape alone."""
        return classify(self.token.reveal())


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The bot's own credentials as an e-mail address and a Global API key, Cloudflare's older scheme."""

    email: str
    key: Secret

    def __post_init__(self) -> None:
        _require_header_value(Secret(self.email), "the e-mail address")
        _require_header_value(self.key, "the API key")

    @property
    def secret(self) -> Secret:
        """The key itself."""
        return self.key


class CallerAuth(httpx.Auth):
    """Adds the bot's own credentials to each request at the last moment."""

    def __init__(self, credentials: ApiToken | ApiKey) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the headers."""
        if isinstance(self._credentials, ApiToken):
            request.headers["Authorization"] = f"Bearer {self._credentials.token.reveal()}"
        else:
            request.headers["X-Auth-Email"] = self._credentials.email
            request.headers["X-Auth-Key"] = self._credentials.key.reveal()
        yield request

    def echo(self, cargo: "Fence | None") -> Echo:
        """Return the remover of the bot's own credentials and of the request's secrets from the answer."""
        return Echo(*(secret.reveal() for secret in (self._credentials.secret, *(cargo.secrets if cargo else ()))))


class Fence:
    """Stops a request at the last moment if its sender may no longer send it."""

    secrets: tuple[Secret, ...] = ()

    def __init__(self, may_send: Callable[[], Awaitable[bool]]) -> None:
        self._may_send = may_send

    async def check(self) -> None:
        """Raise LeaseLost if the sender may no longer send."""
        if not await self._may_send():
            raise LeaseLost

    async def watch(self, event: str, _: object) -> None:
        """Check as the headers are about to go out (httpx's extension "trace")."""
        if event.endswith(".send_request_headers.started"):
            await self.check()


class Bearer(Fence, httpx.Auth):
    """A request with a pasted token instead of the bot's own credentials."""

    def __init__(self, token: Secret, may_send: Callable[[], Awaitable[bool]]) -> None:
        """Raise TokenMalformed for a token that no header can carry: httpx would quote it in an exception."""
        if not _HEADER_VALUE.fullmatch(token.reveal()):
            raise TokenMalformed
        super().__init__(may_send)
        self._token = token
        self.secrets = (token,)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        yield request


class Body(Fence, httpx.AsyncByteStream):
    """A JSON body, whose sender is asked once more before it goes out: without its body, a request changes nothing."""

    def __init__(self, document: Mapping[str, object], may_send: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(may_send)
        self._document = document
        self.length = len(self._encode())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self.check()
        yield self._encode()

    def _encode(self) -> bytes:
        # ASCII with escapes: a lone surrogate would raise an encoding error that quotes the whole body.
        return json.dumps(self._document, separators=(",", ":"), default=_reveal).encode("ascii")


class CredentialBody(Body):
    """The body with the pasted token, built while it is being sent, so that no request object ever holds it."""

    def __init__(self, token: Secret, may_send: Callable[[], Awaitable[bool]]) -> None:
        super().__init__({"token": token}, may_send)
        self.secrets = (token,)


def _reveal(secret: object) -> str:
    """Return the text of a secret in a document that is being encoded."""
    assert isinstance(secret, Secret)  # noqa: S101 - all else in our documents is JSON
    return secret.reveal()


def _require_header_value(secret: Secret, name: str) -> None:
    """Refuse early a value that no header can carry: httpx would quote it in an exception."""
    if not _HEADER_VALUE.fullmatch(secret.reveal()):
        message = f"{name} is empty or has a character that no HTTP header can carry"
        raise ValueError(message)
