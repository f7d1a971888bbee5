"""Secret: a value that cannot be shown, pickled or copied by accident."""

import hmac
from typing import NoReturn, final

_MASK = "**********"


@final
class Secret:
    """Holds one secret string.

    The value leaves only by `reveal()`, which a test allows in a few modules, by name: those that read settings, open
    clients, the database and keys, or send a secret. Python cannot wipe a string from memory, so keep what `reveal()`
    returns short-lived.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain value; call it only where the value leaves the program."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return format(_MASK, format_spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"),  # an encoding error would quote the value
            other._value.encode("utf-8", "surrogatepass"),
        )

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a fingerprint of it

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        message = "a Secret cannot be pickled or copied"
        raise TypeError(message)

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(0)

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce_ex__(0)
