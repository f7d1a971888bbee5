"""Looks for a text in all that the garbage collector of this process knows, as whoever got a memory dump would do."""

import gc
from collections.abc import Callable, Iterator
from types import CoroutineType


def find_holders(make: Callable[[], str], *, collect: bool = True) -> list[str]:
    """Name what holds the text that `make` returns. It is made here, since whoever looks must not be found.

    Without `collect` also what only holds itself is looked at.
    """
    gc.unfreeze()  # what was there before the tests may have come to hold it
    if collect:
        gc.collect()
    text = make()
    try:
        return sorted(set(_holders(text, text.encode())))
    finally:
        gc.freeze()


def _holders(text: str, raw: bytes) -> Iterator[str]:
    """Look into what each object refers to: texts and bytes are known to the collector by their holders only."""
    for holder in gc.get_objects():
        for held in _contents(holder):
            if (isinstance(held, str) and text in held) or (isinstance(held, bytes | bytearray) and raw in held):
                yield holder.__qualname__ if isinstance(holder, CoroutineType) else type(holder).__name__


def _contents(holder: object) -> Iterator[object]:
    """Return what it refers to, also by way of dicts and tuples that the collector does not track: those of texts."""
    for held in gc.get_referents(holder):
        yield held
        if isinstance(held, dict | tuple) and not gc.is_tracked(held):
            yield from _contents(held)
