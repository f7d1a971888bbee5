"""The command `check`, as a process, against the fakes: what an installer sees on a Friday afternoon."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.model.finding import Part
from tests.privileges import STRANGER, give_to_a_stranger, states_below
from tests.scene import Scene, SetScene

MARK = "MARKED7f3a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def failed(self) -> list[str]:
        """The lines with a cross."""
        return [line for line in self.out.splitlines() if line.startswith("\N{BALLOT X}")]

    @property
    def report(self) -> Any:  # noqa: ANN401 - JSON
        """What `--json` printed."""
        return json.loads(self.out)


async def check(scene: Scene, *options: str, changes: Mapping[str, str] | None = None) -> Checked:
    """Run the command with the scene's settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot",
        "check",
        *options,
        env={**scene.environment, "PYTHONIOENCODING": "utf-8", **(changes or {})},
        cwd=scene.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Checked(code=process.returncode or 0, out=out.decode(), err=err.decode())


@pytest.mark.parametrize("transport", ["socket", "http"], indirect=False)
async def test_a_good_installation_passes(set_scene: SetScene, tmp_path: Path, transport: Any) -> None:  # noqa: ANN401
    """Before the first start and beside the running bot; nothing is written, and Slack gets no message."""
    async with set_scene(transport, tmp_path) as scene:
        before = await check(scene)
        assert not scene.data_dir.exists()
        await scene.start_ready_bot()
        beside = await check(scene)

        assert (before.failed, before.code, before.err) == ([], 0, "")
        assert (beside.failed, beside.code, beside.err) == ([], 0, "")
        assert scene.cloudflare.writes == []


async def test_root_leaves_the_place_of_another_user_as_it_is(set_scene: SetScene, tmp_path: Path) -> None:
    """And is told to run the check as that user, for whose bot it is."""
    async with set_scene("socket", tmp_path) as scene:
        await scene.start_ready_bot()
        await scene.bot.stop()
        before = states_below(give_to_a_stranger(scene.data_dir))
        checked = await check(scene)

    assert checked.code == 1
    assert f" {scene.data_dir} cannot be used" in checked.out
    assert f"run this as its user, uid {STRANGER}" in checked.out
    assert "chown" not in checked.out
    assert states_below(scene.data_dir) == before


async def test_json_has_every_part(set_scene: SetScene, tmp_path: Path) -> None:
    """A program reads the same findings; what is being examined goes nowhere."""
    async with set_scene("socket", tmp_path) as scene:
        checked = await check(scene, "--json")

    assert checked.report["ok"] is True
    assert {each["part"] for each in checked.report["findings"]} == set(Part) - {
        Part.START,
        Part.JOBS,
        Part.POLICY,
        Part.WEBHOOK,
    }


async def test_bad_settings_are_findings_too(set_scene: SetScene, tmp_path: Path) -> None:
    """All at once, and never with a value; what needs no settings is examined all the same."""
    async with set_scene("socket", tmp_path) as scene:
        changes = {"CLOUDFLARE_ACCOUNT_ID": MARK, "R2_CREDENTIAL_TTL": MARK, "SSLKEYLOGFILE": "keys.log"}
        checked = await check(scene, changes=changes)
        as_json = await check(scene, "--json", changes=changes)

    assert checked.code == as_json.code == 1
    assert len(checked.failed) == 2
    assert as_json.report["ok"] is False
    assert {each["part"] for each in as_json.report["findings"]} == {Part.SETTINGS, Part.INSTALLATION, Part.PROCESS}
    assert "SSLKEYLOGFILE: is ignored" in checked.out
    assert MARK not in checked.out + checked.err + as_json.out
