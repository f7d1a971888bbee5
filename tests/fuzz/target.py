"""A target: a check that takes any bytes, and what usual bytes look like."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from bot.sandbox.tokens import Behaviour, make_token

Check = Callable[[bytes], None]

PLANTED: Final = make_token(Behaviour.GOOD, number=771)
"""A token that must not be found in any result."""

STAND_IN: Final = "PLANTED"
"""What an input says where the token is to be: a guided fuzzer would seldom keep the token itself whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`open` prepares the check and cleans up; the check raises for any input after which a property does not hold.

    `seeds` are usual inputs, and inputs that once broke something: each is tried in every run. `inputs` makes others,
    of which the tests try `slice`.
    """

    name: str
    open: Callable[[], AbstractContextManager[Check]]
    seeds: tuple[bytes, ...]
    inputs: st.SearchStrategy[bytes]
    slice: int = 50


def plant(text: str) -> str:
    """Put the token where the text has its stand-in."""
    return text.replace(STAND_IN, PLANTED)


TEXT: Final = st.text(max_size=40) | st.sampled_from(
    [
        STAND_IN,
        f"a {STAND_IN} b",
        "\ud800",
        "\x00",
        "a\u202eb\u200bc",
        "&lt;!channel&gt; <!here>",
        "9" * 5000,
        "x" * 70_000,
        "%00%ff%",
        "[looked like a token: masked]",
    ]
)
JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -1, 1e400, 2**63, 10000, 10**18])
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DEEP: Final = (
    *(opening * depth for depth in (300, 970, 100_000) for opening in (b"[", b'{"a":')),
    b'{"a":' + b"[" * 400 + b"]" * 400 + b"}",
    b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
)
"""JSON that is nested below, at and far above the depth at which Python stops."""


def mutated(documents: Sequence[object]) -> st.SearchStrategy[Any]:
    """Take a real document, and replace, remove or add some of its parts."""

    @st.composite
    def change(draw: st.DrawFn) -> object:
        document: object = copy.deepcopy(draw(st.sampled_from(documents)))
        for _ in range(draw(st.integers(0, 3))):
            document = _change_one(draw, document)
        return document

    return change()


def as_json(values: st.SearchStrategy[object]) -> st.SearchStrategy[bytes]:
    """Write values as JSON, with escapes or without: a lone surrogate needs its escape."""
    return st.builds(_encode, values, st.booleans())


def changed_bytes(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Take real bytes, and replace a piece of them by others."""

    @st.composite
    def change(draw: st.DrawFn) -> bytes:
        seed = draw(st.sampled_from(seeds))
        start = draw(st.integers(0, len(seed)))
        end = min(len(seed), start + draw(st.integers(0, 40)))
        return seed[:start] + draw(st.binary(max_size=20)) + seed[end:]

    return change()


def _encode(value: object, is_escaped: bool) -> bytes:  # noqa: FBT001 - hypothesis calls it
    return json.dumps(value, ensure_ascii=is_escaped).encode("utf-8", "surrogatepass")


def _change_one(draw: st.DrawFn, document: object) -> object:
    """Go down to some part, and change it."""
    holders = [part for part in _parts(document) if part]
    if not holders or draw(st.integers(0, 30)) == 0:
        return draw(JSON)
    holder = draw(st.sampled_from(range(len(holders))).map(holders.__getitem__))
    if isinstance(holder, dict):
        name = draw(st.sampled_from(sorted(holder)) | TEXT)
    else:
        name = draw(st.integers(0, len(holder) - 1))
    if draw(st.booleans()) and isinstance(holder, dict):
        holder.pop(name, None)
    else:
        holder[name] = draw(JSON)
    return document


def _parts(document: object) -> list[Any]:
    """Return all objects and lists of a document, itself included."""
    if isinstance(document, Mapping):
        return [document, *(part for value in document.values() for part in _parts(value))]
    if isinstance(document, list):
        return [document, *(part for value in document for part in _parts(value))]
    return []
