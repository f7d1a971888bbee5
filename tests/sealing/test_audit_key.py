"""The key of the audit is made once, kept from others, and never replaced."""

from pathlib import Path

import pytest

from bot.model.errors import KeyFileUnusable
from bot.sealing.audit_key import load_audit_key, write_audit_key


def test_it_is_made_once(tmp_path: Path) -> None:
    """Each start, and each process that shares the directory, gets the same one."""
    path = tmp_path / "audit-key"
    key = load_audit_key(path)
    assert len(key) == 64
    assert load_audit_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_never_written_over(tmp_path: Path) -> None:
    """The records that it signed could no longer be told from forged ones."""
    path = tmp_path / "audit-key"
    write_audit_key(path)
    with pytest.raises(FileExistsError):
        write_audit_key(path)


@pytest.mark.parametrize("content", ["", "\n", "short", "0" * 31, "made up, with a line\nend in the middle of it"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    """An empty key would let anyone sign."""
    path = tmp_path / "audit-key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileUnusable, match="put it back from a copy"):
        load_audit_key(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """They could sign as the bot does."""
    path = tmp_path / "audit-key"
    write_audit_key(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileUnusable, match="others can read it"):
        load_audit_key(path)
