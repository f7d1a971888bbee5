"""A licence is read from what a package declares, and is refused unless it is on the list and its text is there."""

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.supply.licences import find_refused
from tests.supply.locked import Pin, list_installed

PIN = Pin(name=canonicalize_name("made-up"), version=Version("1.0"), hashes=("0" * 64,))
TEXT = "Permission is hereby granted to everybody. " * 20


def install(place: Path, declared: str, name: str = "licenses/LICENSE.txt", text: str = TEXT) -> None:
    """Install a package that is nothing but its metadata."""
    information = place / "made_up-1.0.dist-info"
    (information / name).parent.mkdir(parents=True)
    (information / name).write_text(text)
    (information / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\n{declared}\n")
    (information / "RECORD").write_text(f"{information.name}/{name},,\n{information.name}/METADATA,,\n")


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        pytest.param("License-Expression: MIT", "", id="an expression"),
        pytest.param("License-Expression: MIT OR Apache-2.0", "", id="two that are allowed"),
        pytest.param("License: BSD-3-Clause", "", id="an identifier in the older field"),
        pytest.param(
            "License: Apache 2.0\nClassifier: License :: OSI Approved :: Apache Software License", "", id="prose"
        ),
        pytest.param("License-Expression: MIT AND AGPL-3.0-only", "AGPL-3.0-only is not on the list", id="one is not"),
        pytest.param("License-Expression: MIT OR (GPL-3.0-only)", "GPL-3.0-only is not on the list", id="a choice"),
        pytest.param("License-Expression: MIT WITH Classpath-exception-2.0", "WITH is not", id="an exception"),
        pytest.param("License: Proprietary, ask us", "declares no licence that can be understood", id="words"),
        pytest.param(
            "Classifier: License :: OSI Approved :: BSD License", "declares no licence", id="several licences"
        ),
        pytest.param("", "declares no licence that can be understood", id="nothing"),
    ],
)
def test_what_a_package_declares_decides(declared: str, problem: str, tmp_path: Path) -> None:
    """What cannot be understood is refused, and so is an alternative that nobody has read."""
    install(tmp_path, declared)

    refused = "\n".join(find_refused([PIN], list_installed(str(tmp_path))))

    assert problem in refused
    assert bool(refused) == bool(problem)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("licenses/README.txt", TEXT, id="no file"),
        pytest.param("licenses/LICENSE", "MIT\n", id="only its name"),
    ],
)
def test_the_text_of_the_licence_must_be_there(name: str, text: str, tmp_path: Path) -> None:
    """An image that holds the package must hold it too."""
    install(tmp_path, "License-Expression: MIT", name, text)

    assert find_refused([PIN], list_installed(str(tmp_path))) == ["made-up 1.0: holds no text of its licence"]


def test_a_package_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    """Nothing is known of it."""
    assert find_refused([PIN], list_installed(str(tmp_path))) == ["made-up 1.0: not installed"]
