"""Which licences a package that runs may have, and what each declares."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from tests.supply.locked import Installed, Pin

ALLOWED: Final = frozenset(
    {
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "LGPL-3.0-only",  # psycopg: imported as it is published, so anyone can put another version in its place
        "MIT",
        "MIT-0",
        "MPL-2.0",  # certifi: its files are not changed
        "PSF-2.0",
    }
)

_CLASSIFIERS: Final[Mapping[str, str]] = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}
"""What packages write that declare no SPDX expression; a classifier that fits several licences says nothing."""

_OPERATORS: Final = frozenset({"AND", "OR"})
_TEXT: Final = re.compile(r"(LICEN[CS]E|COPYING)[^/]*", re.IGNORECASE)
_LEAST_BYTES: Final = 500
"""Shorter than any of these licences: a file that only names one is not its text."""


def find_refused(pins: Iterable[Pin], installed: Installed) -> list[str]:
    """Return each locked package whose licence is unknown, not on the list, or not there as a text.

    An alternative that is not on the list is refused too: somebody should read it once.
    """
    return [
        f"{pin.name} {pin.version}: {problem}" for pin in pins for problem in _find_problems(installed.get(pin.name))
    ]


def _find_problems(distribution: Distribution | None) -> Iterator[str]:
    if distribution is None:
        yield "not installed"
        return
    expression = read_expression(distribution)
    if not expression:
        yield "declares no licence that can be understood"
    for licence in sorted({*re.findall(r"[^\s()]+", expression)} - _OPERATORS - ALLOWED):
        yield f"{licence} is not on the list"
    if not _has_text(distribution):
        yield "holds no text of its licence"


def read_expression(distribution: Distribution) -> str:
    """Return the SPDX expression of a package, or nothing if it declares none that is valid."""
    metadata = distribution.metadata
    for field in ("License-Expression", "License"):
        for declared in metadata.get_all(field) or []:
            try:
                return canonicalize_license_expression(declared)
            except InvalidLicenseExpression:
                continue
    known = {_CLASSIFIERS[each] for each in metadata.get_all("Classifier") or [] if each in _CLASSIFIERS}
    return known.pop() if len(known) == 1 else ""


def _has_text(distribution: Distribution) -> bool:
    """Say whether the installed files include a licence beside the metadata, as an image with the package must."""
    texts = [
        file for file in distribution.files or () if file.parts[0].endswith(".dist-info") and _TEXT.fullmatch(file.name)
    ]
    return any(len(file.read_binary()) >= _LEAST_BYTES for file in texts)
