"""The interface of both databases: SQLite for one process, PostgreSQL for several."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from bot.storage.trouble import Trouble

_T = TypeVar("_T")


class SchemaTooNew(Exception):  # noqa: N818 - reads as what it says
    """A newer version of the bot created the database; nothing in it was changed."""


class DatabaseCorrupt(Exception):  # noqa: N818 - reads as what it says
    """The file is damaged or not a database; it was left as it is."""


class DatabaseBusy(Exception):  # noqa: N818 - reads as what it says
    """Another program holds a lock on the file."""


class Database(Protocol):
    """Runs functions that take a connection, each in a separate transaction."""

    @property
    def trouble(self) -> Trouble:
        """Why the latest failed call failed, as far as that is known."""
        ...

    async def run(
        self, work: Callable[[Connection], _T], afterwards: Callable[[_T, Any], Awaitable[None]] | None = None
    ) -> _T:
        """Return the result of `work` once it is on disk.

        `work` may run twice, so it must do nothing but use the connection. It completes even if the caller is
        cancelled. `afterwards` runs in the same transaction, with the result and the driver's connection; only
        PostgreSQL supports it.
        Raises DatabaseUnavailable if certainly nothing was written, and CommitUnknown if that is unknown.
        """
        ...
