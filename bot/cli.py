"""The command line. A command is a function under `@_command`."""

import argparse
import asyncio
import gc
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from bot import __version__

if TYPE_CHECKING:
    from bot.settings import DatabaseSettings
    from bot.storage.audit import Head

_SETTINGS_PROBLEM: Final = 2
"""The exit code if the settings, or other input, must be fixed: a restart does not help."""

_HIGHEST_PORT: Final = 65535

_parser: Final = argparse.ArgumentParser(
    prog="r2-credential-bot",
    description="Stores the credential of a Cloudflare R2 Data Catalog (Basin Catalog) from Slack.",
    epilog="Run `r2-credential-bot COMMAND --help` for the options of a command.",
    allow_abbrev=False,
)
_parser.add_argument("--version", action="version", version=__version__, help="print the version and exit")
_commands: Final = _parser.add_subparsers(title="commands", metavar="COMMAND")
_audit: Final = _commands.add_parser(
    "audit", help="Verify and export the record of all that was done. See docs/audit.md.", allow_abbrev=False
).add_subparsers(title="commands", metavar="COMMAND", required=True)
_argument: Final = partial(methodcaller, "add_argument")
"""Takes what `ArgumentParser.add_argument` takes; the function under `@_command` gets the value by its name."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of the command line."""
    values = vars(_parser.parse_args(arguments))
    if not values:
        _parser.print_help(sys.stderr)
        sys.exit(_SETTINGS_PROBLEM)
    execute = values.pop("execute")
    not_hardened = _harden(restarts=execute is run and arguments is None)
    if execute in (run, check):
        values["not_hardened"] = not_hardened
    else:
        _warn(*not_hardened)
    try:
        execute(**values)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at the end fails as well
        sys.exit(1)


def _command(
    *arguments: methodcaller, among: "argparse._SubParsersAction[argparse.ArgumentParser]" = _commands
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command with its name; its docstring is what `--help` prints."""

    def declare(execute: Callable[..., None]) -> Callable[..., None]:
        text = execute.__doc__ or ""
        parser = among.add_parser(execute.__name__, help=text, description=text, allow_abbrev=False)
        for add_to in arguments:
            add_to(parser)
        parser.set_defaults(execute=execute)
        return execute

    return declare


def _head(text: str) -> "Head":
    from bot.sealing.authenticity import key_id_of
    from bot.storage.audit import Head

    number, _, signature = text.partition(":")
    is_signature = re.fullmatch("[0-9a-f]{16}", signature) or key_id_of(signature)
    if not re.fullmatch("[1-9][0-9]{0,17}", number) or not is_signature:
        problem = "is not NUMBER:SIGNATURE, as the log, an export and `audit verify` write it"
        raise argparse.ArgumentTypeError(problem)
    return Head(number=int(number), signature=signature)


_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?", re.IGNORECASE | re.ASCII
)


def _time(text: str) -> datetime:
    with suppress(ValueError, OverflowError):
        if _TIME.fullmatch(text):
            time = datetime.fromisoformat(text.upper())
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    problem = f"{text!r} is not a time: write 2026-11-30, or 2026-11-30T12:00:00Z (RFC 3339); a date begins in UTC"
    raise argparse.ArgumentTypeError(problem)


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _HIGHEST_PORT:
        return int(text)
    problem = f"{text!r} is not a number from 0 to {_HIGHEST_PORT}"
    raise argparse.ArgumentTypeError(problem)


@contextmanager
def _imports() -> Iterator[None]:
    """Import without the garbage collector: what a module creates stays, so looking through it is in vain.

    Frozen, it is not looked through later either, or the first full collection would take the 0.1 s of CPU that this
    saves: a tenth of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


_role: Final = _argument(
    "--role",
    choices=("all", "gateway", "worker"),
    default="all",
    help="everything (the default), only the Slack side, or only the Cloudflare side (both need PostgreSQL)",
)


@_command(_role)
def run(role: str, not_hardened: Sequence[str]) -> None:
    """Run the bot. Settings come from the environment and from .env (see the README)."""
    from bot.operations.stop_signals import end_now, leave_at_once

    leave_at_once()
    with _imports():
        from bot.app import run as run_bot
        from bot.model.errors import StartRefused
        from bot.model.role import Role
        from bot.operations.checks import log_doubts
        from bot.operations.logs import configure_logging
        from bot.settings import SettingsError, load_settings

    configure_logging("info", None)  # before a word is printed: a full pipe or disk would stop the start at a warning
    try:
        loaded = load_settings(role=Role(role))
    except SettingsError as error:
        _refuse("The bot cannot start. Fix these settings:", *error.problems)
    _forget_secrets()
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_doubts(loaded, not_hardened)
    sys.setswitchinterval(0.001)  # the database's thread gets its turn sooner: a third more submissions per second

    async def live() -> None:
        end_now(await run_bot(loaded.settings))

    try:
        asyncio.run(live(), debug=False)  # PYTHONASYNCIODEBUG would log what callbacks are called with, and results
    except StartRefused as error:
        _refuse("The bot cannot start.", str(error))
    except Exception:
        logging.getLogger("bot").critical("crashed", exc_info=True)
        sys.exit(1)


@_command(
    _role,
    _argument("--json", action="store_true", dest="as_json", help="print a JSON object instead of lines"),
    _argument("--url", help="over HTTP, also send a signed request to the https:// URL at which Slack reaches the bot"),
    _argument(
        "--policy",
        nargs=2,
        metavar=("USER", "BUCKET"),
        help="only say which rule lets this user id use this bucket, for each verb, and why",
    ),
)
def check(role: str, url: str | None, policy: list[str] | None, not_hardened: Sequence[str], *, as_json: bool) -> None:
    """Examine everything that the bot needs, and change nothing; exit code 1 if something has to be fixed."""
    with _imports():
        from bot.check import check as examine_everything
        from bot.check import check_policy, check_without_settings
        from bot.model.catalog import is_bucket_name
        from bot.model.role import Role
        from bot.model.slack_ids import SlackId
        from bot.operations.check_report import CheckReport, to_json
        from bot.operations.conditions import has_failed
        from bot.operations.logs import configure_logging
        from bot.settings import SettingsError, load_settings

    if policy is not None and not (SlackId.USER.fits(policy[0]) and is_bucket_name(policy[1])):
        _refuse("--policy takes the id of a user and the name of a bucket: --policy U0123ABCD my-bucket")
    configure_logging("critical", None)  # the findings say it all
    report = CheckReport(sys.stderr if as_json else sys.stdout)
    try:
        loaded = load_settings(role=Role(role))
    except SettingsError as error:
        found = asyncio.run(check_without_settings(error.problems, not_hardened, report))
    else:
        _forget_secrets()
        work = (
            examine_everything(loaded, not_hardened, report, url)
            if policy is None
            else check_policy(loaded.settings, report, *policy)
        )
        found = asyncio.run(work)
    if as_json:
        _print(to_json(found) + "\n")
    sys.exit(has_failed(found))


@_command(_argument("path", type=Path, help="the file to create; it must not exist"))
def backup(path: Path) -> None:
    """Copy the SQLite database while the bot runs, without what is open. See docs/backup.md."""
    _clean_up_at_a_signal()
    from bot.settings import SettingsError, find_no_settings, load_database_settings
    from bot.storage.backup import BackupRefused, back_up

    try:
        settings = load_database_settings()
    except SettingsError as error:
        _refuse(*error.problems)
    if settings.postgres_url is not None:
        _refuse(
            "This copies an SQLite file, and R2_CREDENTIAL_DATABASE_URL names PostgreSQL: back it up with "
            "`pg_dump --format=custom`, restore it with `pg_restore --clean --if-exists`, as docs/backup.md says."
        )
    try:
        ended = back_up(settings.database_path, path, datetime.now(UTC))
    except BackupRefused as refused:
        _refuse(str(refused), *find_no_settings())
    print(f"{path}: written. Open submissions that are not in it, and go on in the running bot: {ended}")


@_command()
def restored() -> None:
    """End all that the database holds open, after a restore that the bot cannot recognise. See docs/backup.md."""
    _clean_up_at_a_signal()
    from bot.model.errors import StartRefused
    from bot.operations.logs import configure_logging
    from bot.settings import SettingsError, find_no_settings, load_database_settings
    from bot.storage.opening import end_after_a_restore

    configure_logging("info", None)
    try:
        settings, hints = load_database_settings(), find_no_settings()
        _forget_secrets()
        ended = asyncio.run(end_after_a_restore(settings))
    except SettingsError as error:
        _refuse(*error.problems)
    except StartRefused as error:
        _refuse(str(error), *hints)
    print(f"Open submissions that were ended: {ended}. The bot tells their users when it runs.")


@_command(
    _argument("user", metavar="USER", help="the person's Slack id, such as U0123ABCD"),
    _argument("--forget", action="store_true", dest="is_to_forget", help="take the person out of every record"),
)
def person(user: str, *, is_to_forget: bool) -> None:
    """Print all that is kept of one person as JSON Lines, while the bot runs; with --forget, forget it."""
    _clean_up_at_a_signal()
    from bot.model.errors import StartRefused
    from bot.settings import SettingsError, find_no_settings, load_database_settings
    from bot.storage.one_person import export_person, forget

    try:
        settings, hints = load_database_settings(), find_no_settings()
        _forget_secrets()
        if is_to_forget:
            print(asyncio.run(forget(settings, user)))
        else:
            asyncio.run(export_person(settings, user, _print))
    except SettingsError as error:
        _refuse(*error.problems)
    except StartRefused as error:
        _refuse(str(error), *hints)


@_command(
    _argument("--head", type=_head, metavar="NUMBER:SIGNATURE", help="an entry that the chain must contain"),
    among=_audit,
)
def verify(head: "Head | None") -> None:
    """Verify the audit's chain; exit code 1, and the first broken, missing or moved entry, if it is not whole."""
    _clean_up_at_a_signal()
    from bot.operations.audit_report import describe
    from bot.operations.audit_report import verify as verify_chain
    from bot.storage.audit_verifying import Broken

    with _told_why_not():
        try:
            verified = asyncio.run(verify_chain(_database_settings(), head))
        except Broken as broken:
            print(broken)
            sys.exit(1)
    print(*describe(verified), f"entries: {verified.head.number}", f"head: {verified.head}", sep="\n")
    sys.exit(bool(verified.unverified))


@_command(
    _argument("--since", type=_time, metavar="TIME", help="2026-11-30, or 2026-11-30T12:00:00Z"),
    _argument("--format", choices=("jsonl", "csv"), default="jsonl", dest="form", help="default: %(default)s"),
    among=_audit,
)
def export(since: datetime | None, form: str) -> None:
    """Print the audit's entries, all or those since a time. They name people: keep them as you keep the database."""
    _clean_up_at_a_signal()
    from bot.operations.audit_report import export as export_entries

    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the locale: the same bytes everywhere
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    with _told_why_not():
        count, head = asyncio.run(export_entries(_database_settings(), since, form, _print))
    print(f"entries: {count}", f"head: {head}", sep="\n", file=sys.stderr)


@_command(among=_audit)
def begin() -> None:
    """Go on with another key after the audit's key was lost; ends all that the database holds open, as `restored`."""
    _clean_up_at_a_signal()
    from bot.operations.logs import configure_logging
    from bot.storage.opening import begin_chain

    configure_logging("info", None)
    with _told_why_not():
        ended = asyncio.run(begin_chain(_database_settings()))
    print(f"Begun. Open submissions that were ended: {ended}. The bot tells their users when it runs.")


@_command(among=_audit)
def secret() -> None:
    """Print the secret with which the receiver of R2_CREDENTIAL_AUDIT_WEBHOOK verifies what it gets."""
    _clean_up_at_a_signal()
    from bot.storage.chain_start import read_webhook_secret

    with _told_why_not():
        _print(f"{read_webhook_secret(_database_settings())}\n")


@contextmanager
def _told_why_not() -> Iterator[None]:
    """End with the fix if the audit or its key cannot be used."""
    from bot.model.errors import StartRefused
    from bot.settings import SettingsError, find_no_settings

    try:
        yield
    except SettingsError as error:
        _refuse(*error.problems)
    except StartRefused as error:
        _refuse(str(error), *find_no_settings())


def _database_settings() -> "DatabaseSettings":
    from bot.settings import load_database_settings

    return load_database_settings()


@_command()
def health() -> None:
    """Check that the bot on this machine is alive; exit code 1 if it is not. Any role, with the bot's settings."""
    from bot.operations.health import is_alive
    from bot.settings import SettingsError, find_no_settings, load_listen_settings

    try:
        settings = load_listen_settings()
    except SettingsError as error:
        _refuse(*error.problems)
    if not is_alive(settings.http_host, settings.http_port):
        lines = [
            f"no healthy bot answers on {settings.http_host}, port {settings.http_port}",
            *find_no_settings(),
        ]
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(1)


@_command(
    _argument("--port", type=_port, help="the port of the page; default: 8080, or a free one if that is in use"),
    _argument(
        "--transport",
        choices=("socket", "http"),
        default="socket",
        help="how the fake Slack reaches the bot; default: %(default)s",
    ),
    _argument(
        "--four-eyes",
        action="store_true",
        dest="four_eyes",
        help="with a policy: what one person submits, another one has to approve (choose who you are at the top)",
    ),
)
def sandbox(port: int | None, transport: Literal["socket", "http"], *, four_eyes: bool) -> None:
    """Try the bot without Slack and Cloudflare: everything runs on this machine, with a web page to use it."""
    from bot.sandbox.run import choose_port, run_sandbox
    from bot.slack.manifest import build_manifest

    try:
        free_port = choose_port(port)
    except OSError as error:
        _refuse(f"The page cannot listen on port {port} ({error.strerror}). Choose another one, or omit --port.")
    sys.exit(
        asyncio.run(
            run_sandbox(port=free_port, transport=transport, manifest=build_manifest(None), four_eyes=four_eyes)
        )
    )


@_command(
    _argument("path", type=Path, metavar="PATH", help="the file to create; it must not exist"),
    _argument("--audit", action="store_true", dest="is_for_audit", help="generate an R2_CREDENTIAL_AUDIT_KEY instead"),
)
def keygen(path: Path, *, is_for_audit: bool) -> None:
    """Generate a private sealing key (PKCS#8 PEM, mode 0600) and print its public half."""
    _clean_up_at_a_signal()
    from bot.sealing.audit_key import write_audit_key
    from bot.sealing.hpke import generate_private_key
    from bot.sealing.key_files import write_key_file
    from bot.sealing.private_places import find_exposure

    try:
        exposure = find_exposure(path.parent)
        if exposure:
            _refuse(f"{path.parent}: not a safe place for a key, since {exposure}.")
        if is_for_audit:
            write_audit_key(path)
        else:
            _print(write_key_file(path, generate_private_key()))
    except FileExistsError:
        _refuse(f"{path} already exists, and a key is never overwritten. Choose another name.")
    except OSError as error:
        _refuse(f"{path} cannot be written ({error.strerror}).")
    except ValueError:
        _refuse(f"{path} is not a possible file name.")


@_command(
    _argument("--url", help="the https:// URL at which Slack reaches the bot: prints the manifest for HTTP"),
)
def manifest(url: str | None) -> None:
    """Print the Slack app manifest for Socket Mode, or with --url for HTTP."""
    from bot.slack.manifest import build_manifest

    try:
        _print(build_manifest(url))
    except ValueError as error:
        _refuse(str(error))


def _print(text: str) -> None:
    print(text, end="", flush=True)  # now, while `main` can still catch that the reader is gone


def _harden(*, restarts: bool) -> list[str]:
    """Harden the process of any command: its environment, too, may hold all secrets. Before other imports: see there.

    Only a process that stays, and was started for this command, overwrites freed memory: it starts again for that.
    """
    from bot.operations.freed_memory import overwrite_freed_memory
    from bot.operations.hardening import harden

    return [*(overwrite_freed_memory() if restarts else ()), *harden()]


def _forget_secrets() -> None:
    """Keep what was read from the environment away from any program that a library may start from now on."""
    from bot.operations.hardening import forget_variables
    from bot.settings import find_secret_variables

    forget_variables(find_secret_variables())


def _clean_up_at_a_signal() -> None:
    from bot.operations.stop_signals import clean_up_at_a_signal

    clean_up_at_a_signal()


def _warn(*warnings: str) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    sys.exit(_SETTINGS_PROBLEM)
