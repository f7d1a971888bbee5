"""Reads the text of a policy file into rules. Reports all problems at once, with their line, never with a value."""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bot.policy.flaws import Stated, find_flaws
from bot.policy.keys import KEYS
from bot.policy.lines import Lines, find_lines
from bot.policy.rules import APPLIES_TO, USUAL_VERBS, People, Rule


class PolicyBroken(Exception):  # noqa: N818 - named for what happened
    """The file cannot be used. `problems` has one line for each fault: where it is, and the fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_rules(text: str, name: str) -> tuple[Rule, ...]:
    """Return the rules of a policy file; `name` is what it is called in problems. Raises PolicyBroken."""
    try:
        found = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits
        raise PolicyBroken([_explain_syntax(str(error), name)]) from None
    except RecursionError:
        raise PolicyBroken([f"{name}: is nested too deeply to be a policy: write [[rule]] tables"]) from None
    reader = _Reader(find_lines(text))
    rules = reader.read(found)
    if reader.problems:
        raise PolicyBroken([f"{name}, line {line}: {problem}" for line, problem in sorted(reader.problems)])
    return rules


def _explain_syntax(message: str, name: str) -> str:
    """Say where it is. The message itself may quote what the file says."""
    place = re.search(r"\(at line (\d+), column (\d+)\)$", message)
    where = f"{name}, line {place[1]}, column {place[2]}" if place else name
    if re.match(r"Cannot (overwrite|declare|mutate)|Duplicate", message):
        return f"{where}: sets something twice: keep one, and begin each rule with [[rule]], two brackets on each side"
    if message.endswith("(at end of document)"):
        return f"{name}, at its end: is not TOML: a quote or a bracket is not closed"
    return f"{where}: is not TOML: check the quotes, commas and brackets there and before"


_NEEDS_APPROVALS: Final = ("approvers", "approval_channel")


@dataclass(slots=True)
class _Reader:
    """Reads a parsed file, and collects what is wrong."""

    lines: Lines
    problems: list[tuple[int, str]] = field(default_factory=list)

    def read(self, found: Mapping[str, Any]) -> tuple[Rule, ...]:
        """Return the rules, as far as they can be read."""
        for key in found.keys() - {"rule"}:
            is_of_rule = key in KEYS
            problem = (
                f"`{key}` stands above the first [[rule]]: move it below" if is_of_rule else _unknown(key, ["rule"])
            )
            self.problems.append((self.lines.names.get(key, 1), problem))
        tables = found.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            self.problems.append((self.lines.names.get("rule", 1), "write [[rule]], with two brackets on each side"))
            return ()
        if not tables and not self.problems:
            self.problems.append((1, "has no rule, so no one could use the bot: write a [[rule]]"))
        read = {number: self._read_rule(number, table) for number, table in enumerate(tables)}
        rules = {number: stated for number, stated in read.items() if stated is not None}
        for number, key, flaw in find_flaws(rules, are_all=len(rules) == len(read)):
            self._note(number, key, flaw)
        return tuple(stated.rule for stated in rules.values())

    def _note(self, number: int, key: str, problem: str) -> None:
        about = f"`{key}`: " if key else "this rule "
        self.problems.append((self.lines.of_key(number, key), f"{about}{problem}"))

    def _read_rule(self, number: int, table: Mapping[str, object]) -> Stated | None:
        """Return a rule, or None if something is wrong with it."""
        before, values = len(self.problems), dict[str, Any]()
        for key, value in table.items():
            if key not in KEYS:
                self.problems.append((self.lines.of_key(number, key), _unknown(key, KEYS)))
                continue
            try:
                values[key] = KEYS[key](value)
            except ValueError as error:
                self._note(number, key, str(error))
        for key, problem in _find_contradictions(table, values):
            self._note(number, key, problem)
        if len(self.problems) > before:
            return None
        people = People(users=values.pop("users", frozenset()), usergroups=values.pop("usergroups", frozenset()))
        name = f"rule {number + 1} (line {self.lines.of_rule(number)})"
        return Stated(Rule(name=name, who=people, **values), people)


def _unknown(key: str, known: Collection[str]) -> str:
    """Name a key only if it looks like one: anything may have been pasted there."""
    if not re.fullmatch(r"[A-Za-z_-]{1,24}", key):
        return "has an unknown key: remove it"
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"`{key}` is no key here: {f'did you mean `{near[0]}`?' if near else 'remove it'}"


def _find_contradictions(table: Mapping[str, object], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a key, and what contradicts it in its rule."""
    if "users" not in table and "usergroups" not in table:
        yield "", "is about nobody: add `users` or `usergroups`"
    for key in _NEEDS_APPROVALS:
        if key in table and values.get("approvals", 0 if "approvals" not in table else 1) == 0:
            yield key, "says who approves, but nothing needs an approval: add approvals = 1, or remove it"
    verbs = values.get("verbs", USUAL_VERBS if "verbs" not in table else None)
    for key, applies_to in APPLIES_TO.items():
        if values.get(key) and verbs is not None and not verbs & applies_to:
            yield key, f"means nothing without one of the verbs {', '.join(sorted(applies_to))}"
