"""The command line. A command is a function under `@command`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from bot import audit_commands  # noqa: F401 - declares its commands
from bot.command_line import (
    SETTINGS_PROBLEM,
    argument,
    clean_up_at_a_signal,
    command,
    database_settings,
    forget_secrets,
    imports,
    parser,
    print_now,
    refuse,
)

_HIGHEST_PORT: Final = 65535


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of the command line."""
    values = vars(parser.parse_args(arguments))
    if not values:
        parser.print_help(sys.stderr)
        sys.exit(SETTINGS_PROBLEM)
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


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _HIGHEST_PORT:
        return int(text)
    problem = f"{text!r} is not a number from 0 to {_HIGHEST_PORT}"
    raise argparse.ArgumentTypeError(problem)


_role: Final = argument(
    "--role",
    choices=("all", "gateway", "worker", "minter"),
    default="all",
    help=(
        "everything (the default), only the Slack side, only the Cloudflare side, or only what makes tokens (all three "
        "need PostgreSQL)"
    ),
)


@command(_role)
def run(role: str, not_hardened: Sequence[str]) -> None:
    """Run the bot. Settings come from the environment and from .env (see the README)."""
    from bot.operations.stop_signals import end_now, leave_at_once

    leave_at_once()
    with imports():
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
        refuse("The bot cannot start. Fix these settings:", *error.problems)
    forget_secrets()
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_doubts(loaded, not_hardened)
    sys.setswitchinterval(0.001)  # the database's thread gets its turn sooner: a third more submissions per second

    async def live() -> None:
        end_now(await run_bot(loaded.settings))

    try:
        asyncio.run(live(), debug=False)  # PYTHONASYNCIODEBUG would log what callbacks are called with, and results
    except StartRefused as error:
        refuse("The bot cannot start.", str(error))
    except Exception:
        logging.getLogger("bot").critical("crashed", exc_info=True)
        sys.exit(1)


@command(
    _role,
    argument("--json", action="store_true", dest="as_json", help="print a JSON object instead of lines"),
    argument("--url", help="over HTTP, also send a signed request to the https:// URL at which Slack reaches the bot"),
    argument(
        "--policy",
        nargs=2,
        metavar=("USER", "BUCKET"),
        help="only say which rule lets this user id use this bucket, for each verb, and why",
    ),
    argument(
        "--mint",
        metavar="BUCKET",
        help="only try out rotation: create a token for this bucket, use it, and delete it; see docs/rotation.md",
    ),
    argument(
        "--store",
        action="store_true",
        dest="stores",
        help="with --mint: also store that token in the bucket's slot, which must be empty; for a test bucket",
    ),
    argument(
        "--overwrite",
        action="store_true",
        dest="may_overwrite",
        help="with --store: also where the slot holds a credential, which is lost",
    ),
)
def check(  # noqa: PLR0913 - its options
    role: str,
    url: str | None,
    policy: list[str] | None,
    mint: str | None,
    not_hardened: Sequence[str],
    *,
    stores: bool,
    may_overwrite: bool,
    as_json: bool,
) -> None:
    """Examine what the bot needs and, but for --mint, change nothing; exit code 1 if something has to be fixed."""
    with imports():
        from bot.check import check as examine_everything
        from bot.check import check_policy, check_without_settings
        from bot.model.catalog import is_bucket_name
        from bot.model.role import Role
        from bot.model.slack_ids import SlackId
        from bot.operations.check_report import CheckReport, to_json
        from bot.operations.conditions import has_failed
        from bot.operations.logs import configure_logging
        from bot.settings import SettingsError, SlackSettings, load_settings

    if policy is not None and not (SlackId.USER.fits(policy[0]) and is_bucket_name(policy[1])):
        refuse("--policy takes the id of a user and the name of a bucket: --policy U0123ABCD my-bucket")
    if mint is not None and not is_bucket_name(mint):
        refuse("--mint takes the name of a bucket: --mint my-test-bucket")
    if (stores and mint is None) or (may_overwrite and not stores):
        refuse("--store belongs to --mint, and --overwrite to --store: --mint my-test-bucket --store")
    configure_logging("critical", None)  # the findings say it all
    report = CheckReport(sys.stderr if as_json else sys.stdout)
    try:
        loaded = load_settings(role=Role(role))
    except SettingsError as error:
        found = asyncio.run(check_without_settings(error.problems, not_hardened, report))
    else:
        forget_secrets()
        if mint is not None:
            from bot.check_minting import check_minting

            trial = check_minting(loaded.settings, report, mint, stores=stores, may_overwrite=may_overwrite)
            found = asyncio.run(trial)
        elif policy is None:
            found = asyncio.run(examine_everything(loaded, not_hardened, report, url))
        elif isinstance(loaded.settings, SlackSettings):
            found = asyncio.run(check_policy(loaded.settings, report, *policy))
        else:
            refuse(
                f"--policy asks Slack about the user, which a {role} does not: run it with the role of another process"
            )
    if as_json:
        print_now(to_json(found) + "\n")
    sys.exit(has_failed(found))


@command(argument("path", type=Path, help="the file to create; it must not exist"))
def backup(path: Path) -> None:
    """Copy the SQLite database while the bot runs, without what is open. See docs/backup.md."""
    with database_settings() as settings:
        from bot.storage.backup import back_up

        if settings.postgres_url is not None:
            refuse(
                "This copies an SQLite file, and R2_CREDENTIAL_DATABASE_URL names PostgreSQL: back it up with "
                "`pg_dump --format=custom`, restore it with `pg_restore --clean --if-exists`, as docs/backup.md says."
            )
        ended = back_up(settings.database_path, path, datetime.now(UTC))
    print(f"{path}: written. Open submissions that are not in it, and go on in the running bot: {ended}")


@command()
def restored() -> None:
    """End all that the database holds open, after a restore that the bot cannot recognise. See docs/backup.md."""
    with database_settings() as settings:
        from bot.operations.logs import configure_logging
        from bot.storage.opening import end_after_a_restore

        configure_logging("info", None)
        ended = asyncio.run(end_after_a_restore(settings))
    print(f"Open submissions that were ended: {ended}. The bot tells their users when it runs.")


@command(
    argument("user", metavar="USER", help="the person's Slack id, such as U0123ABCD"),
    argument("--forget", action="store_true", dest="is_to_forget", help="take the person out of every record"),
)
def person(user: str, *, is_to_forget: bool) -> None:
    """Print all that is kept of one person as JSON Lines, while the bot runs; with --forget, forget it."""
    with database_settings() as settings:
        from bot.storage.one_person import export_person, forget

        if is_to_forget:
            print(asyncio.run(forget(settings, user)))
        else:
            asyncio.run(export_person(settings, user, print_now))


@command()
def health() -> None:
    """Check that the bot on this machine is alive; exit code 1 if it is not. Any role, with the bot's settings."""
    from bot.operations.health import is_alive
    from bot.settings import SettingsError, find_no_settings, load_listen_settings

    try:
        settings = load_listen_settings()
    except SettingsError as error:
        refuse(*error.problems)
    if not is_alive(settings.http_host, settings.http_port):
        lines = [
            f"no healthy bot answers on {settings.http_host}, port {settings.http_port}",
            *find_no_settings(),
        ]
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(1)


@command(
    argument("--port", type=_port, help="the port of the page; default: 8080, or a free one if that is in use"),
    argument(
        "--transport",
        choices=("socket", "http"),
        default="socket",
        help="how the fake Slack reaches the bot; default: %(default)s",
    ),
    argument(
        "--four-eyes",
        action="store_true",
        dest="four_eyes",
        help="with a policy: what one person submits, another one has to approve (choose who you are at the top)",
    ),
    argument("--fleet", action="store_true", help="with forty more buckets, to rotate all of them at once"),
)
def sandbox(port: int | None, transport: Literal["socket", "http"], *, four_eyes: bool, fleet: bool) -> None:
    """Try the bot without Slack and Cloudflare: everything runs on this machine, with a web page to use it."""
    from bot.sandbox.run import choose_port, run_sandbox
    from bot.slack.manifest import build_manifest

    try:
        free_port = choose_port(port)
    except OSError as error:
        refuse(f"The page cannot listen on port {port} ({error.strerror}). Choose another one, or omit --port.")
    manifest = build_manifest(None)
    sys.exit(
        asyncio.run(
            run_sandbox(port=free_port, transport=transport, manifest=manifest, four_eyes=four_eyes, fleet=fleet)
        )
    )


@command(
    argument("path", type=Path, metavar="PATH", help="the file to create; it must not exist"),
    argument("--audit", action="store_true", dest="is_for_audit", help="generate an R2_CREDENTIAL_AUDIT_KEY instead"),
)
def keygen(path: Path, *, is_for_audit: bool) -> None:
    """Generate a private sealing key (PKCS#8 PEM, mode 0600) and print its public half."""
    clean_up_at_a_signal()
    from bot.sealing.audit_key import write_audit_key
    from bot.sealing.hpke import generate_private_key
    from bot.sealing.key_files import write_key_file
    from bot.sealing.private_places import find_exposure

    try:
        exposure = find_exposure(path.parent)
        if exposure:
            refuse(f"{path.parent}: not a safe place for a key, since {exposure}.")
        if is_for_audit:
            write_audit_key(path)
        else:
            print_now(write_key_file(path, generate_private_key()))
    except FileExistsError:
        refuse(f"{path} already exists, and a key is never overwritten. Choose another name.")
    except OSError as error:
        refuse(f"{path} cannot be written ({error.strerror}).")
    except ValueError:
        refuse(f"{path} is not a possible file name.")


@command(
    argument("--url", help="the https:// URL at which Slack reaches the bot: prints the manifest for HTTP"),
)
def manifest(url: str | None) -> None:
    """Print the Slack app manifest for Socket Mode, or with --url for HTTP."""
    from bot.slack.manifest import build_manifest

    try:
        print_now(build_manifest(url))
    except ValueError as error:
        refuse(str(error))


def _harden(*, restarts: bool) -> list[str]:
    """Harden the process of any command: its environment, too, may hold all secrets. Before other imports: see there.

    Only a process that stays, and was started for this command, overwrites freed memory: it starts again for that.
    """
    from bot.operations.freed_memory import overwrite_freed_memory
    from bot.operations.hardening import harden

    return [*(overwrite_freed_memory() if restarts else ()), *harden()]


def _warn(*warnings: str) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
