"""`deploy/as-service` runs a command with what the unit gives to the bot."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, UNIT, values_of

CREDENTIALS = "/run/credentials/r2-credential-bot-command.service"


@pytest.fixture
def systemd(tmp_path: Path) -> Path:
    """Return a place with a systemctl that prints the unit and a drop-in, and a systemd-run that prints its words."""
    (tmp_path / "unit").write_text(f"{UNIT}\n[Service]\nEnvironment=R2_CREDENTIAL_CONTACT=the data team\n")
    for name, body in (("systemctl", f"cat {tmp_path}/unit"), ("systemd-run", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_a_command_gets_what_the_service_gets(systemd: Path) -> None:
    """The settings, secrets and files are those of the unit and its drop-ins, in the places of the new process."""
    ended = subprocess.run(  # noqa: S603 - our own words
        [ROOT / "deploy" / "as-service", "backup", "a copy"],
        env={"PATH": f"{systemd}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
        text=True,
    )

    words = ended.stdout.splitlines()
    assert words[-3:] == ["/opt/r2-credential-bot/bin/r2-credential-bot", "backup", "a copy"]
    assert "%" not in ended.stdout
    assert "--property=User=r2-credential-bot" in words
    assert "--property=Environment=R2_CREDENTIAL_CONTACT=the data team" in words
    assert f"--property=Environment=SLACK_BOT_TOKEN_FILE={CREDENTIALS}/slack_bot_token" in words
    for key in ("DynamicUser", "EnvironmentFile", "LoadCredential", "StateDirectory", "UMask"):
        assert values_of(key)
        assert all(f"--property={key}={value}" in words for value in values_of(key))
