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


@pytest.mark.parametrize("heading", ["Who at your company can read what is pasted", "Accepted risks"])
def test_each_row_that_security_people_decide_by_is_complete(heading: str) -> None:
    """What, why it is accepted, and what limits it; or who, and whether they can: no cell is left open."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [titles, _, *rows] = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]

    assert rows
    assert [row for row in rows if len(row) != len(titles) or not all(row)] == []


def test_what_it_says_of_the_rest_is_the_threat_models() -> None:
    """The two accepted risks with the most to them are explained on the other page."""
    for actor in ("a-writer-of-the-database", "a-gateway-that-is-taken-over"):
        assert f"(docs/threat-model.md#what-remains-for-{actor})" in PAGE
