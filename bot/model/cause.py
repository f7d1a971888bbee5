"""Names the cause of a failed connection or file operation, for the operator: DNS, TLS, refused, disk full.

Quotes no address, path or answer: an exception's text may contain any of them.
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
    """Return the class of an exception's root cause and, if there is one, the system's error name.

    Such as `gaierror EAI_NONAME`, `SSLCertVerificationError CERTIFICATE_VERIFY_FAILED`, `OSError ENOSPC`.
    """
    root = find_root(error)
    word = _word_of(root) if isinstance(root, OSError) else ""
    return f"{type(root).__name__} {word}".strip()


def find_root(error: BaseException) -> BaseException:
    """Return the innermost cause that the system names; without one, the exception itself."""
    chain = list(chain_of(error))
    return next((each for each in reversed(chain) if isinstance(each, OSError) and _word_of(each)), chain[0])


def _word_of(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return _CODES_OF_RESOLVER.get(error.errno or 0, "")
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    return errno.errorcode.get(error.errno or 0, "")


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, also if a library hides them; of a group, follow the first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.exceptions[0] if isinstance(link, BaseExceptionGroup) else link.__cause__ or link.__context__
