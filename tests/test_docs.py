"""The documents name code, tests and files that are there, and every setting."""

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


def _named(cell: str, root: Path) -> list[tuple[str, str]]:
    """Return what a cell of the table names and its file has not: behind each file, the words that belong to it."""
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
def test_each_claim_names_code_and_a_test_that_are_there(claim: list[str]) -> None:
    """A renamed function must not leave a claim that nobody keeps."""
    _, kept_by, shown_by = claim

    assert _named(kept_by, ROOT / "bot") == []
    assert _named(shown_by, ROOT / "tests") == []
    assert "`" in shown_by


def test_the_check_above_can_fail() -> None:
    """What is not there is found."""
    assert _named("`app.py` `Bot.no_such_thing`", ROOT / "bot") == [("app.py", "Bot.no_such_thing")]
    assert _named("`no_such_file.py`", ROOT / "bot") == [("no_such_file.py", "no_such_file.py")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_link_leads_nowhere(document: Path) -> None:
    """Files that are linked are in the repository."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_tells_every_setting() -> None:
    """Also each new one."""
    readme = (ROOT / "README.md").read_text()

    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    assert [name for name in names if f"`{name}`" not in readme] == []


def test_the_command_for_a_token_of_one_bucket_sends_what_cloudflare_takes() -> None:
    """The account's catalogs and one bucket's data, in the names that Cloudflare has for them, and an expiry."""
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
