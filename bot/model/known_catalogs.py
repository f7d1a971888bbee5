"""What a process knows of the account's catalogs: by bucket, so that a lookup costs the same with ten or 10,000."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.timetable import RotationFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """When Cloudflare listed the catalogs and how many, and when the last round of credential tests ended, if any."""

    refreshed_at: datetime
    tested_at: datetime | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenToken:
    """A token that the bot made itself for a bucket, and that worked in its slot. Not secret."""

    bucket: str
    token_id: str


class KnownCatalogs:
    """What `bot.storage.known_catalogs` keeps equal to the database's rows: catalogs, credentials, what is ours.

    `failures` has the buckets whose rotation has failed since the stored credential.

    What sorts them watches, and is told each bucket that changed, or None if all are new.
    """

    def __init__(self) -> None:
        """Begin with nothing: Cloudflare was never asked."""
        self.catalogs: dict[str, Catalog] = {}
        self.credentials: dict[str, StoredCredential] = {}
        self.failures: dict[str, RotationFailure] = {}
        self._proven: dict[str, str] = {}
        self.refreshed_at: datetime | None = None
        self.tested_at: datetime | None = None
        self._watchers: list[Callable[[str | None], None]] = []

    def watch(self, watcher: Callable[[str | None], None]) -> None:
        """Call this for each change."""
        self._watchers.append(watcher)

    @property
    def listing(self) -> Listing | None:
        """How old this is; None before the first list: then nothing is known of a bucket that is missing."""
        if self.refreshed_at is None:
            return None
        return Listing(refreshed_at=self.refreshed_at, tested_at=self.tested_at, count=len(self.catalogs))

    def catalog(self, key: BucketKey) -> Catalog | None:
        """Return what Cloudflare listed of a bucket."""
        found = None if self.refreshed_at is None else self.catalogs.get(key.bucket)
        return found if found is not None and found.key == key else None

    def credential(self, key: BucketKey) -> StoredCredential | None:
        """Return what the bot stored last in the slot of a bucket."""
        found = self.credentials.get(key.bucket)
        return found if found is not None and found.key == key else None

    def is_broken(self, credential: StoredCredential) -> bool:
        """Return whether Cloudflare says that what is in its slot does not work."""
        catalog = self.catalog(credential.key)
        return catalog is not None and catalog.credential_status is CredentialStatus.INVALID

    def is_ours(self, credential: StoredCredential) -> bool:
        """Return whether the bot made this token itself, and it worked; one that a person pasted later is not ours.

        What depends on it asks `MintedTokens`, whose rows are signed.
        """
        return credential.token_id is not None and self._proven.get(credential.bucket) == credential.token_id

    def holds(self, credential: StoredCredential) -> bool:
        """Return whether its catalog is on, and its slot holds this credential and it works, as far as that is known.

        One that was switched off, emptied or broken since is for a person to decide on.
        """
        if self.refreshed_at is None:
            return True
        catalog = self.catalog(credential.key)
        return (
            catalog is not None
            and catalog.status is not CatalogStatus.INACTIVE
            and catalog.credential_status is not CredentialStatus.INVALID
            and credential.expires_in(catalog) is not None
        )

    def replace_all(
        self,
        catalogs: Iterable[Catalog],
        credentials: Iterable[StoredCredential],
        proven: Iterable[ProvenToken] = (),
        failures: Iterable[RotationFailure] = (),
    ) -> None:
        """Forget what is known, and take these."""
        self.catalogs, self.credentials, self._proven, self.failures = {}, {}, {}, {}
        self._take(catalogs, credentials, proven, failures)
        self._tell(None)

    def replace(
        self,
        buckets: Iterable[str],
        catalogs: Iterable[Catalog],
        credentials: Iterable[StoredCredential],
        proven: Iterable[ProvenToken] = (),
        failures: Iterable[RotationFailure] = (),
    ) -> None:
        """Forget what is known of these buckets, and take these of theirs."""
        changed = list(buckets)
        for bucket in changed:
            for known in (self.catalogs, self.credentials, self._proven, self.failures):
                known.pop(bucket, None)
        self._take(catalogs, credentials, proven, failures)
        for bucket in changed:
            self._tell(bucket)

    def _take(
        self,
        catalogs: Iterable[Catalog],
        credentials: Iterable[StoredCredential],
        proven: Iterable[ProvenToken],
        failures: Iterable[RotationFailure],
    ) -> None:
        self.catalogs |= {each.bucket: each for each in catalogs}
        self.credentials |= {each.bucket: each for each in credentials}
        self._proven |= {each.bucket: each.token_id for each in proven}
        self.failures |= {each.bucket: each for each in failures}

    def _tell(self, bucket: str | None) -> None:
        for watcher in self._watchers:
            watcher(bucket)
