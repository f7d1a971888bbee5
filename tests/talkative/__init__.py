"""Makes a started bot's loggers say all they can, and notes its errors as an error tracker does."""

from collections.abc import Iterator, Mapping
from pathlib import Path

DIRECTORY = Path(__file__).parent


def talkative(environment: Mapping[str, str], notes: Path) -> dict[str, str]:
    """Return the environment of a bot that is talkative: it notes into this directory, which is made."""
    notes.mkdir()
    path = f"{DIRECTORY}:{environment['PYTHONPATH']}"
    return {**environment, "PYTHONPATH": path, "PYTHONASYNCIODEBUG": "1", "TALKATIVE_NOTES": str(notes)}


def loggers_below_warning(notes: Path) -> Iterator[str]:
    """Yield the names of the loggers that said something at the levels DEBUG and INFO."""
    for line in (notes / "loggers").read_text().splitlines():
        level, _, name = line.partition(" ")
        if level in ("DEBUG", "INFO"):
            yield name


def children(notes: Path) -> bytes:
    """Return how the bot started other programs or processes, a line for each, with what these inherited."""
    path = notes / "children"
    return path.read_bytes() if path.exists() else b""


def tracked(notes: Path) -> bytes:
    """Return what the error tracker saw."""
    path = notes / "tracker"
    return path.read_bytes() if path.exists() else b""
