"""What stands around the processes in `tests.chaos.rotations`, and what was done to them and by them."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess
from bot.sandbox.slack import FakeSlack
from tests.chaos.hasty import HastyTime
from tests.postgres import execute


@dataclass(slots=True, kw_only=True)
class World:
    """The fakes, the processes, and the counts. `rotations` and `pastes` are the acknowledged ones, with buckets."""

    slack: FakeSlack
    cloudflare: FakeCloudflare
    directory: Path
    time: HastyTime
    dice: random.Random
    buckets: Sequence[str]
    foreign: tuple[str, ...] = ("terraform", "r2-credential-bot ffffffff chaos-00 0123456789")
    """The names of tokens of other people, and of another installation."""

    postgres_url: str = ""
    fleet: list[BotProcess] = field(default_factory=list)
    rotations: dict[str, str] = field(default_factory=dict)
    pastes: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    struck_at: list[float] = field(default_factory=list)

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask the bot's database."""
        return await asyncio.to_thread(self._rows, query)

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        if self.postgres_url:
            return execute(self.postgres_url, query)
        uri = f"file:{self.directory / 'data' / 'bot.sqlite'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            return database.execute(query).fetchall()

    def print_figures(self, seconds: float) -> None:
        """Print what was done."""
        counted = {
            "rotations acknowledged": len(self.rotations),
            "tokens pasted in between": len(self.pastes),
            **dict(sorted(self.done.items())),
            "tokens made at Cloudflare": len(self.cloudflare.tokens.tokens),
            "requests to Cloudflare": len(self.cloudflare.requests),
            "seconds": round(seconds),
            "seconds by the bot's clock": round(self.time.timer()),
        }
        for name, count in counted.items():
            print(f"  {name:44}{count}")
