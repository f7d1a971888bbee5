"""Whether credentials are rotated: a rule has to grant it, and one process has to hold the token that makes tokens."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from bot.model.errors import DatabaseTrouble, StartRefused
from bot.model.finding import Check, Finding, Mark, Part
from bot.model.minted import PRESENT_FOR, Standing, is_minter_present
from bot.model.role import Role
from bot.policy.rules import Rule, Verb, grants
from bot.settings import Settings

_POLICY: Final = "R2_CREDENTIAL_POLICY"
_TOKEN: Final = "CLOUDFLARE_MINTING_TOKEN"  # noqa: S105 - the name of a setting
_EVERY: Final = "R2_CREDENTIAL_ROTATE_EVERY"
_GRANT: Final = 'add "rotate" to the verbs of a rule'
_WRITE_POLICY: Final = (
    'set it to a file of rules, one with "rotate" among its verbs, in the place of R2_CREDENTIAL_ALLOWED_..., which '
    "grant no rotation"
)

_OFF: Final = Finding(part=Part.ROTATION, event="rotation_off", text="rotation is off: no rule grants the verb rotate")

Examine = Callable[[], Awaitable[Sequence[Finding]]]


def is_rotation_on(settings: Settings, rules: Sequence[Rule]) -> bool:
    """Return whether this process makes and revokes tokens."""
    return settings.cloudflare_minting_token is not None and grants(rules, Verb.ROTATE)


def require_grant(settings: Settings, rules: Sequence[Rule]) -> None:
    """Raise StartRefused for a minter that no rule gives anything to do: its token is too strong to lie idle."""
    if settings.role is Role.MINTER and not grants(rules, Verb.ROTATE):
        message = f"{_POLICY}: no rule grants the verb rotate, so a minter has nothing to do; {_GRANT}, or run none"
        raise StartRefused(message)


async def _examine_nothing() -> Sequence[Finding]:
    """Return nothing: there is no token to ask about."""
    return []


def rotation_check(
    settings: Settings, rules: Callable[[], Sequence[Rule]], examine_token: Examine = _examine_nothing
) -> Check:
    """Return the check for a process that may make tokens; `examine_token` asks Cloudflare, while rotation is on."""

    async def examine() -> Sequence[Finding]:
        switch = find_in_switch(settings, rules())
        return [*switch, *(await examine_token() if is_rotation_on(settings, rules()) else ())]

    return Check(part=Part.ROTATION, examine=examine)


def has_own_switch(settings: Settings) -> bool:
    """Return whether rotation is on or off in this very process; else it may be another one that makes tokens."""
    return settings.cloudflare_minting_token is not None or settings.postgres_url is None


def minter_check(
    settings: Settings,
    rules: Callable[[], Sequence[Rule]],
    standing: Callable[[], Awaitable[Standing | None]],
    clock: Callable[[], datetime],
) -> Check:
    """Return the check for a process that leaves it to a minter, and knows of that what it has noted."""

    async def examine() -> Sequence[Finding]:
        if not grants(rules(), Verb.ROTATE):
            return [_OFF, *_find_vain_schedule(settings)]
        try:
            return [find_in_standing(await standing(), clock())]
        except DatabaseTrouble:
            return [_doubt("minter_not_asked", "whether a minter is at work is not known: no database answers")]

    return Check(part=Part.ROTATION, examine=examine)


def find_in_switch(settings: Settings, rules: Sequence[Rule]) -> list[Finding]:
    """Return whether rotation is on in a process that may make tokens, and what contradicts that."""
    has_token, is_granted = settings.cloudflare_minting_token is not None, grants(rules, Verb.ROTATE)
    if has_token and is_granted:
        how = "by a press" if settings.rotate_every is None else "by a press and by the schedule"
        return [Finding(part=Part.ROTATION, event="rotation_on", text=f"rotation is on, {how}")]
    if has_token:
        grant = _GRANT if settings.policy else _WRITE_POLICY
        text, fix = "rotation is off because no rule grants the verb rotate", f"{grant}, or unset {_TOKEN}"
        off = _doubt("rotation_not_granted", text, _POLICY, fix, is_failed=settings.role is Role.MINTER)
    elif is_granted:
        text = f"rotation is off because {_TOKEN} is not set, although a rule grants the verb rotate"
        fix = f"set {_TOKEN}, or take the verb rotate out of the rules"
        off = _doubt("minting_token_missing", text, _TOKEN, fix)
    else:
        off = _OFF
    return [off, *_find_vain_schedule(settings)]


def find_in_standing(standing: Standing | None, now: datetime) -> Finding:
    """Return whether a minter is at work, as far as it has noted that in the database."""
    if standing is None or not is_minter_present(standing, now):
        minutes = PRESENT_FOR // timedelta(minutes=1)
        text = f"a rule grants the verb rotate, but no minter has used this database in the last {minutes} minutes"
        fix = "start one with `run --role minter`, or take the verb out of the rules; until then, rotations wait"
        return _doubt("minter_not_seen", text, fix=fix)
    if standing.trouble is not None:
        text = f"the minter cannot work now ({standing.trouble}); its own log says why"
        return _doubt("minter_in_trouble", text, fix="follow what the minter logs")
    return Finding(part=Part.ROTATION, event="rotation_on", text="rotation is on, and a minter is at work")


def _find_vain_schedule(settings: Settings) -> list[Finding]:
    if settings.rotate_every is None or "rotate_every" not in settings.model_fields_set:
        return []
    fix = f"unset {_EVERY}, or grant the verb rotate and set {_TOKEN}"
    return [_doubt("schedule_without_rotation", f"{_EVERY} is set, but rotation is off", _EVERY, fix)]


def _doubt(event: str, text: str, setting: str = "", fix: str = "", *, is_failed: bool = False) -> Finding:
    mark = Mark.FAILED if is_failed else Mark.WARNING
    return Finding(part=Part.ROTATION, event=event, text=text, mark=mark, setting=setting, fix=fix)
