"""Writes the results down: as tables, and as the page of the documentation that holds them and the plot."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.alternatives.contenders import BOT, CONTENDERS, Contender
from tests.benchmarks.alternatives.figures import SLACK_WAITS, Cell, Kill, Results

MB: Final = 2**20

_PAGE: Final = Path(__file__).with_name("page.md")


def write_page(results: Results, *, warm_up: float, kill_rate: float, killed_after: float) -> str:
    """Return the page in Markdown."""
    return _PAGE.read_text().format(
        machine=results.machine,
        tables=write_tables(results),
        contenders="\n".join(f"- ({each.key}) {each.name}" for each in CONTENDERS),
        warm_up=warm_up,
        seconds=results.seconds,
        rounds=results.rounds,
        delays=" or ".join(map(duration, results.delays)),
        connections=" or ".join(map(str, results.connections)),
        slack_waits=SLACK_WAITS,
        kill_rate=kill_rate,
        killed_after=killed_after,
    )


def write_tables(results: Results) -> str:
    """Return all tables in Markdown, and who did not take part."""
    parts = [f"({key}) did not take part: {why}." for key, why in results.skipped.items()]
    for delay in results.delays:
        parts += [f"## Cloudflare answers after {duration(delay)}", _speed_table(results, delay)]
    parts += ["## What else it costs", _cost_table(results)]
    return "\n\n".join(parts)


def _speed_table(results: Results, delay: float) -> str:
    rows = [
        (*_name(each), str(connections), *_speed(cell))
        for each in CONTENDERS
        for connections in results.connections
        if (cell := results.at(each.key, delay, connections))
    ]
    header = ("", "connections", "acknowledgements a second", "p50", "p99", "slowest", f"over {SLACK_WAITS:g} s")
    return _table(header, rows)


def _speed(cell: Cell) -> Sequence[str]:
    if cell.failure:
        return (_quote(cell.failure), "", "", "", "")
    failed = f", {cell.failed} failed" if cell.failed else ""
    times = (
        (duration(cell.p50), duration(cell.p99), duration(cell.slowest)) if cell.answers > cell.failed else ("", "", "")
    )
    return (number(cell.per_second), *times, share(cell.late, cell.answers) + failed)


def _cost_table(results: Results) -> str:
    lost = [f"never told after a kill, Cloudflare at {duration(delay)}" for delay in results.delays]
    rows = [
        (
            *_name(each),
            *(_lost(results.kill(each.key, delay)) for delay in results.delays),
            _megabytes(results.largest(each.key, lambda cell: cell.resident)),
            _seconds(results.median(each.key, lambda cell: cell.start)),
            _megabytes(results.installed.get(each.key)),
        )
        for each in CONTENDERS
    ]
    return _table(("", *lost, "memory", "start", "installed"), rows)


def _name(contender: Contender) -> tuple[str]:
    name = f"({contender.key}) {contender.short}"
    return (f"**{name}**" if contender is BOT else name,)


def _lost(kill: Kill | None) -> str:
    if kill is None:
        return ""
    return _quote(kill.failure) if kill.failure else f"{kill.lost} of {kill.acknowledged}"


def _megabytes(size: float | None) -> str:
    return "" if size is None else f"{size / MB:.0f} MB"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _quote(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ("---", *("---:" for _ in header[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Return a figure with the digits that mean something."""
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.1f}"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits."""
    if seconds >= 1:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def share(part: int, whole: int) -> str:
    """Return a share in percent that says 0 or 100 only where that is exact."""
    if part in {0, whole}:
        return "100 %" if part else "0 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"
