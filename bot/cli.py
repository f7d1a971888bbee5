"""The command line: run, health, sandbox, keygen, manifest."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from bot import __version__

_SETTINGS_PROBLEM = 2
"""The exit code if the settings, or other input, must be fixed: a restart does not help."""

_app = typer.Typer(
    help="Stores the credential of a Cloudflare R2 Data Catalog (Basin Catalog) from Slack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, secrets among them
)


def main() -> None:
    """Run the command of the command line."""
    _app(prog_name="r2-credential-bot")


@_app.callback(invoke_without_command=True)
def _show_version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:  # noqa: FBT002 - an option of a command line
    if version:
        typer.echo(__version__)
        raise typer.Exit


@_app.command()
def run(
    role: Annotated[
        Literal["all", "gateway", "worker"],
        typer.Option(help="Run everything, only the Slack side, or only the Cloudflare side (both need PostgreSQL)."),
    ] = "all",
) -> None:
    """Run the bot. Settings come from the environment and from .env (see the README)."""
    from bot.operations.hardening import harden

    not_hardened = harden()  # before other imports: see bot/operations/hardening.py
    from bot.app import run as run_bot
    from bot.model.errors import StartRefused
    from bot.model.role import Role
    from bot.operations.exposed_files import find_exposed
    from bot.operations.logs import configure_logging
    from bot.settings import SettingsError, load_settings

    configure_logging("info", None)  # before a word is printed: a full pipe or disk would stop the start at a warning
    _warn(*not_hardened)
    try:
        loaded = load_settings(role=Role(role))
    except SettingsError as error:
        _refuse("The bot cannot start. Fix these settings:", *error.problems)
    _warn(*loaded.warnings, *find_exposed(loaded))
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    sys.setswitchinterval(0.001)  # the database's thread gets its turn sooner: a third more submissions per second
    try:
        asyncio.run(run_bot(loaded.settings))
    except StartRefused as error:
        _refuse("The bot cannot start.", str(error))
    except Exception:
        logging.getLogger("bot").critical("crashed", exc_info=True)
        sys.exit(1)


@_app.command()
def health() -> None:
    """Check that the bot on this machine is alive; exit code 1 if it is not. Any role, with the bot's settings."""
    from bot.operations.health import is_alive
    from bot.settings import SettingsError, load_listen_settings

    try:
        settings = load_listen_settings()
    except SettingsError as error:
        _refuse(*error.problems)
    if not is_alive(settings.http_host, settings.http_port):
        typer.echo(f"no healthy bot answers on {settings.http_host}, port {settings.http_port}", err=True)
        sys.exit(1)


@_app.command()
def sandbox(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port of the page; default: 8080, or a free one if that is in use."),
    ] = None,
    transport: Annotated[
        Literal["socket", "http"], typer.Option(help="How the fake Slack reaches the bot.")
    ] = "socket",
) -> None:
    """Try the bot without Slack and Cloudflare: everything runs on this machine, with a web page to use it."""
    from bot.sandbox.run import choose_port, run_sandbox
    from bot.slack.manifest import build_manifest

    try:
        free_port = choose_port(port)
    except OSError as error:
        _refuse(f"The page cannot listen on port {port} ({error.strerror}). Choose another one, or omit --port.")
    sys.exit(asyncio.run(run_sandbox(port=free_port, transport=transport, manifest=build_manifest(None))))


@_app.command()
def keygen(path: Annotated[Path, typer.Argument(help="The file to create; it must not exist.")]) -> None:
    """Generate a private sealing key (PKCS#8 PEM, mode 0600) and print its public half."""
    _harden()
    from bot.sealing.hpke import generate_private_key
    from bot.sealing.key_files import write_key_file
    from bot.sealing.private_places import find_exposure

    try:
        exposure = find_exposure(path.parent)
        if exposure:
            _refuse(f"{path.parent}: not a safe place for a key, since {exposure}.")
        typer.echo(write_key_file(path, generate_private_key()), nl=False)
    except FileExistsError:
        _refuse(f"{path} already exists, and a key is never overwritten. Choose another name.")
    except OSError as error:
        _refuse(f"{path} cannot be written ({error.strerror}).")
    except ValueError:
        _refuse(f"{path} is not a possible file name.")


@_app.command()
def manifest(
    url: Annotated[
        str | None, typer.Option(help="The https:// URL at which Slack reaches the bot: prints the manifest for HTTP.")
    ] = None,
) -> None:
    """Print the Slack app manifest for Socket Mode, or with --url for HTTP."""
    from bot.slack.manifest import build_manifest

    try:
        typer.echo(build_manifest(url), nl=False)
    except ValueError as error:
        _refuse(str(error))


def _harden() -> None:
    from bot.operations.hardening import harden

    _warn(*harden())


def _warn(*warnings: str) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    sys.exit(_SETTINGS_PROBLEM)
