"""Whose package `bot` runs, seen in environments made of real files."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.model.finding import Finding, Mark, Part
from bot.operations.examiner import examine
from bot.operations.installation import find_in_installation, installation_check

OURS = {"bot/__init__.py": "# ours\n", "bot/cli.py": "# ours\n", "bot/app.py": "# ours\n", "bot/check.py": "# ours\n"}


def install(environment: Path, name: str, files: Mapping[str, str], **information: str) -> None:
    """Install a distribution as an installer does: its files, and a record with their hashes."""
    lines = []
    for path, text in files.items():
        (environment / path).parent.mkdir(parents=True, exist_ok=True)
        (environment / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines += [f"{path},sha256={digest},{len(text)}\n", f"{Path(path).parent}/__pycache__/compiled.pyc,,\n"]
    directory = environment / f"{name.replace('-', '_')}-1.0.dist-info"
    directory.mkdir(parents=True)
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (directory / "RECORD").write_text("".join(lines))
    for file, text in information.items():
        (directory / file.replace("_json", ".json")).write_text(text)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return an environment with the bot and a library."""
    path = tmp_path / "site-packages"
    install(path, "r2-credential-bot", OURS)
    install(path, "a-library", {"library/__init__.py": "", "library/bot.py": ""})
    return path


def find(environment: Path, running: Path | None = None) -> list[Finding]:
    """Return what is found where the bot runs from its place in the environment, or from another."""
    return list(find_in_installation(running or environment / "bot", [str(environment)]))


def test_the_package_of_an_own_environment_is_ours(environment: Path) -> None:
    """Its version is said."""
    [found] = find(environment)
    assert (found.event, found.mark, found.part) == ("package_own", Mark.OK, Part.INSTALLATION)
    assert found.text == "version 1.0, and no other package named bot"


@pytest.mark.parametrize("files", [{"bot/more.py": ""}, {"bot.py": ""}], ids=["a folder", "a module"])
def test_another_package_of_that_name_is_a_warning(environment: Path, files: dict[str, str]) -> None:
    """One of them may have replaced files of the other, or will at the next update."""
    install(environment, "telegram-bot", files)
    [found] = find(environment)
    assert (found.event, found.mark) == ("package_shared", Mark.WARNING)
    assert found.text.endswith("may replace files: telegram-bot")
    assert "an environment of its own" in found.fix


def test_a_package_that_an_old_tool_installed_is_found(environment: Path) -> None:
    """It has no record, but names its packages."""
    install(environment, "old-bot", {})
    (environment / "old_bot-1.0.dist-info" / "RECORD").unlink()
    (environment / "old_bot-1.0.dist-info" / "top_level.txt").write_text("bot\n")
    [found] = find(environment)
    assert found.text.endswith(": old-bot")


def test_files_that_another_package_replaced_are_named(environment: Path) -> None:
    """The bot would run with parts of a stranger's code."""
    for name in OURS:
        (environment / name).write_text("# theirs\n")
    (environment / "bot/check.py").unlink()
    [found] = find(environment)
    assert (found.event, found.mark) == ("package_changed", Mark.WARNING)
    assert found.text.endswith(": bot/__init__.py, bot/cli.py, bot/app.py and 1 more")


def test_a_folder_that_shadows_the_installed_package_is_named(environment: Path, tmp_path: Path) -> None:
    """`python -m bot` takes the working directory first, and PYTHONPATH everywhere."""
    [found] = find(environment, tmp_path / "bot")
    assert (found.event, found.mark) == ("package_shadowed", Mark.WARNING)
    assert str(tmp_path / "bot") in found.text
    assert str(environment / "bot") in found.text
    assert "PYTHONPATH" in found.fix


def test_an_editable_installation_runs_from_its_source(tmp_path: Path) -> None:
    """That is what `make run` has; another folder is a shadow there too."""
    environment, source = tmp_path / "site-packages", tmp_path / "a source"
    origin = json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
    install(environment, "r2-credential-bot", {"r2_credential_bot.pth": str(source)}, direct_url_json=origin)
    assert [each.event for each in find(environment, source / "bot")] == ["package_own"]
    assert [each.event for each in find(environment, tmp_path / "bot")] == ["package_shadowed"]


def test_a_package_that_is_not_installed_is_a_warning(tmp_path: Path) -> None:
    """It runs with whatever libraries are there."""
    [found] = find(tmp_path)
    assert (found.event, found.mark) == ("package_not_installed", Mark.WARNING)


async def test_the_package_that_runs_these_tests_is_ours() -> None:
    """This process is examined."""
    assert [each.event for each in await examine(installation_check())] == ["package_own"]
