"""A place is this user's alone, or it is told whose it is and what to do."""

import os
from pathlib import Path

import pytest

from bot.sealing.private_places import find_exposure, is_read_by_others

NOBODY = 65534


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a path belong to another user: only root can give one away, and others become somebody else."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o500, 0o2750], ids=oct)
def test_a_directory_that_only_its_owner_can_write_is_private(tmp_path: Path, mode: int) -> None:
    """Others may see what is in it: the files are their owner's alone."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    assert find_exposure(place) is None


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o720, 0o702, 0o1777, 0o2775], ids=oct)
def test_a_directory_that_others_can_write_is_not(tmp_path: Path, mode: int) -> None:
    """The fix is a command; that of a volume is another directory."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    said = find_exposure(place)
    assert said == (
        f"others can write to it: run `chmod go-w {place}`. For a volume with an fsGroup (Kubernetes), name a new "
        "directory inside it instead"
    )


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_a_file_that_others_can_write_is_not(tmp_path: Path, mode: int) -> None:
    """A file has no directory inside it."""
    place = tmp_path / "file"
    place.touch()
    place.chmod(mode)
    assert find_exposure(place) == f"others can write to it: run `chmod go-w {place}`"


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_belongs_to_another_user_is_not(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it only the link that leads to a place of ours."""
    place = tmp_path / "place"
    if kind == "link":
        place.symlink_to(tmp_path)
    elif kind == "file":
        place.touch(mode=0o600)
    else:
        place.mkdir(mode=0o700)
    give_away(place, monkeypatch)
    said = find_exposure(place)
    assert said is not None
    assert said.startswith(f"it belongs to another user: run `chown -R {os.geteuid()} {place}`")


def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Whoever asks knows what to make of it."""
    with pytest.raises(FileNotFoundError):
        find_exposure(tmp_path / "nowhere")


READ = [(0o644, True), (0o640, True), (0o604, True), (0o660, True), (0o600, False), (0o400, False)]


@pytest.mark.parametrize(("mode", "is_read"), READ, ids=[oct(mode) for mode, _ in READ])
def test_a_file_of_ones_own_is_for_its_owner(tmp_path: Path, mode: int, *, is_read: bool) -> None:
    """A group has members, today or tomorrow."""
    place = tmp_path / "file"
    place.touch()
    place.chmod(mode)
    assert is_read_by_others(place) is is_read


@pytest.mark.parametrize(("mode", "is_read"), [(0o640, False), (0o600, False), (0o444, True), (0o644, True)])
def test_a_file_of_another_user_is_handed_over_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, *, is_read: bool
) -> None:
    """As a file of root's that the bot's group can read is."""
    place = tmp_path / "file"
    place.touch()
    place.chmod(mode)
    give_away(place, monkeypatch)
    assert is_read_by_others(place) is is_read


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A shell makes one for `<(command)`, for everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    assert is_read_by_others(pipe) is False
