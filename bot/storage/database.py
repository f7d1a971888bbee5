"""Where records are kept: SQLite for one process, PostgreSQL for several. Both run functions of a connection."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

_T = TypeVar("_T")


class SchemaTooNew(Exception):  # noqa: N818 - reads as what it says
    """A newer version of the bot made the database; nothing in it was touched."""


class DatabaseCorrupt(Exception):  # noqa: N818 - reads as what it says
    """The file is no database, or a damaged one; it was left as it is."""


class DatabaseBusy(Exception):  # noqa: N818 - reads as what it says
    """Another program holds the file for itself at the moment."""


class Database(Protocol):
    """Runs functions of a connection, each in a transaction of its own."""

    async def run(
        self, work: Callable[[Connection], _T], afterwards: Callable[[_T, Any], Awaitable[None]] | None = None
    ) -> _T:
        """Return what `work` returns, once it is on disk.

        `work` may run twice: it must do nothing but talk to the connection. A cancelled caller's work is done all the
        same. `afterwards` runs in the same transaction, with the result and the driver's own connection; only
        PostgreSQL takes one.
        Raises DatabaseUnavailable when nothing was written, for certain, and CommitUnknown where nobody can tell.
        """
        ...
