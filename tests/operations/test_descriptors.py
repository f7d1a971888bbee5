"""How many descriptors the process asks for, and how many of them the port may use."""

import resource
from collections.abc import Iterator

import pytest

from bot.operations.descriptors import choose_limit, choose_share, most_connections, raise_limit

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        pytest.param(1024, 524288, 8192, id="as systemd starts it"),
        pytest.param(1024, 4096, 4096, id="no more is granted"),
        pytest.param(1024, 1024, 1024, id="nothing more is granted"),
        pytest.param(256, INFINITE, 8192, id="no hard limit"),
        pytest.param(65536, 524288, 65536, id="more than enough already"),
        pytest.param(INFINITE, INFINITE, INFINITE, id="no limit"),
    ],
)
def test_the_limit_is_raised_as_far_as_allowed(soft: int, hard: int, expected: int) -> None:
    """Up to what the bot can use; it is never lowered."""
    assert choose_limit(soft, hard) == expected


@pytest.mark.parametrize(("soft", "expected"), [(64, 16), (256, 64), (1024, 256), (8192, 256), (INFINITE, 256)])
def test_the_port_may_use_a_quarter(soft: int, expected: int) -> None:
    """The rest is for Slack, Cloudflare and the database."""
    assert choose_share(soft) == expected


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """Return the limits of this process, and restore them afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_process_gets_what_it_asks_for(limits: tuple[int, int]) -> None:
    """The system raises the limit, and the port's share is of the new one."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert most_connections() == choose_share(512)

    raise_limit()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (choose_limit(512, hard), hard)
