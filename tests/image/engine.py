"""Talks to the Docker engine that `docker` reaches, wherever that is: no path of this machine is shared with it."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from typing import Any, Final

_PATIENCE_SECONDS: Final = 900
"""For one command: a first build fetches everything."""


class EngineError(Exception):
    """A command failed; the text is what it said."""


async def docker(*arguments: str, given: bytes | None = None) -> str:
    """Run a command and return what it printed; raises EngineError if it fails or hangs."""
    return (await _run(arguments, given))[0].decode().strip()


async def _run(arguments: Sequence[str], given: bytes | None = None) -> tuple[bytes, bytes]:
    """Return what a command printed to stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            printed, said = await process.communicate(given)
    except TimeoutError:
        process.kill()
        await process.wait()
        message = f"docker {arguments[0]}: no end after {_PATIENCE_SECONDS} s"
        raise EngineError(message) from None
    if process.returncode != 0:
        message = f"docker {' '.join(arguments)}: {(said or printed).decode(errors='replace').strip()}"
        raise EngineError(message)
    return printed, said


async def find_no_engine() -> str:
    """Return why no engine can be used here, or nothing."""
    if shutil.which("docker") is None:
        return "there is no docker here"
    try:
        await docker("version")
    except EngineError as error:
        return str(error).splitlines()[-1]
    return ""


class Container:
    """The image as a container with a data volume and its secrets as files, on the network of this machine."""

    def __init__(self, image: str, name: str) -> None:
        """Take a name that nothing else has; the volumes are named after it."""
        self.name = name
        self._image = image
        self._data = f"{name}-data"
        self._secrets = f"{name}-secrets"

    async def create(self, settings: dict[str, str], secrets: dict[str, str]) -> None:
        """Create it, as confined as the files for deployment have it; it is not started."""
        for name, secret in secrets.items():
            await self._put_secret(name, secret)
        files = {f"{name}_FILE": f"/run/secrets/bot/{name}" for name in secrets}
        variables = [f"--env={name}={value}" for name, value in (settings | files).items()]
        volumes = [f"--volume={self._data}:/data", f"--volume={self._secrets}:/run/secrets/bot:ro"]
        confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        await docker("create", f"--name={self.name}", "--network=host", *confined, *volumes, *variables, self._image)

    async def start(self) -> None:
        """Start it, the first time or again."""
        await docker("start", self.name)

    async def restart(self) -> None:
        """Stop it as `stop` does, and start it."""
        await docker("restart", self.name)

    async def stop(self) -> int:
        """Stop it with Docker's usual limit of 10 s, and return its exit code: 137 if the limit was reached."""
        await docker("stop", self.name)
        return int((await self.inspect())["State"]["ExitCode"])

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await docker("kill", self.name)

    async def inspect(self) -> dict[str, Any]:
        """Return what Docker knows of it."""
        [known] = json.loads(await docker("inspect", self.name))
        return dict(known)

    async def run_inside(self, *command: str, user: str = "10001") -> str:
        """Run a command in it, and return what it printed; raises EngineError if it fails."""
        return await docker("exec", f"--user={user}", self.name, *command)

    async def logs(self) -> bytes:
        """Return all that it has printed."""
        return b"".join(await _run(["logs", self.name]))

    async def remove(self) -> None:
        """Remove it and its volumes, whatever state it is in."""
        await docker("rm", "--force", "--volumes", self.name)
        await docker("volume", "rm", "--force", self._data, self._secrets)

    async def _put_secret(self, name: str, secret: str) -> None:
        """Write a file into the volume of secrets through a container, since the engine may be on another machine."""
        script = f"umask 277 && cat > /secrets/{name} && chown 10001 /secrets/{name}"
        volume = f"--volume={self._secrets}:/secrets"
        shell = ["--entrypoint=/bin/sh", self._image, "-c", script]
        await docker(
            "run", "--rm", "--interactive", "--network=none", "--user=0", volume, *shell, given=secret.encode()
        )
