"""The subcommands: the table from which help, usage hint and manifest are built.

Imports little, because the command line prints the manifest. The story that registers for an entry answers it.
"""

from dataclasses import dataclass
from typing import Final

from bot.model.catalog import is_bucket_name
from bot.model.pasted_token import trim_typed
from bot.model.similar_names import find_similar

COMMAND: Final = "/r2-credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """A first word that is not read as a bucket's name; `argument` is what may follow it, as the help shows it."""

    name: str
    argument: str = ""
    help: str
    takes_many: bool = False
    """Whether the argument may be several buckets, by names and globs."""


STORE: Final = Subcommand(
    name="store", argument="BUCKET", help="does the same, also for a bucket that has the name of a command"
)
ROTATE: Final = Subcommand(
    name="rotate",
    argument="[BUCKET]",
    help="has the bot make and store a new token that nobody sees; `team-*`, several names or `--all` do many",
    takes_many=True,
)
STATUS: Final = Subcommand(
    name="status", argument="[BUCKET]", help="shows which catalogs have a working credential, or one of them"
)
HISTORY: Final = Subcommand(name="history", argument="[BUCKET]", help="shows what was submitted, for all or for one")
HELP: Final = Subcommand(name="help", help="shows this list")

SUBCOMMANDS: Final = (STORE, ROTATE, STATUS, HISTORY, HELP)

_BY_NAME: Final = {subcommand.name: subcommand for subcommand in SUBCOMMANDS}
_READ_AS: Final = _BY_NAME | dict.fromkeys(("?", "-h", "-help", "--help"), HELP)  # no bucket can be called like that


def read_text(text: str) -> tuple[Subcommand, str]:
    """Return the subcommand and its argument. A text without a subcommand is a bucket to store a credential for."""
    words = [typed for word in text.split() if (typed := trim_typed(word))]
    subcommand = _READ_AS.get(words[0].lower()) if words else None
    return (STORE, trim_typed(text)) if subcommand is None else (subcommand, " ".join(words[1:]))


def guess_subcommand(text: str) -> Subcommand | None:
    """Return the subcommand that the first word may misspell; a bucket may have that name too."""
    typed = trim_typed(text).lower().partition(" ")[0]
    name = typed.lstrip("-/")
    similar = [name] if name != typed and name in _BY_NAME else find_similar(name, _BY_NAME)
    return _BY_NAME[similar[0]] if similar else None


def ask_back(typed: str, guess: Subcommand) -> str:
    """Return the question about an unknown bucket that resembles a subcommand; `typed` is unverified markup."""
    first, _, rest = typed.partition(" ")
    meant = f"{COMMAND} {guess.name} {rest}".rstrip()
    may_be_bucket = not rest and is_bucket_name(first)
    as_bucket = f" For a bucket of that name, type `{COMMAND} {STORE.name} {first}`." if may_be_bucket else ""
    return f"`{first}` is no command, and no catalog of that name is known. Did you mean `{meant}`?{as_bucket}"


def usage_hint() -> str:
    """Return what Slack shows while a person types the command."""
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
_WARNING: Final = "Paste the token into the form only, never after the command: Slack keeps what is typed there."
