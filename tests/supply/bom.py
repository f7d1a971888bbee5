"""Writes the bill of materials of what runs, in CycloneDX, from the lock file and the installed packages.

    python -m tests.supply.bom DIRECTORY

Two runs write the same bytes: there is no time and no serial number in it.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bot
from tests.project_checks import NotChecked
from tests.supply.licences import read_expression
from tests.supply.locked import (
    DECLARED,
    RUNTIME,
    Installed,
    Pin,
    find_other_versions,
    list_declared,
    list_installed,
    list_needed,
    read_lock,
)

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "r2-credential-bot"


def write_bom(directory: Path) -> Path:
    """Write the bill of this project, and return its path."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{NAME}-{bot.__version__}.cdx.json"
    path.write_text(make_project_bom(ROOT))
    return path


def make_project_bom(project: Path) -> str:
    """Return the bill of what requirements.lock pins; raises NotChecked as `make_bom` does."""
    pyproject = (project / "pyproject.toml").read_text()
    building = list_declared(pyproject, "build")[len(list_declared(pyproject)) :]
    return make_bom(list_declared(pyproject), building, read_lock((project / RUNTIME).read_text()), list_installed())


def make_bom(
    running: Sequence[Requirement], building: Sequence[Requirement], pins: Sequence[Pin], installed: Installed
) -> str:
    """Return the bill; raises NotChecked where other versions are installed, since licences are read from those."""
    if others := find_other_versions(pins, installed):
        raise NotChecked(", ".join(others))
    needs = defaultdict(set)
    for by, requirement in list_needed(running, installed):
        needs[by].add(canonicalize_name(requirement.name))
    run = set().union(*needs.values())
    for by, requirement in list_needed(building, installed):
        needs[by].add(canonicalize_name(requirement.name))
    components = {pin.name: _describe(pin, read_expression(installed[pin.name]), runs=pin.name in run) for pin in pins}
    root = Component(
        name=NAME, version=bot.__version__, type=ComponentType.APPLICATION, bom_ref=NAME, licenses=[_license("MIT")]
    )
    made = Bom(components=components.values())
    made.metadata.component = root
    for by, component in ((DECLARED, root), *components.items()):
        made.register_dependency(component, [components[name] for name in sorted(needs[by] & components.keys())])
    return _without_time(JsonV1Dot6(made).output_as_string())


def find_faults(bill: str) -> list[str]:
    """Return where a bill breaks the schema of CycloneDX 1.6."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill, all_errors=True)
    return [str(each.data) for each in found or ()]


def _describe(pin: Pin, licence: str, *, runs: bool) -> Component:
    """Describe a package: what was installed is one of the files with these hashes."""
    url = PackageURL("pypi", name=pin.name, version=str(pin.version))
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pin.hashes]
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(url)), hashes=hashes, comment="one of these files"
    )
    return Component(
        name=pin.name,
        version=str(pin.version),
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        scope=ComponentScope.REQUIRED if runs else ComponentScope.EXCLUDED,
        licenses=[_license(licence)] if licence else [],
        external_references=[files],
    )


def _license(expression: str) -> License:
    return LicenseFactory().make_from_string(expression)


def _without_time(bill: str) -> str:
    document = json.loads(bill)
    del document["serialNumber"], document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(write_bom(Path(sys.argv[1])))
