"""docs/metrics.md matches the code, both ways."""

import re
from collections import Counter

from bot.metrics import COUNTED, OF_THE_LOG
from bot.operations.gauges import READ
from tests.metrics_page import COMMAND, DOCUMENT, build_document, families

ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_the_page_matches_the_code() -> None:
    """A change of a metric, a label or its values must regenerate the page."""
    written = DOCUMENT.read_text(encoding="utf-8")

    assert written == build_document(), f"docs/metrics.md is out of date: run {COMMAND}"


def test_every_metric_has_one_row_and_every_row_a_metric() -> None:
    """In one table; the metrics of the library are in it as well."""
    named = Counter(re.findall(r"^\| `(\w+)`", "\n".join(ROWS), re.MULTILINE))
    declared = [family.name for family in families()]

    assert named == Counter(declared)
    assert set(named.values()) == {1}
    assert {family.name for family in (*COUNTED, *OF_THE_LOG, *READ)} < named.keys()
    assert "process_resident_memory_bytes" in named


def test_every_label_is_described() -> None:
    """Name and values: an operator writes a query from the table alone."""
    for family, row in zip(families(), ROWS, strict=True):
        for label in family.labels:
            assert f"`{label.name}`: " in row
            assert all(f"`{value}`" in row for value in label.values)
