"""Where values of settings come from: the environment, `.env`, NAME_FILE, and the variables that describe the network.

The quotes, blanks and byte order mark around a value are removed here, for all sources alike.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from bot.model.written_settings import has_stray_quote, plain_value
from bot.network import NetworkUnusable, read_network

logging.getLogger("dotenv").addHandler(logging.NullHandler())
"""It warns about each unreadable line three times; `find_unread_lines` reports it once, as a problem."""

FILE_SUFFIX: Final = "_FILE"
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
            return plain_value(Path(path).read_text(encoding="utf-8")), name, False
        except UnicodeDecodeError:
            cause = "it is not UTF-8 text"
        except OSError as error:
            cause = error.strerror or "it cannot be opened"
        except ValueError:  # a NUL in the path
            cause = "that is not a possible path"
        return Unreadable(f"cannot be read from the file that {name}{FILE_SUFFIX} names ({cause})"), name, False

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


def find_trouble(value: object) -> Unreadable | None:
    """Return the problem of a value that is not worth checking, whatever its setting is."""
    if isinstance(value, str) and has_stray_quote(value):
        return Unreadable("has a quotation mark at one end only: remove it")
    return value if isinstance(value, Unreadable) else None


def find_unread_lines(env_file: Path) -> Iterator[str]:
    """Report the lines that python-dotenv skips: a list of buckets without its closing quote would allow all buckets.

    Raises OSError and UnicodeDecodeError.
    """
    if not env_file.is_file():
        return
    with env_file.open(encoding="utf-8") as stream:
        for statement in parse_stream(stream):
            if statement.error:
                yield f"{env_file}: line {statement.original.line} is not NAME=VALUE, or lacks a closing quotation mark"
