"""The documents name existing code, tests and files, and every setting; they and the code keep to the house words."""

import json
import re
from pathlib import Path

import pytest

from bot.settings import Settings

ROOT = Path(__file__).parents[1]
CLAIMS = [
    line.strip("| ").split(" | ")
    for line in (ROOT / "docs" / "threat-model.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "bot").rglob("*.py"))

WORDS_TO_LEAVE_OUT = {
    "mend": "fix",
    "for ever": "forever",
    "whoever": "anyone who",
    "gives way": "is superseded",
    "your move": "what to do",
    "small Slack": "fake Slack",
    "small Cloudflare": "fake Cloudflare",
    "a look": "a lookup",
}


def _named(cell: str, root: Path) -> list[tuple[str, str]]:
    """Return the (file, name) pairs of a table cell that do not exist; a name belongs to the file written before it."""
    missing, text, file = [], "", ""
    for word in re.findall(r"`([^`]+)`", cell):
        if word.startswith("make "):
            continue
        if word.endswith(".py"):
            file = word
            text = (root / file).read_text() if (root / file).exists() else ""
        names = word.removesuffix(".py").split(".") if not word.endswith(".py") else []
        if not text or not all(re.search(rf"\b(def|class) {name}\b|^{name}\b", text, re.MULTILINE) for name in names):
            missing.append((file, word))
    return missing


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim[0] for claim in CLAIMS])
def test_each_claim_names_existing_code_and_an_existing_test(claim: list[str]) -> None:
    """Renaming a function must not leave a claim without code or test behind it."""
    _, kept_by, shown_by = claim

    assert _named(kept_by, ROOT / "bot") == []
    assert _named(shown_by, ROOT / "tests") == []
    assert "`" in shown_by


def test_the_check_above_can_fail() -> None:
    """A missing function and a missing file are both found."""
    assert _named("`app.py` `Bot.no_such_thing`", ROOT / "bot") == [("app.py", "Bot.no_such_thing")]
    assert _named("`no_such_file.py`", ROOT / "bot") == [("no_such_file.py", "no_such_file.py")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_has_a_target(document: Path) -> None:
    """Every linked file is in the repository."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_names_every_setting() -> None:
    """A new setting must be documented as well."""
    readme = (ROOT / "README.md").read_text()

    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    assert [name for name in names if f"`{name}`" not in readme] == []


def test_the_command_for_a_token_of_one_bucket_sends_what_cloudflare_accepts() -> None:
    """The body grants the account's catalogs and one bucket's data under Cloudflare's ids, with an expiry."""
    page = (ROOT / "docs" / "token-for-one-bucket.md").read_text()
    found = re.search(r"<<JSON\n(.*?)\nJSON\n", page, re.DOTALL)
    assert found is not None
    body = found[1]
    for variable, value in {"CLOUDFLARE_ACCOUNT_ID": "0f" * 16, "BUCKET": "lake", "EXPIRES": "soon"}.items():
        assert f"export {variable}=" in page
        body = body.replace(f"${{{variable}}}", value).replace(f"${variable}", value)

    sent = json.loads(body)

    assert (sent["name"], sent["expires_on"]) == ("catalog of lake", "soon")
    granted = {group["id"]: policy["resources"] for policy in sent["policies"] for group in policy["permission_groups"]}
    assert granted == {
        "d229766a2f7f4d299f20eaa8c9b1fde9": {f"com.cloudflare.api.account.{'0f' * 16}": "*"},
        "2efd5506f9c8494dacb1fa10a3e7d5b6": {f"com.cloudflare.edge.r2.bucket.{'0f' * 16}_default_lake": "*"},
    }


def _lines_with(words: str, text: str) -> list[int]:
    """Return the lines on which the words start; a line break, a comment sign or a quote may stand between them."""
    pattern = r"[\s#\"]+".join(words.split())
    inflected = r"(s|ed|ing)?" if " " not in words else ""
    found = re.finditer(rf"\b{pattern}{inflected}\b", text, re.IGNORECASE)
    return [text.count("\n", 0, match.start()) + 1 for match in found]


@pytest.mark.parametrize("words", WORDS_TO_LEAVE_OUT)
def test_no_document_and_no_source_uses_a_word_to_leave_out(words: str) -> None:
    """Documents, docstrings, comments and strings use the usual word instead."""
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in (*DOCUMENTS, *SOURCES)
        for line in _lines_with(words, path.read_text())
    ]

    assert offenders == [], f"write {WORDS_TO_LEAVE_OUT[words]!r} for {words!r}"


@pytest.mark.parametrize(
    ("words", "text", "lines"),
    [
        ("mend", "Mend it.\nIt was mended, and mends.", [1, 2, 2]),
        ("mend", "We recommend an amendment.", []),
        ("for ever", "x = 1  # kept for\n# ever", [1]),
        ("your move", '"this is your "\n"move"', [1]),
        ("a look", "a lookup", []),
    ],
)
def test_the_search_for_words_reads_whole_words_over_line_breaks(words: str, text: str, lines: list[int]) -> None:
    """Each inflection counts, a longer word does not."""
    assert _lines_with(words, text) == lines
