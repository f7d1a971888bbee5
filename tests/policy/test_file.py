"""A policy file: what it says, and everything that is wrong with it, with line and fix, at once and without a value."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.policy.file import PolicyBroken, read_rules
from bot.policy.listed import Listed, list_ids
from bot.policy.rules import USUAL_VERBS, People, Rule, Verb

WHOLE = """
# Everything that a rule can say.
[[rule]]
users = ["U0123ABCD"]
usergroups = ["S0123ABCD"]
buckets = [
  "team-*",  # [[rule]]
  "!team-secret",
]
channels = ["C0123ABCD"]
verbs = ["store", "enable"]
approvals = 1
approvers = ["U0456EFGH", "S0456EFGH"]
approval_channel = "C0456EFGH"
require_reason = true
max_token_lifetime = "90d"

[[rule]]
usergroups = ["S0999ABCD"]
max_token_lifetime = "off"
"""

MARK = "cfat_marked0123456789marked0123456789mark"
USERS = 'users = ["U0123ABCD"]\n'
ASKS = 'approvals = 1\napprovers = ["U02"]\n'
APPROVES = '[[rule]]\nusers = ["U02"]\nverbs = ["approve"]\n'


def find_problems(text: str) -> list[str]:
    """Return what is wrong with a file that cannot be used."""
    with pytest.raises(PolicyBroken) as caught:
        read_rules(text, "policy.toml")
    assert MARK not in str(caught.value)
    return list(caught.value.problems)


def test_a_rule_says_who_may_do_what_where_and_on_which_terms() -> None:
    """What it does not say has a default."""
    assert read_rules(WHOLE, "policy.toml") == (
        Rule(
            name="rule 1 (line 3)",
            who=People(users=frozenset({"U0123ABCD"}), usergroups=frozenset({"S0123ABCD"})),
            verbs=frozenset({Verb.STORE, Verb.ENABLE}),
            channels=frozenset({"C0123ABCD"}),
            buckets=("team-*", "!team-secret"),
            approvals=1,
            approvers=People(users=frozenset({"U0456EFGH"}), usergroups=frozenset({"S0456EFGH"})),
            approval_channel="C0456EFGH",
            require_reason=True,
            max_token_lifetime=timedelta(days=90),
        ),
        Rule(name="rule 2 (line 18)", who=People(usergroups=frozenset({"S0999ABCD"})), verbs=USUAL_VERBS),
    )


def test_the_ids_of_all_rules_are_listed_once() -> None:
    """So that it can be asked whether Slack knows them; whoever approves is one of the people."""
    assert list_ids(read_rules(WHOLE, "policy.toml")) == Listed(
        users=("U0123ABCD", "U0456EFGH"),
        usergroups=("S0123ABCD", "S0456EFGH", "S0999ABCD"),
        channels=("C0123ABCD", "C0456EFGH"),
    )


PROBLEMS: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", ["line 1: has no rule"]),
    "a comment": ("# nothing\n", ["line 1: has no rule"]),
    "no TOML": ("[[rule]]\nusers = [U0123ABCD]\n", ["line 2, column 10: is not TOML"]),
    "cut off": ('[[rule]]\nusers = ["U0123ABCD"', ["at its end: is not TOML"]),
    "a long number": (f"[[rule]]\n{USERS}approvals = {'1' * 5000}", ["policy.toml: is not TOML"]),
    "a key twice": (f"[[rule]]\n{USERS}{USERS}\n", ["line 3, column", "sets something twice"]),
    "one bracket, twice": (f"[rule]\n{USERS}[rule]\n{USERS}", ["line 3, column", "begin each rule with [[rule]]"]),
    "one bracket": (f"[rule]\n{USERS}", ["line 1: write [[rule]]"]),
    "a text for the rules": ('rule = "x"', ["line 1: write [[rule]]"]),
    "a key at the top": (f"{USERS}[[rule]]\n{USERS}", ["line 1: `users` stands above the first [[rule]]"]),
    "an unknown table": (f"[[rule]]\n{USERS}\n[rules]\nx = 1", ["line 4: `rules` is no key here: did you mean `rule`"]),
    "an unknown key": (f"[[rule]]\n{USERS}colour = 1", ["line 3: `colour` is no key here: remove it"]),
    "a misspelt key": (f"[[rule]]\n{USERS}\nbucket = []", ["line 4: `bucket` is no key here: did you mean `buckets`"]),
    "a token for a key": (f"[[rule]]\n{USERS}{MARK} = 1", ["line 3: has an unknown key"]),
    "a table in a rule": (f"[[rule]]\n{USERS}[rule.options]\nx = 1", ["line 3: `options` is no key here"]),
    "nobody": ('[[rule]]\nbuckets = ["*"]', ["line 1: this rule is about nobody"]),
    "no users": ("[[rule]]\n\nusers = []", ["line 3: `users`: is an empty list"]),
    "no buckets": (f"[[rule]]\n{USERS}buckets = []", ["line 3: `buckets`: is an empty list"]),
    "no verbs": (f"[[rule]]\n{USERS}verbs = []", ["line 3: `verbs`: is an empty list"]),
    "a name": ('[[rule]]\nusers = ["@ada"]', ["line 2: `users`: entry 1 is a name or a mention"]),
    "a group among users": (
        '[[rule]]\nusers = ["U01", "S01"]',
        ["`users`: entry 2 is the id of another kind", "`usergroups`"],
    ),
    "a secret for a user": (f'[[rule]]\nusers = ["{MARK}"]', ["line 2: `users`: entry 1 is no such id"]),
    "a text for a list": ('[[rule]]\nusers = "U0123ABCD"', ["line 2: `users`: must be a list of texts"]),
    "a number in a list": ("[[rule]]\nusers = [1]", ["line 2: `users`: must be a list of texts"]),
    "a direct message": (f'[[rule]]\n{USERS}channels = ["D01"]', ["line 3: `channels`: entry 1 is a direct message"]),
    "a channel's name": (f'[[rule]]\n{USERS}channels = ["#data"]', ["line 3: `channels`: entry 1 is a name"]),
    "no glob": (f'[[rule]]\n{USERS}buckets = ["Team"]', ["line 3: `buckets`: entry 1 is no name or glob"]),
    "a glob for no name": (f'[[rule]]\n{USERS}buckets = ["a?"]', ["line 3: `buckets`: entry 1 can match no bucket"]),
    "all excluded": (f'[[rule]]\n{USERS}buckets = ["a-*", "!a*"]', ["line 3: `buckets`: excludes all"]),
    "an unknown verb": (f'[[rule]]\n{USERS}verbs = ["{MARK}"]', ["line 3: `verbs`: holds something else than verbs"]),
    "two approvals": (f"[[rule]]\n{USERS}approvals = 2", ["line 3: `approvals`: must be 0 or 1"]),
    "approvals are no flag": (f"[[rule]]\n{USERS}approvals = true", ["line 3: `approvals`: must be 0 or 1"]),
    "a quoted flag": (f'[[rule]]\n{USERS}require_reason = "true"', ["line 3: `require_reason`: must be true or false"]),
    "a lifetime without a unit": (f'[[rule]]\n{USERS}max_token_lifetime = "90"', ["`max_token_lifetime`: write off"]),
    "a lifetime of a number": (
        f"[[rule]]\n{USERS}max_token_lifetime = 90",
        ["`max_token_lifetime`: must be a text"],
    ),
    "approvers for nothing": (f'[[rule]]\n{USERS}approvers = ["U02"]', ["line 3: `approvers`: says who approves"]),
    "a channel for nothing": (f'[[rule]]\n{USERS}approval_channel = "C02"', ["line 3: `approval_channel`: says who"]),
    "a list for one channel": (
        f'[[rule]]\n{USERS}approvals = 1\napprovers = ["U02"]\napproval_channel = ["C02"]',
        ["line 5: `approval_channel`: must be one channel's id"],
    ),
    "a channel among approvers": (
        f'[[rule]]\n{USERS}approvals = 1\napprovers = ["C02"]',
        ["line 4: `approvers`: entry 1 is the id of another kind"],
    ),
    "no approver": (f"[[rule]]\n{USERS}approvals = 1", ["line 3: `approvals`: could be given by no one"]),
    "approvers of other buckets": (
        f'[[rule]]\n{USERS}buckets = ["a*"]\napprovals = 1\n{APPROVES}buckets = ["b*"]',
        ["line 4: `approvals`: could be given by no one"],
    ),
    "approvers in other channels": (
        f'[[rule]]\n{USERS}channels = ["C01"]\napprovals = 1\n{APPROVES}channels = ["C02"]',
        ["line 4: `approvals`: could be given by no one"],
    ),
    "the only approver asks": (
        f'[[rule]]\n{USERS}approvals = 1\napprovers = ["U0123ABCD"]',
        ["line 4: `approvers`: holds no one but one of `users`"],
    ),
    "the only one who may approve asks": (
        f'[[rule]]\n{USERS}approvals = 1\n[[rule]]\n{USERS}verbs = ["approve"]',
        ["line 3: `approvals`: could be given by no one but one of `users`"],
    ),
    "approvals of a look": (
        f'[[rule]]\n{USERS}approvals = 1\napprovers = ["U02"]\nverbs = ["status"]',
        ["line 3: `approvals`: means nothing without one of the verbs"],
    ),
    "approvals of a dry run": (
        f'[[rule]]\n{USERS}approvals = 1\napprovers = ["U02"]\nverbs = ["check", "status"]',
        ["line 3: `approvals`: means nothing without one of the verbs enable, rotate, store"],
    ),
    "approvals in one channel only": (
        f'[[rule]]\n{USERS}channels = ["C01"]\n{ASKS}[[rule]]\n{USERS}',
        ["line 4: `approvals`: a requester avoids it by choosing another channel", "rule 2 (line 6) decides"],
    ),
    "approvals in all channels but one": (
        f'[[rule]]\n{USERS}channels = ["C01"]\n[[rule]]\n{USERS}{ASKS}',
        ["line 6: `approvals`: a requester avoids it by choosing another channel", "rule 1 (line 1) decides"],
    ),
    "approvals of enabling in one channel only": (
        f'[[rule]]\n{USERS}channels = ["C01"]\nverbs = ["enable"]\n{ASKS}[[rule]]\n{USERS}verbs = ["enable"]',
        ["line 5: `approvals`: a requester avoids it"],
    ),
    "approvals of a bucket that two rules share": (
        f'[[rule]]\n{USERS}buckets = ["a*"]\nchannels = ["C01"]\n{ASKS}[[rule]]\n{USERS}buckets = ["*b"]',
        ["line 5: `approvals`: a requester avoids it"],
    ),
    "a reason in one channel only": (
        f'[[rule]]\n{USERS}channels = ["C01"]\nrequire_reason = true\n[[rule]]\n{USERS}',
        ["line 4: `require_reason`: a requester avoids it"],
    ),
    "a shorter life in one channel only": (
        f'[[rule]]\n{USERS}channels = ["C01"]\nmax_token_lifetime = "1d"\n[[rule]]\n{USERS}max_token_lifetime = "2d"',
        ["line 4: `max_token_lifetime`: a requester avoids it"],
    ),
    "a reason for a look": (
        f'[[rule]]\n{USERS}require_reason = true\nverbs = ["status"]',
        ["line 3: `require_reason`: means nothing without"],
    ),
    "the same rule twice": (
        f"[[rule]]\n{USERS}[[rule]]\n{USERS}",
        ["line 3: this rule can never decide: rule 1 (line 1)"],
    ),
    "a narrower one behind": (
        f'[[rule]]\n{USERS}[[rule]]\n{USERS}buckets = ["a*"]\nchannels = ["C01"]\nverbs = ["store"]',
        ["line 3: this rule can never decide"],
    ),
    "between two others": (
        f'[[rule]]\n{USERS}buckets = ["*", "!a*"]\n[[rule]]\n{USERS}buckets = ["a*"]\n[[rule]]\n{USERS}',
        ["line 7: this rule can never decide: rule 1 (line 1) and rule 2 (line 4) before it fit"],
    ),
    "too deep": ("x = " + "[" * 3000, ["is nested too deeply"]),
}


@pytest.mark.parametrize(("text", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_has_its_line_and_its_fix(text: str, words: list[str]) -> None:
    """One line each, which begins with the file."""
    [problem] = find_problems(text)
    assert problem.startswith("policy.toml")
    for word in words:
        assert word in problem


NO_PROBLEMS: dict[str, str] = {
    "a wider one behind": f'[[rule]]\n{USERS}buckets = ["a*"]\n[[rule]]\n{USERS}',
    "another verb": f'[[rule]]\n{USERS}[[rule]]\n{USERS}verbs = ["enable"]',
    "one more channel": f'[[rule]]\n{USERS}channels = ["C01"]\n[[rule]]\n{USERS}channels = ["C01", "C02"]',
    "one more user": f'[[rule]]\n{USERS}[[rule]]\nusers = ["U0123ABCD", "U02"]',
    "a group": f'[[rule]]\n{USERS}[[rule]]\nusergroups = ["S01"]',
    "a hole in an earlier one": f'[[rule]]\n{USERS}buckets = ["*", "!a-b"]\n[[rule]]\n{USERS}buckets = ["a*"]',
    "the same terms elsewhere": f'[[rule]]\n{USERS}channels = ["C01"]\n{ASKS}[[rule]]\n{USERS}{ASKS}',
    "stricter terms elsewhere": f'[[rule]]\n{USERS}max_token_lifetime = "2d"\nchannels = ["C01"]\n'
    f'[[rule]]\n{USERS}max_token_lifetime = "2d"\n',
    "no approvals of others": f'[[rule]]\n{USERS}channels = ["C01"]\n{ASKS}[[rule]]\nusers = ["U03"]',
    "no approvals of other buckets": (
        f'[[rule]]\n{USERS}channels = ["C01"]\nbuckets = ["a*"]\n{ASKS}[[rule]]\n{USERS}buckets = ["*", "!a*"]'
    ),
    "no approvals of dry runs": (
        f'[[rule]]\n{USERS}channels = ["C01"]\nverbs = ["store"]\n{ASKS}[[rule]]\n{USERS}verbs = ["check"]'
    ),
    "an exception before": f'[[rule]]\n{USERS}buckets = ["a-b"]\n[[rule]]\n{USERS}channels = ["C01"]\n{ASKS}',
    "a group approves": f'[[rule]]\n{USERS}approvals = 1\napprovers = ["U0123ABCD", "S01"]',
    "another rule approves": f'[[rule]]\n{USERS}approvals = 1\n[[rule]]\nusers = ["U02"]\nverbs = ["approve"]',
    "an array of tables in one line": 'rule = [{ users = ["U01"] }, { users = ["U02"] }]',
    "nothing special about zero": f"[[rule]]\n{USERS}approvals = 0\nrequire_reason = false",
}


@pytest.mark.parametrize("text", NO_PROBLEMS.values(), ids=NO_PROBLEMS)
def test_what_is_fine_is_read(text: str) -> None:
    """Even if it looks like one of the problems."""
    assert read_rules(text, "policy.toml")


def test_all_problems_are_reported_at_once_in_their_order() -> None:
    """One start is enough to find them."""
    problems = find_problems(
        f'x = 1\n[[rule]]\nusers = ["ada"]\nverbs = []\n[[rule]]\n{USERS}[[rule]]\n{USERS}approvals = 7'
    )
    assert [problem.split(":")[0] for problem in problems] == [f"policy.toml, line {number}" for number in (1, 3, 4, 9)]


TEXTS = st.text(st.sampled_from("[]{}=\"'#,.\n\\ ru le") | st.characters(codec="utf-8"), max_size=60)


@given(TEXTS)
def test_no_text_breaks_the_reading(text: str) -> None:
    """Whatever the file holds, it is rules or problems."""
    rules: tuple[Rule, ...] = ()
    problems: Sequence[str] = ()
    try:
        rules = read_rules(text, "policy.toml")
    except PolicyBroken as broken:
        problems = broken.problems
    assert bool(rules) is not bool(problems)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_lines_are_found_whatever_stands_between(between: list[str]) -> None:
    """In comments and in texts of several lines, anything may look like a rule or a key."""
    text = ""
    for each in between:
        visible = each.replace("\r", "").replace("'", "")
        visible = "".join(letter for letter in visible if letter in "\n\t" or letter.isprintable())
        text += "".join(f"# {line}\n" for line in visible.split("\n"))
        text += f"[[rule]]\nusers = [ # ]\n'''\n?{visible}'''\n]\n"  # else it could be an id by chance: U0
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if line == "users = [ # ]"]
    assert [problem.split(":")[0] for problem in find_problems(text)] == [
        f"policy.toml, line {number}" for number in numbers
    ]
