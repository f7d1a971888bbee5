"""The test of the image needs an engine: where there is none, it says so and is no failure."""

from pathlib import Path

import pytest

from tests.image.__main__ import main


async def test_a_machine_without_docker_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No client, no test."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert await main([])

    assert capsys.readouterr().out == "skipped: there is no docker here\n"


async def test_an_engine_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client's own words say why."""
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert await main([])

    assert capsys.readouterr().out == "skipped: docker version: Cannot connect to the Docker daemon\n"
