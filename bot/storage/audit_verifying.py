"""Verifies the audit's chain entry by entry, in the order of their numbers, and keeps little of what it has seen."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bot.model.audit import PERSONAL, Event
from bot.sealing.authenticity import Authenticity, key_id_of
from bot.storage.audit import AUDIT_KIND, BEFORE_THE_FIRST, Head, signed_part
from bot.storage.audit_reading import EntryRow

_MOST_UNKNOWN_KEYS: Final = 8
"""An operator loses a key once or twice; who can write to the database could name another one in each entry."""

_NEAR: Final = 1000
_Range = tuple[int, int]


class Broken(Exception):  # noqa: N818 - a finding, not a fault of the program
    """The chain is not as it was written; the message names the first entry by number, and what is wrong with it."""

    def __init__(self, number: int, what: str, last: int | None = None) -> None:
        entries = f"entry {number}" if last in (None, number) else f"entries {number} to {last}"
        super().__init__(f"{entries}: {what}")
        self.number = number


@dataclass(slots=True)
class Unverified:
    """The entries that are signed with a key that is not at hand."""

    first: int
    last: int
    count: int = 1

    def __str__(self) -> str:
        """Return which they are."""
        if self.count == 1:
            return f"entry {self.first} is"
        if self.count == self.last - self.first + 1:
            return f"entries {self.first} to {self.last} are"
        return f"{self.count} entries between {self.first} and {self.last} are"


@dataclass(slots=True)
class _Remark:
    count: int = 0
    first: int = 0


@dataclass(slots=True)
class Verification:
    """What has been verified so far, from the first entry of a chain on."""

    authenticity: Authenticity
    head: Head = BEFORE_THE_FIRST
    expected: Head | None = None
    """An entry that the chain must contain, with its signature, or the digits of it that a log line has."""

    unverified: dict[str, Unverified] = field(default_factory=dict)
    _back: _Remark = field(default_factory=_Remark)
    _latest: datetime | None = None
    _forgotten: list[_Range] = field(default_factory=list)

    def examine(self, entry: EntryRow) -> None:
        """Verify the next entry; raises Broken."""
        number = entry["number"]
        self._require_number(number)
        self._require_signature(entry)
        if entry["previous"] != self.head.signature:
            raise Broken(number, f"does not follow {_place(self.head.number)}: one of the two was replaced")
        self._require_people(entry)
        self._note_time(entry)
        self.head = Head(number=number, signature=entry["signature"])
        if self.expected is not None and not _fits(self.expected, self.head):
            raise Broken(number, "is not the one that --head names: the chain was written anew from here, or before")

    def finish(self) -> None:
        """Require what only the end of the chain shows; raises Broken."""
        if self.head.number == 0:
            raise Broken(1, "missing, and so is every other one")
        if self._forgotten:
            what = "what it said of a person was removed, and no later entry of the chain says so"
            raise Broken(self._forgotten[0][0], what)
        if self.expected is not None and self.expected.number > self.head.number:
            what = "missing: the end of the chain was cut off, or the database is an older one"
            raise Broken(self.head.number + 1, what, last=self.expected.number)

    def remarks(self) -> Iterator[str]:
        """Yield what is no fault, but worth knowing."""
        if self._back.count:
            yield f"times that go back: {self._back.count}, first at entry {self._back.first} (a clock was set)"

    def _require_number(self, number: object) -> None:
        expected = self.head.number + 1
        if not isinstance(number, int) or number < expected:
            raise Broken(number if isinstance(number, int) else expected, "has a number that is not given to any")
        if number > expected:
            raise Broken(expected, "missing", last=number - 1)

    def _require_signature(self, entry: EntryRow) -> None:
        number, signature = entry["number"], entry["signature"]
        key_id = key_id_of(signature)
        if key_id is None:
            raise Broken(number, "its signature was changed: it is none")
        if key_id not in self.authenticity.key_ids:
            self._note_unverified(key_id, number)
        elif not self.authenticity.verifies(AUDIT_KIND, signed_part(entry), signature):
            raise Broken(number, self._explain(entry))

    def _note_unverified(self, key_id: str, number: int) -> None:
        known = self.unverified.get(key_id)
        if known is not None:
            known.last, known.count = number, known.count + 1
        elif len(self.unverified) < _MOST_UNKNOWN_KEYS:
            self.unverified[key_id] = Unverified(number, number)
        else:
            raise Broken(number, f"is signed with the key {key_id}, the ninth that is not set")

    def _explain(self, entry: EntryRow) -> str:
        """Say whether it is another entry, moved or copied to here, as far as its number tells."""
        number, fields = entry["number"], dict(signed_part(entry))
        for other in range(max(1, number - _NEAR), number + _NEAR):
            if self.authenticity.verifies(AUDIT_KIND, fields | {"number": other}, entry["signature"]):
                return f"was put here from the place of entry {other}"
        return "was changed: its signature does not fit"

    def _require_people(self, entry: EntryRow) -> None:
        number, digest = entry["number"], entry["people_digest"]
        people = {name: entry[name] for name in PERSONAL}
        nobody = all(value is None for value in (*people.values(), entry["salt"]))
        is_known = key_id_of(entry["signature"]) in self.authenticity.key_ids
        if digest == "" and not nobody:
            raise Broken(number, "what it says of a person was added")
        if digest and nobody:
            self._forgotten = _with(self._forgotten, number)
        elif digest and is_known and not self._is_committed(people, entry["salt"], digest):
            raise Broken(number, "what it says of a person was changed")
        if entry["event"] == Event.PEOPLE_FORGOTTEN:
            covered = [(first, min(last, number - 1)) for first, last in _ranges_of(entry["details"])]
            self._forgotten = list(_subtract(self._forgotten, covered))

    def _is_committed(self, people: dict[str, Any], salt: object, digest: str) -> bool:
        is_text = isinstance(salt, str) and all(isinstance(value, str) for value in people.values())
        return is_text and self.authenticity.is_committed(str(salt), people, digest)

    def _note_time(self, entry: EntryRow) -> None:
        at = _time_of(entry["at"])
        if at is None:  # signed as such: a damaged one
            return
        if self._latest is not None and at < self._latest:
            self._back.count += 1
            self._back.first = self._back.first or entry["number"]
        self._latest = at if self._latest is None else max(at, self._latest)


def _fits(expected: Head, head: Head) -> bool:
    """Return whether an entry may be the expected one, of which only the beginning of the signature may be known."""
    of_both = (head.signature, str(head).partition(":")[2])
    return head.number != expected.number or expected.signature in of_both


def _place(number: int) -> str:
    return f"entry {number}" if number else "the beginning"


def _time_of(at: object) -> datetime | None:
    """Return a time as it is read, or as it is exported."""
    if isinstance(at, datetime):
        return at
    try:
        return datetime.fromisoformat(at) if isinstance(at, str) else None
    except ValueError:
        return None


def _with(ranges: list[_Range], number: int) -> list[_Range]:
    """Add the next number; most follow on each other, so the list stays short."""
    if ranges and ranges[-1][1] == number - 1:
        ranges[-1] = (ranges[-1][0], number)
    else:
        ranges.append((number, number))
    return ranges


def _ranges_of(details: str) -> list[_Range]:
    """Return the entries that `people_forgotten` names, in order."""
    try:
        read: Any = json.loads(details)
        if isinstance(read, dict) and "up_to" in read:
            return [(1, int(read["up_to"]))]
        return sorted((int(first), int(last)) for first, last in read["entries"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _subtract(ranges: Iterable[_Range], covered: list[_Range]) -> Iterator[_Range]:
    """Yield what of the ranges is not covered; both are in order."""
    at = 0
    for first, last in ranges:
        while at < len(covered) and covered[at][1] < first:
            at += 1
        rest, each = first, at
        while each < len(covered) and covered[each][0] <= last and rest <= last:
            if covered[each][0] > rest:
                yield rest, covered[each][0] - 1
            rest = max(rest, covered[each][1] + 1)
            each += 1
        if rest <= last:
            yield rest, last
