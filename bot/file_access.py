"""Why this user cannot use a file or directory, and the command that helps: `Permission denied` alone names neither."""

import errno
import os
import shlex
from pathlib import Path
from typing import Final

_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM})
_FIXES: Final = {
    errno.EROFS: "its file system is read-only: mount a writable one there, or name another place",
    errno.ENOLCK: "its file system cannot lock files: name a place on a local disk",
    errno.EOPNOTSUPP: "its file system cannot lock files: name a place on a local disk",
    errno.EISDIR: "a directory is in its place: remove that",
    errno.ENOTDIR: "a part of the path is a file: name another place, or move that file away",
    errno.ENOENT: "there is no such place: correct the path, or create it",
    errno.ELOOP: "a link is in its place: remove it, or name the place that it leads to",
    errno.EFBIG: "the process may not write files of that size: raise its limit (ulimit -f)",
}


def explain(error: OSError, path: Path, *, tree: Path | None = None) -> str:
    """Return the system's reason and, where one is known, the fix. `tree`: a directory of the bot's own that holds it.

    Never raises; says nothing of a file's content.
    """
    reason = error.strerror or "it cannot be opened"
    fix = find_fix(error, path, tree=tree)
    return f"({reason}): {fix}" if fix else f"({reason})"


def find_fix(error: OSError, path: Path, *, tree: Path | None = None) -> str:
    """Return the fix alone, or "" where none is known."""
    try:
        return _find_fix(error.errno, path, tree)
    except (OSError, ValueError):  # it changed meanwhile, or is no possible path
        return ""


def advise_root(place: Path) -> str:
    """Return how to run this as the user whose place it is, if this is root and the place is not; else "".

    What root creates there, and what it hands over to itself, keeps the bot of that user out. Raises OSError.
    """
    status = place.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        return ""
    command = f"setpriv --reuid {status.st_uid} --regid {status.st_gid} --clear-groups"
    return f"run this as its user, uid {status.st_uid}: with `{command}` before it, or `docker exec -u {status.st_uid}`"


def or_as(owner: int) -> str:
    """Return what follows the advice to hand a place over to this user: it may be a bot's."""
    return f", or run this as uid {owner} if that is the bot's user" if owner != 0 else ""


def _find_fix(number: int | None, path: Path, tree: Path | None) -> str:
    if number in _PERMISSION:
        return _grant(path, tree)
    if number != errno.ELOOP and path.is_symlink() and _owner(path) is None:
        return "it is a link that leads nowhere: correct the link, or remove it"
    if number == errno.EEXIST:
        return "a file is in its place: name another place, or move that file away"
    return _FIXES.get(number or 0, "")


def _grant(path: Path, tree: Path | None) -> str:
    """Return what makes the path usable for the effective user: the first obstacle on the way to it counts."""
    user = os.geteuid()
    for parent in reversed(_absolute(tree or path).parents):
        if _owner(parent) is not None and not os.access(parent, os.X_OK, effective_ids=True):
            return f"uid {user} cannot enter {parent}: let it, or name another place"
    owners = [owner for each in (tree, path) if each is not None and (owner := _owner(each)) is not None]
    if not owners:
        return _make_room(path, user, is_directory=path == tree)
    if as_its_user := advise_root(path if tree is None or _owner(tree) is None else tree):
        return as_its_user
    if others := [owner for owner in owners if owner != user]:
        command = f"chown {'-R ' if tree else ''}{user} {_quote(tree or path)}"
        return f"the bot runs as uid {user}, so run `{command}`{or_as(others[0])}"
    return f"its mode keeps its own user out: run `chmod {'-R u+rwX' if tree else 'u+rw'} {_quote(tree or path)}`"


def _make_room(path: Path, user: int, *, is_directory: bool) -> str:
    parent = next(each for each in _absolute(path).parents if _owner(each) is not None)
    obstacle = f"uid {user} may not write to {parent}"
    if as_its_user := advise_root(parent):
        return f"{obstacle}: {as_its_user}"
    if is_directory:
        return f"{obstacle}: name another place, or run `install -d -m 700 -o {user} {_quote(path)}`"
    return f"{obstacle}: name a directory that it owns"


def _owner(path: Path) -> int | None:
    """Return the uid, or None if there is no such place, or none that this user can see."""
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:  # the working directory was removed
        return path


def _quote(path: Path) -> str:
    return shlex.quote(str(_absolute(path)))
