"""Opens a submission's sealed token: for the two steps that send it, and for nobody else."""

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

        The account in its context is the one that it would be sent to, whatever the row says.
        """
        submission = pending.submission
        context = SealingContext(
            purpose=TOKEN,
            team_id=submission.team_id,
            user_id=submission.user_id,
            view_id=submission.id,
            account_id=self._account_id,
            bucket=submission.key.bucket,
        )
        return self._key_ring.open(pending.sealed.token or "", context)
