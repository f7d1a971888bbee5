"""Names why something outside did not work, for the operator: DNS, TLS, a refused connection, a full disk.

Quotes no address, path or answer: an exception's own text may hold any of them.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Final

_CODES_OF_RESOLVER: Final = {
    number: name for name, number in vars(socket).items() if name.startswith("EAI_") and isinstance(number, int)
}


def name_cause(error: BaseException) -> str:
    """Return the class of what is at the bottom of an exception, and the system's word for it where there is one.

    Such as `gaierror EAI_NONAME`, `SSLCertVerificationError CERTIFICATE_VERIFY_FAILED`, `OSError ENOSPC`.
    """
    chain = list(_chain(error))
    told = next((each for each in reversed(chain) if isinstance(each, OSError) and _word_of(each)), chain[0])
    word = _word_of(told) if isinstance(told, OSError) else ""
    return f"{type(told).__name__} {word}".strip()


def _word_of(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return _CODES_OF_RESOLVER.get(error.errno or 0, "")
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    return errno.errorcode.get(error.errno or 0, "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from, also where a library hides that; of several attempts, the first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.exceptions[0] if isinstance(link, BaseExceptionGroup) else link.__cause__ or link.__context__
