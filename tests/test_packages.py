"""The wheel holds the whole package. The sdist holds the whole project, so that it can be built and tested anywhere."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import bot

ROOT = Path(__file__).parents[1]
GENERATED = (".venv", ".git", ".hypothesis", "__pycache__", "*_cache", "*.egg-info", "dist", "screenshots", "PKG-INFO")
HOOK = "import sys; from flit_core import buildapi; print(getattr(buildapi, sys.argv[1])(sys.argv[2]))"


def build(hook: str, source: Path, target: Path, **environment: str) -> Path:
    """Build as pip and uv do: they call this hook of the build backend in the directory of pyproject.toml."""
    ended = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", HOOK, hook, str(target)],
        cwd=source,
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return target / ended.stdout.strip()


def list_project() -> set[str]:
    """Return the files of the project: what git knows, or everything where this is no checkout."""
    git = shutil.which("git") or "true"
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    if listed.stdout:
        return {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return {
        str(path) for path in files if not any(each.match(name) for each in (path, *path.parents) for name in GENERATED)
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, with the settings and caches that a used checkout has."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in list_project():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)
    for name in ("bot", "tests", "tests/model"):
        (directory / name / "__pycache__").mkdir()
        (directory / name / "__pycache__" / "cached.cpython-311.pyc").touch()
    (directory / ".env").write_text("SLACK_BOT_TOKEN=xoxb-MADEUP-1\n")
    return directory


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source distribution, unpacked."""
    directory = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("build_sdist", checkout, directory)) as archive:
        archive.extractall(directory / "unpacked", filter="data")
    [unpacked] = (directory / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel."""
    return build("build_wheel", checkout, tmp_path_factory.mktemp("wheel"))


def read(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sdist_holds_the_whole_project(sdist: Path) -> None:
    """Tests, lock files, changelog, manifest and documents too; no settings and no caches."""
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert held == list_project() | {"PKG-INFO"}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Modules, migrations, the sandbox's page and the marker for type checkers; no tests and no caches."""
    package = {name for name in list_project() if name.startswith("bot/")}
    assert {
        "bot/py.typed",
        "bot/sandbox/page/page.css",
        "bot/storage/migrations/versions/0001_first_tables.py",
    } < package
    assert {name for name in read(wheel) if ".dist-info/" not in name} == package


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """Anyone who builds from the sdist gets the same files."""
    assert read(build("build_wheel", sdist, tmp_path)) == read(wheel)


@pytest.mark.parametrize("hook", ["build_sdist", "build_wheel"])
def test_one_commit_is_the_same_bytes_each_time(hook: str, checkout: Path, tmp_path: Path) -> None:
    """Whenever it was checked out, and with whatever umask: so anyone can see that a package is of this source."""
    [epoch] = re.findall(r"^dist: export SOURCE_DATE_EPOCH = (\d+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    later = tmp_path / "later"
    shutil.copytree(checkout, later)
    for path in later.rglob("*"):
        os.utime(path, (0x7000_0000, 0x7000_0000))
        path.chmod(path.stat().st_mode & 0o700)
    (tmp_path / "of-later").mkdir()

    built = build(hook, checkout, tmp_path, SOURCE_DATE_EPOCH=epoch).read_bytes()

    assert build(hook, later, tmp_path / "of-later", SOURCE_DATE_EPOCH=epoch).read_bytes() == built


def test_the_metadata_is_valid_and_complete(wheel: Path) -> None:
    """An index refuses invalid metadata; the licence and the oldest Python are what others depend on."""
    files = read(wheel)
    information = f"r2_credential_bot-{bot.__version__}.dist-info"
    metadata = Metadata.from_email(files[f"{information}/METADATA"], validate=True)
    assert (metadata.name, str(metadata.version)) == ("r2-credential-bot", bot.__version__)
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert files[f"{information}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert metadata.requires_python == ">=3.11"
    assert (metadata.description or "").strip() == (ROOT / "README.md").read_text().strip()
    assert files[f"{information}/entry_points.txt"].split() == [b"[console_scripts]", b"r2-credential-bot=bot.cli:main"]


@pytest.mark.thorough
def test_the_tests_of_the_sdist_are_found(sdist: Path) -> None:
    """They import nothing that only a checkout has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=sdist, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    assert ended.returncode == 0, ended.stdout[-2000:]
