"""Where values of settings come from: the environment, `.env`, NAME_FILE, and the variables that describe the network.

The quotes, blanks and byte order mark around a value are removed here, for all sources alike.
"""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from bot.file_access import explain
from bot.model.service_links import FIX, is_service_address
from bot.model.written_settings import has_stray_quote, plain_value
from bot.network import NetworkUnusable, read_network

logging.getLogger("dotenv").addHandler(logging.NullHandler())
"""It warns about each unreadable line three times; `find_unread_lines` reports it once, as a problem."""

FILE_SUFFIX: Final = "_FILE"
_NO_FILE: Final = Path(os.devnull)
_PEM_BEGINS: Final = "-----BEGIN "
_PEM_ENDS: Final = "-----END "
NETWORK_FIELD: Final = "network"
NETWORK: Final = "proxy and authorities"
"""Not the name of a variable: several variables make this value, see bot/network.py."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Takes the place of a value that cannot be checked, so that the other settings still are."""

    problem: str

    def lines(self, name: str) -> list[str]:
        """Return what to report about the setting `name`."""
        return [f"{name}: {self.problem}"]


@dataclass(frozen=True, slots=True)
class NoNetwork(Unreadable):
    """Takes the place of the network where its variables cannot be used; the problem names them."""

    def lines(self, name: str) -> list[str]:  # noqa: ARG002 - the problem has names of its own
        """Return one line for each variable."""
        return self.problem.splitlines()


class NamedFiles(PydanticBaseSettingsSource):
    """Reads the value of NAME from the file that NAME_FILE names: Docker and systemd provide secrets as files."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value or an Unreadable, the setting's name, and that the value is not JSON."""
        name = field.alias or field_name
        path = self._variables.get(name + FILE_SUFFIX)
        if not path:
            return None, name, False
        if self._variables.get(name):
            return Unreadable(f"and {name}{FILE_SUFFIX} are both set: keep one of them"), name, False
        try:
            if value := plain_value(Path(path).read_text(encoding="utf-8")):
                return value, name, False
            cause = "(it is empty)"  # as a list, it would allow everything
        except UnicodeDecodeError:
            cause = "(it is not UTF-8 text)"
        except OSError as error:
            cause = explain(error, Path(path))
        except ValueError:  # a NUL in the path
            cause = "(that is not a possible path)"
        return Unreadable(f"cannot be read from the file that {name}{FILE_SUFFIX} names {cause}"), name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values by the names of their settings."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}


class NetworkVariables(PydanticBaseSettingsSource):
    """Builds the network from HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and the like, in the environment and in `.env`."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the interface
        """Return the network or a NoNetwork, its name, and that the value is not JSON."""
        try:
            return read_network(self._variables), NETWORK, False
        except NetworkUnusable as unusable:
            return NoNetwork("\n".join(unusable.problems)), NETWORK, False

    def __call__(self) -> dict[str, Any]:
        """Return the network, by its name."""
        return {NETWORK: self.get_field_value(self.settings_cls.model_fields[NETWORK_FIELD], NETWORK_FIELD)[0]}


def plain_variables(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return the variables that are set, without what surrounds their values; an empty value counts as not set."""
    return {name: plain for name, value in variables.items() if (plain := plain_value(value or ""))}


def merge_variables(*sources: PydanticBaseSettingsSource) -> dict[str, str]:
    """Return the variables of all sources; a later source wins."""
    return {
        name: value
        for source in sources
        if isinstance(source, EnvSettingsSource)
        for name, value in source.env_vars.items()
        if value
    }


_PLACEHOLDER: Final = re.compile(r"(xoxb-|xapp-)?(\.\.\.|\u2026)")
_SLIPS: Final[tuple[tuple[Callable[[str], object], str], ...]] = (
    (_PLACEHOLDER.fullmatch, "is still the placeholder of the README: put the real value there"),
    (has_stray_quote, "has a quotation mark at one end only: remove it"),
)


def find_trouble(value: object) -> Unreadable | None:
    """Return the problem of a value that is not worth checking, whatever its setting is."""
    if isinstance(value, Unreadable):
        return value
    if not isinstance(value, str):
        return None
    if is_service_address(value):
        return Unreadable(f"is set by Kubernetes for a Service of that name: {FIX}, or rename the Service")
    if _PEM_BEGINS in value and _PEM_ENDS not in value:  # Docker's env files, and .env without quotes
        return Unreadable(
            f"ends in the middle of its PEM: write it on one line with \\n for its line ends, or set NAME{FILE_SUFFIX}"
        )
    problem = next((problem for is_so, problem in _SLIPS if is_so(value)), None)
    return Unreadable(problem) if problem else None


def find_env_file(env_file: Path) -> tuple[Path, list[str]]:
    """Return the file to read, or an empty one with a warning where there can be none for this user.

    A file that exists and cannot be read is an OSError instead: it may restrict who may do what.
    """
    try:
        env_file.lstat()
    except PermissionError:  # as with a random uid in an image's working directory
        return _NO_FILE, [f"{env_file}: is not looked for, since uid {os.geteuid()} cannot enter the working directory"]
    except OSError:
        return _NO_FILE, []
    if env_file.is_dir():  # a virtual environment, or Docker's stand-in for a missing file
        return _NO_FILE, [f"{env_file}: is a directory, so no settings are read from it"]
    with env_file.open("rb"):
        return env_file, []


def find_no_env_file(env_file: Path) -> list[str]:
    """Return a line if there is nothing to read settings from: the command was run in another directory."""
    found, ignored = find_env_file(env_file)
    if found != _NO_FILE or ignored:
        return ignored
    try:
        where = env_file.absolute().parent
    except FileNotFoundError:  # the working directory was removed
        where = Path()
    return [f"{env_file}: there is none in {where}; run this in the directory that has it, or set the variables"]


def find_repeated_names(env_file: Path, names: Collection[str]) -> Iterator[str]:
    """Report the settings that are in the file twice: the last one would win, for instance a shorter list of users.

    Raises OSError and UnicodeDecodeError.
    """
    lines: dict[str, list[str]] = {}
    with env_file.open(encoding="utf-8") as stream:
        for statement in parse_stream(stream):
            if statement.key is not None and statement.key in names:
                lines.setdefault(statement.key, []).append(str(statement.original.line))
    for name, its in lines.items():
        if len(its) > 1:
            yield f"{name}: is in {env_file} more than once, in lines {' and '.join(its)}; keep one of them"


def find_unread_lines(env_file: Path) -> Iterator[str]:
    """Report the lines that python-dotenv skips: a list of buckets without its closing quote would allow all buckets.

    Raises OSError and UnicodeDecodeError.
    """
    if env_file == _NO_FILE:
        return
    with env_file.open(encoding="utf-8") as stream:
        for statement in parse_stream(stream):
            if statement.error and not statement.original.string.startswith(_PEM_ENDS):  # its value is reported
                yield f"{env_file}: line {statement.original.line} is not NAME=VALUE, or lacks a closing quotation mark"
