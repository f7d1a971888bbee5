"""What the files for deployment give to each process: settings, secrets, and where they are mounted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bot.model.role import Role
from bot.operations.freed_memory import ALLOCATOR, TUNABLES

Json = Mapping[str, Any]

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[Json] = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUBERNETES_TEXT: Final = "---\n".join(
    (ROOT / "deploy" / name).read_text() for name in ("kubernetes.yaml", "kubernetes-minter.yaml")
)
KUBERNETES: Final[list[Json]] = [*yaml.safe_load_all(KUBERNETES_TEXT)]
ROLES: Final = (Role.GATEWAY, Role.WORKER, Role.MINTER)
"""Those that have a process of their own."""
UNIT: Final = (ROOT / "deploy" / "r2-credential-bot.service").read_text()
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
OPERATIONS: Final = (ROOT / "docs" / "operations.md").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a process of a role is given: the names of its variables, and the paths of the secrets that it can read."""

    where: str
    role: Role
    variables: Mapping[str, str | None]
    readable: frozenset[str]

    @property
    def secrets(self) -> dict[str, str]:
        """The settings whose value is in a file, and the file's path."""
        named = {name: path for name, path in self.variables.items() if name.endswith("_FILE")}
        return {name.removesuffix("_FILE"): path or "" for name, path in named.items()}

    @property
    def settings(self) -> set[str]:
        """The names of the settings that may have a value."""
        return {name.removesuffix("_FILE") for name in self.variables}


def list_given() -> Iterator[Given]:
    """Yield what each deployed process gets."""
    yield from map(_of_compose, ROLES)
    yield from map(_of_kubernetes, ROLES)
    yield _of_unit()


def find_deployment(role: Role) -> Json:
    """Return the Deployment of a role."""
    return find_object("Deployment", f"r2-credential-{role}")


def find_object(kind: str, name: str) -> Json:
    """Return an object of the files for Kubernetes."""
    return next(each for each in KUBERNETES if each["kind"] == kind and each["metadata"]["name"] == name)


def values_of(key: str) -> list[str]:
    """Return the values of a key of the unit, in their order."""
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def _of_compose(role: Role) -> Given:
    service = COMPOSE["services"][role]
    assert service["command"] == ["run", "--role", role]
    readable = frozenset(f"/run/secrets/{name}" for name in service["secrets"])
    return Given(where="compose.yaml", role=role, variables=service["environment"], readable=readable)


def _of_kubernetes(role: Role) -> Given:
    pod = find_deployment(role)["spec"]["template"]["spec"]
    [bot] = pod["containers"]
    assert bot["args"] == ["run", "--role", role]
    [shared] = [each["configMapRef"]["name"] for each in bot["envFrom"]]
    variables = find_object("ConfigMap", shared)["data"] | {each["name"]: each["value"] for each in bot["env"]}
    [secret] = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
    [place] = [each["mountPath"] for each in bot["volumeMounts"] if each["name"] == "secrets"]
    created = KUBERNETES_TEXT.partition(f"create secret generic {secret} ")[2]
    command = created.partition("#   kubectl")[0]
    readable = frozenset(f"{place}/{key}" for key in re.findall(r"--from-file=(\w+)=", command))
    return Given(where="kubernetes.yaml", role=role, variables=variables, readable=readable)


def _of_unit() -> Given:
    variables = dict(each.split("=", 1) for each in values_of("Environment"))
    for name in ("HOME", "PYTHONDONTWRITEBYTECODE", ALLOCATOR, TUNABLES):
        del variables[name]
    readable = frozenset(f"%d/{each.partition(':')[0]}" for each in values_of("LoadCredential"))
    return Given(where="r2-credential-bot.service", role=Role.ALL, variables=variables, readable=readable)
