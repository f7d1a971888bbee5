"""What can be typed behind the command: the table that help, usage hint and manifest are made of.

Light to import: the command line prints the manifest. A new entry is answered by the story that registers for it.
"""

from dataclasses import dataclass
from typing import Final

from bot.model.pasted_token import trim_typed

COMMAND: Final = "/r2-credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """A first word that is not read as a bucket's name; `argument` stands for what may follow it, in the help."""

    name: str
    argument: str = ""
    help: str


STORE: Final = Subcommand(
    name="store", argument="BUCKET", help="opens it filled in too, also for a bucket that is called like a subcommand"
)
STATUS: Final = Subcommand(
    name="status", argument="[BUCKET]", help="shows which catalogs have a working credential, or one of them"
)
HISTORY: Final = Subcommand(name="history", argument="[BUCKET]", help="shows what was submitted, for all or for one")
HELP: Final = Subcommand(name="help", help="shows this")

SUBCOMMANDS: Final = (STORE, STATUS, HISTORY, HELP)

_BY_NAME: Final = {subcommand.name: subcommand for subcommand in SUBCOMMANDS}


def read_text(text: str) -> tuple[Subcommand, str]:
    """Return what is asked for, and what stands behind it. What begins with no subcommand is a bucket to store for."""
    words = [typed for word in text.split() if (typed := trim_typed(word))]
    subcommand = _BY_NAME.get(words[0].lower()) if words else None
    return (STORE, trim_typed(text)) if subcommand is None else (subcommand, " ".join(words[1:]))


def usage_hint() -> str:
    """Return what Slack shows while somebody types the command."""
    usages = (f"{subcommand.name} {subcommand.argument}".strip().lower() for subcommand in SUBCOMMANDS)
    return f"[bucket | {' | '.join(usages)}]"


def help_text() -> str:
    """Return the answer to `help`."""
    lines = (
        f"*{COMMAND} {subcommand.name}{f' {subcommand.argument}' if subcommand.argument else ''}* {subcommand.help}."
        for subcommand in SUBCOMMANDS
    )
    return "\n".join([_INTRODUCTION, *lines, _WARNING])


_INTRODUCTION: Final = (
    f"*{COMMAND}* opens a form that stores the credential of an R2 Data Catalog (Basin Catalog); *{COMMAND} BUCKET* "
    "opens it filled in."
)
_WARNING: Final = "Paste the token into the form only, never behind the command: Slack keeps what is typed there."
