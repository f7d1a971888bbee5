"""Each check of the files for deployment refuses a planted fault; one whose tool is missing is named as skipped."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deploy.__main__ import main
from tests.deploy.checks import CHECKS
from tests.project_checks import Check, Plant

ROOT = Path(__file__).parents[2]
BY_NAME = {check.name: check for check in CHECKS}
UNIT = "deploy/r2-credential-bot.service"


PLANTS = [
    Plant(check="images by digest", file="Dockerfile", good="-slim@sha256:", bad="-slim:", named="python:3.13-slim:"),
    Plant(check="images by digest", file="Dockerfile", good="--from=build", bad="--from=alpine", named="alpine has no"),
    Plant(check="images by digest", file="compose.yaml", good="17@sha256:", bad="17:", named="compose.yaml: postgres"),
    Plant(check="images by digest", file="compose.yaml", good="policy: build", bad="policy: missing", named="fetches"),
    Plant(check="images by digest", file="deploy/kubernetes.yaml", good="bot@sha256:", bad="bot:", named="bot:0"),
    Plant(check="yamllint", file="compose.yaml", good="\n  gateway:\n", bad="\n   gateway:\n", named="indentation"),
    Plant(check="yamllint", file="deploy/kubernetes.yaml", good="Root: true", bad="Root: yes", named="truthy"),
    Plant(check="hadolint", file="Dockerfile", good="\nUSER 10001", bad="\nUSE 10001", named="Dockerfile:"),
    Plant(check="compose schema", file="compose.yaml", good="cap_drop:", bad="cap_drops:", named="cap_drops"),
    Plant(
        check="docker compose config",
        file="compose.yaml",
        good="secrets: [postgres_password]",
        bad="secrets: [postgres_pasword]",
        named="postgres_pasword",
    ),
    Plant(
        check="kubernetes-validate",
        file="deploy/kubernetes.yaml",
        good="enableServiceLinks:",
        bad="enableServiceLink:",
        named="enableServiceLink",
    ),
    Plant(check="systemd-analyze verify", file=UNIT, good="ProtectHome=", bad="ProtectHomes=", named="ProtectHomes"),
    Plant(check="systemd-analyze verify", file=UNIT, good="Home=yes", bad="Home=mostly", named="mostly"),
    Plant(
        check="systemd-analyze security",
        file=UNIT,
        good="CapabilityBoundingSet=\n",
        bad="",
        named="Overall exposure level",
    ),
    Plant(check="promtool check rules", file="deploy/alerts.yml", good="expr:", bad="exp:", named="exp"),
    Plant(check="promtool test rules", file="deploy/alerts.yml", good="for: 2m", bad="for: 1m", named="FAILED"),
]


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """Return a copy of what the checks read."""
    for name in (".yamllint", "Dockerfile", "compose.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.check}: {plant.named}")
def test_a_planted_fault_is_refused(plant: Plant, deployment: Path) -> None:
    """A check that accepts everything would be worse than none."""
    file = deployment / plant.file
    if not file.exists():
        pytest.skip(f"there is no {plant.file}")
    text = file.read_text()
    assert plant.good in text
    file.write_text(text.replace(plant.good, plant.bad))

    outcome = BY_NAME[plant.check].check(deployment)

    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert plant.named in outcome.problems


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_check_has_a_plant(check: Check) -> None:
    """A new check comes with a fault that it refuses."""
    assert check.name in {plant.check for plant in PLANTS}


def test_a_missing_tool_and_a_fault_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither looks like a success, and only the fault fails."""
    lint = BY_NAME["yamllint"]
    absent = replace(lint, name="absent", missing=lambda: "there is no such tool here")
    fileless = replace(lint, name="fileless", needs=[Path("no.yaml")])
    (tmp_path / "bad.yaml").write_text("a: 1\na: 2\n")

    assert main([absent, fileless], tmp_path)
    assert not main([absent, lint], tmp_path)

    printed = capsys.readouterr().out
    assert "skipped: there is no such tool here" in printed
    assert "skipped: there is no no.yaml" in printed
    assert "refused" in printed
    assert 'duplication of key "a"' in printed
