"""A slice of `make fuzz`, the same in each run: what strangers, Slack, Cloudflare and operators may send."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import guided
from tests.fuzz.__main__ import main
from tests.fuzz.target import PLANTED, STAND_IN, Check, Target, plant
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_nothing_breaks_a_target(target: Target) -> None:
    """Every seed, with each input that once broke something, and some made-up ones."""
    with target.open() as check:
        for data in target.seeds:
            check(data)

        @settings(max_examples=target.slice, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(data=target.inputs)
        def check_made_up(data: bytes) -> None:
            check(data)

        check_made_up()


@contextmanager
def _breaks_at_a_z() -> Iterator[Check]:
    def check(data: bytes) -> None:
        assert b"z" not in data

    yield check


@pytest.mark.parametrize(
    ("seeds", "inputs", "shown"),
    [
        pytest.param((b"a", b"xyz"), st.just(b"a"), "seed: b'xyz'", id="a seed"),
        pytest.param((), st.binary(min_size=1), "seed: b'z'", id="a made-up input, made small"),
        pytest.param((b"a",), st.just(b"a"), "", id="none"),
    ],
)
def test_an_input_that_breaks_a_property_is_shown(
    seeds: tuple[bytes, ...], inputs: st.SearchStrategy[bytes], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is printed as a seed, and only a run without any is a success."""
    target = Target(name="made up", open=_breaks_at_a_z, seeds=seeds, inputs=inputs)
    held = main([target], seconds=0.5, ways=("hypothesis",))
    assert shown in capsys.readouterr().out
    assert held is (not shown)


@pytest.mark.skipif(not guided.HAS_ATHERIS, reason="atheris has no wheel for this machine or Python")
@pytest.mark.thorough
def test_the_guided_fuzzer_runs() -> None:
    """It tries the seeds and more, in a process of its own."""
    target = next(target for target in TARGETS if target.name == "values of buttons")
    result = guided.run(target, 1)
    assert result.tried > len(target.seeds)
    assert result.broke == {}


def test_target_names_are_unique() -> None:
    """A target can be run alone by its name."""
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_a_planted_token_is_in_the_input() -> None:
    """Else no search for it could fail."""
    assert plant(f"a {STAND_IN}") == f"a {PLANTED}"
    assert all(
        any(STAND_IN.encode() in seed for seed in target.seeds)
        for target in TARGETS
        if target.name not in {"sealed values", "keys", "values of buttons"}
    )
