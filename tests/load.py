"""A steady load of commands, for tests that stop and start the processes that answer them."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from bot.sandbox.slack import FakeSlack

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"


@dataclass(slots=True)
class Load:
    """Several people who each type one command after another while the context is open, and the outcome of each."""

    slack: FakeSlack
    people: int = 8
    is_over: bool = False
    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    _typing: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    async def __aenter__(self) -> Self:
        await self._typing.__aenter__()
        for person in range(self.people):
            self.answered[person] = 0
            self._typing.create_task(self._go_on(person))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the last answers; after an error, do not wait."""
        self.is_over = True
        await self._typing.__aexit__(kind, error, traceback)

    async def _go_on(self, person: int) -> None:
        """Type the next command as soon as the previous one is answered."""
        while not self.is_over:
            text = f"{person}-{self.answered[person]}"
            self.sent.append(text)
            outcome = await self.slack.type_command(ADA, PLATFORM, f"/r2-credential {text}")
            if outcome.failure is not None or outcome.message is None or outcome.message.text != text:
                self.failed.append(text)
            self.answered[person] += 1

    async def wait_for_more(self, count: int) -> None:
        """Wait until each person got `count` more answers, so that no command waits for the process being restarted."""
        goals = {person: answers + count for person, answers in self.answered.items()}
        while any(self.answered[person] < goal for person, goal in goals.items()):  # noqa: ASYNC110 - the load must not be slowed down by polling
            await asyncio.sleep(0.01)
