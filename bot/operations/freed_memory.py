"""Has the C library overwrite what Python frees: otherwise copies of a token stay in memory after it was forgotten.

glibc takes this at the start of a process only, so the process replaces itself once, under the same process id.
"""

import os
import sys
from collections.abc import Iterator
from typing import Final

ALLOCATOR: Final = "PYTHONMALLOC"
TUNABLES: Final = "GLIBC_TUNABLES"
_LIBC: Final = "CS_GNU_LIBC_VERSION"
_EACH_OBJECT: Final = "malloc"
"""Of Python: its own allocator, for objects up to 512 bytes, overwrites nothing."""

OVERWRITE: Final = ("glibc.malloc.perturb=165", "glibc.malloc.tcache_count=0")
"""Fill what is freed with this byte; without the second, seven blocks of each size and thread are left as they are."""


def overwrite_freed_memory() -> list[str]:
    """Start the process again with these settings, unless it has them; return warnings if that is not possible.

    The image and the systemd unit set both, which saves the 50 ms. Call it before anything is opened.
    """
    is_glibc = _LIBC in os.confstr_names and (os.confstr(_LIBC) or "").startswith("glibc")
    return list(_restart(dict(os.environ))) if is_glibc else []  # others have no such setting: see SECURITY.md


def _restart(environment: dict[str, str]) -> Iterator[str]:
    given = environment.get(TUNABLES, "")
    missing = [each for each in OVERWRITE if each not in given.split(":")]
    allocator = environment.get(ALLOCATOR)
    if allocator not in (None, _EACH_OBJECT) or sys.flags.ignore_environment:
        yield f"{ALLOCATOR}: does not let the bot overwrite freed memory; unset it, and start Python without -E and -I"
    elif allocator is None or missing:
        environment |= {ALLOCATOR: _EACH_OBJECT, TUNABLES: ":".join(filter(None, [given, *missing]))}
        try:
            os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606 - this very program
        except OSError as error:
            problem = f"freed memory is not overwritten, since the program could not start again ({error.strerror})"
            yield f"{ALLOCATOR}: {problem}; set {ALLOCATOR} and {TUNABLES} as the Dockerfile does"
