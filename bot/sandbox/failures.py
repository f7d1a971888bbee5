"""Failures to order from the fake Cloudflare: what the next requests of a kind will meet."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypedDict

from aiohttp import web

from bot.sandbox.envelopes import refuse, show_page
from bot.sandbox.routes import Kind


class Failure(TypedDict, total=False):
    """What goes wrong: a delay (in seconds), an answer (when `status` is set), or a connection that breaks.

    After `lands_after` seconds, what was asked in a broken connection is carried out nevertheless.
    """

    status: int
    code: int
    message: str
    body: str | bytes
    headers: Mapping[str, str]
    retry_after: int
    delay: float
    drop_before_store: bool
    drop_after_store: bool
    lands_after: float


class Dropped(Exception):  # noqa: N818 - not an error, an order
    """The connection breaks here."""


@dataclass(slots=True)
class PlannedFailure:
    """A failure that is still to come."""

    kind: Kind
    failure: Failure
    times_left: int

    def call_off(self) -> None:
        """Let the requests that it has not met yet succeed."""
        self.times_left = 0


def take_failure(planned: list[PlannedFailure], kind: Kind) -> Failure | None:
    """Take the next failure for this kind off the plan."""
    first = next((each for each in planned if each.times_left > 0 and each.kind in (kind, "any")), None)
    if first is None:
        return None
    first.times_left -= 1
    if first.times_left <= 0:
        planned.remove(first)
    return first.failure


def answer_failure(failure: Failure) -> web.Response | None:
    """Return the planned answer: the given body, else a page for a 5xx without code, else an envelope."""
    status = failure.get("status")
    if status is None:
        return None
    body, code = failure.get("body"), failure.get("code")
    if body is not None:
        content = body.encode() if isinstance(body, str) else body
        response = web.Response(status=status, body=content, content_type="text/html")
    elif code is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        response = show_page(status, f"{status}: the server is down")
    else:
        response = refuse(status, code, failure.get("message", "A failure made up for a test."))
    response.headers.update(failure.get("headers", {}))
    if "retry_after" in failure:
        response.headers["Retry-After"] = str(failure["retry_after"])
    return response
