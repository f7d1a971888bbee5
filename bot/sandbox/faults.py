"""Failures to order: what the next calls of a Web API method or response URL will meet instead of an answer."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One failure; with just a `delay` the call succeeds late. `after_effect`: Slack does it, then fails to say so."""

    error: str | None = None
    status: int | None = None
    retry_after: int | None = None
    delay: timedelta | None = None
    drop_connection: bool = False
    after_effect: bool = False

    @property
    def fails(self) -> bool:
        """Say whether the caller gets anything but the true answer."""
        return self.drop_connection or bool(self.error or self.status or self.retry_after is not None)


@dataclass(slots=True)
class Faults:
    """The ordered failures, per method."""

    _next: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))

    def add(self, method: str, fault: Fault, times: int) -> None:
        """Let the next `times` calls of a method meet this failure, after those that were ordered before."""
        self._next[method].extend([fault] * times)

    async def around(
        self, method: str, request: web.Request, perform: Callable[[], web.Response]
    ) -> web.StreamResponse:
        """Perform a call, or fail it as ordered."""
        fault = self._next[method].popleft() if self._next[method] else Fault()
        if fault.delay is not None:
            await asyncio.sleep(fault.delay.total_seconds())
        if not fault.fails:
            return perform()
        if fault.after_effect:
            perform()
        if fault.drop_connection and request.transport is not None:
            request.transport.abort()
        return _failure(fault)


def _failure(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    is_limited = fault.retry_after is not None and fault.error is None
    status = fault.status or (web.HTTPTooManyRequests.status_code if is_limited else web.HTTPOk.status_code)
    error = fault.error or ("ratelimited" if is_limited else None)
    if error is None:
        return web.Response(status=status, text="upstream failure", headers=headers)
    return web.json_response({"ok": False, "error": error}, status=status, headers=headers)
