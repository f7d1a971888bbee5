"""A steady load of commands, for tests that stop and start what answers them."""

import asyncio
import time
from dataclasses import dataclass, field

from bot.sandbox.slack import SmallSlack

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"


@dataclass(slots=True)
class Load:
    """Some people who type one command after the other, and what became of each."""

    slack: SmallSlack
    is_over: bool = False
    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def go_on(self, person: int) -> None:
        """Type the next one as soon as the one before is answered."""
        number = 0
        while not self.is_over:
            text, started = f"{person}-{number}", time.monotonic()
            self.sent.append(text)
            outcome = await self.slack.type_command(ADA, PLATFORM, f"/r2-credential {text}")
            self.slowest = max(self.slowest, time.monotonic() - started)
            if outcome.failure is not None or outcome.message is None or outcome.message.text != text:
                self.failed.append(text)
            number += 1

    async def wait_for_more(self, count: int) -> None:
        """Wait until that many more were sent."""
        goal = len(self.sent) + count
        while len(self.sent) < goal:  # noqa: ASYNC110 - the load must not be slowed down by whoever looks at it
            await asyncio.sleep(0.01)
