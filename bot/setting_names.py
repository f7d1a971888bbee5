"""Names that are almost settings: unknown ones with our prefix, and misspelt ones. "Did you mean ...?"."""

import difflib
import os
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from bot.model.service_links import describe_links, find_service_links
from bot.model.written_settings import find_near_names
from bot.setting_sources import FILE_SUFFIX

_OWN_PREFIX: Final = "R2_CREDENTIAL_"
_MEANT: Final = "; did you mean "
_ALTERNATIVES: Final = (
    frozenset({"SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"}),
    frozenset({"CLOUDFLARE_API_TOKEN", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_KEY"}),
)
"""One name of each group is enough: once it is set, the others are not missing."""


@dataclass(frozen=True, slots=True)
class UnknownNames:
    """One line for each name with our prefix that is no setting: an error in `.env`, a warning in the environment."""

    in_env_file: list[str]
    in_environment: list[str]

    @property
    def probably_meant(self) -> list[str]:
        """Return the lines from the environment that suggest a setting."""
        return [line for line in self.in_environment if _MEANT in line]


def find_unknown_names(env_file: Path, known: AbstractSet[str]) -> UnknownNames:
    """Find the names with our prefix that are not in `known`."""
    ours = with_files(known)

    def report(variables: Mapping[str, str | None]) -> list[str]:
        names = sorted(name for name in variables if name.startswith(_OWN_PREFIX) and name not in ours)
        return [f"{name}: is not a setting of this bot{_did_you_mean(name, ours)}" for name in names]

    links = [name for name in find_service_links(os.environ, _OWN_PREFIX) if name not in ours]
    others = {name: value for name, value in os.environ.items() if name not in links}
    return UnknownNames(report(dotenv_values(env_file)), [*report(others), *([describe_links(links)] if links else [])])


def find_misspelt_names(
    variables: Mapping[str, str], known: AbstractSet[str], not_needed: Collection[str]
) -> list[str]:
    """Find names that misspell a setting that is not set.

    Other tools have names with SLACK_ and CLOUDFLARE_ too: without that condition, each would be reported.
    """
    is_set = {name for name in known if variables.keys() & {name, name + FILE_SUFFIX}}
    done = {name for group in _ALTERNATIVES if group & is_set for name in group}
    wanted = known - is_set - done - {*not_needed}
    ours = with_files(known)
    names = [name for name in variables if name not in ours and not name.startswith(_OWN_PREFIX)]
    return [
        f"{name}: is not a setting of this bot{_MEANT}{meant}?"
        for name, meant in find_near_names(names, with_files(wanted))
    ]


def with_files(names: AbstractSet[str]) -> AbstractSet[str]:
    """Return names of settings, and those that name their files."""
    return names | {name + FILE_SUFFIX for name in names}


def _did_you_mean(name: str, known: AbstractSet[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{_MEANT}{close[0]}?" if close else ""
