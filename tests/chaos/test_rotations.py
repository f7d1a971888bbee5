"""The small version of `make chaos-rotate`: processes are killed and frozen, and all comes to rest as it must."""

import pytest

from tests.chaos.rotations import main


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_each_bucket_is_left_with_one_token(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Six rotations of two buckets, with kills, freezes, lost answers and throttling."""
    assert await main(engine, rotations=6, buckets=2, seed=7), capsys.readouterr().out
