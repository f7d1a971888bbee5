"""pip-audit is asked for every locked version, and its silence is never taken for good news."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from bot.sandbox.process import find_free_port
from tests.project_checks import NotChecked
from tests.supply.advisories import find_vulnerable, judge

LOCK = f"safe==1.0 \\\n    --hash=sha256:{'0' * 64}\nunsafe==1.1 \\\n    --hash=sha256:{'1' * 64}\n"
KNOWN = {
    "id": "OSV-1",
    "affected": [
        {
            "package": {"name": "unsafe", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}],
        }
    ],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with two lock files."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text(LOCK)
    return tmp_path


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[[dict[str, Any]], Any]]:
    """Return what starts a database of advisories, of which the names of the packages are given, and its flags."""
    runners = []

    async def start(known: dict[str, Any]) -> list[str]:
        async def answer(request: web.Request) -> web.Response:
            name = json.loads(await request.text())["package"]["name"]
            return web.json_response({"vulns": [known[name]]} if name in known else {})

        app = web.Application()
        app.router.add_post("/v1/query", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return flags_for(int(site.name.rpartition(":")[2]))

    yield start
    for runner in runners:
        await runner.cleanup()


def flags_for(port: int) -> list[str]:
    """Return what makes pip-audit ask a database on this machine."""
    return ["--vulnerability-service=osv", f"--osv-url=http://127.0.0.1:{port}/v1/query"]


async def test_a_known_vulnerability_is_named(serve: Callable[[dict[str, Any]], Any], project: Path) -> None:
    """With the version that has it, and the one that does not."""
    found = await asyncio.to_thread(find_vulnerable, project, *await serve({"unsafe": KNOWN}))

    assert set(found.splitlines()) == {"unsafe 1.1: OSV-1, fixed in 1.2"}


async def test_none_is_known(serve: Callable[[dict[str, Any]], Any], project: Path) -> None:
    """A database that was asked for each version, and knows nothing bad."""
    assert await asyncio.to_thread(find_vulnerable, project, *await serve({})) == ""


async def test_a_database_that_cannot_be_reached_is_no_success(project: Path) -> None:
    """The last line of the complaint says why."""
    with pytest.raises(NotChecked, match=r"pip-audit has no answer: .*Connection"):
        await asyncio.to_thread(find_vulnerable, project, *flags_for(find_free_port()))


async def test_a_database_that_hangs_is_no_success(project: Path) -> None:
    """It is not waited for as long as each of a hundred packages might take."""
    with pytest.raises(NotChecked, match="pip-audit has no answer after 0 s"):
        await asyncio.to_thread(find_vulnerable, project, *flags_for(find_free_port()), patience_seconds=0)


@pytest.mark.parametrize(
    ("answer", "complaint", "reason"),
    [
        pytest.param("", "first\nlast\n", "no answer: last", id="a crash"),
        pytest.param("", "", "no answer: it says nothing", id="silence"),
        pytest.param("{}", "", "no answer: it says nothing", id="another form"),
        pytest.param('{"dependencies": []}', "", "for 0 of 0", id="nothing was looked up"),
        pytest.param(
            '{"dependencies": [{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}]}',
            "",
            "for 1 of 2 packages: not found",
            id="a package is not known there, as where the database is a mirror's",
        ),
    ],
)
def test_what_was_not_looked_up_is_not_checked(answer: str, complaint: str, reason: str) -> None:
    """pip-audit exits with 0 where a database answers with "not found" for every package."""
    with pytest.raises(NotChecked, match=reason):
        judge(answer, complaint)


def test_a_vulnerability_counts_although_another_package_is_unknown() -> None:
    """It would be hidden otherwise."""
    answer = """{"dependencies": [
        {"name": "a", "skip_reason": "not found"},
        {"name": "b", "version": "1", "vulns": [{"id": "OSV-2", "fix_versions": []}]}
    ]}"""

    assert judge(answer, "") == "b 1: OSV-2, fixed in no version"
