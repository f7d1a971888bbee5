"""The command line: a bad start reports everything at once with exit code 2, and each command does its job."""

import io
import json
import logging
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

import bot
from bot.cli import main
from bot.sandbox.process import find_free_port
from bot.slack.manifest import build_manifest
from bot.storage.sqlite import SqliteDatabase
from tests.privileges import STRANGER, give_to_a_stranger, states_below, with_a_full_disk, without_an_account

ROOT = Path(bot.__file__).parent.parent
REFUSED = 2
MARK = "MARKED7f3a"
"""Made up, and part of every bad value: no output may contain it."""

GOOD = {
    "SLACK_BOT_TOKEN": "xoxb-MADEUP-1",
    "SLACK_APP_TOKEN": "xapp-MADEUP-1",
    "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "CLOUDFLARE_API_TOKEN": "cfat_MADEUP0000000000",
    "R2_CREDENTIAL_ALLOWED_USERS": "U0ALICE",
}
BAD = dict.fromkeys(GOOD, f"{MARK} x") | {"R2_CREDENTIAL_TTL": MARK, "R2_CREDENTIAL_HTTP_PORT": MARK}


@pytest.fixture(autouse=True)
def _empty_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Work in an empty directory without settings, and restore what a start changes in the process."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions, sys.getswitchinterval()
    umask = os.umask(0o022)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_")):
            monkeypatch.delenv(name)
    yield
    root.handlers[:], level, logging.raiseExceptions, interval = before
    root.setLevel(level)
    sys.setswitchinterval(interval)
    os.umask(umask)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Everything it printed."""
        return self.stdout + self.stderr


def call(*arguments: str, environment: dict[str, str] | None = None) -> Ended:
    """Run a command in this process; a bot that starts listens on a free port."""
    port = {"R2_CREDENTIAL_HTTP_PORT": str(find_free_port())}
    exit_code = 0
    with (
        patch.dict(os.environ, port | (environment or {})),
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
    ):
        try:
            main(arguments)
        except SystemExit as ended:
            exit_code = int(ended.code or 0)
    return Ended(exit_code=exit_code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def call_process(
    *arguments: str,
    environment: dict[str, str],
    output_to: int = subprocess.PIPE,
    errors_to: int = subprocess.PIPE,
    before: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, with only the given environment, and words before it."""
    path = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(bot.__file__).parent.parent)}
    path["R2_CREDENTIAL_HTTP_PORT"] = "0"  # the usual one may be in use
    return subprocess.run(  # noqa: S603 - our own program
        [*before, sys.executable, "-m", "bot", *arguments],
        env=path | environment,
        stdout=output_to,
        stderr=errors_to,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_bad_start_reports_all_problems_and_no_value() -> None:
    """As a process: exit code 2, a line on stderr for each setting, nothing on stdout, and no value."""
    Path(".env").write_text(f"R2_CREDENTIAL_ALOWED_USERS={MARK}\n")
    ended = call_process("run", environment=BAD | {"R2_CREDENTIAL_CONTCAT": MARK})
    assert ended.returncode == REFUSED
    first, *problems = ended.stderr.splitlines()
    assert first == "The bot cannot start. Fix these settings:"
    told = {problem.partition(":")[0] for problem in problems}
    assert told == {*BAD, "R2_CREDENTIAL_ALOWED_USERS", "R2_CREDENTIAL_CONTCAT"}
    assert MARK not in ended.stdout + ended.stderr
    assert ended.stdout == ""
    assert list(Path.cwd().iterdir()) == [Path(".env").absolute()]


def test_a_start_without_settings_is_a_bad_start() -> None:
    """Anyone who runs it without reading the README learns what to set."""
    ended = call("run")
    assert ended.exit_code == REFUSED
    assert len(ended.stderr.splitlines()) == 7
    assert "no one is listed" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f".env: there is none in {Path.cwd()}; run this in the directory")
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"R2_CREDENTIAL_DATA_DIR": "occupied"}, "R2_CREDENTIAL_DATA_DIR: occupied", id="data directory"),
        pytest.param(
            {"R2_CREDENTIAL_SEALING_KEY": f"-----BEGIN PRIVATE KEY-----{MARK}-----END PRIVATE KEY-----"},
            "R2_CREDENTIAL_SEALING_KEY: is not an X25519 private key in PKCS#8 PEM (`r2-credential-bot keygen PATH`",
            id="sealing key",
        ),
        pytest.param(
            {"R2_CREDENTIAL_DATABASE_URL": "sqlite:////"}, "R2_CREDENTIAL_DATABASE_URL: / cannot", id="database"
        ),
    ],
)
def test_a_start_that_fails_later_says_why(change: dict[str, str], said: str) -> None:
    """Valid settings that do not work end with exit code 2 too, with name and fix, without a traceback."""
    Path("occupied").write_text("")
    ended = call("run", environment=GOOD | change)
    assert ended.exit_code == REFUSED
    first, second = ended.stderr.splitlines()
    assert first == "The bot cannot start."
    assert second.startswith(said)
    assert MARK not in ended.output


def test_an_unexpected_error_is_logged_and_ends_with_1() -> None:
    """The settings are not the cause, so a restart may help; the log says where it happened."""
    with ThreadPoolExecutor(1) as thread:  # only the main thread may set signal handlers: an unexpected error
        ended = thread.submit(call, "run", environment=GOOD | {"R2_CREDENTIAL_LOG_FORMAT": "json"}).result()
    assert ended.exit_code == 1
    assert '"event": "crashed"' in ended.stderr
    assert "main thread" in ended.stderr


def test_a_user_without_an_account_and_a_home_gets_as_far_as_any_other(tmp_path: Path) -> None:
    """OpenShift gives out random uids; in a directory that they may not write, the fix names the uid."""
    before = without_an_account()
    tmp_path.chmod(0o555)
    ended = call_process("run", environment=GOOD, before=before)
    assert ended.returncode == REFUSED
    [first, problem] = ended.stderr.splitlines()
    assert first == "The bot cannot start."
    assert problem == (
        f"R2_CREDENTIAL_DATA_DIR: data cannot be used (Permission denied): uid {STRANGER} may not write to {tmp_path}: "
        f"name another place, or run `install -d -m 700 -o {STRANGER} {tmp_path / 'data'}`"
    )
    assert call_process("manifest", environment={}, before=before).stdout == build_manifest(None)
    assert call_process("health", environment={"R2_CREDENTIAL_HTTP_PORT": "9"}, before=before).returncode == 1
    assert "cannot be written (Permission denied)" in call_process("keygen", "k", environment={}, before=before).stderr


@pytest.mark.thorough
def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """Exit code 2 would keep the bot down when there is room again; the log says what to do."""
    data = tmp_path / "data"
    data.mkdir()
    environment = GOOD | {"R2_CREDENTIAL_DATA_DIR": str(data), "SLACK_API_URL": "http://127.0.0.1:9/api/"}
    environment |= {"R2_CREDENTIAL_HTTP_PORT": "0", "PYTHONPATH": str(ROOT), "PATH": os.environ.get("PATH", "")}
    with subprocess.Popen(  # noqa: S603 - our own program
        [*with_a_full_disk(data), sys.executable, "-m", "bot", "run"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stderr is not None
        events: list[str] = []
        for line in started.stderr:
            events.append(json.loads(line)["event"])
            if events[-1] == "disk_full":
                Path(f"/proc/{started.pid}/root{data}/fill").unlink(missing_ok=True)
            elif events[-1] == "slack_not_reached":  # the database is open
                started.terminate()
        started.wait()
    assert started.returncode == 0
    assert events[0] == "disk_full"
    assert events[-2:] == ["stopping", "stopped"]


SURROUNDINGS = {
    "a SOCKS proxy": ({"ALL_PROXY": "socks5://127.0.0.1:1080"}, "ALL_PROXY: is a SOCKS proxy"),
    "no proxy at all": ({"https_proxy": "http://proxy:port"}, "https_proxy: is not a proxy"),
    "a missing CA file": (
        {"SSL_CERT_FILE": "/nowhere.pem"},
        "SSL_CERT_FILE: cannot be read (No such file or directory)",
    ),
    "an empty CA file": ({"SSL_CERT_FILE": os.devnull}, "SSL_CERT_FILE: has no certificate in PEM"),
    "no CA directory": ({"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR: has no certificate"),
}


@pytest.mark.parametrize(("change", "said"), SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_environment_variables_that_cannot_work_are_named(change: dict[str, str], said: str) -> None:
    """Exit code 2 and a line: with 1, a supervisor would retry forever."""
    ended = call("run", environment=GOOD | change)
    assert ended.exit_code == REFUSED
    [_, problem] = ended.stderr.splitlines()
    assert problem.startswith(said)


@pytest.mark.parametrize("entries", ["localhost,fd12:3456::/48", "localhost,[::1]", "::1/128"])
def test_any_form_of_no_proxy_starts(entries: str) -> None:
    """Other programs accept these forms, so environments have them; the start goes on to the next problem."""
    Path("occupied").write_text("")
    change = {"NO_PROXY": entries, "HTTPS_PROXY": "http://proxy:3128", "R2_CREDENTIAL_DATA_DIR": "occupied"}
    ended = call("run", environment=GOOD | change)
    assert ended.exit_code == REFUSED
    assert "R2_CREDENTIAL_DATA_DIR: occupied" in ended.stderr


def test_an_unknown_name_in_the_environment_is_a_warning() -> None:
    """It is logged with a suggestion, and the start goes on to the next problem."""
    Path("occupied").write_text("")
    ended = call("run", environment=GOOD | {"R2_CREDENTIAL_TLT": MARK, "R2_CREDENTIAL_DATA_DIR": "occupied"})
    warning, refusal, _ = ended.stderr.splitlines()
    logged = json.loads(warning)
    assert (logged["level"], logged["event"]) == ("warning", "setting_questionable")
    assert logged["found"] == "R2_CREDENTIAL_TLT: is not a setting of this bot; did you mean R2_CREDENTIAL_TTL?"
    assert refusal == "The bot cannot start."


@pytest.mark.parametrize("is_gone", [True, False], ids=["a reader that left", "a reader that sleeps"])
def test_a_warning_that_nobody_reads_does_not_stop_the_start(*, is_gone: bool) -> None:
    """The start goes on to the next trouble, and ends with its exit code."""
    Path("occupied").write_text("")
    change = {"R2_CREDENTIAL_TLT": MARK, "R2_CREDENTIAL_DATA_DIR": "occupied"}
    reader, writer = os.pipe()
    if is_gone:
        os.close(reader)
    else:
        fill(writer)
    try:
        assert call_process("run", environment=GOOD | change, errors_to=writer).returncode == REFUSED
    finally:
        os.close(writer)
        if not is_gone:
            os.close(reader)


def fill(pipe: int) -> None:
    """Write until the pipe holds no more."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"." * 256)
    os.set_blocking(pipe, True)


def test_a_file_of_settings_that_others_can_read_is_a_warning() -> None:
    """It is logged, and the start goes on to the next problem."""
    Path("occupied").write_text("")
    Path(".env").write_text("R2_CREDENTIAL_DATA_DIR=occupied\n")
    warning, refusal, _ = call("run", environment=GOOD).stderr.splitlines()
    assert json.loads(warning)["found"].startswith(".env: others can read .env: run `chmod go-rwx .env`")
    assert refusal == "The bot cannot start."


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_health_asks_where_the_bot_listens() -> None:
    """It ignores the proxy in the environment."""
    with HTTPServer(("127.0.0.1", 0), _Healthy) as server, ThreadPoolExecutor(1) as thread:
        environment = {"R2_CREDENTIAL_HTTP_PORT": str(server.server_port), "http_proxy": "http://127.0.0.1:9"}
        answering = thread.submit(server.handle_request)
        ended = call("health", environment=environment | {"R2_CREDENTIAL_HTTP_HOST": "0.0.0.0"})  # noqa: S104 - the image's
        answering.result()
    assert (ended.exit_code, ended.output) == (0, "")
    ended = call("health", environment=environment)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == f"no healthy bot answers on 127.0.0.1, port {server.server_port}\n"
    assert call("health", environment={"R2_CREDENTIAL_HTTP_HOST": "*"}).exit_code == REFUSED


def test_keygen_makes_a_private_key_and_prints_the_public_half() -> None:
    """PKCS#8 PEM with mode 0600, both halves of one pair, and nothing private on the terminal."""
    ended = call("keygen", "key.pem")
    assert ended.exit_code == 0
    path = Path("key.pem")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    public = serialization.load_pem_public_key(ended.stdout.encode())
    assert isinstance(private, X25519PrivateKey)
    assert isinstance(public, X25519PublicKey)
    assert private.public_key().public_bytes_raw() == public.public_bytes_raw()
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert "PRIVATE" not in ended.output


def test_keygen_makes_another_key_each_time() -> None:
    """Two calls make two pairs."""
    assert call("keygen", "one.pem").stdout != call("keygen", "two.pem").stdout


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("there.pem", "there.pem already exists, and a key is never overwritten.", id="a file that exists"),
        pytest.param("missing/key.pem", "missing/key.pem cannot be written (No such file", id="no such directory"),
        pytest.param("there.pem/key.pem", "there.pem/key.pem cannot be written (Not a directory", id="a file as such"),
        pytest.param("x" * 300, "cannot be written (File name too long", id="a name too long"),
        pytest.param(".", ". is not a possible file name", id="this directory"),
        pytest.param("/", "/ is not a possible file name", id="the root"),
        pytest.param("..", ".. already exists", id="the directory above"),
    ],
)
def test_keygen_refuses_a_file_that_it_cannot_create(path: str, said: str) -> None:
    """Exit code 2 and one sentence; an existing file is unchanged."""
    Path("there.pem").write_text("somebody's key")
    ended = call("keygen", path)
    assert ended.exit_code == REFUSED
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert [(each.name, each.read_text()) for each in Path.cwd().iterdir()] == [("there.pem", "somebody's key")]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o772], ids=oct)
def test_keygen_puts_no_key_where_others_can_write(mode: int) -> None:
    """They could replace the key with theirs, and open what it seals."""
    Path("shared").mkdir()
    Path("shared").chmod(mode)
    ended = call("keygen", "shared/key.pem")
    assert ended.exit_code == REFUSED
    assert ended.stderr.startswith(
        "shared: not a safe place for a key, since others can write to it: run `chmod go-w shared`"
    )
    assert list(Path("shared").iterdir()) == []


def _make_database() -> None:
    Path("data").mkdir(mode=0o700)
    database = SqliteDatabase(Path("data/bot.sqlite"))
    database.start()
    database.stop()


def test_a_backup_needs_no_other_setting() -> None:
    """It is made with the place of the database alone, is private, and is never replaced."""
    _make_database()
    made, again = call("backup", "copy.sqlite"), call("backup", "copy.sqlite")
    assert (made.exit_code, made.stdout) == (
        0,
        "copy.sqlite: written. Open submissions that are not in it, and go on in the running bot: 0\n",
    )
    assert stat.S_IMODE(Path("copy.sqlite").stat().st_mode) == 0o600
    assert (again.exit_code, again.stderr) == (
        REFUSED,
        "copy.sqlite already exists, and a backup never replaces one; choose another name\n",
    )


SIGNALLED = """
import os, signal, sys
from bot.cli import main

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

def hear(event, arguments):
    if event == "os.link":
        os.kill(os.getpid(), int(sys.argv[1]))

sys.addaudithook(hear)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("command", ["backup", "keygen"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_leaves_no_unfinished_file(command: str, number: signal.Signals) -> None:
    """It comes when all is written, and nothing has its name yet."""
    _make_database()
    Path("to").mkdir(mode=0o700)
    words = [sys.executable, "-c", SIGNALLED, str(int(number)), command, "to/new"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "")
    assert list(Path("to").iterdir()) == []
    assert [path.name for path in Path("data").iterdir()] == ["bot.sqlite"]


@pytest.mark.parametrize("command", [("backup", "copy.sqlite"), ("restored",)], ids=lambda command: command[0])
def test_a_bad_place_of_the_database_is_reported(command: tuple[str, ...]) -> None:
    """By its name, with the fix and without its value."""
    ended = call(*command, environment={"R2_CREDENTIAL_DATABASE_URL": f"mysql://{MARK}"})
    assert (ended.exit_code, ended.stderr.startswith("R2_CREDENTIAL_DATABASE_URL: is sqlite:///PATH")) == (
        REFUSED,
        True,
    )
    assert MARK not in ended.output


def test_a_restore_can_be_declared() -> None:
    """Without the bot, and as often as one likes; a database that cannot be used is refused as by a start."""
    _make_database()
    for _ in range(2):
        ended = call("restored")
        assert (ended.exit_code, ended.stdout) == (
            0,
            "Open submissions that were ended: 0. The bot tells their users when it runs.\n",
        )
    Path("data/bot.sqlite").write_bytes(b"no database" * 1000)
    ended = call("restored")
    assert ended.exit_code == REFUSED
    assert "is damaged, or no database at all" in ended.stderr


@pytest.mark.parametrize(
    "command", [("run",), ("backup", "copy.sqlite"), ("restored",)], ids=lambda command: command[0]
)
def test_root_does_not_touch_what_is_another_users(command: tuple[str, ...], tmp_path: Path) -> None:
    """A file of root in the data directory would keep the bot of that user from its own database."""
    _make_database()
    data = tmp_path / "data"
    before = states_below(give_to_a_stranger(data))
    ended = call_process(*command, environment=GOOD | {"R2_CREDENTIAL_DATA_DIR": str(data)})
    assert ended.returncode == REFUSED
    assert f"run this as its user, uid {STRANGER}: with `setpriv --reuid {STRANGER} --regid" in ended.stderr
    assert "chown" not in ended.stderr
    assert states_below(data) == before


def test_a_restore_is_not_declared_where_there_is_no_database() -> None:
    """A wrong directory gets no empty database, which would be taken for the restored one."""
    ended = call("restored", environment={"R2_CREDENTIAL_DATA_DIR": "typo"})
    assert ended.exit_code == REFUSED
    assert ended.stderr.startswith("typo/bot.sqlite: there is no database of the bot here; set R2_CREDENTIAL_DATA_DIR")
    assert not Path("typo").exists()


@pytest.mark.parametrize("command", [("backup", "copy.sqlite"), ("restored",)], ids=lambda command: command[0])
def test_another_working_directory_is_named(command: tuple[str, ...]) -> None:
    """Where nothing at all is set, the `.env` that says where the database is was not found."""
    refusal, hint = call(*command, environment={"R2_CREDENTIAL_HTTP_PORT": ""}).stderr.splitlines()
    assert refusal.startswith("data/bot.sqlite: there is no database")
    assert hint.startswith(f".env: there is none in {Path.cwd()}; run this in the directory that has it")


def test_a_start_creates_files_for_its_user_only() -> None:
    """The umask is set before any file is created; the TLS key log is ignored with a warning that names it."""
    Path("data/sealing-keys").mkdir(mode=0o700, parents=True)
    Path("data").chmod(0o700)
    Path("data/sealing-keys/strange.pem").touch(mode=0o600)
    ended = call("run", environment=GOOD | {"SSLKEYLOGFILE": "keys.log"})
    assert ended.exit_code == REFUSED
    assert Path("data/bot.sqlite").exists()
    assert json.loads(ended.stderr.splitlines()[0])["found"].startswith("SSLKEYLOGFILE: is ignored")
    assert not Path("keys.log").exists()
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in Path("data").rglob("*")} == {0}


def test_the_manifest_alone_is_printed() -> None:
    """The output can be piped into a file."""
    assert call("manifest").stdout == build_manifest(None)
    assert call("manifest", "--url", "https://bot.example.com").stdout == build_manifest("https://bot.example.com")


def test_a_manifest_for_a_bad_address_is_refused() -> None:
    """Exit code 2 and a sentence, and no part of a manifest."""
    ended = call("manifest", "--url", "http://bot.example.com")
    assert (ended.exit_code, ended.stdout) == (REFUSED, "")
    assert ended.stderr == "the URL must be https://HOST, where Slack reaches the bot\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nothing"),
        pytest.param(("walk",), id="an unknown command"),
        pytest.param(("run", "--fast"), id="an unknown option"),
        pytest.param(("keygen",), id="a missing path"),
        pytest.param(("backup",), id="no name for a backup"),
        pytest.param(("manifest", "--url"), id="a missing value"),
        pytest.param(("sandbox", "--transport", "pigeon"), id="an unknown transport"),
        pytest.param(("sandbox", "--port", "many"), id="a port that is no number"),
        pytest.param(("sandbox", "--port", "65536"), id="a port too high"),
        pytest.param(("sandbox", "--port", "-1"), id="a port too low"),
    ],
)
def test_a_mistake_on_the_command_line_is_reported(arguments: tuple[str, ...]) -> None:
    """Exit code 2, the usage, and the mistake instead of a traceback; nothing that could end up in a pipe."""
    ended = call(*arguments)
    assert (ended.exit_code, ended.stdout) == (REFUSED, "")
    assert ended.stderr.startswith("usage: r2-credential-bot")
    assert not arguments or ": error: " in ended.stderr.splitlines()[-1]


def test_a_sandbox_port_in_use_is_reported() -> None:
    """Exit code 2 and the fix; nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = call("sandbox", "--port", str(port))
    assert ended.exit_code == REFUSED
    assert ended.stderr.startswith(f"The page cannot listen on port {port} (")
    assert "omit --port" in ended.stderr


def test_the_version_is_printed() -> None:
    """It is the package's version."""
    ended = call("--version")
    assert (ended.exit_code, ended.stdout) == (0, f"{bot.__version__}\n")


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m bot` is the same program under its own name."""
    monkeypatch.setattr(sys, "argv", ["-", "manifest"])
    runpy.run_module("bot", run_name="__main__")
    assert capsys.readouterr().out == build_manifest(None)


@pytest.mark.parametrize("command", ["run", "health", "sandbox", "keygen", "manifest", "audit"])
def test_each_command_describes_itself(command: str) -> None:
    """In the list, and in full on its own page."""
    assert f"\n    {command} " in call("--help").stdout
    ended = call(command, "--help")
    assert ended.exit_code == 0
    assert ended.stdout.startswith(f"usage: r2-credential-bot {command} ")


def test_an_option_is_written_in_full() -> None:
    """A short form would come to mean another option as soon as one is added."""
    assert call("manifest", "--ur", "https://bot.example.com").exit_code == REFUSED


def test_a_reader_that_left_ends_a_command_without_a_traceback() -> None:
    """For example `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = call_process("manifest", environment={}, output_to=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_the_manifest_does_not_wait_for_the_bot() -> None:
    """A short command does not load Slack's, Cloudflare's and the database's libraries."""
    program = (
        "import sys, bot.cli; sys.argv = ['x', 'manifest']\n"
        "bot.cli.main()\n"
        "print(*{'slack_bolt', 'aiohttp', 'sqlalchemy', 'httpx'} & {*sys.modules}, file=sys.stderr)"
    )
    path = {"PYTHONPATH": str(Path(bot.__file__).parent.parent)}
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env=path, capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stderr.split() == []
    assert ended.stdout == build_manifest(None)


@pytest.mark.parametrize("words", [("ada", "lake"), ("U0ALICE", "A lake"), ("S0DATA", "lake")])
def test_a_policy_is_explained_for_ids_and_names_only(words: tuple[str, str]) -> None:
    """Anything else is a slip."""
    ended = call("check", "--policy", *words)
    assert (ended.exit_code, ended.stdout) == (REFUSED, "")
    assert ended.stderr.startswith("--policy takes the id of a user and the name of a bucket")


def test_the_lists_are_explained_like_rules() -> None:
    """As a process, with JSON on stdout; without Slack, nobody is surely a member."""
    ended = call_process("check", "--json", "--policy", "U0ALICE", "lake", environment=GOOD)
    said = json.loads(ended.stdout)
    assert (ended.returncode, said["ok"]) == (1, False)
    texts = {finding["event"]: finding["text"] for finding in reversed(said["findings"])}
    assert "Slack does not say whether this is an active, full member" in texts["policy_unsure"]
    assert texts["policy_allows"] == "store: yes, by R2_CREDENTIAL_ALLOWED_* in any channel"
    assert "policy:" in ended.stderr
