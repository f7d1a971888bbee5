"""Which images the project names, and whether each is named by its digest: a tag is another image tomorrow."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

_PINNED: Final = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_NAMED: Final = re.compile(
    r"^FROM\s+(?:--\S+\s+)*(\S+)|^(?:COPY|ADD|RUN)\s.*\bfrom=([^\s,]+)|^#\s*syntax\s*=\s*(\S+)",
    re.MULTILINE | re.IGNORECASE,
)


def find_unpinned(directory: Path) -> list[str]:
    """Return the images that a registry could replace; one that is built here must not be fetched instead."""
    dockerfile = _list_of_dockerfile((directory / "Dockerfile").read_text())
    compose = _list_of_compose(yaml.safe_load((directory / "compose.yaml").read_text()))
    named = [("Dockerfile", image) for image in dockerfile] + [("compose.yaml", image) for image in compose]
    for path in sorted(directory.glob("deploy/*.y*ml")):
        named += [(path.name, image) for part in yaml.safe_load_all(path.read_text()) for image in _list_images(part)]
    return [f"{where}: {image} has no digest" for where, image in named if not _PINNED.fullmatch(image)]


def _list_of_dockerfile(text: str) -> Iterator[str]:
    """Yield what each stage begins with or copies from, unless that is another stage."""
    stages = re.findall(r"^FROM\s.*\sAS\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
    defaults = dict(re.findall(r"^ARG\s+(\w+)=(\S+)", text, re.MULTILINE))
    for found in _NAMED.findall(text):
        image = re.sub(r"\$\{?(\w+)\}?", lambda name: defaults.get(name[1], name[0]), "".join(found))
        if image not in stages:
            yield image


def _list_of_compose(compose: dict[str, Any]) -> Iterator[str]:
    for service in compose["services"].values():
        if "build" not in service:
            yield service["image"]
        elif service.get("pull_policy") != "build":
            yield f"{service['image']}, which compose fetches unless pull_policy is build,"


def _list_images(part: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a YAML document
    """Yield the images of all containers in an object of Kubernetes."""
    if isinstance(part, dict):
        if isinstance(part.get("image"), str):
            yield part["image"]
        part = [*part.values()]
    if isinstance(part, list):
        for each in part:
            yield from _list_images(each)
