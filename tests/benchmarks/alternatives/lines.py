"""A module of ours as a process of its own that answers each line of JSON on its standard input with a line."""

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_LONGEST_LINE: Final = 2**26
_ROOT: Final = Path(__file__).parents[3]


class LineProcess:
    """Use it with `async with`; it is killed at the end."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def ask(self, request: dict[str, Any], patience: float = 30) -> Any:  # noqa: ANN401 - whatever the module answers
        """Return the answer; raises TimeoutError, or RuntimeError when the process has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(patience):
            answer = await self._process.stdout.readline()
        if not answer:
            message = f"{self._module} has ended"
            raise RuntimeError(message)
        return json.loads(answer)
