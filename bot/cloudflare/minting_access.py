"""Examines whether tokens can be made with the minting token. Sends only GETs, so it makes none to find out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from bot.cloudflare.access import ANSWER_WITHIN
from bot.cloudflare.access_findings import EXPIRES_SOON
from bot.cloudflare.answers import TokenVerification
from bot.cloudflare.budget import Urgency
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.exchange import Turn
from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_errors import MINTING_RIGHT, MINTING_TOKEN
from bot.model.errors import DatabaseTrouble, Transient
from bot.model.finding import Finding, Mark, Part
from bot.model.minted import HEADROOM
from bot.model.token_name import Scope

LOOK_AT_RIGHTS_EVERY: Final = timedelta(hours=1)
"""The list of permissions is long, and changes with the token's rights alone; the number of tokens changes slowly."""

_OTHER_SCOPE: Final = (
    f"give CLOUDFLARE_MINTING_TOKEN the permission {MINTING_RIGHT} for this account, or try the other "
    "R2_CREDENTIAL_ROTATE_SCOPE"
)
_QUOTA: Final = "R2_CREDENTIAL_ROTATE_QUOTA"
_MAKE_ROOM: Final = "delete API tokens of the account that nobody uses, or have Cloudflare raise the quota and set it"
_REPLACE: Final = f"create another one with the permission {MINTING_RIGHT}, and set CLOUDFLARE_MINTING_TOKEN to it"


class MintingAccess:
    """Remembers what it found of the token's rights, and of the room for another token.

    `quota`: so many the account may have. `blocks`: whether the process has no other work.
    """

    def __init__(  # noqa: PLR0913 - settings, by name
        self,
        cloudflare: MintingClient,
        scope: Scope,
        clock: Callable[[], datetime],
        *,
        quota: int,
        blocks: bool,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloudflare = cloudflare
        self._scope = scope
        self._clock = clock
        self._quota = quota
        self._blocks = blocks
        self._timer = timer
        self._remembered: list[Finding] = []
        self._looked_at = float("-inf")

    async def examine(self) -> Sequence[Finding]:
        """Ask Cloudflare about the token and, now and then, about what it may grant."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                return await self._ask()
        except TimeoutError:
            return [_not_checked("Cloudflare gave no answer in time")]
        except DatabaseTrouble:
            return [_not_checked("the database that counts the requests does not answer")]
        except CloudflareError as error:
            return [_not_checked(_say(error)) if error.retryable else self._describe_refusal(error)]

    async def _ask(self) -> list[Finding]:
        turn = await self._cloudflare.turn(Urgency.BACKGROUND)
        if isinstance(turn, datetime):
            return [_not_checked("the minting token has used up its requests")]
        try:
            verified = await self._cloudflare.verify_own(turn)
            return [_describe_token(verified, self._clock()), *await self._look(turn)]
        finally:
            turn.give_back()

    async def _look(self, turn: Turn) -> Sequence[Finding]:
        """Return what is found of the rights and the room, asked again when it is old or was bad."""
        is_old = self._timer() - self._looked_at >= LOOK_AT_RIGHTS_EVERY.total_seconds()
        if is_old or any(found.mark is not Mark.OK for found in self._remembered):
            refused = (await self._cloudflare.permission_groups(turn)).refused(self._scope)
            rights = self._describe_rights([group.name for group in refused])
            self._remembered = [rights, _describe_room(await self._cloudflare.count_all(turn), self._quota)]
            self._looked_at = self._timer()
        return self._remembered

    def _describe_rights(self, refused: Sequence[str]) -> Finding:
        if not refused:
            text = f"the minting token may grant what a token needs (scope {self._scope.value})"
            return Finding(part=Part.ROTATION, event="minting_rights_enough", text=text)
        return Finding(
            part=Part.ROTATION,
            event="minting_rights_missing",
            text=f"the minting token may not grant {' and '.join(refused)}, so no token can be made",
            mark=Mark.FAILED,
            setting=MINTING_TOKEN,
            fix=_OTHER_SCOPE,
            blocks=self._blocks,
        )

    def _describe_refusal(self, error: CloudflareError) -> Finding:
        known = {"error": error.code, "status": error.status, "code": error.cloudflare_code, "cf_ray": error.cf_ray}
        return Finding(
            part=Part.ROTATION,
            event="minting_token_unusable",
            text=f"no token can be made: {_say(error)}",
            mark=Mark.FAILED,
            setting=error.setting or MINTING_TOKEN,
            fix=error.operator_fix or _REPLACE,
            blocks=self._blocks,
            known={name: value for name, value in known.items() if value is not None},
        )


def _describe_room(there: int, quota: int) -> Finding:
    """Describe whether one more fits; what the bot has is still taken back, so nothing blocks."""
    text = f"{there} of {quota} API tokens of the account are there, and the last {HEADROOM} are left to others"
    if there < quota - HEADROOM:
        return Finding(part=Part.ROTATION, event="room_for_tokens", text=text)
    return Finding(
        part=Part.ROTATION,
        event="no_room_for_tokens",
        text=f"no token can be made: {text}",
        mark=Mark.FAILED,
        setting=_QUOTA,
        fix=_MAKE_ROOM,
        known={"tokens": there, "quota": quota},
    )


def _describe_token(verified: TokenVerification, now: datetime) -> Finding:
    """Describe a minting token that is active; `now` counts only if the answer has no time of its own."""
    now, known = verified.answered_at or now, {"token_id": verified.id}
    if verified.expires_at is None:
        text = "the minting token is active and never expires, although its holder administers the account"
        return Finding(part=Part.ROTATION, event="minting_token_active", text=text, known=known)
    if verified.expires_at - now > EXPIRES_SOON:
        text = f"the minting token is active and expires on {verified.expires_at:%Y-%m-%d}"
        return Finding(part=Part.ROTATION, event="minting_token_active", text=text, known=known)
    return Finding(
        part=Part.ROTATION,
        event="minting_token_expires_soon",
        text=f"the minting token expires on {verified.expires_at:%Y-%m-%d}, in {(verified.expires_at - now).days} days",
        mark=Mark.WARNING,
        setting=MINTING_TOKEN,
        fix=_REPLACE,
        known=known,
    )


def _not_checked(why: str) -> Finding:
    text = f"whether tokens can be made is not known: {why}"
    return Finding(part=Part.ROTATION, event="minting_not_checked", text=text, mark=Mark.WARNING)


def _say(error: CloudflareError) -> str:
    """Return the error's own words, without what is for the person who submitted."""
    if error.why is not None:
        return f"Cloudflare gives no answer: {error.why.because}"
    said = error.told.waiting if isinstance(error, Transient) else error.cause
    return f"{said[:1].lower()}{said[1:]}".partition("; ")[0].rstrip(".")
