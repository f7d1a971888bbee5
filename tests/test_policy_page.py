"""The page about policies: its example is read, and its tables say what the code does."""

import re
from pathlib import Path

import pytest

from bot.model.catalog import BucketKey
from bot.model.errors import MembershipUnknown
from bot.policy.file import read_rules
from bot.policy.keys import KEYS
from bot.policy.permit import Permit
from bot.policy.rules import Person, Rule, Verb

PAGE = (Path(__file__).parent.parent / "docs" / "policy.md").read_text()
_, _EXAMPLE, *_ = re.split(r"```(?:toml)?\n", PAGE)
RULES = read_rules(_EXAMPLE, "policy.toml")


def ask(user: str, *groups: str, unknown: str = "") -> Permit:
    """Return the permit of a member of these groups."""
    silent = frozenset({unknown} - {""})
    person = Person(user_id=user, usergroups=frozenset(groups), unknown_usergroups=silent)
    return Permit(person=person, rules=RULES)


CASES: dict[str, tuple[str, Verb, str, int | None]] = {
    "production": ("S0DATAENG", Verb.STORE, "prod-lake", 1),
    "enabling in production": ("S0DATAENG", Verb.ENABLE, "prod-lake", 1),
    "a playground": ("S0DATAENG", Verb.STORE, "prod-sandbox", 0),
    "elsewhere": ("S0DATAENG", Verb.ENABLE, "lake", 0),
    "an auditor looks": ("S0AUDITOR", Verb.STATUS, "prod-lake", 0),
    "an auditor stores": ("S0AUDITOR", Verb.STORE, "prod-lake", None),
}


@pytest.mark.parametrize(("group", "verb", "bucket", "approvals"), CASES.values(), ids=CASES)
def test_the_example_does_what_its_comments_say(group: str, verb: Verb, bucket: str, approvals: int | None) -> None:
    """The first rule that fits decides, on its terms; no rule is a no."""
    permit, key = ask("U0SOMEONE", group), BucketKey(account_id="a" * 32, bucket=bucket)
    if approvals is None:
        assert permit.refusal(verb, key, "C0DATAPLT")
    else:
        assert permit.require(verb, key, "C0DATAPLT").approvals == approvals
        assert permit.require(verb, key, "D0PRIVATE").approvals == approvals


def test_a_silent_group_stops_what_it_could_decide() -> None:
    """As the page says; a listed person's bucket needs no group."""
    prod, billing = (BucketKey(account_id="a" * 32, bucket=name) for name in ("prod-lake", "billing-exports"))
    silent = ask("U0GRACE01", unknown="S0DATAENG")
    assert isinstance(silent.refusal(Verb.STORE, prod, "C0DATAPLT"), MembershipUnknown)
    assert isinstance(silent.refusal(Verb.STORE, billing, "C0DATAPLT"), MembershipUnknown)
    assert isinstance(ask("U0GRACE01").require(Verb.STORE, billing, "C0DATAPLT"), Rule)


def test_the_table_names_every_key_and_verb() -> None:
    """And nothing else."""
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    assert {name for keys, _ in rows for name in re.findall(r"`(\w+)`", keys)} == {*KEYS}
    [verbs] = [meaning for keys, meaning in rows if keys == "`verbs`"]
    assert {*re.findall(r"`(\w+)`", verbs)} == {*Verb}
