"""Searches for a text in all objects of this process, as anyone with a memory dump would."""

import gc
from collections.abc import Callable, Iterator
from types import CoroutineType


def find_holders(make: Callable[[], str], *, collect: bool = True) -> list[str]:
    """Return the names of the objects that hold the text of `make`, which is created here so that no caller holds it.

    Without `collect`, unreachable objects in reference cycles are searched too.
    """
    gc.unfreeze()  # older objects may hold it by now
    if collect:
        gc.collect()
    text = make()
    try:
        return sorted(set(_holders(text, text.encode())))
    finally:
        gc.freeze()


def _holders(text: str, raw: bytes) -> Iterator[str]:
    """Search the referents of each object: the collector does not track texts and bytes themselves."""
    for holder in gc.get_objects():
        for held in _contents(holder):
            if (isinstance(held, str) and text in held) or (isinstance(held, bytes | bytearray) and raw in held):
                yield holder.__qualname__ if isinstance(holder, CoroutineType) else type(holder).__name__


def _contents(holder: object) -> Iterator[object]:
    """Yield its referents, also those inside dicts and tuples of texts, which the collector does not track."""
    for held in gc.get_referents(holder):
        yield held
        if isinstance(held, dict | tuple) and not gc.is_tracked(held):
            yield from _contents(held)
