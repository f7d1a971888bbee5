"""The operator's `.env`: any file becomes settings, or problems that quote no value."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st

from bot.model.role import Role
from bot.settings import SettingsError, SlackSettings, load_database_settings, load_listen_settings, load_settings
from tests.fuzz.target import PLANTED, STAND_IN, TEXT, Check, Target, changed_bytes
from tests.leaks import find_leaks
from tests.test_settings import GOOD, OURS

_ODD: Final = (
    *("", '"', "'", '"a', "${R2_CREDENTIAL_CONTACT}", "${A:-${A}}", "\\", "\\n", "1h # one", "...", "xoxb-...", ","),
    *("0", "-1", "65536", "\u0663", "9" * 5000, "1" * 30, "7d", "8d", "off", "0d", "90s", "true", "debug", "json"),
    *("U0ALICE", "S0OPS", "C0DATA", "@ada", "lake*", "[a-", "*", "a" * 64),
    *("https://a.b/", "http://127.0.0.1:99999/", "https://[::1", "https://\u2100.com/", "https://a:b@c/", "//", "::1"),
    *("postgresql://a:b@c/d", "postgresql://[", "postgresql://a@b:x/", "sqlite:///", "sqlite:///a\x00b", "mysql://a"),
    *("::1/128", "[::1]:x", "10.0.0.0/99", "proxy.example:3128", "socks5://a", "http://u:%zz@p:1", "/no/such/file"),
    *(STAND_IN, f"http://u:{STAND_IN}@p:1", f"xoxb-{STAND_IN}", "-----BEGIN PRIVATE KEY-----", "~/x", "$HOME", "\x00"),
)
_NAMES: Final = (
    *sorted(field.alias for field in SlackSettings.model_fields.values() if field.alias),
    *("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "ALL_PROXY", "R2_CREDENTIAL_SEALING_KEY_FILE"),
    *("R2_CREDENTIAL_ALOWED_USERS", "SLACK_BOT_TOKEN_FILE", "export SLACK_BOT_TOKEN", "A", "#", ""),
)
_ANY: Final = ("R2_CREDENTIAL_DATABASE_URL", "HTTPS_PROXY", "NO_PROXY", "R2_CREDENTIAL_TTL", "R2_CREDENTIAL_HTTP_PORT")
_BASE: Final = "".join(f"{name}={value}\n" for name, value in GOOD.items()).encode()


@contextmanager
def _env_files() -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name in [name for name in os.environ if name.upper().startswith(OURS)]:
            patch.delenv(name)
        yield _check_env_file


def _check_env_file(data: bytes) -> None:
    """Load it for each role, and each part that a command needs alone."""
    path = Path(".env")
    path.write_bytes(_plant_values(data))
    said: list[str] = []
    for role in Role:
        try:
            said += load_settings(path, role).warnings
        except SettingsError as error:
            assert error.__cause__ is None
            assert error.problems
            said += error.problems
    for load in (load_listen_settings, load_database_settings):
        try:
            load(path)
        except SettingsError as error:
            said += error.problems
    assert all(line.isprintable() for line in said), said
    assert find_leaks("\n".join(said).encode(), PLANTED) == []


def _plant_values(data: bytes) -> bytes:
    """Plant the token in values only: a name that is unknown is quoted."""
    lines = (line.partition(b"=") for line in data.split(b"\n"))
    return b"\n".join(b"".join((n, s, v.replace(STAND_IN.encode(), PLANTED.encode()))) for n, s, v in lines)


def _write(lines: list[tuple[str, str]], *, is_quoted: bool, has_rest: bool) -> bytes:
    quote = '"' if is_quoted else ""
    written = "".join(f"{name}={quote}{value}{quote}\n" for name, value in lines)
    return written.encode("utf-8", "surrogatepass" if is_quoted else "replace") + (_BASE if has_rest else b"")


_LINES: Final = st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_ODD) | TEXT), max_size=4)
_SEEDS: Final = (
    _BASE,
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf" + _BASE,
    _BASE.replace(b"\n", b"\r\n"),
    *("".join(f"{name}={value}\n" for name in _NAMES).encode() for value in ("x", STAND_IN)),
    *("".join(f"{name}={value}\n" for name in _ANY).encode("utf-8") + _BASE for value in _ODD),
)

TARGETS: Final = (
    Target(
        name="settings",
        open=_env_files,
        slice=12,
        seeds=_SEEDS,
        inputs=st.builds(_write, _LINES, is_quoted=st.booleans(), has_rest=st.booleans()) | changed_bytes(_SEEDS[:6]),
    ),
)
