"""The page draws what the bot's messages name between colons."""

import re
from pathlib import Path

import bot

_ROOT = Path(bot.__file__).parent


def test_the_page_draws_every_emoji_of_the_bot() -> None:
    """Each has a sign that needs no font; none remains a word between colons."""
    sources = (file.read_text() for file in (_ROOT / "slack").rglob("*.py"))
    used = {name for source in sources for name in re.findall(r":([a-z_]{3,}):", source)}
    names, _, drawings = (_ROOT / "sandbox" / "page" / "text.js").read_text().partition("const DRAWN")
    signs = dict(re.findall(r'(\w+): "([^"]+)"', names))
    drawn = {*re.findall(r'"(.)": "', drawings)}
    assert "white_check_mark" in used
    assert {name for name in used if signs.get(name, "?")[0] not in drawn} == set()
