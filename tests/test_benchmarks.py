"""The comparison with alternatives: its generator, its statistics and its pictures, and each program of it once."""

import asyncio
import dataclasses
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from slack_sdk.signature import SignatureVerifier

from bot.sandbox.process import find_free_port
from tests.benchmarks import acknowledge
from tests.benchmarks.alternatives import install, measure, plot, report
from tests.benchmarks.alternatives.contenders import BARE, CONTENDERS, HERE, NODE, Contender, is_acknowledged
from tests.benchmarks.alternatives.figures import Cell, Kill, Results, combine, count_late, percentile, rate
from tests.benchmarks.alternatives.lines import LineProcess
from tests.benchmarks.alternatives.load import MARK, Answer, Generator, Load, Sent, read_answer, sign
from tests.benchmarks.submissions import form_body

SECRET = "5a4d0b0c5a4d0b0c5a4d0b0c5a4d0b0c"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


# Answers


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["length", "chunks", "no chunk"],
)
def test_an_answer_is_whole_with_its_last_byte(received: bytes) -> None:
    """No byte less is enough, and nothing waits for the end of the connection."""
    answer = read_answer(received, is_over=False)

    assert answer is not None
    assert (answer.status, answer.closes, answer.failure) == (200, False, "")
    assert [read_answer(received[:end], is_over=False) for end in range(len(received))] == [None] * len(received)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """Until then it may go on."""
    received = b"HTTP/1.0 200 OK\r\n\r\nok"

    assert read_answer(received, is_over=False) is None
    assert read_answer(received, is_over=True) == Answer(status=200, body=b"ok", closes=True)


@pytest.mark.parametrize(
    ("received", "failure"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"errors":1}', "refused in the form"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nNothing was sent", "refused in the form"),
    ],
    ids=["status", "errors", "too late"],
)
def test_a_refusal_is_no_acknowledgement(received: bytes, failure: str) -> None:
    """It would be fast, and count as a success."""
    answer = read_answer(received, is_over=False)

    assert answer is not None
    assert answer.failure == failure


# Requests


def test_a_request_is_signed_as_slack_does_it() -> None:
    """The verifier of Slack's SDK accepts it, and its number stands in each place."""
    head, _, body = sign(form_body("T0"), 42, SECRET).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])

    assert SignatureVerifier(SECRET).is_valid_request(body, headers)
    assert int(headers["Content-Length"]) == len(body)
    assert MARK.encode() not in body
    assert body.count(b"0000042") == form_body("T0").count(MARK) == 4


# The generator


class Server(threading.Thread):
    """Answers each request with the next of `answers`; None closes the connection without one."""

    def __init__(self, answers: list[bytes | None]) -> None:
        super().__init__(daemon=True)
        self._answers = iter(answers)
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._entrance.getsockname()[1]
        self.connections = 0

    def run(self) -> None:
        """Serve one connection after the other until no answer is left."""
        with self._entrance:
            for answer in self._answers:
                with self._entrance.accept()[0] as connection:
                    self.connections += 1
                    self._serve(connection, answer)

    def _serve(self, connection: socket.socket, answer: bytes | None) -> None:
        while connection.recv(2**16):
            if answer is None:
                return
            connection.sendall(answer)
            if b"close" in answer:
                return
            answer = next(self._answers, None)


@contextmanager
def answering(*answers: bytes | None) -> Iterator[Server]:
    """Run a server."""
    server = Server(list(answers))
    server.start()
    yield server
    server.join()


def load_on(port: int, **changes: float) -> Load:
    """Return a load of two submissions, one after the other."""
    load = Load(port=port, secret=SECRET, body=MARK, first=1, last=2, seconds=60, connections=1, patience=60)
    return dataclasses.replace(load, **changes)  # type: ignore[arg-type]  # numbers


def test_the_generator_keeps_a_connection_that_the_server_keeps() -> None:
    """A new one for each request would be part of what is measured."""
    with answering(OK + b"\r\n", OK + b"\r\n") as server:
        sent = Generator(load_on(server.port)).run()

    assert [(each.number, each.failure) for each in sent] == [(1, ""), (2, "")]
    assert server.connections == 1


def test_the_generator_opens_a_new_connection_where_the_server_closes_it() -> None:
    """The bot's port does so after each request."""
    with answering(OK + b"Connection: close\r\n\r\n", OK + b"Connection: close\r\n\r\n") as server:
        sent = Generator(load_on(server.port)).run()

    assert [(each.number, each.failure) for each in sent] == [(1, ""), (2, "")]
    assert server.connections == 2


def test_the_generator_sends_again_over_a_new_connection_when_a_kept_one_has_ended() -> None:
    """A server may close an idle connection at any time: that is no failure of it."""
    with answering(OK + b"\r\n", None, OK + b"Connection: close\r\n\r\n") as server:
        sent = Generator(load_on(server.port)).run()

    assert [(each.number, each.failure) for each in sent] == [(1, ""), (2, "")]
    assert server.connections == 2


def test_the_generator_reports_what_is_not_answered_and_goes_on() -> None:
    """A server that dies under load gives figures as well."""
    with answering(None, OK + b"\r\n") as server:
        sent = Generator(load_on(server.port)).run()

    assert [(each.number, bool(each.failure)) for each in sent] == [(1, True), (2, False)]


def test_the_generator_gives_up_on_a_server_that_is_silent() -> None:
    """It waits no longer than its patience."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sent = Generator(load_on(silent.getsockname()[1], last=1, patience=0.05)).run()

    assert [(each.number, each.failure) for each in sent] == [(1, "no answer")]


def test_the_generator_reports_that_nothing_listens() -> None:
    """As after a kill."""
    sent = Generator(load_on(find_free_port())).run()

    assert [each.failure for each in sent] == ["ConnectionRefusedError"] * 2


def test_with_a_rate_nothing_waits_for_an_answer() -> None:
    """Submissions come from people who do not know of each other."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        load = load_on(silent.getsockname()[1], last=4, connections=0, per_second=1000, patience=0.5)
        sent = Generator(load).run()

    assert sorted(each.number for each in sent) == [1, 2, 3, 4]
    assert max(each.began for each in sent) < min(each.began + each.took for each in sent)


# Statistics


def sent(lane: int, began: float, took: float, failure: str = "") -> Sent:
    """Return a submission."""
    return Sent(number=0, lane=lane, began=began, took=took, failure=failure)


def test_a_lane_that_waits_longer_does_not_slow_down_the_others() -> None:
    """Three lanes: two acknowledgements in 1 s, one in 4 s, none."""
    assert rate([sent(0, 0, 0.5), sent(0, 0.5, 0.5), sent(1, 0, 4), sent(2, 0, 1, "no answer")]) == 2.25
    assert rate([]) == 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.99, 10), (1, 10), (0.01, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """Nearest rank, however few there are."""
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == value
    assert percentile([3], share) == 3
    assert percentile([], share) == 0


def test_an_answer_that_never_came_is_late() -> None:
    """Slack shows the same error."""
    assert count_late([sent(0, 0, 2.9), sent(0, 0, 3.1), sent(0, 0, 0.1, "status 500")]) == 2


def test_rounds_are_combined_by_their_medians_and_the_slowest_of_all() -> None:
    """A round that failed leaves the others as they are; only where each failed is that the result."""
    rounds = [
        Cell(contender="a", delay=5, connections=1, per_second=rates, slowest=rates, answers=10, late=late)
        for rates, late in ((10, 0), (30, 5), (20, 1))
    ]
    broken = Cell(contender="a", delay=5, connections=1, failure="it ended")

    combined = combine([broken, *rounds])

    assert (combined.per_second, combined.slowest, combined.answers, combined.late) == (20, 30, 30, 6)
    assert combine([broken, broken]).failure == "it ended"


def test_packages_are_counted_with_what_they_require() -> None:
    """Each once; the extra of the bot is not among them."""
    alone, both = install.python_bytes(["aiohttp"]), install.python_bytes(["aiohttp", "multidict"])

    assert alone == both > install.python_bytes(["multidict"]) > 0


# Pages


def some_results() -> Results:
    """Return results with a hole, a failure and extremes."""
    cells = [
        Cell(
            contender=each.key,
            delay=delay if each.calls_cloudflare else None,
            connections=connections,
            per_second=rates,
            p50=0.001,
            p99=0.1,
            slowest=9,
            answers=100,
            late=late,
            resident=2**27,
            start=0.5,
        )
        for each, rates, late in zip(CONTENDERS, (900, 0.2, 100, 700, 20_000), (0, 100, 1, 0, 0), strict=True)
        for delay in (0.05, 5.0)
        for connections in (1, 16)
    ]
    cells.append(Cell(contender="c", delay=5, connections=64, failure="it ended: <no|memory>"))
    kills = [Kill(contender="a", delay=5, acknowledged=80), Kill(contender="c", delay=5, acknowledged=80, lost=79)]
    return Results(machine="2 cores", rounds=1, seconds=1, cells=cells, kills=kills, skipped={"d": "npm is missing"})


def test_the_tables_say_what_was_measured_and_what_failed() -> None:
    """A failure stands where the figures would be; a share is exact only where it says so."""
    tables = report.write_tables(some_results())

    assert "(d) did not take part: npm is missing." in tables
    assert "| **(a) this bot** | 16 | 900 | 1.0 ms | 100 ms | 9 s | 0 % |" in tables
    assert "| (b) Bolt for Python, before | 1 | 0.2 | 1.0 ms | 100 ms | 9 s | 100 % |" in tables
    assert "| (c) Bolt for Python, after | 64 | it ended: <no/memory> |  |  |  |  |" in tables
    assert "| (c) Bolt for Python, after |  | 79 of 80 | 128 MB | 0.5 s |  |" in tables


def test_each_row_of_a_table_has_all_columns() -> None:
    """Otherwise a figure stands in the column of another."""
    lines = [line for line in report.write_tables(some_results()).splitlines() if line.startswith("|")]

    assert {line.count("|") for line in lines} == {8, 7}


@pytest.mark.parametrize(("part", "words"), [(0, "0 %"), (1, "0.1 %"), (9999, "99.9 %"), (10_000, "100 %")])
def test_a_share_is_rounded_to_none_or_all_only_if_it_is(part: int, words: str) -> None:
    """One person of ten thousand is not nobody."""
    assert report.share(part, 10_000) == words


@pytest.mark.parametrize("results", [some_results(), Results()], ids=["some", "none"])
def test_the_plot_is_well_formed_and_within_its_page(results: Results) -> None:
    """Whatever was measured, and with a colour for each contender in both schemes."""
    text = plot.draw(results)
    picture = ET.fromstring(text)  # noqa: S314 - our own
    _, _, width, height = map(float, picture.attrib["viewBox"].split())

    for each in picture.iter():
        assert 0 <= float(each.get("x", each.get("cx", 0))) <= width
        assert 0 <= float(each.get("y", each.get("cy", 0))) <= height
    assert [text.count(f".{each.key} {{ --ink") for each in CONTENDERS] == [2] * len(CONTENDERS)


def test_labels_that_would_overlap_are_moved_apart() -> None:
    """Downwards, and only as far as is needed."""
    assert plot.spread([10, 12, 40], 15) == [10, 25, 40]


def test_the_page_is_the_one_of_a_run() -> None:
    """Each place of the template is filled."""
    page = report.write_page(some_results(), warm_up=0.5, kill_rate=20, killed_after=4)

    assert "{" not in page
    assert "keeps 1 or 16 or 64 signed submissions" in page
    assert "after 50 ms or 5 s, and" in page
    assert all(each.name in page for each in CONTENDERS)


def test_the_lock_file_of_node_names_versions_and_no_registry() -> None:
    """Whoever installs it does so from their own."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]

    assert lock["packages"][""]["dependencies"] == wanted
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []


# The programs


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[measure.Bench]:
    """Start the generator and the fakes, with a few openings."""
    await measure.record_data(tmp_path / "data", openings=3)
    async with measure.open_bench(tmp_path / "data") as opened:
        yield opened


@pytest.mark.parametrize("contender", [each for each in CONTENDERS if each is not NODE], ids=lambda each: each.key)
async def test_each_contender_acknowledges_and_does_its_work(bench: measure.Bench, contender: Contender) -> None:
    """Over real sockets: those that call Cloudflare store a credential, and say so in the channel."""
    async with measure.run_contender(bench, contender) as running:
        await running.start(bench.body)
        waiting = contender.calls_cloudflare
        async with asyncio.timeout(60):
            while waiting and 0 not in (await bench.doubles.ask({"report": True}))["told"]:  # noqa: ASYNC110 - the fakes are in another process
                await asyncio.sleep(0.02)

        assert running.resident_bytes() > 0
        assert (await bench.doubles.ask({"report": True}))["stored"] == int(waiting)


async def test_a_forged_request_is_refused_by_the_limit_as_well(bench: measure.Bench) -> None:
    """A handler that verifies nothing would be no limit."""
    async with measure.run_contender(bench, BARE) as running:
        await running.start(bench.body)

        assert not is_acknowledged(running.port, sign(bench.body, 1, "another secret"))


async def test_a_contender_that_cannot_start_makes_a_cell_that_says_so(bench: measure.Bench) -> None:
    """And the run goes on."""
    broken = dataclasses.replace(BARE, command=(BARE.command[0], "-c", "raise SystemExit('no such module')"))

    cell = await measure.measure_cell(bench, broken, 0, 1, 0.1)

    assert cell.failure == "it ended: no such module"


async def test_a_submission_is_lost_only_if_no_message_came(bench: measure.Bench) -> None:
    """One that was acknowledged before a kill is waited for."""
    async with measure.run_contender(bench, CONTENDERS[0]) as running:
        await running.start(bench.body)
        await running.kill()
        await running.spawn()

        assert await measure.wait_for_messages(bench.doubles, {0}, quiet=60) == 0
        assert await measure.wait_for_messages(bench.doubles, {0, 1}, quiet=0) == 1


async def test_the_benchmark_of_acknowledgements_is_acknowledged() -> None:
    """By the empty app and by the bot, with its own pieces."""
    async with LineProcess("tests.benchmarks.alternatives.load") as generator:
        for app, bucket in acknowledge.APPS.values():
            async with app() as (port, slack):
                found = await acknowledge.send(generator, port, slack, bucket, first=1, count=1)

            assert [each.failure for each in found] == [""]
