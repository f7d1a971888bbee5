"""Tries out on the operator's own account what no document settles about tokens that the bot creates: `check --mint`.

It creates one token for one bucket and uses it, disables, enables and deletes it. The token has a mark that no running
bot takes for its own, and expires within the hour whatever happens.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.answers import TokenStatus, TokenVerification
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CloudflareError, CloudflareTrouble, Refusal
from bot.cloudflare.minter import MintingClient, NameFilter
from bot.cloudflare.minting_answers import Minted
from bot.cloudflare.minting_errors import (
    MintedTokenRefused,
    MintedTokenUseless,
    MintingTokenRejected,
    PermissionNotGrantable,
    TokenQuotaReached,
    as_minted,
)
from bot.cloudflare.minting_policies import GROUPS
from bot.model.catalog import BucketKey, CatalogStatus, CredentialStatus
from bot.model.errors import BotError
from bot.model.minted import HEADROOM, PROBE_AFTER
from bot.model.submission import TokenKind
from bot.model.token_name import Scope, TokenName
from bot.rotation.trial_questions import Questions, Stopped
from bot.rotation.trial_slot import TrialSlot

LIVES_FOR: Final = timedelta(hours=1)
"""The token of a trial that could not clean up expires then."""
NEW_FOR: Final = timedelta(seconds=60)
"""How long a new token may be unknown, as documented."""

_FILTERS: Final = {
    NameFilter.PART: "Cloudflare's lists take a part of a token's name: listing those of the bot takes few requests",
    NameFilter.WHOLE: "Cloudflare's lists take whole names only, so the bot lists all tokens of the account instead",
    NameFilter.IGNORED: "Cloudflare's lists ignore the name, so the bot reads all tokens of the account",
}


class Trial:
    """One trial. Call `walk()`, which may be cancelled anywhere, and then always `clean_up()`."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        minting: MintingClient,
        catalogs: CloudflareClient,
        key: BucketKey,
        scope: Scope,
        quota: int,
        slot: TrialSlot | None,
        questions: Questions,
        clock: Callable[[], datetime],
    ) -> None:
        """Take a client of catalogs, of which only calls with the new token are used, and the slot to store it in."""
        self._minting = minting
        self._catalogs = catalogs
        self._key = key
        self._scope = scope
        self._quota = quota
        self._slot = slot
        self._ask = questions
        self._expires_at = clock().replace(microsecond=0) + LIVES_FOR
        self._name = TokenName.new(minting.installation, key.bucket)
        self._id: str | None = None
        self._may_exist = False
        self._was_seen = False

    async def walk(self) -> None:
        """Ask one question after the other, and report each answer; end at the first failure that hides the rest."""
        with suppress(Stopped):
            await self._look_around()
            minted = await self._create()
            await self._wait_for(minted)
            await self._find_it()
            if self._slot is not None:
                await self._slot.store(minted.value)
            await self._disable(minted)
            await self._enable(minted)
            await self._delete()

    async def clean_up(self) -> None:
        """Delete the token, if it may still be there; where that fails, say its name."""
        if self._may_exist:
            await self._clean_up_token()
        if self._slot is not None:
            self._slot.tell_what_it_holds()

    async def _clean_up_token(self) -> None:
        try:
            token_id = self._id or await self._ask.until(self._find_id)
            is_deleted = token_id is not None and await self._delete_for_sure(token_id)
        except BotError as error:
            self._ask.tell_left_behind(self._name, self._expires_at, error)
            return
        if is_deleted:
            self._ask.tell("cleaned up", f'the token "{self._name}" was deleted')
        else:
            self._ask.tell_left_behind(self._name, self._expires_at, None)

    async def _delete_for_sure(self, token_id: str) -> bool:
        """Delete it; if Cloudflare says that there is none, believe that only of one that it has shown before.

        A token that is a moment old may not be there for every one of its servers.
        """

        async def delete() -> bool | None:
            try:
                is_deleted = await self._minting.delete(token_id, self._name, _always)
            except CloudflareTrouble as error:
                self._was_seen = self._was_seen or error.possibly_landed
                raise
            return is_deleted or self._was_seen or None

        return await self._ask.until(delete) is not None

    async def _look_around(self) -> None:
        """Ask what can be asked before there is a token."""
        verified = await self._ask.answer("minting token", self._minting.verify_own)
        until = f"expires on {verified.expires_at:%Y-%m-%d}" if verified.expires_at else "never expires"
        self._ask.tell("minting token", f"the minting token is active and {until}")
        await self._look_at_permissions()
        await self._look_at_tokens()
        if self._slot is not None:
            await self._slot.look()

    async def _look_at_permissions(self) -> None:
        grantable = await self._ask.answer("permissions", self._minting.permission_groups)
        for scope in Scope:
            refused = ", ".join(group.name for group in grantable.refused(scope))
            granted = " and ".join(group.name for group in GROUPS[scope])
            if refused and scope is self._scope:
                self._ask.fail("permissions", f"no token can be given {refused}", PermissionNotGrantable)
            what = f"not {refused}, so this scope cannot be used" if refused else f"{granted} can be granted"
            self._ask.tell("permissions", f"scope {scope}: {what}")

    async def _look_at_tokens(self) -> None:
        """Write out the sum of the quota, and who else creates tokens."""
        total = await self._ask.answer("quota", self._minting.count_all)
        left = self._quota - HEADROOM - total
        text = f"{self._quota} API tokens allowed - {total} there - {HEADROOM} kept free = {left} left for the bot"
        if left < 1:
            self._ask.fail("quota", text, TokenQuotaReached)
        self._ask.tell("quota", text, tokens=total, left=left)
        listed = await self._ask.answer("installations", self._minting.list_bots)
        for mark, count in sorted(Counter(token.name.installation for token in listed).items()):
            if mark != self._minting.installation:
                self._ask.tell("installations", f"the installation {mark} has created {count} of them", mark=mark)
        for token in listed:
            if token.name.is_ours(self._minting.installation) and token.status is not TokenStatus.EXPIRED:
                text = f'the token "{token.name}" of another run of this command is there'
                self._ask.doubt_with_fix("installations", text, "delete it in the dashboard, unless that run goes on")

    async def _create(self) -> Minted:
        """Create the token. Not even a cancellation leaves it open whether there is one."""
        self._may_exist = True
        creating = asyncio.ensure_future(self._minting.create(self._name, self._scope, self._expires_at, _always))
        try:
            minted = await asyncio.shield(creating)
        except asyncio.CancelledError:
            with suppress(BotError):
                self._id = (await creating).id
            self._may_exist = self._id is not None or _may_have_landed(creating.exception())
            raise
        except BotError as error:
            self._may_exist = _may_have_landed(error)
            self._ask.fail_by("create", error)
        self._id = minted.id
        what = "one policy" if self._scope is Scope.ACCOUNT else "two policies, one of them for this bucket alone"
        self._ask.tell("create", f'created "{self._name}" with {what}, until {self._expires_at:%H:%M} UTC')
        if minted.expires_at != self._expires_at:
            self._ask.doubt("create", "Cloudflare did not keep the moment at which the token is to expire")
        return minted

    async def _wait_for(self, minted: Minted) -> None:
        """Measure how long the token is unknown, and whether it is the right one and reaches the catalog."""
        seconds = await self._ask.measure(lambda: self._is_active(minted))
        if seconds is None:
            self._ask.fail("propagation", "the new token was not known to Cloudflare in time", MintingTokenRejected)
        reads = await self._ask.measure(lambda: self._reads(minted))
        if reads is None:
            text = f"the new token does not read the catalog of {self._key.bucket}"
            self._ask.fail("catalog", text, MintedTokenUseless)
        text = f"the new token was active after {seconds:.0f} s and read the catalog {reads:.0f} s later"
        known = {"seconds": round(seconds + reads, 1)}
        if seconds + reads > NEW_FOR.total_seconds():
            self._ask.doubt("propagation", f"{text}: longer than documented; the bot waits for 3 minutes", known)
        else:
            self._ask.tell("propagation", text, **known)

    async def _find_it(self) -> None:
        """Measure how long lists lack the token, and find out what their filter does."""
        seconds = await self._ask.measure(self._is_listed)
        if seconds is None:
            fix = "report it: the bot finds a token whose creation had no answer by its name"
            self._ask.fail("list", "the new token does not appear in Cloudflare's lists", fix)
        found = await self._ask.answer("list", lambda: self._minting.examine_filter(self._name))
        text = _FILTERS.get(found, "Cloudflare's lists do not find a token by its name that they list without it")
        if found is NameFilter.BROKEN:
            self._ask.fail("list", text, "report it: the bot looks for tokens by their names")
        self._ask.tell("list", f"{text}; the new token was listed after {seconds:.0f} s", filter=found.value)

    async def _disable(self, minted: Minted) -> None:
        """Disable it, and measure how long it is used nevertheless: the bot deletes a token after that time."""
        await self._set_status(is_active=False)
        seconds = await self._ask.measure(lambda: self._is_refused(minted))
        has_test = self._slot is not None and self._slot.is_test_offered
        later = await self._slot.measure(CredentialStatus.INVALID) if self._slot is not None and has_test else 0.0
        if seconds is None or later is None or seconds + later > PROBE_AFTER.total_seconds():
            fix = "report it, and grant the verb rotate to nobody: the bot would delete a token that is still used"
            text = f"a disabled token worked for longer than {PROBE_AFTER.total_seconds():.0f} s"
            self._ask.fail("disable", text, fix)
        also = f", and the test of the slot said so {later:.0f} s later" if has_test else ""
        self._ask.tell("disable", f"the token could be disabled; it was refused after {seconds:.0f} s{also}")

    async def _enable(self, minted: Minted) -> None:
        """Enable it again: what the bot does when the slot turns out to hold the token."""
        await self._set_status(is_active=True)
        seconds = await self._ask.measure(lambda: self._reads(minted))
        if seconds is None:
            fix = "report it, and grant the verb rotate to nobody: the bot could not undo a revocation"
            self._ask.fail("enable", "a token that was enabled again does not work", fix)
        self._ask.tell("enable", f"the token could be enabled again; it worked after {seconds:.0f} s")
        if self._slot is not None:
            await self._slot.require(CredentialStatus.VALID)

    async def _delete(self) -> None:
        """Delete it twice: the second answer is what the bot gets when somebody else was faster."""
        token_id = self._require_id()
        await self._ask.answer("delete", lambda: self._minting.delete(token_id, self._name, _always))
        self._may_exist = False
        self._ask.tell("delete", f'the token "{self._name}" was deleted')
        if await self._ask.answer("delete again", lambda: self._minting.delete(token_id, self._name, _always)):
            self._ask.doubt("delete again", "Cloudflare takes the deletion of a deleted token for a success")
        else:
            self._ask.tell("delete again", "Cloudflare says of a deleted token that it is gone, as the bot expects")

    async def _set_status(self, *, is_active: bool) -> None:
        question, token_id = "enable" if is_active else "disable", self._require_id()

        async def change() -> bool:
            return await self._minting.set_status(
                token_id, self._name, self._scope, self._expires_at, _always, is_active=is_active
            )

        await self._ask.answer(question, change)
        seen = await self._ask.answer(question, lambda: self._minting.get(token_id, self._name))
        wanted = TokenStatus.ACTIVE if is_active else TokenStatus.DISABLED
        if seen is None or seen.status is not wanted:
            what = "that it is gone" if seen is None else f"that it is {seen.status}"
            fix = "report it: the bot takes tokens back by disabling them first"
            self._ask.fail(question, f"after a change to {wanted}, Cloudflare says of the token {what}", fix)
        if seen.expires_at != self._expires_at:
            self._ask.doubt(question, "a change of the token's status changed when it expires")

    def _require_id(self) -> str:
        assert self._id is not None  # noqa: S101 - it was created
        return self._id

    async def _is_active(self, minted: Minted) -> bool:
        """Return whether Cloudflare knows the new token; stop if it knows another one by this value."""
        verified = await self._verify(minted)
        if verified is not None and verified.id != minted.id:
            self._ask.fail("propagation", "Cloudflare knows the new value as another token", "report it")
        return verified is not None and verified.status is TokenStatus.ACTIVE

    async def _verify(self, minted: Minted) -> TokenVerification | None:
        try:
            return await self._catalogs.verify_token(minted.value, TokenKind.ACCOUNT, _always)
        except CloudflareTrouble:
            raise
        except CloudflareError:
            return None

    async def _reads(self, minted: Minted) -> bool:
        """Return whether the token reads the catalog; stop if there is none to read."""
        try:
            catalog = await self._catalogs.get_catalog_as(self._key, minted.value, _always)
        except CloudflareTrouble:
            raise
        except Refusal as error:
            meant = as_minted(error)
            if not isinstance(meant, MintedTokenUseless | MintedTokenRefused):
                self._ask.fail_by("catalog", meant)
            return False
        except CloudflareError:
            return False
        if catalog.status is CatalogStatus.INACTIVE:
            fix = "enable the catalog, or try it with another bucket"
            self._ask.fail("catalog", f"the catalog of {self._key.bucket} is switched off", fix)
        return True

    async def _is_refused(self, minted: Minted) -> bool:
        return not await self._reads(minted)

    async def _is_listed(self) -> bool:
        self._was_seen = self._was_seen or await self._minting.find(self._name) is not None
        return self._was_seen

    async def _find_id(self) -> str | None:
        found = await self._minting.find(self._name)
        return None if found is None else found.id


def _may_have_landed(error: BaseException | None) -> bool:
    return isinstance(error, CloudflareError) and error.possibly_landed


async def _always() -> bool:
    """Allow every request: nobody else works with this token."""
    return True
