"""Draws the results as an SVG that suits a light and a dark page."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.benchmarks.alternatives.contenders import BOT, CONTENDERS, Contender
from tests.benchmarks.alternatives.figures import SLACK_WAITS, Cell, Results
from tests.benchmarks.alternatives.report import duration, number

_STYLE: Final = """
  .page { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e } .grid { stroke: #d1d9e0 }
  .track { fill: #eff2f5 } .limit { stroke: #c62828 } .warning { fill: #c62828 }
  .a { --ink: #0b62c4 } .b { --ink: #8250df } .c { --ink: #bc4c00 } .d { --ink: #1a7f37 } .e { --ink: #6e7781 }
  .line { stroke: var(--ink); fill: none; stroke-width: 1.8 } .line.a { stroke-width: 3 }
  .dot { fill: var(--ink) }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .ink { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #3d444d }
    .track { fill: #21262d } .limit { stroke: #ff7b72 } .warning { fill: #ff7b72 }
    .a { --ink: #58a6ff } .b { --ink: #bc8cff } .c { --ink: #f0883e } .d { --ink: #3fb950 } .e { --ink: #9198a1 }
  }
"""
_HEAD: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" \
aria-labelledby="t d" font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">
<title id="t">The bot beside what one would use instead</title>
<desc id="d">Acknowledgements a second and how long they take, with Cloudflare fast and with Cloudflare slow, \
and how many people hear nothing after a kill. The tables have the same figures.</desc>
<style>{style}</style>
<rect class="page" width="{width}" height="{height}" rx="8"/>"""
_WIDTH: Final = 980
_PANEL_WIDTH: Final = 370
_COLUMNS: Final = (62, 546)
_RATES_TOP: Final = 128
_TIMES_TOP: Final = 420
_KILLS_TOP: Final = 706
_PANEL_HEIGHT: Final = 220
_BETWEEN_NAMES: Final = 15
_BETWEEN_BARS: Final = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A rectangle with a logarithmic scale from `least` to `most`."""

    left: float
    top: float
    least: float
    most: float

    def x(self, place: int, places: int) -> float:
        """Return where one of several places is, with half a step at both ends."""
        return self.left + _PANEL_WIDTH * (place + 0.5) / places

    def y(self, value: float) -> float:
        """Return how far down a value is; what is off the scale is at its end."""
        inside = min(max(value, self.least), self.most)
        return self.top + _PANEL_HEIGHT * math.log(self.most / inside) / math.log(self.most / self.least)

    def decades(self) -> Sequence[float]:
        """Return the powers of ten that get a line."""
        first, last = (round(math.log10(end)) for end in (self.least, self.most))
        return [10.0**power for power in range(first, last + 1)]


def draw(results: Results) -> str:
    """Return the picture, a column for each delay: how many, how long, and who hears nothing after a kill."""
    drawn = [each for each in CONTENDERS if any(cell.contender == each.key for cell in results.cells)]
    height = _KILLS_TOP + _BETWEEN_BARS * sum(each.calls_cloudflare for each in drawn) + 20
    body = list(_heading(drawn))
    for left, delay in zip(_COLUMNS, results.delays, strict=False):
        body += _column(results, drawn, left, delay)
    head = _HEAD.format(width=_WIDTH, height=height, style=_STYLE)
    return "\n".join((head, *body, "</svg>\n"))


def _heading(drawn: Sequence[Contender]) -> Iterator[str]:
    yield _text(30, 38, "The bot beside what one would use instead", size=20, weight=600)
    x = 30.0
    for each in drawn:
        yield _dot(each, x + 5, 61)
        yield _text(x + 16, 66, each.short, size=13, weight=600 if each is BOT else 400)
        x += 44 + 6.9 * len(each.short)


def _column(results: Results, drawn: Sequence[Contender], left: float, delay: float) -> Iterator[str]:
    rates = Panel(left=left, top=_RATES_TOP, least=0.1, most=100_000)
    times = Panel(left=left, top=_TIMES_TOP, least=0.0001, most=10)
    yield _text(left, _RATES_TOP - 28, f"Cloudflare answers after {duration(delay)}", size=16, weight=600)
    yield _text(left, _RATES_TOP - 10, "acknowledgements a second", css="soft", size=12)
    yield from _axes(rates, results.connections, number)
    yield from _rate_lines(results, drawn, rates, delay)
    yield _text(
        left, _TIMES_TOP - 10, "how long they take: dot p50, tick p99, end of the line the slowest", css="soft", size=12
    )
    yield from _axes(times, results.connections, duration)
    yield from _limit(times)
    yield from _time_lines(results, drawn, times, delay)
    if results.kills:
        yield _text(left, _KILLS_TOP - 10, "never told what came of it, after one kill -9", css="soft", size=12)
    yield from _kill_bars(results, drawn, left, delay)


def _axes(panel: Panel, connections: Sequence[int], words: Callable[[float], str]) -> Iterator[str]:
    for value in panel.decades():
        y = panel.y(value)
        yield f'<line class="grid" x1="{panel.left:g}" y1="{y:.1f}" x2="{panel.left + _PANEL_WIDTH:g}" y2="{y:.1f}"/>'
        yield _text(panel.left - 8, y + 4, words(value), css="soft", size=11, anchor="end")
    for place, count in enumerate(connections):
        words_of_place = f"{count} connection{'s' * (count != 1)}"
        yield _text(
            panel.x(place, len(connections)),
            panel.top + _PANEL_HEIGHT + 18,
            words_of_place,
            css="soft",
            size=12,
            anchor="middle",
        )


def _rate_lines(results: Results, drawn: Sequence[Contender], panel: Panel, delay: float) -> Iterator[str]:
    ends: list[tuple[float, str, str]] = []
    for each in drawn:
        points = [
            (panel.x(place, len(results.connections)), panel.y(cell.per_second), cell.per_second)
            for place, cell in _cells(results, each, delay)
            if not cell.failure
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        yield f'<polyline class="line {each.key}" points="{path}"/>'
        yield from (_dot(each, x, y) for x, y, _ in points)
        ends += [(y, each.key, number(value)) for _, y, value in points[-1:]]
    for (_, key, words), y in zip(sorted(ends), spread([y for y, _, _ in sorted(ends)], _BETWEEN_NAMES), strict=True):
        yield _text(panel.left + _PANEL_WIDTH - 48, y + 4, words, css=f"dot {key}", size=12, weight=600)


def _time_lines(results: Results, drawn: Sequence[Contender], panel: Panel, delay: float) -> Iterator[str]:
    for place, each in enumerate(drawn):
        beside = (place - (len(drawn) - 1) / 2) * 16
        for group, cell in _cells(results, each, delay):
            if cell.failure or cell.answers == cell.failed:
                continue
            x = panel.x(group, len(results.connections)) + beside
            top, tick, bottom = panel.y(cell.slowest), panel.y(cell.p99), panel.y(cell.p50)
            drawn_path = f"M{x:.1f} {bottom:.1f} V{top:.1f} M{x - 4:.1f} {tick:.1f} h8"
            yield f'<path class="line {each.key}" d="{drawn_path}"/>'
            yield _dot(each, x, bottom)


def _limit(panel: Panel) -> Iterator[str]:
    y, right = panel.y(SLACK_WAITS), panel.left + _PANEL_WIDTH
    yield f'<line class="limit" x1="{panel.left:g}" y1="{y:.1f}" x2="{right:g}" y2="{y:.1f}" stroke-dasharray="5 4"/>'
    yield _text(right, y - 5, f"Slack gives up after {duration(SLACK_WAITS)}", css="warning", size=11, anchor="end")


def _kill_bars(results: Results, drawn: Sequence[Contender], left: float, delay: float) -> Iterator[str]:
    y = float(_KILLS_TOP)
    for each in drawn:
        kill = results.kill(each.key, delay)
        if kill is None:
            continue
        share = kill.lost / kill.acknowledged if kill.acknowledged else 0
        words = "failed" if kill.failure else f"{kill.lost} of {kill.acknowledged}"
        yield _bar("track", left + 152, y, 150)
        yield _bar(f"dot {each.key}", left + 152, y, 150 * share)
        yield _text(left, y + 13, each.short, size=12, weight=600 if each is BOT else 400)
        yield _text(left + 312, y + 13, words, css=f"dot {each.key}", size=12, weight=600)
        y += _BETWEEN_BARS


def _cells(results: Results, each: Contender, delay: float) -> Iterator[tuple[int, Cell]]:
    for place, connections in enumerate(results.connections):
        cell = results.at(each.key, delay, connections)
        if cell is not None:
            yield place, cell


def _bar(css: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{css}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="16" rx="3"/>'


def _dot(each: Contender, x: float, y: float) -> str:
    return f'<circle class="dot {each.key}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if each is BOT else 4}"/>'


def spread(places: Sequence[float], least: float) -> list[float]:
    """Move sorted places down as far as is needed to keep them this far apart."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    return moved


def _text(
    x: float, y: float, words: str, *, css: str = "ink", size: int, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
