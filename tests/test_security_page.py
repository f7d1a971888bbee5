"""SECURITY.md says how a vulnerability is reported: to whom, what to expect, and which versions are fixed."""

import re
import shutil
import subprocess

import pytest

import bot
from bot.settings import Settings
from tests.test_docs import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
REPORTING = PAGE.partition("## Report a vulnerability\n")[2].partition("\n## ")[0]


def test_it_names_the_operator_and_the_newest_version() -> None:
    """The setting by which a refusal names a person exists, and a new version is not forgotten here."""
    assert "R2_CREDENTIAL_CONTACT" in {field.alias for field in Settings.model_fields.values()}
    assert "`R2_CREDENTIAL_CONTACT`" in REPORTING
    assert re.findall(r"so far ([\d.]+):", REPORTING) == [bot.__version__.rpartition(".")[0]]


def test_the_command_names_the_maintainers() -> None:
    """It prints a name and an address in a checkout."""
    [command] = re.findall(r"`git log (.*?)`", REPORTING)
    assert command == "-1 --format='%an <%ae>'"
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    git = shutil.which("git") or "git"
    printed = subprocess.run(  # noqa: S603 - our own words
        [git, "log", "-1", "--format=%an <%ae>"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert re.fullmatch(r".+ <\S+@\S+>", printed.stdout.strip())
