"""The bill of materials lists what is locked, with hashes, licences and who needs what; its schema accepts it."""

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.project_checks import NotChecked
from tests.supply.bom import ROOT, find_faults, make_bom, make_project_bom, write_bom
from tests.supply.locked import RUNTIME, Pin, list_installed, read_lock

BILL: dict[str, Any] = json.loads(make_project_bom(ROOT))
COMPONENTS = {each["name"]: each for each in BILL["components"]}


def needs(name: str) -> set[str]:
    """Return the names of what a component depends on."""
    [found] = [each for each in BILL["dependencies"] if each["ref"].removeprefix("pkg:pypi/").startswith(name)]
    return {each.removeprefix("pkg:pypi/").partition("@")[0] for each in found.get("dependsOn", [])}


def test_it_lists_what_is_locked_with_every_hash() -> None:
    """Each file that may have been installed is named by its hash."""
    listed = {
        name: (each["version"], {of_file["content"] for of_file in each["externalReferences"][0]["hashes"]})
        for name, each in COMPONENTS.items()
    }

    pins = read_lock((ROOT / RUNTIME).read_text())
    assert listed == {pin.name: (str(pin.version), {*pin.hashes}) for pin in pins}
    assert all(each["licenses"] for each in COMPONENTS.values())
    assert {name for name, each in COMPONENTS.items() if each["scope"] == "excluded"} == {"flit-core"}


def test_it_says_who_needs_what() -> None:
    """An extra of a package that another asks for counts: psycopg with its binary."""
    assert {"aiohttp", "cryptography", "psycopg", "sqlalchemy", "flit-core"} < needs("r2-credential-bot")
    assert needs("cryptography@") == {"cffi"}
    assert {"psycopg-binary", "typing-extensions"} <= needs("psycopg@")
    assert needs("idna@") == set()


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    """A bill that changed shows that something else was locked."""
    first = write_bom(tmp_path / "first").read_bytes()

    assert write_bom(tmp_path / "second").read_bytes() == first


def test_a_bill_that_breaks_the_schema_is_refused() -> None:
    """The check that `make supply-chain` makes of its own bill can fail."""
    assert find_faults(json.dumps(BILL)) == []
    assert len(find_faults(json.dumps(BILL | {"bomFormat": "another", "components": [{"name": "nameless"}]}))) == 2


def test_no_bill_is_made_where_other_versions_are_installed() -> None:
    """It would name the licences of those."""
    pin = Pin(name=canonicalize_name("certifi"), version=Version("1.0"), hashes=("0" * 64,))

    with pytest.raises(NotChecked, match=r"certifi 1.0 is locked, and 20\S+ is installed"):
        make_bom([Requirement("certifi")], [], [pin], list_installed())
