"""Which buckets the schedule covers: those of R2_CREDENTIAL_ROTATE_BUCKETS for which a rule grants `rotate`. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.model import bucket_globs
from bot.model.catalog import StoredCredential
from bot.model.known_catalogs import KnownCatalogs
from bot.model.timetable import RotationFailure, Timetable
from bot.policy.rules import Request, Rule, Verb, find_fitting


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A credential that the schedule has not replaced although its time was up: since when, and how it failed."""

    credential: StoredCredential
    since: datetime
    failure: RotationFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """The schedule, or that there is none; it goes by the rules that hold at the moment."""

    timetable: Timetable | None
    globs: tuple[str, ...]
    rules: Callable[[], Sequence[Rule]]

    def timetable_of(self, credential: StoredCredential, known: KnownCatalogs) -> Timetable | None:
        """Return when this credential is rotated by itself; None if it is not, as one that a person has pasted."""
        if self.timetable is None or not known.is_ours(credential):
            return None
        return self.timetable if self._has(credential) and known.holds(credential) else None

    def find_overdue(self, known: KnownCatalogs, now: datetime) -> Iterator[Overdue]:
        """Yield all that are overdue."""
        if self.timetable is not None:
            for credential in known.credentials.values():
                if self.timetable.may_be_due(credential, now) and (overdue := self.overdue(credential, known, now)):
                    yield overdue

    def overdue(self, credential: StoredCredential, known: KnownCatalogs, now: datetime) -> Overdue | None:
        """Return since when it is overdue, if it is."""
        timetable = self.timetable_of(credential, known)
        since = None if timetable is None else timetable.overdue_at(credential)
        if since is None or since > now:
            return None
        return Overdue(credential=credential, since=since, failure=known.failures.get(credential.bucket))

    def replaces(self, credential: StoredCredential, known: KnownCatalogs, now: datetime) -> bool:
        """Return whether it is replaced before it expires, as far as can be known: nobody needs to act."""
        timetable = self.timetable_of(credential, known)
        return timetable is not None and now < timetable.overdue_at(credential)

    def _has(self, credential: StoredCredential) -> bool:
        if self.globs and not bucket_globs.serves(self.globs, credential.bucket):
            return False
        request = Request(verb=Verb.ROTATE, key=credential.key, channel_id=credential.channel_id)
        return bool(find_fitting(self.rules(), request))


NOT_SCHEDULED = Scheduled(timetable=None, globs=(), rules=tuple)
