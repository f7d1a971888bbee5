"""The reference of a submission, on every log line of the work on it: the one that people read in the bot's messages.

It is context, so that lines of libraries and of modules that know of no submission carry it too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Final

from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

FIELD: Final = "reference"


@contextmanager
def about(reference: str) -> Iterator[None]:
    """Put a reference on every line that is logged meanwhile, here and in tasks that are started here; "" changes none.

    A task that runs on after this must be started in `context_about`.
    """
    with bound_contextvars(**({FIELD: reference} if reference else {})):
        yield


def bound_reference() -> str:
    """Return the reference that lines get here, or ""."""
    return str(get_contextvars().get(FIELD, ""))


def context_about(reference: str = "") -> Context:
    """Return a context for a task or callback that outlives its starter, with this reference or with none.

    Otherwise it would keep its starter's for as long as it runs: the delivery of a bucket would log every later
    submission under the reference of the first.
    """
    context = copy_context()
    context.run(clear_contextvars)
    if reference:
        context.run(bind_contextvars, **{FIELD: reference})
    return context
