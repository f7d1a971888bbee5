"""A company at work: people who open forms, submit, ask, or leave a form as it is. Each is one task at a time."""

import asyncio
import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from bot.sandbox.cloudflare import SANDBOX_API_TOKEN, FakeCloudflare
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import User

CHANNEL: Final = "C0DATAPLT"
PEOPLE: Final = tuple(User(id=f"U0SOAK{n:04d}", name=f"p{n}", real_name=f"P {n}") for n in range(400))
BUCKETS: Final = tuple(f"soak-{number:03d}" for number in range(200))

TOKENS: Final = {
    Behaviour.GOOD: 84,
    Behaviour.NEVER_EXPIRES: 3,
    Behaviour.SLOW: 2,
    Behaviour.ANSWER_LOST: 1,
    Behaviour.UNKNOWN: 4,
    Behaviour.EXPIRED: 2,
    Behaviour.LACKS_CATALOG: 2,
    Behaviour.WEAK: 2,
}
"""Of a hundred tokens: most are stored, some are refused at a check, some by the write itself."""

CHECKS, LEFT, STATUS, HISTORY = 0.1, 0.1, 0.05, 0.02
"""Of the submissions, how many only check; beside each, how often a form is left, or another command is typed."""

_REFERENCE: Final = re.compile(r"Reference (V\w+)")


@dataclass(slots=True)
class People:
    """Acts for everyone, and reads what the bot tells them. The fakes remember nothing that was read."""

    slack: FakeSlack
    cloudflare: FakeCloudflare
    dice: random.Random
    acknowledged: int = 0
    not_acknowledged: int = 0
    missed: int = 0
    doubled: int = 0
    waiting: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    _free: deque[User] = field(default_factory=lambda: deque(PEOPLE))
    _acting: set[asyncio.Task[None]] = field(default_factory=set)

    async def work(self, per_second: float, seconds: float) -> None:
        """Press Submit so many times a second, whatever the bot does; return once everyone has finished."""
        began_at = time.monotonic()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(began_at + number / per_second - time.monotonic())
            self._start_acts(number)
        await asyncio.gather(*self._acting)

    def read(self) -> None:
        """Read the messages, and let the fakes forget what they were asked."""
        messages, self.slack.workspace.messages = self.slack.workspace.messages, []
        for message in messages:
            if message.bot_id is not None and message.ephemeral_to is None:
                self._take_result(str(message.blocks))
        self.problems.update(self.slack.problems)
        for memory in (self.slack.problems, self.slack.calls, self.slack.sent, self.slack._traffic):
            memory.clear()
        _keep_newest(self.slack.triggers._issued)
        _keep_newest(self.slack.response_urls._issued)
        fake = self.cloudflare
        for asked in (fake.requests, fake.writes, fake.accepted_at, fake.throttled_at, fake._verifications):
            asked.clear()
        _keep_newest(fake._tries)
        for caller in [caller for caller in fake._counter._counted if SANDBOX_API_TOKEN not in caller]:
            del fake._counter._counted[caller]

    def _take_result(self, shown: str) -> None:
        for reference in set(_REFERENCE.findall(shown)):
            self.doubled += reference in self.answered
            self.answered.add(reference)
            self.waiting.discard(reference)

    def _start_acts(self, number: int) -> None:
        acts = [self._submit(number)]
        others = ((LEFT, self._open_and_leave), (STATUS, self._ask_status), (HISTORY, self._ask_history))
        acts += [act() for share, act in others if self.dice.random() < share]
        for act in acts:
            task = asyncio.create_task(act)
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    async def _submit(self, number: int) -> None:
        if not self._free:
            self.missed += 1
            return
        user = self._free.popleft()
        behaviour = self.dice.choices(list(TOKENS), list(TOKENS.values()))[0]
        is_check = self.dice.random() < CHECKS
        view_id = await self._open(user)
        if view_id is not None:
            await self.slack.fill(user.id, "token", make_token(behaviour, number))
            if is_check:
                await self.slack.fill(user.id, "check", ["check"])
            await self._press(user, view_id)
        self._free.append(user)  # the longest idle comes next, who has read the result by then

    async def _press(self, user: User, view_id: str) -> None:
        began_at = time.perf_counter()
        answer = await self.slack.submit(user.id)
        self.latencies.append(time.perf_counter() - began_at)
        if answer.kind == "updated" and "Nothing was sent" not in str(answer.view):
            self.acknowledged += 1
            if view_id not in self.answered:
                self.waiting.add(view_id)
        else:
            self.not_acknowledged += 1
            self.problems[f"{answer.kind}: {answer.failure or answer.errors}"] += 1

    async def _open(self, user: User) -> str | None:
        """Type the command; return the id of the form, which takes the place of what the person had open."""
        before = self.slack.modal(user.id)
        await self.slack.type_command(user.id, CHANNEL, f"/r2-credential {self.dice.choice(BUCKETS)}")
        opened = self.slack.modal(user.id)
        if opened is None or (before is not None and opened.id == before.id):
            self.not_acknowledged += 1
            self.problems["no form opened"] += 1
            return None
        return opened.id

    async def _open_and_leave(self) -> None:
        if self._free:
            user = self._free.popleft()
            await self._open(user)
            self._free.append(user)

    async def _ask_status(self) -> None:
        await self._ask(f"status {self.dice.choice(BUCKETS)}" if self.dice.random() < 0.8 else "status")

    async def _ask_history(self) -> None:
        await self._ask(f"history {self.dice.choice(BUCKETS)}" if self.dice.random() < 0.8 else "history")

    async def _ask(self, words: str) -> None:
        outcome = await self.slack.type_command(self.dice.choice(PEOPLE).id, CHANNEL, f"/r2-credential {words}")
        if outcome.failure is not None:
            self.problems[f"{words.split(maxsplit=1)[0]}: {outcome.failure}"] += 1


def _keep_newest(issued: dict[Any, Any], count: int = 5_000) -> None:
    for key in list(issued)[:-count]:
        del issued[key]
