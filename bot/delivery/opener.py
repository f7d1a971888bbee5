"""Opens a submission's sealed token, only for the two steps that send it."""

from dataclasses import replace

from bot.model.secret import Secret
from bot.model.submission import Pending
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext


class Opener:
    """Knows the keys, and the account that a token is sent to."""

    def __init__(self, key_ring: KeyRing, account_id: str) -> None:
        self._key_ring = key_ring
        self._account_id = account_id

    def open(self, pending: Pending) -> Secret:
        """Return the token; raises SealedValueUnreadable.

        The context names the account that the token would be sent to, not the one in the row: changing a row must not
        send a token to another account.
        """
        context = replace(SealingContext.of(pending.submission, TOKEN), account_id=self._account_id)
        return self._key_ring.open(pending.sealed.token or "", context)
