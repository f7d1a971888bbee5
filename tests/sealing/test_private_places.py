"""A path is controlled by this user only, or the problem and its fix are named."""

import os
from pathlib import Path

import pytest

from bot.sealing.private_places import find_exposure, is_read_by_others
from tests.privileges import STRANGER, as_a_stranger

NOBODY = 65534


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a path to another user: only root can; others run as another user instead."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o500, 0o2750], ids=oct)
def test_a_directory_that_only_its_owner_can_write_is_private(tmp_path: Path, mode: int) -> None:
    """Others may list it: the files are only their owner's."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    assert find_exposure(place) is None


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o720, 0o702, 0o1777, 0o2775], ids=oct)
def test_a_directory_that_others_can_write_is_not(tmp_path: Path, mode: int) -> None:
    """The fix is a command; for a volume, also another directory."""
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
def test_a_path_of_another_user_is_not(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if only the link belongs to another user."""
    place = make_place(tmp_path, kind)
    give_away(place, monkeypatch)
    said = find_exposure(place, tmp_path)
    assert said is not None
    assert said.startswith(f"it belongs to another user: run `chown -R {os.geteuid()} {place}` after checking")


def make_place(directory: Path, kind: str) -> Path:
    """Create a place."""
    place = directory / "place"
    if kind == "link":
        place.symlink_to(directory)
    elif kind == "file":
        place.touch(mode=0o600)
    else:
        place.mkdir(mode=0o700)
    return place


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_root_is_told_to_run_as_the_user_whose_place_it_is(tmp_path: Path, kind: str) -> None:
    """A bot of that user works there, and would be kept out of what root takes or creates."""
    if os.geteuid() != 0:
        pytest.skip("only root")
    place = make_place(tmp_path, kind)
    for each in (tmp_path, place):
        os.chown(each, NOBODY, NOBODY)
    assert find_exposure(place) == (
        f"it belongs to another user: run this as its user, uid {NOBODY}: with `setpriv --reuid {NOBODY} "
        f"--regid {NOBODY} --clear-groups` before it, or `docker exec -u {NOBODY}`"
    )


def test_another_user_is_told_both() -> None:
    """The bot may be either user's."""
    with as_a_stranger() as directory:
        said = find_exposure(directory)
        os.seteuid(0)
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(STRANGER)
        other = find_exposure(directory)
    assert said is None
    assert other == (
        f"it belongs to another user: run `chown -R {STRANGER} {directory}` after checking its contents, "
        f"or run this as uid {NOBODY} if that is the bot's user"
    )


def test_a_missing_path_raises_the_systems_error(tmp_path: Path) -> None:
    """The caller decides what that means."""
    with pytest.raises(FileNotFoundError):
        find_exposure(tmp_path / "nowhere")


READ = [(0o644, True), (0o640, True), (0o604, True), (0o660, True), (0o600, False), (0o400, False)]


@pytest.mark.parametrize(("mode", "is_read"), READ, ids=[oct(mode) for mode, _ in READ])
def test_a_file_of_this_user_must_be_closed_to_its_group(tmp_path: Path, mode: int, *, is_read: bool) -> None:
    """A group has members, today or tomorrow."""
    place = tmp_path / "file"
    place.touch()
    place.chmod(mode)
    assert is_read_by_others(place) is is_read


@pytest.mark.parametrize(("mode", "is_read"), [(0o640, False), (0o600, False), (0o444, True), (0o644, True)])
def test_a_file_of_another_user_may_be_read_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, *, is_read: bool
) -> None:
    """For example one of root's that the bot's group can read."""
    place = tmp_path / "file"
    place.touch()
    place.chmod(mode)
    give_away(place, monkeypatch)
    assert is_read_by_others(place) is is_read


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A shell makes one for `<(command)`, readable by all."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    assert is_read_by_others(pipe) is False
