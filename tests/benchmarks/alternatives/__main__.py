"""Runs the comparison: `python -m tests.benchmarks.alternatives`, about eight minutes; `--help` for shorter ones."""

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import bot
from tests.benchmarks.alternatives.contenders import BOT, CONTENDERS, NODE, Contender, install_node
from tests.benchmarks.alternatives.figures import Cell, Kill, Results
from tests.benchmarks.alternatives.install import python_bytes, tree_bytes
from tests.benchmarks.alternatives.measure import (
    KILL_RATE,
    KILLED_AFTER,
    WARM_UP_SECONDS,
    measure_cell,
    measure_kill,
    open_bench,
    record_data,
)
from tests.benchmarks.alternatives.plot import draw
from tests.benchmarks.alternatives.report import duration, number, write_page, write_tables


def read_arguments() -> argparse.Namespace:
    """Return what is to be measured, and where it is written down."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.alternatives", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="0 measures nothing, and writes what --results holds")
    parser.add_argument("--seconds", type=float, default=3, help="of load in each cell")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--delays", type=float, nargs="+", default=[0.05, 5], help="seconds that Cloudflare takes")
    parser.add_argument("--contenders", default="abcde", help="some of these letters")
    parser.add_argument("--no-kills", action="store_true", help="leave out what a kill costs")
    parser.add_argument("--results", type=Path, help="a JSON file to which the results are added")
    parser.add_argument("--docs", type=Path, help="the directory for benchmark.md and benchmark.svg")
    return parser.parse_args()


async def main(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write down what is wanted."""
    results = load_results(arguments.results)
    results.machine = describe_machine()
    if arguments.rounds:
        results.rounds, results.seconds = arguments.rounds, arguments.seconds
        with TemporaryDirectory() as directory:
            contenders = list(prepare(arguments.contenders, Path(directory), results))
            await record_data(Path(directory) / "data")
            await measure_cells(arguments, contenders, Path(directory) / "data", results)
            if not arguments.no_kills:
                await measure_kills(arguments.delays, contenders, Path(directory) / "data", results)
    print(f"\n{results.machine}\n\n{write_tables(results)}")
    if arguments.results:
        arguments.results.write_text(json.dumps(dataclasses.asdict(results), indent=1))
    if arguments.docs:
        page = write_page(results, warm_up=WARM_UP_SECONDS, kill_rate=KILL_RATE, killed_after=KILLED_AFTER)
        (arguments.docs / "benchmark.md").write_text(page)
        (arguments.docs / "benchmark.svg").write_text(draw(results))


def prepare(keys: str, directory: Path, results: Results) -> Iterator[Contender]:
    """Yield the contenders that can take part, and note how much is installed for each."""
    for contender in CONTENDERS:
        if contender.key not in keys:
            continue
        results.skipped.pop(contender.key, None)
        if contender is NODE:
            why = install_node(directory)
            if why:
                print(f"({contender.key}) does not take part: {why}", flush=True)
                results.skipped[contender.key] = why
                continue
            results.installed[contender.key] = tree_bytes(directory)
            yield dataclasses.replace(contender, command=("node", str(directory / "bolt.mjs")))
        else:
            ours = tree_bytes(Path(bot.__file__).parent) if contender is BOT else 0
            results.installed[contender.key] = python_bytes(contender.packages) + ours
            yield contender


async def measure_cells(
    arguments: argparse.Namespace, contenders: list[Contender], data: Path, results: Results
) -> None:
    """Let the contenders take turns; one that does not call Cloudflare is measured with the first delay only."""
    async with open_bench(data) as bench:
        for _, delay, connections in product(range(arguments.rounds), arguments.delays, arguments.connections):
            for contender in contenders:
                if contender.calls_cloudflare or delay == arguments.delays[0]:
                    cell = await measure_cell(bench, contender, delay, connections, arguments.seconds)
                    results.cells.append(cell)
                    show(contender, cell)


async def measure_kills(delays: list[float], contenders: list[Contender], data: Path, results: Results) -> None:
    """Kill all contenders at the same time, each with a generator and fakes of its own."""

    async def kill(contender: Contender, delay: float) -> Kill:
        async with open_bench(data) as bench:
            return await measure_kill(bench, contender, delay)

    killed = [contender for contender in contenders if contender.calls_cloudflare]
    for delay in delays:
        for found in await asyncio.gather(*(kill(contender, delay) for contender in killed)):
            results.kills = [each for each in results.kills if (each.contender, each.delay) != (found.contender, delay)]
            results.kills.append(found)
            what = found.failure or f"{found.lost} of {found.acknowledged} never told"
            print(f"({found.contender}) killed, Cloudflare at {duration(delay)}: {what}", flush=True)


def show(contender: Contender, cell: Cell) -> None:
    """Print a line for each cell, to show that it goes on."""
    where = f"{cell.connections} connections" + (f", Cloudflare at {duration(cell.delay)}" if cell.delay else "")
    figures = cell.failure or f"{number(cell.per_second)} a second, slowest {duration(cell.slowest)}"
    print(f"({contender.key}) {contender.short}, {where}: {figures}", flush=True)


def describe_machine() -> str:
    """Return what may be known of the machine."""
    parts = [f"{os.cpu_count()} cores", platform.system(), f"Python {platform.python_version()}"]
    if shutil.which("node"):
        version = subprocess.run(("node", "--version"), capture_output=True, text=True, check=True).stdout  # noqa: S607 - on the PATH, as npm
        parts.append(f"Node {version.strip().removeprefix('v')}")
    return ", ".join(parts)


def load_results(path: Path | None) -> Results:
    """Return the results of earlier runs, if there are some."""
    if path is None or not path.exists():
        return Results()
    found = json.loads(path.read_text())
    found["cells"] = [Cell(**each) for each in found["cells"]]
    found["kills"] = [Kill(**each) for each in found["kills"]]
    return Results(**found)


if __name__ == "__main__":
    asyncio.run(main(read_arguments()))
