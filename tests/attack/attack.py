"""An attack: cases that are run against a bot, and what came through of each."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, get_args

from bot.sandbox.process import Transport
from bot.sealing.hpke import generate_private_key
from tests.leaks import find_leaks
from tests.postgres import running_postgres
from tests.scene import Scene, open_scene

Engine = Literal["sqlite", "postgresql"]


class Breach(StrEnum):
    """What an attack can achieve."""

    GOT_IN = "got in"
    """Someone did or learned what they may not."""
    LEAKED = "leaked"
    """A secret, or what only one person may see, lies where others read it."""
    LIED = "lied"
    """Someone reads something untrue, or a slot holds another token than reported."""
    TOOK_DOWN = "took down"
    """Others were no longer served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One try, and what came through: nothing if the bot held."""

    name: str
    breaches: frozenset[Breach] = frozenset()

    @classmethod
    def of(cls, name: str, **came_through: bool) -> "Case":
        """Judge a try: `Case.of("a name", got_in=..., leaked=..., lied=..., took_down=...)`."""
        return cls(name=name, breaches=frozenset(Breach[word.upper()] for word, did in came_through.items() if did))


@dataclass(slots=True, kw_only=True)
class Arena:
    """Where an attack takes place: makes scenes with a ready bot over one transport, each in a new directory."""

    transport: Transport
    directory: Path
    _scenes: int = 0

    def new_directory(self) -> Path:
        """Make a directory that nothing else uses."""
        self._scenes += 1
        path = self.directory / str(self._scenes)
        path.mkdir()
        return path

    @asynccontextmanager
    async def scene(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[Scene]:
        """Make a scene and start its bot; `settings` override those of the sandbox."""
        async with open_scene(self.transport, self.new_directory(), settings) as scene:
            await scene.start_ready_bot()
            yield scene

    @asynccontextmanager
    async def scene_on(self, engine: Engine, settings: Mapping[str, str] | None = None) -> AsyncIterator[Scene]:
        """Make a scene whose bot stores its data in this engine."""
        if engine == "sqlite":
            async with self.scene(settings) as scene:
                yield scene
            return
        with running_postgres(self.new_directory() / "server") as url:
            keys = {"R2_CREDENTIAL_DATABASE_URL": url, "R2_CREDENTIAL_SEALING_KEY": generate_private_key()}
            async with self.scene(keys | dict(settings or {})) as scene:
                yield scene


Run = Callable[[Arena], AsyncIterator[Case]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A class of attacks. `over`: the transports, where they matter, or else one of them."""

    name: str
    run: Run
    over: tuple[Transport, ...] = field(default=get_args(Transport))


def is_left_behind(scene: Scene, secrets: Iterable[str]) -> bool:
    """Say whether a secret lies, in any encoding, in the log, in a file of the bot, or in what it sent to Slack."""
    files = [path.read_bytes() for path in scene.data_dir.rglob("*") if path.is_file()]
    places = [scene.printed(), scene.slack.traffic_received(), *files]
    return any(find_leaks(place, secret) for place in places for secret in secrets)
