"""A policy file: any text becomes rules, or problems of one line each that quote no value."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hypothesis import strategies as st

from bot.model.slack_ids import SlackId
from bot.policy.file import PolicyBroken, read_rules
from bot.policy.keys import KEYS
from bot.policy.listed import list_ids
from tests.fuzz.target import DEEP, PLANTED, STAND_IN, Check, Target, changed_bytes, plant
from tests.leaks import find_leaks
from tests.policy.test_file import WHOLE

_VALUES: Final = (
    *("[]", "{}", "true", "0", "1", "-1", "1e400", "nan", "9999999999999999999999", "1979-05-27", "[[]]", "[1]"),
    *('""', '"a"', '["U0123ABCD"]', '["S0456EFGH", "U0456EFGH"]', '["C0123ABCD"]', '"C0123ABCD"', '["*"]', '["[a-"]'),
    *('["store"]', '["approve", "store"]', '"90d"', '"off"', '"\\u0000\\u202e"', f'"{STAND_IN}"', f'["{STAND_IN}"]'),
)
_NAMES: Final = (*KEYS, "rule", "user", f'"{STAND_IN}"', "a.b", '""', '"\\u001b[2J"')


@contextmanager
def _files() -> Iterator[Check]:
    yield _check


def _check(data: bytes) -> None:
    try:
        rules = read_rules(plant(data.decode("utf-8", "replace")), "policy.toml")
    except PolicyBroken as error:
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems), error.problems
        assert find_leaks(str(error).encode(), PLANTED) == []
        return
    assert rules
    listed = list_ids(rules)
    assert all(map(SlackId.USER.fits, listed.users))
    assert all(map(SlackId.USERGROUP.fits, listed.usergroups))
    assert all(map(SlackId.CHANNEL.fits, listed.channels))


def _write(tables: list[list[tuple[str, str]]]) -> bytes:
    lines = ("\n".join(f"{name} = {value}" for name, value in dict(table).items()) for table in tables)
    return "".join(f"[[rule]]\n{written}\n" for written in lines).encode()


_SEEDS: Final = (
    WHOLE.encode(),
    b"",
    b"\xff\xfe",
    b"rule = 1",
    b"[rule]\nusers = ['U0123ABCD']",
    b"[[rule]]\nusers = ['U0123ABCD']\nusers = ['U0123ABCD']",
    f"[[rule]]\nusers = ['{STAND_IN}']\nbuckets = '{STAND_IN}'\n{STAND_IN} = 1\n".encode(),
    *(b"rule = " + deep for deep in DEEP),
    *(f"[[rule]]\nusers = ['U0123ABCD']\n{name} = {value}\n".encode() for name in KEYS for value in _VALUES[::3]),
)
_TABLE: Final = st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES)), max_size=5)

TARGETS: Final = (
    Target(
        name="rules",
        open=_files,
        seeds=_SEEDS,
        inputs=st.lists(_TABLE, max_size=3).map(_write) | changed_bytes(_SEEDS[:7]),
    ),
)
