"""What comes from elsewhere is locked, licensed and listed, and each check of that refuses a planted fault."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.project_checks import Check, NotChecked, Plant
from tests.supply.__main__ import NOT_CHECKED, REFUSED, main
from tests.supply.bom import ROOT
from tests.supply.checks import HERE

BY_NAME = {check.name: check for check in HERE}
FILES = (".ci/run", "Dockerfile", "Makefile", "compose.yaml", "pyproject.toml", "requirements.lock")


PLANTS = [
    Plant(
        check="locked with hashes",
        file="requirements.lock",
        good="certifi==",
        bad="certifi>=",
        named="no exact version: certifi",
    ),
    Plant(
        check="locked with hashes",
        file="requirements.lock",
        good="certifi==",
        bad="--index-url https://index.example.com\ncertifi==",
        named="not a package with a version: --index-url",
    ),
    Plant(
        check="locked with hashes",
        file="requirements.lock",
        good="certifi==",
        bad="certifi @ https://files.example.com/certifi-",
        named="no exact version: certifi @ https://",
    ),
    Plant(
        check="locked with hashes",
        file="requirements.lock",
        good="--hash=sha256:",
        bad="--hash=md5:",
        named="not only SHA-256 hashes: aiohappyeyeballs",
    ),
    Plant(
        check="locked with hashes",
        file="requirements.lock",
        good="certifi==20",
        bad="certifi==10",
        named="requirements-dev.lock has another",
    ),
    Plant(
        check="locked with hashes",
        file="pyproject.toml",
        good='"certifi",',
        bad='"certifi", "not-locked",',
        named="pyproject.toml needs not-locked, which is not locked",
    ),
    Plant(
        check="locked with hashes",
        file="pyproject.toml",
        good='"httpx>=0.28",',
        bad='"httpx>=99",',
        named="pyproject.toml needs httpx>=99, and",
    ),
    Plant(
        check="locked with hashes",
        file="pyproject.toml",
        good='"slack-bolt>=1.30",\n',
        bad="",
        named="requirements.lock: slack-bolt is locked, and nothing needs it",
    ),
    Plant(
        check="locked is installed",
        file="requirements.lock",
        good="certifi==20",
        bad="certifi==10",
        named="is locked, and 20",
    ),
    Plant(
        check="nothing else installed",
        file="Dockerfile",
        good=" --require-hashes",
        bad="",
        named="Dockerfile: RUN /opt/bot/bin/pip install",
    ),
    Plant(
        check="nothing else installed",
        file="deploy/r2-credential-bot.service",
        good="--only-binary=:all: ",
        bad="",
        named="r2-credential-bot.service: /opt/r2-credential-bot/bin/pip install",
    ),
    Plant(
        check="nothing else installed",
        file="Makefile",
        good="--no-build-isolation --editable .",
        bad="--editable .",
        named="Makefile: $(PIP) install",
    ),
    Plant(
        check="nothing else installed",
        file=".ci/run",
        good="make test",
        bad="pipx install ruff; make test",
        named=".ci/run: pipx install ruff",
    ),
    Plant(check="deptry: bot", file="bot/app.py", good="import asyncio\n", bad="import numpy\n", named="DEP001"),
    Plant(check="deptry: bot", file="bot/app.py", good="import asyncio\n", bad="import anyio\n", named="DEP003"),
    Plant(check="deptry: bot", file="bot/app.py", good="import asyncio\n", bad="import pytest\n", named="DEP004"),
    Plant(
        check="deptry: bot",
        file="pyproject.toml",
        good='"certifi",',
        bad='"certifi", "uv",',
        named="DEP002 'uv' defined",
    ),
    Plant(
        check="deptry: tests", file="tests/make.py", good="from typing", bad="import anyio\nfrom typing", named="DEP003"
    ),
    Plant(
        check="licences",
        file="requirements.lock",
        good="certifi==",
        bad="yamllint==",
        named="GPL-3.0-or-later is not on the list",
    ),
    Plant(
        check="licences",
        file="requirements.lock",
        good="certifi==",
        bad="absent==",
        named="not installed",
    ),
    Plant(
        check="images by digest",
        file="Dockerfile",
        good="-slim@sha256:",
        bad="-slim:",
        named="has no digest",
    ),
]
WITHOUT_PLANT = {"bill of materials": "tests/supply/test_bom.py"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of what the checks read, without the virtual environment."""
    for name in (*FILES, "requirements-dev.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("bot", "deploy", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "screenshots"))
    return tmp_path


@pytest.mark.parametrize("check", HERE, ids=lambda check: check.name)
def test_the_project_holds_it(check: Check) -> None:
    """What `make supply-chain` checks without asking anybody."""
    outcome = check.check(ROOT)

    assert (outcome.problems, outcome.skipped) == ("", "")


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.check}: {plant.named}")
def test_a_planted_fault_is_refused(plant: Plant, project: Path) -> None:
    """A check that accepts everything would be worse than none."""
    file = project / plant.file
    text = file.read_text()
    assert plant.good in text
    file.write_text(text.replace(plant.good, plant.bad))

    assert plant.named in BY_NAME[plant.check].check(project).problems


def test_each_check_has_a_plant() -> None:
    """A new check comes with a fault that it refuses."""
    assert {plant.check for plant in PLANTS} | WITHOUT_PLANT.keys() == BY_NAME.keys()
    assert all((ROOT / place).exists() for place in WITHOUT_PLANT.values())


def _says(name: str, problems: str = "") -> Check:
    return Check(name=name, run=lambda _: problems)


def _answers_nothing(_: Path) -> str:
    raise NotChecked


@pytest.mark.parametrize(
    ("checks", "code", "closing"),
    [
        pytest.param([_says("a"), _says("b")], 0, "0 of 2 refused; NOT CHECKED: none", id="all hold"),
        pytest.param([_says("a", "bad"), _says("b")], REFUSED, "1 of 2 refused; NOT CHECKED: none", id="one refuses"),
        pytest.param(
            [_says("a"), Check(name="b", run=_answers_nothing)],
            NOT_CHECKED,
            "0 of 2 refused; NOT CHECKED: b",
            id="one has no answer",
        ),
        pytest.param(
            [_says("a", "bad"), Check(name="b", run=_answers_nothing)],
            REFUSED,
            "1 of 2 refused; NOT CHECKED: b",
            id="both",
        ),
    ],
)
def test_what_was_not_checked_is_no_success(
    checks: Sequence[Check], code: int, closing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has an exit code of its own, and the last line names it."""
    assert main(checks, tmp_path) == code
    assert capsys.readouterr().out.splitlines()[-1] == closing
