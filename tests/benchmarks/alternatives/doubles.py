"""The fake Slack and the fake Cloudflare in a process of their own. Answers each JSON line with a line.

`{"begin": true}` starts new ones and says on which ports, `{"delay": seconds}` delays each answer of Cloudflare from
now on, `{"report": true}` says what they saw. Each bucket exists, with a credential; every form is still open.
"""

import asyncio
import json
import re
import sys
from typing import Any

from bot.sandbox.buckets import SmallBucket
from bot.sandbox.cloudflare import NO_LIMIT_TO_SPEAK_OF, FakeCloudflare
from bot.sandbox.modals import Modals, OpenView
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token

_BUCKET = re.compile(r"lake-(\d+)")


class EachBucket(dict[str, SmallBucket]):
    """Makes a bucket when it is asked for; an account with thousands of catalogs is not what is measured."""

    def get(self, name: str, default: object = None) -> SmallBucket:
        """Return the bucket, which exists."""
        return self[name]

    def __missing__(self, name: str) -> SmallBucket:
        self[name] = SmallBucket(name=name, catalog="active", token=make_token(Behaviour.GOOD))
        return self[name]


class OpenForms(Modals):
    """Finds each view: the bot would do less for a form that was closed."""

    def find(self, view_id: str) -> OpenView | None:
        """Return a view with this id."""
        return OpenView(id=view_id, user=self.config.users[0], root_view_id=view_id)


class Doubles:
    """Both fakes, replaced by new ones for each measurement."""

    def __init__(self) -> None:
        self._slack, self._cloudflare = FakeSlack(), FakeCloudflare()

    async def serve(self) -> None:
        """Answer each line."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await self._answer(json.loads(line))), flush=True)
        await self._stop()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "begin" in request:
            await self._stop()
            await self._start()
        if "delay" in request:
            self._cloudflare.forget_failures()
            self._cloudflare.fail_next("any", times=10**9, delay=request["delay"])
        if "report" in request:
            return self._report()
        return {"slack_port": self._slack.port, "cloudflare_port": self._cloudflare._port}

    async def _start(self) -> None:
        self._slack, self._cloudflare = FakeSlack(), FakeCloudflare(limit=NO_LIMIT_TO_SPEAK_OF)
        self._cloudflare.buckets = EachBucket()
        slack = self._slack
        slack._web_api.modals = OpenForms(slack.config, slack.workspace.changes, slack._default_conversation)
        await self._slack.start()
        await self._cloudflare.start()

    async def _stop(self) -> None:
        await self._slack.stop()
        await self._cloudflare.stop()

    def _report(self) -> dict[str, Any]:
        told = [_BUCKET.search(message.text) for message in self._slack.workspace.messages]
        return {
            "told": [int(found[1]) for found in told if found],
            "stored": len(self._cloudflare.writes),
            "received": len(self._cloudflare.requests) + len(self._slack.calls),
        }


if __name__ == "__main__":
    asyncio.run(Doubles().serve())
