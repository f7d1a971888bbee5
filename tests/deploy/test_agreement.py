"""The files for deployment agree with the settings, the table of roles, the Dockerfile and each other."""

import re
from typing import Any, get_args

import pytest

from bot.model.role import Role
from bot.model.secret import Secret
from bot.settings import _OTHERS, Settings, SlackSettings
from tests.deploy.files import (
    COMPOSE,
    DOCKERFILE,
    KUBERNETES,
    OPERATIONS,
    ROLES,
    Given,
    find_deployment,
    list_given,
    values_of,
)

ALIASES = {field.alias for field in SlackSettings.model_fields.values() if field.alias}
SECRETS = {
    field.alias
    for field in SlackSettings.model_fields.values()
    if field.alias and (field.annotation is Secret or Secret in get_args(field.annotation))
}
NETWORK = {"HTTPS_PROXY", "NO_PROXY"}
OF_THE_IMAGE = {name for name in ALIASES if f"{name}=" in DOCKERFILE} | {
    "R2_CREDENTIAL_HTTP_PORT",
    "R2_CREDENTIAL_LOG_FORMAT",
}
"""What a container does not need to be told: the image sets it, or the default is right in every container."""
BESIDE_THE_TOKEN = {"CLOUDFLARE_EMAIL"}
"""Belongs to a Global API key, which these files do not use."""

UID = re.findall(r"useradd --uid (\d+)", DOCKERFILE)[0]
EVERYWHERE = pytest.mark.parametrize("given", [*list_given()], ids=lambda given: f"{given.where} {given.role}")
EACH_ROLE = pytest.mark.parametrize("role", ROLES)


def needed_by(role: Role) -> set[str]:
    """Return the secrets that the table of roles gives to one, over Socket Mode."""
    [row] = re.findall(rf"^\| `{role}`[^|]*\| ([^|]*) \|", OPERATIONS, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row)) - {"SLACK_SIGNING_SECRET"}


@EVERYWHERE
def test_each_name_is_a_setting(given: Given) -> None:
    """A misspelt setting would be ignored, and a file can only hold what the bot reads from files."""
    assert given.settings <= ALIASES | NETWORK
    assert set(given.secrets) <= ALIASES


@EVERYWHERE
def test_each_secret_comes_from_a_file_that_is_there(given: Given) -> None:
    """No secret is in a variable, and no file is handed over that nothing reads."""
    assert not set(given.variables) & SECRETS
    assert frozenset(given.secrets.values()) == given.readable


@pytest.mark.parametrize("given", [each for each in list_given() if each.role is not Role.ALL], ids=lambda it: it.where)
def test_each_role_gets_the_secrets_of_the_table(given: Given) -> None:
    """A gateway has neither Cloudflare's token nor the private key, and a worker cannot pose as Slack's app."""
    assert set(given.secrets) == needed_by(given.role)
    assert not given.settings & set(_OTHERS[given.role])


def test_the_unit_gets_what_one_process_needs() -> None:
    """It keeps its keys and its database in its data directory."""
    [unit] = [given for given in list_given() if given.role is Role.ALL]

    assert set(unit.secrets) == {"SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "CLOUDFLARE_API_TOKEN"}
    assert unit.variables["R2_CREDENTIAL_DATA_DIR"] == f"%S/{values_of('StateDirectory')[0]}"


@pytest.mark.parametrize(
    "given", [each for each in list_given() if each.where == "compose.yaml"], ids=lambda it: it.role
)
def test_compose_passes_every_setting_on(given: Given) -> None:
    """A setting in `.env` that reached no container would seem to have no effect."""
    assert given.settings >= ALIASES - SECRETS - OF_THE_IMAGE - BESIDE_THE_TOKEN


@EACH_ROLE
def test_containers_of_compose_are_confined(role: Role) -> None:
    """They run as the image's user, and write to its data directory alone."""
    service = COMPOSE["services"][role]

    assert service["user"] == f"{UID}:{UID}"
    assert service["tmpfs"] == [f"{data_directory()}:uid={UID},gid={UID},mode=0700"]
    assert "ports" not in service


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_each_service_of_compose_is_confined(name: str) -> None:
    """PostgreSQL as well: a read-only root, no capabilities, a user that is not root."""
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] not in {"root", "0"}


@EACH_ROLE
def test_pods_agree_with_the_image(role: Role) -> None:
    """User, ports and data directory are those of the Dockerfile; the probes ask for what the bot answers."""
    pod = find_deployment(role)["spec"]["template"]["spec"]
    [bot] = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in bot["ports"]}
    mounted = {each["name"]: each["mountPath"] for each in bot["volumeMounts"]}

    assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(UID)}
    assert ports == {"http": Settings.model_fields["http_port"].default, "metrics": 9090}
    assert str(ports["http"]) in re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[0].split()
    assert mounted["data"] == data_directory()
    data_dir = next(each["value"] for each in bot["env"] if each["name"] == "R2_CREDENTIAL_DATA_DIR")
    assert data_dir.startswith(f"{mounted['data']}/")
    probes = {name: bot[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"http"}


@EACH_ROLE
def test_pods_are_confined(role: Role) -> None:
    """They hold no cluster credential and no other service's variables, and keep the modes of their files."""
    pod = find_deployment(role)["spec"]["template"]["spec"]
    [bot] = pod["containers"]

    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert bot["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_deployments_differ_in_their_role_alone() -> None:
    """What is hardened for one role is hardened for the others; there may be more or fewer of one."""
    gateway, worker, minter = (_without_role(find_deployment(role), role) for role in ROLES)
    assert [each["spec"].pop("replicas") for each in (gateway, worker, minter)] == [2, 2, 1]

    assert gateway == worker == minter


def _without_role(part: Any, role: Role) -> Any:  # noqa: ANN401 - any part of a YAML document
    """Return the part with the role's name replaced, and without the files of its secrets."""
    if isinstance(part, dict):
        return {name: _without_role(value, role) for name, value in part.items()}
    if isinstance(part, list):
        kept = [each for each in part if not (isinstance(each, dict) and str(each.get("name")).endswith("_FILE"))]
        return [_without_role(each, role) for each in kept]
    return part.replace(role, "ROLE") if isinstance(part, str) else part


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_of_other_objects_match_the_pods(kind: str) -> None:
    """A selector that matches nothing protects nothing, silently."""
    pods = [find_deployment(role)["spec"]["template"]["metadata"]["labels"] for role in ROLES]
    found = [each["spec"] for each in KUBERNETES if each["kind"] == kind]
    selectors = [(spec.get("selector") or spec["podSelector"])["matchLabels"] for spec in found]
    matched = [sum(labels.items() <= pod.items() for labels in selectors) for pod in pods]

    assert matched == [1] * len(ROLES)


def test_a_stop_gets_the_same_time_everywhere() -> None:
    """More than the bot needs, so that nothing is killed in a write."""
    pods = [find_deployment(role)["spec"]["template"]["spec"] for role in ROLES]

    assert {pod["terminationGracePeriodSeconds"] for pod in pods} == {20}
    assert {COMPOSE["services"][role]["stop_grace_period"] for role in ROLES} == {"20s"}
    assert values_of("TimeoutStopSec") == ["20"]


def data_directory() -> str:
    """Return the volume of the image."""
    [directory] = re.findall(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE)
    return str(directory)
