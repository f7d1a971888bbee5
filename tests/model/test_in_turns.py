"""Many items are gone through in turns with other work."""

import asyncio

from bot.model.in_turns import AT_ONCE, in_turns


async def test_others_have_their_turn() -> None:
    """Once for each so many items; those that are added meanwhile are not among them."""
    items, turns = [*range(3 * AT_ONCE + 1)], 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            items.append(-1)
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    assert [item async for item in in_turns(items)] == [*range(3 * AT_ONCE + 1)]
    other.cancel()
    assert turns == 3


async def test_a_few_need_no_turn() -> None:
    """Nor does nothing."""
    assert [item async for item in in_turns(range(3))] == [0, 1, 2]
    nothing: list[int] = []
    assert [item async for item in in_turns(nothing)] == []
