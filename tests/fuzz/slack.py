"""Slack's answers, or those of a proxy in its place: each call returns its type or raises one of our two errors."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.secret import Secret
from bot.slack.api import SlackWeb
from bot.slack.response_url import SlackPost
from bot.slack.session import SlackClient, open_session
from tests.captured_log import captured_log
from tests.fuzz.answers import Answer, inputs_of, seeds_of
from tests.fuzz.target import PLANTED, Check, Target
from tests.leaks import find_leaks
from tests.slack.test_api import CALLS

_READ: Final = ("auth.test", "apps.connections.open", "views.open", "conversations.info", "usergroups.users.list")
"""The calls whose answers are read; of the others, only whether Slack refused is."""

_PATIENCE: Final = timedelta(seconds=10)


@dataclass(slots=True)
class _Server:
    """Gives the same answer to every request, then closes: so no answer can hold a call until its time is over."""

    answer: Answer = field(default_factory=lambda: Answer.read(b"200\n\n"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        phrase = b"%d %s" % (self.answer.status, b"As it is")
        lines = [b"HTTP/1.1 " + phrase, *(b"%s: %s" % header for header in self.answer.headers), b"", self.answer.body]
        writer.write(b"\r\n".join(lines))
        writer.close()


@contextmanager
def _answers() -> Iterator[Check]:
    server = _Server()
    with asyncio.Runner() as runner, captured_log() as log:
        listening = runner.run(asyncio.start_server(server.serve, "127.0.0.1", 0))
        host, port = listening.sockets[0].getsockname()

        def check(data: bytes) -> None:
            server.answer = Answer.read(data)
            log.seek(0)
            log.truncate()
            runner.run(_call_all(f"http://{host}:{port}"))
            assert find_leaks(log.getvalue().encode(), PLANTED) == []
            assert "Traceback" not in log.getvalue()

        yield check
        listening.close()


async def _call_all(address: str) -> None:
    async with asyncio.timeout(_PATIENCE.total_seconds()), open_session(_PATIENCE) as http:
        for name in _READ:
            client = SlackClient(token="xoxb-MADEUP-1", base_url=f"{address}/api/", session=http, retry_handlers=[])
            try:
                await CALLS[name](SlackWeb(client))
            except (SlackRefused, SlackTrouble) as error:
                assert error.__cause__ is error.__context__ is None, name
                assert find_leaks(repr((error, vars(error))).encode("utf-8", "replace"), PLANTED) == [], name
        await SlackPost(http, f"{address}/api/").post(Secret(f"{address}/response/x"), {"text": "A text."})


_DOCUMENTS: Final = (
    {
        "ok": True,
        "team_id": "T0SANDBOX",
        "user_id": "U0R2BOT01",
        "bot_id": "B0BOT",
        "url": "wss://127.0.0.1/link/?ticket=x",
        "view": {"id": "V0MADEUP", "app_id": "A0MADEUP"},
        "channel": {"is_archived": False, "is_ext_shared": True, "is_member": True},
        "users": ["U0ADA0001", "x"],
    },
    {"ok": True, "channel": "C0DATAPLT", "view": [], "users": {}},
    {"ok": False, "error": "missing_scope", "needed": "mpim:read,", "provided": "commands"},
    {"ok": False, "error": "ratelimited"},
)

TARGETS: Final = (
    Target(name="Slack's answers", open=_answers, slice=12, seeds=seeds_of(_DOCUMENTS), inputs=inputs_of(_DOCUMENTS)),
)
