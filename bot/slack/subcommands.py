"""What can be typed behind the command: the table that help, usage hint and manifest are made of.

Light to import: the command line prints the manifest. A new entry is answered by the story that registers for it.
"""

from dataclasses import dataclass
from typing import Final

from bot.model.catalog import is_bucket_name
from bot.model.pasted_token import trim_typed
from bot.model.similar_names import find_similar

COMMAND: Final = "/r2-credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """A first word that is not read as a bucket's name; `argument` stands for what may follow it, in the help."""

    name: str
    argument: str = ""
    help: str


STORE: Final = Subcommand(
    name="store", argument="BUCKET", help="does the same, also for a bucket that is called like a command"
)
STATUS: Final = Subcommand(
    name="status", argument="[BUCKET]", help="shows which catalogs have a working credential, or one of them"
)
HISTORY: Final = Subcommand(name="history", argument="[BUCKET]", help="shows what was submitted, for all or for one")
HELP: Final = Subcommand(name="help", help="shows this list")

SUBCOMMANDS: Final = (STORE, STATUS, HISTORY, HELP)

_BY_NAME: Final = {subcommand.name: subcommand for subcommand in SUBCOMMANDS}
_READ_AS: Final = _BY_NAME | dict.fromkeys(("?", "-h", "-help", "--help"), HELP)  # no bucket can be called like that


def read_text(text: str) -> tuple[Subcommand, str]:
    """Return what is asked for, and what stands behind it. What begins with no subcommand is a bucket to store for."""
    words = [typed for word in text.split() if (typed := trim_typed(word))]
    subcommand = _READ_AS.get(words[0].lower()) if words else None
    return (STORE, trim_typed(text)) if subcommand is None else (subcommand, " ".join(words[1:]))


def guess_subcommand(text: str) -> Subcommand | None:
    """Return the subcommand of which the first word may be a misspelling; a bucket may be called like that too."""
    typed = trim_typed(text).lower().partition(" ")[0]
    name = typed.lstrip("-/")
    similar = [name] if name != typed and name in _BY_NAME else find_similar(name, _BY_NAME)
    return _BY_NAME[similar[0]] if similar else None


def ask_back(typed: str, guess: Subcommand) -> str:
    """Return the question for what is no bucket that is known; `typed` is markup, and unverified."""
    first, _, rest = typed.partition(" ")
    meant = f"{COMMAND} {guess.name} {rest}".rstrip()
    may_be_bucket = not rest and is_bucket_name(first)
    as_bucket = f" For a bucket of that name, type `{COMMAND} {STORE.name} {first}`." if may_be_bucket else ""
    return f"`{first}` is no command, and no catalog of that name is known. Did you mean `{meant}`?{as_bucket}"


def usage_hint() -> str:
    """Return what Slack shows while somebody types the command."""
    usages = (f"{subcommand.name} {subcommand.argument}".strip().lower() for subcommand in SUBCOMMANDS)
    return f"[bucket | {' | '.join(usages)}]"


def help_text() -> str:
    """Return the answer to `help`."""
    usages = {
        "": "opens the form",
        "BUCKET": "opens the form, filled in for this bucket",
        **{f"{each.name} {each.argument}".rstrip(): each.help for each in SUBCOMMANDS},
    }
    lines = (f"\u2022 `{f'{COMMAND} {usage}'.rstrip()}` {words}" for usage, words in usages.items())
    return "\n".join([_INTRODUCTION, *lines, _WARNING])


_INTRODUCTION: Final = "Stores the credential of an R2 Data Catalog (Basin Catalog):"
_WARNING: Final = "Paste the token into the form only, never behind the command: Slack keeps what is typed there."
