"""What a command beside the running bot reads of the minter, on both engines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.model.errors import DatabaseUnavailable
from bot.model.minted import Standing
from bot.settings import LoadedSettings
from bot.storage.beside import find_standing
from bot.storage.installations import Installations
from bot.storage.schema import INSTALLATIONS
from tests.make import ACCOUNT, AUTHENTICITY, NOW
from tests.storage.test_opening import LoadSettings, load, opened, proxy

__all__ = ["load", "proxy"]  # fixtures

Place = Callable[[pytest.FixtureRequest], str]
PLACES: dict[str, Place] = {
    "sqlite": lambda _: "",
    "postgresql": lambda request: str(request.getfixturevalue("postgres_url")),
}


@pytest.fixture(params=list(PLACES.values()), ids=list(PLACES))
def loaded(load: LoadSettings, request: pytest.FixtureRequest) -> LoadedSettings:
    """Return the settings of a database that no bot has used yet."""
    url = request.param(request)
    return load({"R2_CREDENTIAL_DATABASE_URL": url} if url else {})


async def test_a_minter_is_known_by_what_it_has_noted(loaded: LoadedSettings) -> None:
    """Nobody has, before the first start and before the first minter; another account's is another's."""
    assert await find_standing(loaded.settings, ACCOUNT) is None
    async with opened(loaded) as store:
        assert await find_standing(loaded.settings, ACCOUNT) is None
        await Installations(store.database, AUTHENTICITY, ACCOUNT, lambda: NOW).note_seen("minting_right_missing")

        assert await find_standing(loaded.settings, ACCOUNT) == Standing(seen_at=NOW, trouble="minting_right_missing")
        assert await find_standing(loaded.settings, "another") is None
        await store.database.run(INSTALLATIONS.drop)
        assert await find_standing(loaded.settings, ACCOUNT) is None


async def test_without_a_database_nothing_is_known(load: LoadSettings, tmp_path: Path) -> None:
    """Not even that there is no minter."""
    (tmp_path / "bot.sqlite").write_text("no database")
    loaded = load({"R2_CREDENTIAL_DATABASE_URL": f"sqlite:///{tmp_path / 'bot.sqlite'}"})
    with pytest.raises(DatabaseUnavailable):
        await find_standing(loaded.settings, ACCOUNT)
