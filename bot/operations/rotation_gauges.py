"""The source of the gauges about rotation: the bot's own tokens, what is overdue, and whether somebody mints."""

from collections.abc import Callable
from datetime import datetime

from bot.model.minted import OVER, MintedState, Standing
from bot.operations.gauges import ACCOUNT_TOKENS, MINTED, MINTER_SEEN, MINTER_TROUBLE, OVERDUE, Reading, Source
from bot.policy.rules import Verb, grants
from bot.policy.scheduled import Scheduled
from bot.storage.catalogs import Catalogs
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens


def of_rotation(
    tokens: MintedTokens,
    installations: Installations,
    catalogs: Catalogs,
    scheduled: Scheduled,
    clock: Callable[[], datetime],
) -> Source:
    """Return what the rows say. What was made stays counted when rotation is off: it still opens its buckets."""

    async def read() -> Reading:
        counts = await tokens.count()
        overdue = sum(1 for _ in scheduled.find_overdue(await catalogs.catch_up(), clock()))
        is_on = grants(scheduled.rules(), Verb.ROTATE)
        return {
            MINTED: {(state.value,): float(counts.get(state, 0)) for state in MintedState if state not in OVER},
            OVERDUE: {(): float(overdue)},
            **(_of_standing(await installations.standing()) if is_on else {}),
        }

    return Source(name="rotation", read=read)


def _of_standing(standing: Standing | None) -> Reading:
    if standing is None:
        return {}
    return {
        MINTER_SEEN: {(): standing.seen_at.timestamp()},
        MINTER_TROUBLE: {(): float(standing.trouble is not None)},
        ACCOUNT_TOKENS: {} if standing.tokens is None else {(): float(standing.tokens)},
    }
