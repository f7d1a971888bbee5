"""A started process cannot be dumped or traced, creates files for its user only, and logs no TLS keys."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_no_other_user_can_read_the_process(tmp_path: Path) -> None:
    """No TLS context of any library that the bot uses logs its keys, although the environment requests it."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(Path(bot.__file__).parent.parent),
        "SSLKEYLOGFILE": str(tmp_path / "keys.log"),
    }
    looked = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(looked.stdout)
    [warning] = found.pop("warnings")
    assert warning.startswith("SSLKEYLOGFILE: is ignored")
    assert str(tmp_path) not in warning
    assert found == {"core": [0, 0], "dumpable": 0, "umask": 0o077, "logs": [None, None, None]}
    assert list(tmp_path.iterdir()) == []
