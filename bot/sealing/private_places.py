"""Checks that only this user controls a path: anyone who can write there can plant a key, and read what it seals.

Parent directories are not checked. Anyone who can write those can move ours away, but not replace it by another one
that this user owns.
"""

import os
import stat
from pathlib import Path

from bot.file_access import advise_root, or_as

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ALL_BUT_OWNER = stat.S_IRWXG | stat.S_IRWXO


def find_exposure(path: Path, place: Path | None = None) -> str | None:
    """Return the problem and its fix if anyone except this user and root owns the path or can write to it, else None.

    `place` is the directory of the bot whose owner its user is; by default the path itself, or the directory of a file.
    For a symbolic link, the target and the owner of the link are checked. Raises OSError.
    """
    status, user = path.stat(), os.geteuid()
    owners = [each for each in (status.st_uid, path.lstat().st_uid) if each not in (user, 0)]
    if owners:
        fix = advise_root(place or (path if path.is_dir() else path.parent))
        fix = fix or f"run `chown -R {user} {path}` after checking its contents{or_as(owners[0])}"
        return f"it belongs to another user: {fix}"
    if status.st_mode & _OTHERS_WRITE:
        return f"others can write to it: run `chmod go-w {path}`{_OF_A_VOLUME if path.is_dir() else ''}"
    return None


def is_read_by_others(path: Path) -> bool:
    """Return whether users other than this one and root can read a file or list a directory. Raises OSError.

    A path of another user, for example root, was given to this one through its group, so the group does not count.
    Anything else, for example a pipe, can be read only once and passes.
    """
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    return bool(status.st_mode & (_ALL_BUT_OWNER if status.st_uid == os.geteuid() else stat.S_IRWXO))


_OF_A_VOLUME = ". For a volume with an fsGroup (Kubernetes), name a new directory inside it instead"
