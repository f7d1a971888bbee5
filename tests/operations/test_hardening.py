"""A started process cannot be dumped or traced, creates files for its user only, and logs no TLS keys or secrets."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bot

LOOK = """
import json, os, resource, sys
from bot.operations.hardening import harden
warnings = harden()
import ctypes, ssl, aiohttp, httpx
from aiohttp.connector import _SSL_CONTEXT_VERIFIED
umask = os.umask(0)
logs = [context.keylog_filename for context in (_SSL_CONTEXT_VERIFIED, httpx.create_ssl_context(),
                                                ssl.create_default_context())]
print(json.dumps({
    "warnings": warnings,
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0,
    "umask": umask,
    "logs": logs,
}))
"""

FORGET = """
import os, subprocess
from pathlib import Path
from wsgiref.handlers import BaseHandler
from bot.operations.hardening import forget_variables
os.environ["LATER"] = "MADEUP-set-later"
forget_variables(["SECRET", "LATER", "NOT_SET"])
print(Path("/proc/self/environ").read_text() if os.path.exists("/proc/self") else "")
print(subprocess.check_output(["env"], text=True), os.environ, BaseHandler.os_environ)
"""

COMMAND = """
import ctypes, resource, sys
from contextlib import suppress
from bot.cli import main
with suppress(SystemExit):
    main(sys.argv[1:])
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0
print(*resource.getrlimit(resource.RLIMIT_CORE), dumpable)
"""

CRASH = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from bot.operations.hardening import harden
harden()
os.abort()
"""


def _run(program: str, environment: dict[str, str], *arguments: str) -> str:
    path = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(bot.__file__).parent.parent)}
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program, *arguments], env=path | environment, capture_output=True, text=True, check=True
    ).stdout


def test_no_other_user_can_read_the_process(tmp_path: Path) -> None:
    """No TLS context of any library that the bot uses logs its keys, although the environment requests it."""
    found = json.loads(_run(LOOK, {"SSLKEYLOGFILE": str(tmp_path / "keys.log")}))
    [warning] = found.pop("warnings")
    assert warning.startswith("SSLKEYLOGFILE: is ignored")
    assert str(tmp_path) not in warning
    assert found == {"core": [0, 0], "dumpable": 0, "umask": 0o077, "logs": [None, None, None]}
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_variable_is_nowhere() -> None:
    """Neither in the environment or a copy of it, nor in what a child inherits, nor where the kernel put it."""
    shown = _run(FORGET, {"SECRET": "MADEUP-of-the-start", "OTHER": "stays"})
    assert "MADEUP" not in shown
    assert shown.count("OTHER") == (4 if sys.platform == "linux" else 3)


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("check",), ("health",), ("manifest",), ("keygen", "/"), ("backup", "/"), ("restored",)],
    ids=lambda arguments: arguments[0],
)
def test_every_command_is_hardened(arguments: tuple[str, ...]) -> None:
    """Also one that needs no secret: the environment of a container holds all of them."""
    shown = _run(COMMAND, {"R2_CREDENTIAL_HTTP_PORT": "0", "R2_CREDENTIAL_DATA_DIR": "/dev/null"}, *arguments)
    assert shown.splitlines()[-1] == "0 0 0"


def test_a_crash_leaves_no_core_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file nor, by what the kernel says of its end, anything for the program that collects core dumps."""
    monkeypatch.chdir(tmp_path)
    path = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(bot.__file__).parent.parent)}
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", CRASH], path)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.iterdir()) == []
