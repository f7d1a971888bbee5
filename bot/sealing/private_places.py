"""Says whether a directory or a file is this user's alone: who can write there can plant a key, and read what it seals.

Directories above are not looked at. Who can write those can move ours away, but not put another of ours in its place.
"""

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ALL_BUT_OWNER = stat.S_IRWXG | stat.S_IRWXO


def find_exposure(path: Path) -> str | None:
    """Return what is wrong, with the fix, where somebody other than this user and root owns it, or can write it.

    A symbolic link counts as what it leads to, and its own owner counts as well. Raises OSError.
    """
    status, user = path.stat(), os.geteuid()
    if not {status.st_uid, path.lstat().st_uid} <= {user, 0}:
        return f"it belongs to another user: run `chown -R {user} {path}` once you know who put there what is in it"
    if status.st_mode & _OTHERS_WRITE:
        return f"others can write it: run `chmod go-w {path}`{_OF_A_VOLUME if path.is_dir() else ''}"
    return None


def is_read_by_others(path: Path) -> bool:
    """Whether users other than this one and root can read a file or look into a directory. Raises OSError.

    What belongs to another user, root for example, was handed over by its group: that one does not count then. What is
    neither a file nor a directory, a pipe for example, is read once.
    """
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return False
    return bool(status.st_mode & (_ALL_BUT_OWNER if status.st_uid == os.geteuid() else stat.S_IRWXO))


_OF_A_VOLUME = ". For a volume with an fsGroup (Kubernetes), name a new directory inside of it instead"
