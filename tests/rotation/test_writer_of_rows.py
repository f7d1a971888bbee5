"""What a writer of the database can do who kept a signed row: they cannot have the token in use taken back."""

from datetime import timedelta

from bot.model.minted import MintedState
from tests.rotation.rig import Process, Rig, Ways
from tests.rotation.test_set_back import CopiesAtTheCreate

MINUTES = timedelta(minutes=1)


async def test_an_old_row_of_the_token_in_use_has_it_not_taken_back(rig: Rig) -> None:
    """It says that nobody holds the value; the audit says that a submission was given it."""
    server = CopiesAtTheCreate(rig)
    await rig.process.aclose()
    rig.process = Process(rig, Ways(database=rig.database, server=server, poster=rig.posts))
    await rig.press("lake")
    await rig.run_for(5 * MINUTES)
    [in_use] = await rig.tokens("lake")
    assert in_use.state is MintedState.PROVEN
    await server.put_back()
    await rig.run_for(timedelta(hours=2))
    assert [token.id for token in rig.fake.tokens.list_live()] == [in_use.token_id]
    [after] = await rig.tokens("lake")
    assert (after.state, after.was_sent, after.token_id) == (MintedState.KEPT, True, in_use.token_id)
