"""Secret files that others can read are named with setting and fix, and no other file is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.model.role import Role
from bot.operations.exposed_files import find_exposed
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from bot.settings import load_settings
from tests.privileges import give_to_a_stranger

VALUES = {
    "SLACK_BOT_TOKEN": "xoxb-MADEUP-1",
    "SLACK_SIGNING_SECRET": "5a4d" * 8,
    "SLACK_APP_TOKEN": "xapp-MADEUP-1",
    "CLOUDFLARE_API_TOKEN": "cfat_MADEUP",
    "R2_CREDENTIAL_SEALING_KEY": generate_private_key(),
    "R2_CREDENTIAL_DATABASE_URL": "sqlite:///elsewhere/bot.sqlite",
}
PLAIN = {
    "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "R2_CREDENTIAL_ALLOWED_USERS": "U0ALICE",
    "R2_CREDENTIAL_CONTACT": "ops",
}
Write = Callable[[int], None]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """Return a function that writes each setting to a file with the given mode and sets its NAME_FILE."""
    monkeypatch.chdir(tmp_path)

    def write_all(mode: int) -> None:
        for name, value in {**VALUES, **PLAIN}.items():
            path = Path(f"{name}.value")
            path.write_text(value)
            path.chmod(mode)
            monkeypatch.setenv(f"{name}_FILE", str(path))
        for directory in ("data", "elsewhere"):
            Path(directory).mkdir(mode=0o700)

    return write_all


def exposed(role: Role = Role.ALL, handed_out: Path = Path("/run/secrets")) -> list[str]:
    """Load the settings, and return the warnings."""
    return [*find_exposed(load_settings(role=role), handed_out)]


def test_private_files_are_not_named(write: Write) -> None:
    """There is no warning."""
    write(0o600)
    Path(".env").touch(mode=0o600)
    assert exposed() == []


def test_every_file_with_a_secret_is_named(write: Write) -> None:
    """With its setting, path and command; a file without a secret is not named."""
    write(0o644)
    told = exposed()
    assert {line.partition(":")[0] for line in told} == {f"{name}_FILE" for name in VALUES}
    assert (
        "SLACK_BOT_TOKEN_FILE: others can read SLACK_BOT_TOKEN.value: run `chmod go-rwx SLACK_BOT_TOKEN.value`, and "
        "replace its secrets if anyone has read them"
    ) in told


def test_docker_secrets_are_not_named(write: Write, tmp_path: Path) -> None:
    """All users of the container can read them, but the bot is the only one."""
    write(0o444)
    assert exposed(handed_out=tmp_path) == []


def test_the_public_half_of_a_key_is_not_named(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everybody may read it: nothing is to be replaced."""
    write(0o600)
    public = tmp_path / "sealing.pub"
    public.write_text(public_pem(load_private_keys(generate_private_key())[0]))
    public.chmod(0o644)
    for name in ("CLOUDFLARE_API_TOKEN_FILE", "R2_CREDENTIAL_SEALING_KEY_FILE"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("R2_CREDENTIAL_DATABASE_URL_FILE")
    monkeypatch.setenv("R2_CREDENTIAL_DATABASE_URL", "postgresql://bot@127.0.0.1/bot")
    monkeypatch.setenv("R2_CREDENTIAL_SEALING_PUBLIC_KEY_FILE", str(public))
    assert exposed(Role.GATEWAY) == []


def test_the_env_file_is_named(write: Write) -> None:
    """It holds secrets too."""
    write(0o600)
    Path(".env").touch(mode=0o644)
    Path(".env").chmod(0o644)
    assert exposed() == [
        ".env: others can read .env: run `chmod go-rwx .env`, and replace its secrets if anyone has read them"
    ]


def test_root_takes_no_file_of_another_user(write: Write, tmp_path: Path) -> None:
    """It may run `check` for the bot of that user, who could not read its own settings afterwards."""
    write(0o600)
    Path(".env").touch()
    Path(".env").chmod(0o644)
    give_to_a_stranger(tmp_path)
    assert [line for line in exposed() if line.startswith(".env")] == [
        ".env: others can read .env: run `chmod go-rwx .env`, and replace its secrets if anyone has read them"
    ]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711], ids=oct)
def test_an_open_data_directory_is_named(write: Write, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """Files that people put there are usually readable by everyone."""
    write(0o600)
    Path("my data").mkdir()
    Path("my data").chmod(mode)
    monkeypatch.setenv("R2_CREDENTIAL_DATA_DIR", "my data")
    assert exposed() == ["R2_CREDENTIAL_DATA_DIR: others can read my data: run `chmod go-rwx 'my data'`"]


def test_an_open_database_is_named(write: Write) -> None:
    """A restored backup is usually readable by everyone; its directory may be a shared one."""
    write(0o600)
    Path("elsewhere").chmod(0o755)
    assert exposed() == []
    Path("elsewhere/bot.sqlite").touch()
    Path("elsewhere/bot.sqlite").chmod(0o644)
    assert exposed() == [
        "R2_CREDENTIAL_DATABASE_URL: others can read elsewhere/bot.sqlite: run `chmod go-rwx elsewhere/bot.sqlite`"
    ]


@pytest.mark.parametrize("path", ["nowhere", "x" * 300], ids=["missing", "a name too long"])
def test_a_missing_directory_is_not_named(write: Write, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The bot creates it for its own user only, or refuses it later."""
    write(0o600)
    monkeypatch.setenv("R2_CREDENTIAL_DATA_DIR", path)
    assert exposed() == []


def test_a_secret_that_the_role_ignores_is_not_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another warning says that it should not be set."""
    write(0o644)
    monkeypatch.delenv("R2_CREDENTIAL_DATABASE_URL_FILE")
    monkeypatch.setenv("R2_CREDENTIAL_DATABASE_URL", "postgresql://bot@127.0.0.1/bot")
    assert {line.partition(":")[0] for line in exposed(Role.WORKER)} == {
        "SLACK_BOT_TOKEN_FILE",
        "CLOUDFLARE_API_TOKEN_FILE",
        "R2_CREDENTIAL_SEALING_KEY_FILE",
    }
