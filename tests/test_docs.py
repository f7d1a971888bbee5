"""The documents name existing code, tests and files, and every setting; they and the code keep to the house words."""

import ast
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bot.settings import SlackSettings

ROOT = Path(__file__).parents[1]
THREAT_MODEL = (ROOT / "docs" / "threat-model.md").read_text()
CLAIMS = [
    line.strip("| ").split(" | ")
    for line in THREAT_MODEL.partition("\n## The claims\n")[2].splitlines()
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
    missing, file, defined = [], "", set[str]()
    for word in re.findall(r"`([^`]+)`", cell):
        if word.startswith("make "):
            if word not in _targets():
                missing.append(("Makefile", word))
        elif word.endswith(".py"):
            file, defined = word, _defined(root / word)
            if not defined and not (root / word).exists():
                missing.append((file, word))
        elif word not in defined:
            missing.append((file, word))
    return missing


def _targets() -> set[str]:
    return {f"make {name}" for name in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}


def _defined(path: Path) -> set[str]:
    """Return what a module defines: functions, methods, classes, its own values, and `Class.member`."""
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    found = {name for statement in tree.body for name in _names_of(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            members = {name for statement in node.body for name in _names_of(statement)}
            found |= members | {f"{node.name}.{member}" for member in members}
    return found


def _names_of(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim[0] for claim in CLAIMS])
def test_each_claim_names_existing_code_and_an_existing_test(claim: list[str]) -> None:
    """Renaming a function must not leave a claim without code or test behind it."""
    _, kept_by, shown_by = claim

    assert _named(kept_by, ROOT / "bot") == []
    assert _named(shown_by, ROOT / "tests") == []
    assert re.search(r"`test_\w+`|/test_\w+\.py`|`(attack|fuzz)/\w+\.py`|`make \w+`", shown_by)


def test_no_claim_is_made_twice() -> None:
    """And every room of the page has a table of them."""
    names = [claim[0] for claim in CLAIMS]

    assert len(names) == len(set(names))
    assert all(
        "| claim | kept by | shown by |" in room
        for room in THREAT_MODEL.partition("\n## The claims\n")[2].split("\n### ")[1:]
    )


def test_the_check_above_can_fail() -> None:
    """A missing function, method, file and target are all found, and so is a method of another class."""
    assert _named("`app.py` `Bot.no_such_thing`", ROOT / "bot") == [("app.py", "Bot.no_such_thing")]
    assert _named("`no_such_file.py`", ROOT / "bot") == [("no_such_file.py", "no_such_file.py")]
    assert _named("`make nothing`", ROOT / "bot") == [("Makefile", "make nothing")]
    assert _named("`sealing/hpke.py` `KeyRing.open`, `SealingKey.seal`", ROOT / "bot") == []
    assert _named("`sealing/hpke.py` `SealingKey.open`", ROOT / "bot") == [("sealing/hpke.py", "SealingKey.open")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_has_a_target(document: Path) -> None:
    """Every linked file is in the repository."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_a_page_has_its_heading(document: Path) -> None:
    """A heading that was renamed leaves no link to the top of the page."""
    links = re.findall(r"\]\(([^):#]*)#([^)]+)\)", document.read_text())

    assert [
        (page, anchor) for page, anchor in links if anchor not in _anchors(document.parent / page if page else document)
    ] == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_plan_of_the_house_has_every_room() -> None:
    """A new package or module at the top of `bot/` gets its question on the page."""
    page = (ROOT / "docs" / "architecture.md").read_text().partition("\n## The rooms\n")[2]
    rooms = [
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "bot").iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith((".", "__"))
    ]

    assert [room for room in rooms if f"`{room}`" not in page] == []


def test_every_host_that_is_called_is_on_both_pages() -> None:
    """The operator's list of hosts is the one that security people read, and has the addresses of the settings."""
    table = (
        (ROOT / "docs" / "operations.md").read_text().partition("\n## What it must reach\n")[2].partition("\n\nA")[0]
    )
    section = (ROOT / "SECURITY.md").read_text().partition("\n## Where it connects\n")[2].partition("\n## ")[0]
    host = r"`((?:[a-z-]+\.)+com)`"
    defaults = {urlsplit(str(field.default)).hostname for field in SlackSettings.model_fields.values()}

    assert set(re.findall(host, table)) == set(re.findall(host, section))
    assert set(re.findall(host, table)) >= {name for name in defaults if name} >= {"slack.com", "api.cloudflare.com"}
    assert all("R2_CREDENTIAL_AUDIT_WEBHOOK" in page and "PostgreSQL" in page for page in (table, section))


def test_the_readme_names_every_setting() -> None:
    """A new setting must be documented as well."""
    readme = (ROOT / "README.md").read_text()

    names = [field.alias for field in SlackSettings.model_fields.values() if field.alias]
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
