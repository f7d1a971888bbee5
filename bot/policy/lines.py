"""On which lines a TOML file says what: `tomllib` does not tell. Takes only text that it has read without an error."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_PIECE: Final = re.compile(
    r"""
    \#[^\n]*                                  # a comment
    | \"{3} (?:\\[\s\S]|[^\\])*? \"{3,5}      # strings over several lines may hold anything, also what looks like keys
    | '{3} [\s\S]*? '{3,5}
    | " (?:\\.|[^"\\\n])* "
    | ' [^'\n]* '
    | [\[\]{}\n]
    | [^\#"'\[\]{}\n]+
    """,
    re.VERBOSE,
)


@dataclass(slots=True)
class Lines:
    """The line of each `[[rule]]` and of its keys, and of each other name at the top, counted from 1."""

    names: dict[str, int] = field(default_factory=dict)
    rules: list[int] = field(default_factory=list)
    keys: list[dict[str, int]] = field(default_factory=list)

    def of_rule(self, number: int) -> int:
        """Return the line at which a rule begins, counted from 0; 1 if that is not known."""
        return self.rules[number] if number < len(self.rules) else 1

    def of_key(self, number: int, key: str) -> int:
        """Return the line of a rule's key, or that of the rule if it has no such line."""
        return self.keys[number].get(key, self.of_rule(number)) if number < len(self.keys) else 1


def find_lines(text: str) -> Lines:
    """Return the lines of a file."""
    lines, is_in_rule = Lines(), False
    for line, statement in _find_statements(text):
        [name, value] = next(iter(tomllib.loads(statement).items()), ("", None))
        if statement.startswith("["):
            is_in_rule = is_in_rule and name == "rule" if isinstance(value, dict) else name == "rule"
        if isinstance(value, list) and name == "rule" and (statement.startswith("[") or not is_in_rule):
            lines.rules += [line] * len(value)
            lines.keys += [dict.fromkeys(each, line) if isinstance(each, dict) else {} for each in value]
        elif is_in_rule and lines.keys:
            key = next(iter(value), name) if statement.startswith("[") and isinstance(value, dict) else name
            lines.keys[-1].setdefault(key, line)
        else:
            lines.names.setdefault(name, line)
    return lines


def _find_statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each header and each key with its value, and the line on which it begins."""
    line, begun_at, depth, statement = 1, 1, 0, ""
    for piece in _PIECE.findall(f"{text}\n"):
        if piece == "\n" and depth == 0:
            if statement.strip() and not statement.lstrip().startswith("#"):
                yield begun_at, statement.strip()
            begun_at, statement = line + 1, ""
        else:
            depth += (piece in ("[", "{")) - (piece in ("]", "}"))
            statement += piece
        line += piece.count("\n")
