"""Writes entries of the audit as text, with all that a signature covers: who has the key can verify an export.

Their times are written as they are signed: in UTC, to the microsecond.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from bot.storage.audit import as_text
from bot.storage.audit_reading import COLUMNS, EntryRow

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")  # noqa: RUF001 - spreadsheets take the wide ones too
"""How a cell begins that a spreadsheet may run (OWASP, CSV Injection), and the sign that keeps it from that."""

_JSON: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def as_json(entry: EntryRow) -> str:
    """Return an entry as JSON, on one line; what was forgotten, or is not spoken of, is null."""
    return _JSON.encode(_texts(entry))


def to_jsonl(entries: Iterable[EntryRow]) -> str:
    """Return a line of JSON for each."""
    return "".join(f"{as_json(entry)}\n" for entry in entries)


def to_csv(entries: Iterable[EntryRow]) -> str:
    """Return a record (RFC 4180) for each. A cell that a spreadsheet could run begins with an apostrophe."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
        [_cell(value) for value in _texts(entry).values()] for entry in entries
    )
    return text.getvalue()


def csv_header() -> str:
    """Return the first line of a CSV file."""
    return ",".join(COLUMNS) + "\r\n"


FORMATS: Final[dict[str, tuple[str, Callable[[Iterable[EntryRow]], str]]]] = {
    "jsonl": ("", to_jsonl),
    "csv": (csv_header(), to_csv),
}
"""What an export begins with, and what writes its entries."""


def _texts(entry: EntryRow) -> dict[str, Any]:
    return {name: as_text(entry[name]) for name in COLUMNS}


def _cell(value: str | int | None) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
