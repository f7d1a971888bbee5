"""The load: signed submissions for one port, in a process of its own. Answers each JSON line of `Load` with a line.

It keeps a connection for as long as the server does. It uses a selector instead of asyncio, since what it takes of the
machine is missing to what it measures: less than 0.1 ms for a submission.
"""

import dataclasses
import hashlib
import hmac
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

MARK: Final = "9999999"
"""Stands in a body where the number of the submission goes, which has as many digits."""

MOST: Final = int(MARK) - 1
"""The highest number of a submission."""

_PAUSE: Final = 0.01
"""After a failure, and at most until time limits are looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: by `connections` that have one request each in flight, or `per_second`, whatever is in flight.

    None is begun after `seconds` or after the number `last`; answers are waited for no longer than `patience`.
    """

    port: int
    secret: str
    body: str
    first: int
    last: int
    seconds: float
    connections: int = 0
    per_second: float = 0
    patience: float = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One submission: the lane that sent it, when (in seconds from the start), how long it took, and what failed."""

    number: int
    lane: int
    began: float
    took: float
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes
    closes: bool

    @property
    def failure(self) -> str:
        """What keeps it from being an acknowledgement that leaves nothing to do for the person; empty if nothing."""
        if self.status != HTTPStatus.OK:
            return f"status {self.status}"
        return "refused in the form" if b'"errors"' in self.body or b"Nothing was sent" in self.body else ""


def read_answer(received: bytes, *, is_over: bool) -> Answer | None:
    """Parse an answer, None if it is not whole yet; `is_over` when the server has closed the connection."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, *lines = head.decode("latin-1").lower().split("\r\n")
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" in headers:
        is_whole = len(body) >= int(headers["content-length"])
    elif headers.get("transfer-encoding") == "chunked":
        is_whole = body == b"0\r\n\r\n" or body.endswith(b"\r\n0\r\n\r\n")
    else:
        is_whole = is_over
    if not is_whole:
        return None
    return Answer(status=int(status.split()[1]), body=body, closes=is_over or headers.get("connection") == "close")


def sign(body: str, number: int, secret: str) -> bytes:
    """Return the request that brings a submission, as Slack sends it: https://docs.slack.dev/authentication/verifying-requests-from-slack."""
    content = body.replace(MARK, f"{number:0{len(MARK)}}").encode()
    timestamp = str(int(time.time()))
    signature = hmac.digest(secret.encode(), f"v0:{timestamp}:".encode() + content, hashlib.sha256).hex()
    head = (
        "POST /slack/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: Slackbot 1.0\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"X-Slack-Request-Timestamp: {timestamp}\r\nX-Slack-Signature: v0={signature}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@dataclass(slots=True, kw_only=True)
class Lane:
    """Sends one request at a time, over one connection for as long as the server keeps it."""

    id: int
    load: Load
    selector: selectors.BaseSelector
    number: int = 0
    began: float = 0
    free_at: float = 0
    is_busy: bool = False
    _request: bytes = b""
    _received: bytearray = field(default_factory=bytearray)
    _connection: socket.socket | None = None
    _is_kept: bool = False

    def begin(self, number: int) -> str:
        """Send a request; return what failed."""
        self.number, self.is_busy, self._request = number, True, sign(self.load.body, number, self.load.secret)
        self.began = time.perf_counter()
        self._is_kept = self._connection is not None
        return self._send()

    def go_on(self) -> tuple[bool, str]:
        """Receive what has come; return whether the answer is whole or there will be none, and what failed."""
        assert self._connection is not None
        try:
            received = self._connection.recv(2**16)
        except OSError as error:
            return self._broke(type(error).__name__)
        self._received += received
        answer = read_answer(bytes(self._received), is_over=not received)
        if answer is not None:
            if answer.closes:
                self.close()
            return True, answer.failure
        return (False, "") if received else self._broke("closed without an answer")

    def close(self) -> None:
        """Give up the connection."""
        if self._connection is not None:
            self.selector.unregister(self._connection)
            self._connection.close()
            self._connection = None

    def _send(self) -> str:
        self._received.clear()
        try:
            if self._connection is None:
                # Over loopback it is open at once; the backlog is larger than the number of connections.
                self._connection = socket.create_connection(("127.0.0.1", self.load.port), self.load.patience)
                self.selector.register(self._connection, selectors.EVENT_READ, self)
            self._connection.sendall(self._request)
        except OSError as error:
            return self._broke(type(error).__name__)[1]
        return ""

    def _broke(self, failure: str) -> tuple[bool, str]:
        """Try once more where a kept connection was closed before anything came, as every HTTP client does."""
        self.close()
        if self._is_kept and not self._received:
            self._is_kept = False
            failure = self._send()
            return bool(failure), failure
        return True, failure


class Generator:
    """Carries out one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._sent: list[Sent] = []
        self._selector = selectors.DefaultSelector()
        self._lanes = [Lane(id=number, load=load, selector=self._selector) for number in range(load.connections)]
        self._numbers = iter(range(load.first, load.last + 1))
        self._begun = 0
        self._started = time.perf_counter()
        self._ends = self._started + load.seconds

    def run(self) -> list[Sent]:
        """Send until the time is up, and wait for what is still in flight."""
        with self._selector:
            while time.perf_counter() < self._ends or any(lane.is_busy for lane in self._lanes):
                for lane in self._free_lanes():
                    self._begin(lane)
                for key, _ in self._selector.select(_PAUSE):
                    is_over, failure = key.data.go_on()
                    if is_over:
                        self._end(key.data, failure)
                self._give_up_on_silent_lanes()
            for lane in self._lanes:
                lane.close()
        return self._sent

    def _free_lanes(self) -> list[Lane]:
        """Return the lanes that are to send now: with a rate, a new one for each submission that is due."""
        now = time.perf_counter()
        if now >= self._ends:
            return []
        if not self._load.per_second:
            return [lane for lane in self._lanes if not lane.is_busy and lane.free_at <= now]
        due = int((now - self._started) * self._load.per_second) - self._begun
        lanes = [Lane(id=self._begun + number, load=self._load, selector=self._selector) for number in range(due)]
        self._lanes += lanes
        self._begun += due
        return lanes

    def _begin(self, lane: Lane) -> None:
        number = next(self._numbers, None)
        if number is None:
            self._ends = self._started
        elif failure := lane.begin(number):
            self._end(lane, failure)

    def _end(self, lane: Lane, failure: str) -> None:
        now = time.perf_counter()
        began, took = lane.began - self._started, now - lane.began
        self._sent.append(Sent(number=lane.number, lane=lane.id, began=began, took=took, failure=failure))
        lane.is_busy = False
        lane.free_at = now + _PAUSE if failure else now
        if self._load.per_second:
            lane.close()
            self._lanes.remove(lane)

    def _give_up_on_silent_lanes(self) -> None:
        oldest = time.perf_counter() - self._load.patience
        for lane in [lane for lane in self._lanes if lane.is_busy and lane.began < oldest]:
            lane.close()
            self._end(lane, "no answer")


def _serve(lines: Iterator[str]) -> None:
    for line in lines:
        sent = Generator(Load(**json.loads(line))).run()
        print(json.dumps([dataclasses.asdict(each) for each in sent]), flush=True)


if __name__ == "__main__":
    _serve(iter(sys.stdin.readline, ""))
