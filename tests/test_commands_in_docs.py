"""Every command in the documents is run by a test, or is named here with the reason why that cannot be done here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bot.settings import SlackSettings, load_settings
from tests.test_docs import DOCUMENTS, ROOT

BIN = Path(sys.executable).parent

RUN_HERE = {
    ".venv/bin/r2-credential-bot manifest --url https://bot.example.com": "https://bot.example.com/slack/events",
    "r2-credential-bot keygen sealing.pem > sealing.pub": "",
    "r2-credential-bot keygen --audit audit.key": "",
}
"""Commands, and a part of what they print."""

RUN_ELSEWHERE = {
    "make sandbox": "tests/e2e/test_page.py",
    "make test": ".ci/run",
    "make .venv/.run": ".ci/run",
    ".venv/bin/r2-credential-bot check": "tests/e2e/test_check.py",
    "r2-credential-bot check --mint my-test-bucket": "tests/e2e/test_check_minting.py",
    "r2-credential-bot check --mint my-test-bucket --store": "tests/e2e/test_check_minting.py",
    "r2-credential-bot run --role gateway": "tests/e2e/test_replicas.py",
    "r2-credential-bot run --role worker": "tests/e2e/test_replicas.py",
    "r2-credential-bot run --role minter": "tests/e2e/test_minter.py",
    "docker build -t r2-credential-bot .": "tests/image/__main__.py",
    "r2-credential-bot backup /var/backups/r2-credential.sqlite": "tests/e2e/test_restore.py",
    "r2-credential-bot restored": "tests/e2e/test_restore.py",
    "r2-credential-bot audit verify": "tests/test_audit_commands.py",
    "r2-credential-bot audit export --since 2026-11-01 > audit.jsonl": "tests/test_audit_commands.py",
    "r2-credential-bot audit secret": "tests/test_audit_commands.py",
    "rm -f data/bot.sqlite-wal data/bot.sqlite-shm": "tests/e2e/test_restore.py",
    "install -m 600 /var/backups/r2-credential.sqlite data/bot.sqlite": "tests/e2e/test_restore.py",
    "uv tool install --constraints requirements.lock '.[postgres]'": "tests/wheels/__main__.py",
}
"""Commands, and where they are run."""

NOT_HERE = {
    "docker run": "needs an engine, and tokens of a real Slack and Cloudflare; `make image-test` drives the image",
    "docker compose": "needs an engine",
    "pg_dump": "needs a database with data; tests/storage/test_lineage.py runs it with these options",
    "pg_restore": "as above",
    "pipx": "takes the newest versions, which are others each day; tests/wheels/__main__.py installs the locked ones",
    "journalctl": "needs systemd",
    "kubectl": "needs a cluster",
    "export": "makes a real token; tests/test_docs.py judges what would be sent",
    "read -rs": "as above",
    "curl": "as above",
}
"""How commands begin that cannot be run here, and why."""


def _commands(document: Path) -> list[str]:
    """Return the commands of the shell blocks: without comments, continued lines joined, here-documents left out."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    text = re.sub(r"<<(\w+)\n.*?\n\1\n", "\n", "".join(blocks).replace("\\\n", " "), flags=re.DOTALL)
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


COMMANDS = sorted({command for document in DOCUMENTS for command in _commands(document)})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_documents_is_known_here(command: str) -> None:
    """A new one must be run by a test, or say why not."""
    is_excused = any(command.startswith(beginning) for beginning in NOT_HERE)
    assert (command in RUN_HERE) + (command in RUN_ELSEWHERE) + is_excused == 1, "add it to one of the tables above"


def test_no_table_names_what_is_gone() -> None:
    """A command that left the documents leaves the tables, and a test that is named exists."""
    assert [each for each in RUN_ELSEWHERE if each not in COMMANDS] == []
    assert [each for each in NOT_HERE if not any(command.startswith(each) for command in COMMANDS)] == []
    assert [place for place in RUN_ELSEWHERE.values() if not (ROOT / place).exists()] == []


@pytest.mark.parametrize(("command", "printed"), RUN_HERE.items())
def test_a_command_does_what_the_documents_say(command: str, printed: str, tmp_path: Path) -> None:
    """As written, in a directory with a `.venv`."""
    (tmp_path / ".venv").symlink_to(BIN.parent)
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(  # noqa: S602 - commands of our own documents
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert printed in ran.stdout


def test_the_settings_in_the_readme_are_complete_and_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies starts, once the dots are replaced."""
    [text] = re.findall(r"```dotenv\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for name in list(os.environ):
        if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")):
            monkeypatch.delenv(name)
    env_file = tmp_path / ".env"
    env_file.write_text(text.replace("...", "MADEUP"))
    loaded = load_settings(env_file)

    assert loaded.warnings == []
    assert isinstance(loaded.settings, SlackSettings)
    assert loaded.settings.slack_app_token is not None
