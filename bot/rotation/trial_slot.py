"""The slot of a trial's bucket: the token is stored in it, and what it held before is lost. Only where asked to."""

from typing import Final

from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError, RouteGone
from bot.cloudflare.minting_errors import as_minted
from bot.model.catalog import BucketKey, CatalogStatus, CredentialStatus
from bot.model.errors import BotError
from bot.model.secret import Secret
from bot.rotation.trial_questions import OTHER_SCOPE, Questions

_FULL: Final = (CredentialStatus.PRESENT, CredentialStatus.VALID, CredentialStatus.INVALID, CredentialStatus.UNKNOWN)


class TrialSlot:
    """One slot, written with the bot's own credentials."""

    def __init__(
        self, catalogs: CloudflareClient, key: BucketKey, questions: Questions, *, may_overwrite: bool
    ) -> None:
        self._catalogs = catalogs
        self._key = key
        self._ask = questions
        self._may_overwrite = may_overwrite
        self._may_hold_it = False
        self.is_test_offered = True

    async def look(self) -> None:
        """Refuse a catalog that takes no credential, and a slot that has one, before anything is created."""
        catalog = await self._ask.answer("slot", lambda: self._catalogs.get_catalog(self._key))
        if catalog.status is not CatalogStatus.ACTIVE:
            fix = "enable the catalog, or try it with another bucket"
            self._ask.fail("slot", f"the catalog of {self._key.bucket} is switched off", fix)
        status = await self._test() or catalog.credential_status
        if status in _FULL and not self._may_overwrite:
            fix = "name a test bucket whose slot is empty; or, if its credential may be lost, add --overwrite"
            self._ask.fail("slot", f"the slot of {self._key.bucket} holds a credential, or may hold one", fix)
        if not self.is_test_offered:
            text = "Cloudflare does not offer the test of stored credentials here, so the bot revokes nothing by itself"
            self._ask.doubt("slot", text)

    async def store(self, token: Secret) -> None:
        """Store the token, and have Cloudflare test it."""

        async def store() -> str | None:
            return await self._catalogs.store_credential(self._key, token, _always)

        self._may_hold_it = True
        try:
            await self._ask.insist(store)
        except BotError as error:
            self._may_hold_it = isinstance(error, CloudflareError) and error.possibly_landed
            self._ask.fail_by("store", as_minted(error))
        self._ask.tell("store", f"the new token was stored in the slot of {self._key.bucket}")
        await self.require(CredentialStatus.VALID)

    async def require(self, status: CredentialStatus) -> None:
        """Wait until the test says this; report a failure if it never does."""
        if not self.is_test_offered:
            return
        seconds = await self._ask.measure(lambda: self._is(status))
        if seconds is None:
            self._ask.fail("test", f"Cloudflare's test of the slot did not say {status}", OTHER_SCOPE)
        self._ask.tell("test", f"Cloudflare's test of the slot said {status} after {seconds:.0f} s")

    async def measure(self, status: CredentialStatus) -> float | None:
        """Return how many seconds it took until the test said this, or None if it never did."""
        return await self._ask.measure(lambda: self._is(status))

    def tell_what_it_holds(self) -> None:
        """Say what is left: a slot cannot be emptied."""
        if self._may_hold_it:
            bucket = self._key.bucket
            text = f"the slot of {bucket} holds a token that is deleted now, and cannot be emptied"
            fix = f"delete the test bucket, or store another credential with `/r2-credential {bucket}`"
            self._ask.doubt_with_fix("slot", text, fix)

    async def _is(self, status: CredentialStatus) -> bool:
        return await self._test() is status

    async def _test(self) -> CredentialStatus | None:
        """Return what the test says, or None if it is not offered."""
        try:
            return await self._ask.insist(lambda: self._catalogs.test_credential(self._key))
        except RouteGone:
            self.is_test_offered = False
            return None
        except BotError as error:
            self._ask.fail_by("test", error)


async def _always() -> bool:
    return True
