"""What each command is made with: how it is declared, how it reads settings beside the bot, and how it refuses."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Final, NoReturn

from bot import __version__

if TYPE_CHECKING:
    from bot.settings import DatabaseSettings

SETTINGS_PROBLEM: Final = 2
"""The exit code if the settings, or other input, must be fixed: a restart does not help."""

parser: Final = argparse.ArgumentParser(
    prog="r2-credential-bot",
    description="Stores the credential of a Cloudflare R2 Data Catalog (Basin Catalog) from Slack.",
    epilog="Run `r2-credential-bot COMMAND --help` for the options of a command.",
    allow_abbrev=False,
)
parser.add_argument("--version", action="version", version=__version__, help="print the version and exit")
commands: Final = parser.add_subparsers(title="commands", metavar="COMMAND")
argument: Final = partial(methodcaller, "add_argument")
"""Takes what `ArgumentParser.add_argument` takes; the function under `@command` gets the value by its name."""


def command(
    *arguments: methodcaller, among: "argparse._SubParsersAction[argparse.ArgumentParser]" = commands
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command with its name; its docstring is what `--help` prints."""

    def declare(execute: Callable[..., None]) -> Callable[..., None]:
        text = execute.__doc__ or ""
        its_parser = among.add_parser(execute.__name__, help=text, description=text, allow_abbrev=False)
        for add_to in arguments:
            add_to(its_parser)
        its_parser.set_defaults(execute=execute)
        return execute

    return declare


@contextmanager
def imports() -> Iterator[None]:
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


@contextmanager
def database_settings() -> Iterator["DatabaseSettings"]:
    """Yield where the database is, to a command that works on it beside the bot; end with the fix if that is refused.

    Variables that hold secrets are forgotten, and what is half done is cleaned up at a signal.
    """
    clean_up_at_a_signal()
    from bot.model.errors import StartRefused
    from bot.settings import SettingsError, find_no_settings, load_database_settings

    hints: list[str] = []
    try:
        settings, hints = load_database_settings(), find_no_settings()
        forget_secrets()
        yield settings
    except SettingsError as error:
        refuse(*error.problems)
    except StartRefused as error:
        refuse(str(error), *hints)


def print_now(text: str) -> None:
    """Print a text as it is, while `main` can still catch that the reader is gone."""
    print(text, end="", flush=True)


def forget_secrets() -> None:
    """Keep what was read from the environment away from any program that a library may start from now on."""
    from bot.operations.hardening import forget_variables
    from bot.settings import find_secret_variables

    forget_variables(find_secret_variables())


def clean_up_at_a_signal() -> None:
    """Have a signal end the command by an exception, so that no half-written file stays."""
    from bot.operations import stop_signals

    stop_signals.clean_up_at_a_signal()


def refuse(*lines: str) -> NoReturn:
    """End the command; each line says what to fix."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    sys.exit(SETTINGS_PROBLEM)
