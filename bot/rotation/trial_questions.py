"""How a trial asks Cloudflare, waits, measures, and reports: each answer with what it means and the fix."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, NoReturn, TypeVar

from bot.cloudflare.errors import CloudflareError, CloudflareTrouble
from bot.cloudflare.minting_errors import (
    MintedTokenRefused,
    MintedTokenUseless,
    MintingRefused,
    PermissionNotGrantable,
    RevocationRefused,
)
from bot.delivery.verify import MINTED_TOKEN_PATIENCE
from bot.model.errors import BotError, Transient
from bot.model.finding import Finding, Mark, Part
from bot.model.token_name import TokenName

PATIENCE: Final = MINTED_TOKEN_PATIENCE
"""As long as the bot waits for a new token."""
EVERY: Final = timedelta(seconds=2)

OTHER_SCOPE: Final = "try the other R2_CREDENTIAL_ROTATE_SCOPE"
_SUPPORT: Final = "ask Cloudflare's support about the code and the Ray ID"
_FIXES: Final[Mapping[type[BotError], str]] = {
    PermissionNotGrantable: (
        f"enable R2 on the account, and have a Super Administrator create the minting token; or {OTHER_SCOPE}"
    ),
    MintingRefused: _SUPPORT,
    RevocationRefused: _SUPPORT,
    MintedTokenUseless: f"check that the bucket has no jurisdiction; or {OTHER_SCOPE}",
    MintedTokenRefused: OTHER_SCOPE,
}
"""Where the usual fix is to run this very command."""

_T = TypeVar("_T")


class Stopped(Exception):  # noqa: N818 - not an error: its finding was reported
    """The trial ends here."""


class Questions:
    """Asks and reports. `tell_finding` gets each finding as soon as it is there."""

    def __init__(
        self,
        tell_finding: Callable[[Finding], None],
        *,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._tell_finding = tell_finding
        self._timer = timer
        self._sleep = sleep

    async def answer(self, question: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer; report a refusal, and raise Stopped."""
        try:
            return await self.insist(ask)
        except BotError as error:
            self.fail_by(question, error)

    async def insist(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask again while the error passes, as long as there is patience; raise it then, and any other at once."""
        began = self._timer()
        while True:
            try:
                return await ask()
            except CloudflareTrouble as error:
                pause = max(error.retry_after or EVERY, EVERY).total_seconds()
                if self._timer() - began + pause > PATIENCE.total_seconds():
                    raise
            await self._sleep(pause)

    async def until(self, ask: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """Ask until there is an answer; return None when the patience is over."""
        began = self._timer()
        while True:
            answer = await self.insist(ask)
            if answer is not None or self._timer() - began > PATIENCE.total_seconds():
                return answer
            await self._sleep(EVERY.total_seconds())

    async def measure(self, holds: Callable[[], Awaitable[bool]]) -> float | None:
        """Return how many seconds it took until it held, or None if it did not in time. Raises Stopped."""

        async def ask() -> float | None:
            return self._timer() - began if await holds() else None

        began = self._timer()
        try:
            return await self.until(ask)
        except CloudflareError as error:
            self.fail_by("waiting", error)

    def tell(self, question: str, text: str, **known: object) -> None:
        """Report an answer that is as it should be."""
        known = {"question": question, **known}
        self._tell_finding(Finding(part=Part.ROTATION, event="mint_check_answered", text=text, known=known))

    def doubt(self, question: str, text: str, known: Mapping[str, object] | None = None) -> None:
        """Report an answer that is unexpected, and does no harm."""
        self._report("mint_check_unexpected", Mark.WARNING, question, text, "", "", known)

    def doubt_with_fix(self, question: str, text: str, fix: str) -> None:
        """Report something that the operator should do."""
        self._report("mint_check_unexpected", Mark.WARNING, question, text, "", fix)

    def fail(self, question: str, text: str, fix: str | type[BotError]) -> NoReturn:
        """Report a failure with its fix, or that of the error with which a rotation would end; raise Stopped."""
        setting = "" if isinstance(fix, str) else fix.setting
        self._report(
            "mint_check_failed", Mark.FAILED, question, text, setting, fix if isinstance(fix, str) else _fix(fix)
        )
        raise Stopped

    def fail_by(self, question: str, error: BotError) -> NoReturn:
        """Report a failure by the error's own sentences and Cloudflare's codes; raise Stopped."""
        cause = error.told.lasted if isinstance(error, Transient) else error.cause
        known, why = [str(error)], None
        if isinstance(error, CloudflareError):
            known, why = [*known, *([error.cloudflare_message] if error.cloudflare_message else [])], error.why
        text = f"{cause.rstrip('.')} ({': '.join(known)})"
        fix = (why.fix if why else "") or _fix(type(error)) or "try again later"
        self._report("mint_check_failed", Mark.FAILED, question, text, error.setting, fix)
        raise Stopped

    def tell_left_behind(self, name: TokenName, expires_at: datetime, error: BotError | None) -> None:
        """Report the token that may still be there, with its name."""
        why = "it was not found in Cloudflare's lists" if error is None else f"it could not be deleted ({error})"
        text = f'the token "{name}" may still be there: {why}; it expires by itself at {expires_at:%Y-%m-%d %H:%M} UTC'
        fix = "delete it in the dashboard, under Manage Account, Account API Tokens"
        self._report("mint_check_left_behind", Mark.FAILED, "cleaned up", text, "", fix)

    def _report(  # noqa: PLR0913, PLR0917 - the fields of a finding
        self,
        event: str,
        mark: Mark,
        question: str,
        text: str,
        setting: str,
        fix: str,
        known: Mapping[str, object] | None = None,
    ) -> None:
        self._tell_finding(
            Finding(
                part=Part.ROTATION,
                event=event,
                mark=mark,
                text=text,
                setting=setting,
                fix=fix,
                known={"question": question, **(known or {})},
            )
        )


def _fix(kind: type[BotError]) -> str:
    return _FIXES.get(kind) or kind.operator_fix or " ".join(kind.fixes)
