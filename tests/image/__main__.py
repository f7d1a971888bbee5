"""Builds the image and drives a bot in it through a store, stops, a restart and a kill, between the two fakes.

    python -m tests.image [flags of docker build]

Exits with 1 if a submission was lost or reported twice, or if the container is not confined as promised. Where there is
no engine, it says so and exits with 0.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.image.engine import EngineError, docker, find_no_engine
from tests.image.stage import open_stage
from tests.image.steps import STEPS

ROOT: Final = Path(__file__).parents[2]
PATIENCE_SECONDS: Final = 300
"""For all steps after the build."""


async def main(flags: list[str]) -> bool:
    """Run all steps, print what was measured, and return whether everything held."""
    if missing := await find_no_engine():
        print(f"skipped: {missing}")
        return True
    image = f"r2-credential-bot:test-{uuid4().hex[:8]}"
    try:
        began = time.monotonic()
        await docker("build", "--network=host", f"--tag={image}", *flags, str(ROOT))
        print(f"built in {time.monotonic() - began:.1f} s", flush=True)
        return await drive(image)
    except EngineError as error:
        print(error)
        return False
    finally:
        await docker("rmi", "--force", image)


async def drive(image: str) -> bool:
    """Do all steps with a container of the image, and return whether everything held."""
    async with asyncio.timeout(PATIENCE_SECONDS), open_stage(image) as stage:
        for step in STEPS:
            await step(stage)
        return not stage.broken


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(sys.argv[1:])))
