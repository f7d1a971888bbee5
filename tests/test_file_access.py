"""A file that cannot be used is explained: who owns it, who asks, and the command that helps."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.file_access import explain
from tests.privileges import STRANGER, as_a_stranger, file_modes_hold

USER = os.geteuid()
OTHER = 65534


@pytest.fixture(autouse=True)
def _as_an_ordinary_user() -> Iterator[None]:
    with file_modes_hold():
        yield


def fault(path: Path, act: Callable[[Path], object] = Path.read_text) -> OSError:
    """Return the error of using a path."""
    with pytest.raises(OSError, match=r".") as caught:
        act(path)
    return caught.value


def hand_to_another_user(path: Path) -> None:
    """Give a path away; only root can."""
    if USER != 0:
        pytest.skip("only root gives a file to another user")
    os.chown(path, OTHER, -1)


def make_closed(path: Path) -> Path:
    """Create a directory that its own user cannot enter."""
    path.mkdir(mode=0o000)
    return path


def make_for(user: int, path: Path, mode: int = 0o600) -> None:
    """Create a file for a user; only root can."""
    os.seteuid(0)
    path.touch(mode=mode)
    os.chown(path, user, user)
    os.seteuid(STRANGER)


@pytest.mark.parametrize(
    ("owner", "end"),
    [
        pytest.param(0, "", id="root"),
        pytest.param(OTHER, f", or run this as uid {OTHER} if that is the bot's user", id="another user"),
    ],
)
def test_a_file_of_another_user_is_handed_over(owner: int, end: str) -> None:
    """With the real uid and the whole path; the bot may be the other user's, and this command not."""
    with as_a_stranger() as directory:
        path = directory / "a secret"
        make_for(owner, path)
        said = explain(fault(path), path)
    assert said == f"(Permission denied): the bot runs as uid {STRANGER}, so run `chown {STRANGER} '{path}'`{end}"


@pytest.mark.parametrize("name", ["", "lock", "keys/key.pem"])
def test_a_directory_of_another_user_is_handed_over_as_a_whole(name: str) -> None:
    """A volume that root made: whichever file in it was tried first."""
    with as_a_stranger() as directory:
        tree = directory / "data"
        os.seteuid(0)
        (tree / "keys").mkdir(parents=True)
        (tree / "keys/key.pem").touch()
        tree.chmod(0o700)
        os.seteuid(STRANGER)
        said = explain(PermissionError(errno.EACCES, "No"), tree / name, tree=tree)
    assert said == f"(No): the bot runs as uid {STRANGER}, so run `chown -R {STRANGER} {tree}`"


@pytest.mark.parametrize("name", ["data", "data/lock", "data/missing/lock"])
def test_root_is_told_to_run_as_the_user_whose_place_it_is(tmp_path: Path, name: str) -> None:
    """Root in a container may have no right to the files of others; handing them over would break their bot."""
    tree = tmp_path / "data"
    tree.mkdir()
    hand_to_another_user(tree)
    said = explain(PermissionError(errno.EACCES, "No"), tmp_path / name, tree=tree)
    assert said == (
        f"(No): run this as its user, uid {OTHER}: with `setpriv --reuid {OTHER} --regid {tree.stat().st_gid} "
        f"--clear-groups` before it, or `docker exec -u {OTHER}`"
    )


def test_root_makes_no_directory_of_its_own_in_the_place_of_another_user(tmp_path: Path) -> None:
    """The bot of that user could not use it."""
    hand_to_another_user(tmp_path)
    tmp_path.chmod(0o755)
    tree = tmp_path / "data"
    assert f"uid {USER} may not write to {tmp_path}: run this as its user, uid {OTHER}" in (
        explain(PermissionError(errno.EACCES, "No"), tree, tree=tree)
    )


def test_a_file_of_another_user_in_an_own_directory_is_handed_over_with_it(tmp_path: Path) -> None:
    """As after one start as another user."""
    path = tmp_path / "bot.sqlite"
    path.touch(mode=0o600)
    hand_to_another_user(path)
    assert f"`chown -R {USER} {tmp_path}`" in explain(fault(path), path, tree=tmp_path)


def test_an_own_file_needs_its_mode(tmp_path: Path) -> None:
    """There is nothing to hand over."""
    path = tmp_path / "own"
    path.touch(mode=0o000)
    assert (
        explain(fault(path), path) == f"(Permission denied): its mode keeps its own user out: run `chmod u+rw {path}`"
    )
    assert f"`chmod -R u+rwX {tmp_path}`" in explain(fault(path), path, tree=tmp_path)


@pytest.mark.parametrize("name", ["file", "directory/file", "directory/deeper/file"])
def test_a_closed_directory_on_the_way_is_named(tmp_path: Path, name: str) -> None:
    """Not the file in it, which nobody can see."""
    closed = make_closed(tmp_path / "closed")
    path = closed / name
    said = explain(fault(path), path)
    assert said == f"(Permission denied): uid {USER} cannot enter {closed}: let it, or name another place"


def test_a_directory_that_cannot_be_made_is_made_by_root(tmp_path: Path) -> None:
    """For the user who needs it."""
    tmp_path.chmod(0o500)
    tree = tmp_path / "data"
    said = explain(fault(tree, Path.mkdir), tree, tree=tree)
    assert said.startswith(f"(Permission denied): uid {USER} may not write to {tmp_path}: name another place, or run")
    assert said.endswith(f"`install -d -m 700 -o {USER} {tree}`")


def test_a_file_that_cannot_be_made_needs_another_directory(tmp_path: Path) -> None:
    """Handing over a directory that others use would be the wrong advice."""
    tmp_path.chmod(0o500)
    path = tmp_path / "file"
    said = explain(fault(path, Path.touch), path)
    assert said == f"(Permission denied): uid {USER} may not write to {tmp_path}: name a directory that it owns"


def make_dangling(path: Path) -> None:
    """Create a link to nothing."""
    path.symlink_to("nowhere")


def make_circle(path: Path) -> None:
    """Create a link to itself."""
    path.symlink_to(path)


def make_nothing(_: Path) -> None:
    """Create nothing."""


OBSTACLES = {
    "a directory": (Path.mkdir, Path.read_text, "(Is a directory): a directory is in its place"),
    "nothing": (make_nothing, Path.read_text, "(No such file or directory): there is no such place"),
    "a dangling link": (make_dangling, Path.read_text, "(No such file or directory): it is a link that leads nowhere"),
    "a dangling link for a directory": (make_dangling, Path.mkdir, "(File exists): it is a link that leads nowhere"),
    "a circle": (make_circle, Path.read_text, "(Too many levels of symbolic links): a link is in its place"),
    "a file": (Path.touch, Path.mkdir, "(File exists): a file is in its place"),
    "a file on the way": (Path.touch, lambda path: (path / "x").read_text(), "(Not a directory): a part of the path"),
}


@pytest.mark.parametrize(("make", "use", "said"), OBSTACLES.values(), ids=OBSTACLES)
def test_other_obstacles_have_their_own_fix(
    tmp_path: Path, make: Callable[[Path], None], use: Callable[[Path], object], said: str
) -> None:
    """The command to hand over would not help."""
    path = tmp_path / "place"
    make(path)
    assert explain(fault(path, use), path).startswith(said)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "is read-only"), (errno.ENOLCK, "cannot lock files"), (errno.EFBIG, "ulimit -f")],
)
def test_faults_of_a_file_system_are_named(tmp_path: Path, number: int, words: str) -> None:
    """A fault that no test can bring about on every machine."""
    assert words in explain(OSError(number, os.strerror(number)), tmp_path / "lock", tree=tmp_path)


@pytest.mark.parametrize("path", ["\0", "x" * 300])
def test_an_impossible_path_has_only_the_systems_reason(path: str) -> None:
    """Explaining never raises."""
    assert explain(OSError(errno.ENAMETOOLONG, "File name too long"), Path(path)) == "(File name too long)"
    assert explain(OSError(), Path(path)) == "(it cannot be opened)"
