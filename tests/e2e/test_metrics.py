"""What an operator sees of a running bot: each event is counted where it happens, and nothing names a person."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from bot.metrics import (
    ACCESS_REFUSED,
    ACKNOWLEDGED,
    CLOUDFLARE_DURATION,
    CLOUDFLARE_REQUESTS,
    ENDED,
    LOG_SCRUBBED,
    REQUESTS_REFUSED,
    RETRIED,
    SLACK_REFUSALS,
    SLACK_REQUESTS,
    SOCKET_RECONNECTS,
    STEPS,
)
from bot.operations.gauges import (
    BUILD,
    CATALOGS,
    EXPIRY,
    OLDEST,
    PART_READY,
    READY,
    SOCKETS,
    SOURCE_UP,
    TASKS,
    UNPOSTED,
    WAITING,
)
from bot.sandbox.process import Transport, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.e2e.conftest import ONE_WAY
from tests.promtool import run_promtool
from tests.scene import ADA, MALLORY, PLATFORM, Scene, SetScene

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(slots=True)
class Watched:
    """A running bot, and the address of its port for metrics."""

    scene: Scene
    address: str

    async def text(self) -> str:
        """Return the page."""
        async with aiohttp.ClientSession() as http, http.get(f"http://{self.address}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def scrape(self) -> Samples:
        """Return every sample."""
        families = text_string_to_metric_families(await self.text())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def _value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels, and maybe others."""
    found = [value for (each, its), value in samples.items() if each == name and its >= frozenset(labels.items())]
    return sum(found) if found else -1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(
    transport: Transport, tmp_path_factory: pytest.TempPathFactory, set_scene: SetScene
) -> AsyncIterator[Watched]:
    """Share one running bot."""
    port = find_free_port()
    async with set_scene(
        transport, tmp_path_factory.mktemp("scene"), {"R2_CREDENTIAL_METRICS_PORT": str(port)}
    ) as scene:
        await scene.start_ready_bot()
        yield Watched(scene, f"127.0.0.1:{port}")


pytestmark = [pytest.mark.asyncio(loop_scope="module"), ONE_WAY]


async def test_a_stored_credential_is_counted_all_along_its_way(watched: Watched) -> None:
    """From the acknowledgement over each step and request to the ending, and then as a slot that expires."""
    scene = watched.scene
    token = make_token(Behaviour.GOOD, number=7001)
    assert (await scene.submit("analytics-events", token)).kind == "updated"
    await scene.wait_for_result("analytics-events")

    samples = await _scrape_after(watched, "stored")

    kinds = {"command", "view_submission"}
    assert all(_value(samples, f"{ACKNOWLEDGED.name}_count", kind=kind) >= 1 for kind in kinds)
    steps = {"permit", "verify", "store", "confirm", "report"}
    assert all(_value(samples, f"{STEPS.name}_count", step=step) >= 1 for step in steps)
    labels = {"task": "store", "ending": "stored", "code": "none", "who_acts": "none"}
    assert _value(samples, ENDED.name, **labels) == 1
    assert _value(samples, CLOUDFLARE_REQUESTS.name, call="store_credential", status="200") == 1
    assert _value(samples, f"{CLOUDFLARE_DURATION.name}_count", call="verify_token") >= 1
    assert _value(samples, SLACK_REQUESTS.name, method="chat.postMessage", status="200") == 1
    assert _value(samples, SLACK_REQUESTS.name, method="other") == -1
    assert _value(samples, SLACK_REFUSALS.name) == 0
    assert _value(samples, CLOUDFLARE_REQUESTS.name, call="other") == -1
    assert (_value(samples, WAITING.name), _value(samples, OLDEST.name)) == (0, 0)
    assert _value(samples, EXPIRY.name, bucket="analytics-events") > 1.7e9
    assert _value(samples, CATALOGS.name, status="active", credential="valid") >= 1
    assert _value(samples, READY.name) == 1


async def test_a_refusal_and_a_person_who_may_not(watched: Watched) -> None:
    """A token that ends as refused has its code; a person on no list is counted by the reason, without a name."""
    scene = watched.scene
    assert (await scene.submit("clickstream-raw", make_token(Behaviour.EXPIRED, number=7002))).kind == "updated"
    await scene.wait_for_result("clickstream-raw")
    await scene.slack.type_command(MALLORY, PLATFORM, "/r2-credential analytics-events")

    samples = await _scrape_after(watched, "refused")

    assert _value(samples, ENDED.name, task="store", ending="refused", code="token_expired", who_acts="you") == 1
    assert _value(samples, ACCESS_REFUSED.name, reason="not_allowed") == 1


async def test_a_wait_and_a_failure_of_the_operators(watched: Watched) -> None:
    """An attempt that is repeated has its cause, and a refused login of the bot's names who has to act."""
    scene = watched.scene
    scene.cloudflare.fail_next("credential", status=429, retry_after=1)
    scene.cloudflare.fail_next("credential", status=403, code=10000)
    assert (await scene.submit("billing-exports", make_token(Behaviour.GOOD, number=7003))).kind == "updated"
    await scene.wait_for_result("billing-exports")

    samples = await _scrape_after(watched, "failed", who_acts="operator", task="store")

    assert _value(samples, RETRIED.name, code="throttled") == 1
    assert _value(samples, CLOUDFLARE_REQUESTS.name, call="store_credential", status="429") == 1
    assert _value(samples, CLOUDFLARE_REQUESTS.name, call="store_credential", status="403") == 1


async def test_what_happens_at_the_door(watched: Watched) -> None:
    """Over HTTP a request without Slack's signature, over Socket Mode a connection that Slack ends."""
    scene = watched.scene
    if scene.transport == "http":
        await scene.slack.post_raw(b"{}", headers={"X-Slack-Signature": "v0=made up"})
        family, reason = REQUESTS_REFUSED, "bad_signature"
    else:
        await scene.slack.transport.drop_connections()
        await scene.slack.wait_for_connections(2)
        await _scrape_until(watched, lambda samples: _value(samples, SLACK_REQUESTS.name, method="socket") >= 4)
        family, reason = SOCKET_RECONNECTS, "closed"

    await _scrape_until(watched, lambda samples: _value(samples, family.name, reason=reason) >= 1)


async def test_it_says_what_runs(watched: Watched) -> None:
    """Version, role, database and transport; Socket Mode's connections only where there is Socket Mode."""
    samples = await watched.scrape()

    is_socket = watched.scene.transport == "socket"
    transport = "socket_mode" if is_socket else "http"
    assert _value(samples, BUILD.name, role="all", database="sqlite", transport=transport) == 1
    assert _value(samples, SOCKETS.name) == (2 if is_socket else -1)
    assert _value(samples, "process_open_fds") > 0
    assert _value(samples, TASKS.name) > 0


async def test_nothing_on_the_page_names_a_person_or_a_token(watched: Watched) -> None:
    """After everything above: no id of a user, a channel, a workspace, a token, and none of the settings."""
    text = await watched.text()

    assert not re.search(r"\b[UWCGDTVAS]0[A-Z0-9]{4,}", text)
    for secret in (ADA, MALLORY, PLATFORM, "cfat_", "cfut_", "xoxb", "xapp", "V0", watched.scene.cloudflare.account_id):
        assert secret not in text
    assert _value(await watched.scrape(), LOG_SCRUBBED.name) == 0


async def test_promtool_finds_nothing_to_complain_of(watched: Watched) -> None:
    """Prometheus's own linter reads the page: names, types, units and help."""
    text = await watched.text()

    done = await asyncio.to_thread(run_promtool, "check", "metrics", text=text)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_a_database_that_is_away_leaves_the_rest_of_the_page(watched: Watched) -> None:
    """Last, since it does not come back: the page says what is missing, and the counters go on."""
    for path in watched.scene.data_dir.glob("bot.sqlite*"):
        path.unlink()

    samples = await _scrape_until(watched, _is_without_a_database)

    assert _value(samples, WAITING.name) == -1
    assert _value(samples, PART_READY.name, part="database") == 0
    assert _value(samples, CLOUDFLARE_REQUESTS.name, call="list_catalogs", status="200") >= 1
    async with aiohttp.ClientSession() as http, http.get(f"http://{watched.address}/readyz") as answer:
        assert (answer.status, (await answer.json())["parts"]["database"]["ready"]) == (503, False)


def _is_without_a_database(samples: Samples) -> bool:
    """Both are known a second later at most."""
    return _value(samples, SOURCE_UP.name, source="database") == 0 and _value(samples, READY.name) == 0


async def _scrape_after(watched: Watched, ending: str, **labels: str) -> Samples:
    """Scrape until a submission has ended so and nothing waits."""
    return await _scrape_until(
        watched,
        lambda samples: (
            _value(samples, ENDED.name, ending=ending, **labels) == 1
            and _value(samples, WAITING.name) + _value(samples, UNPOSTED.name) == 0
        ),
    )


async def _scrape_until(watched: Watched, is_seen: Callable[[Samples], bool]) -> Samples:
    """Scrape until it is seen: a page may be a second old."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            samples = await watched.scrape()
            if is_seen(samples):
                return samples
            await asyncio.sleep(0.1)
