"""Kills the bot at random moments while people submit, and counts what was lost, duplicated or written out of order.

The fake Slack and the fake Cloudflare are not killed. People press Submit until they get an answer, and only then open
their next form for a bucket; so the newest acknowledged token of a bucket that is fit to be written is the one that
its slot must hold in the end.

    python -m tests.chaos.kills [sqlite|postgres] [submissions]

Exits with 1 if anything but the messages duplicated by a kill is not 0.
"""

import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bot.sandbox.cloudflare import FakeCloudflare, RateLimit
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import FakeSlackConfig, User, UserGroup
from bot.sealing.hpke import generate_private_key
from tests.postgres import running_postgres

BUCKETS = [f"chaos-{number:02d}" for number in range(20)]
CHANNEL = "C0DATAPLT"
SHORTEST, LONGEST = 0.2, 2.0
SUBMIT_SECONDS, END_SECONDS, LONGEST_PAUSE = 240, 90, 6.0
FIT = [Behaviour.GOOD] * 6 + [Behaviour.SLOW, Behaviour.ANSWER_LOST, Behaviour.SERVER_DOWN, Behaviour.RATE_LIMITED]
UNFIT = [Behaviour.WEAK, Behaviour.UNKNOWN]
_REFERENCE = re.compile(r"Reference (V\w+)")


@dataclass
class Tally:
    """What was submitted, answered and killed."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    newest_fit: dict[str, str] = field(default_factory=dict)
    given_up: int = 0
    pressed: int = 0
    killed_at: list[float] = field(default_factory=list)


async def main(engine: str, submissions: int) -> bool:
    """Run one engine, print the figures, and return whether nothing was lost, duplicated or wrong."""
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print(f"{engine}: {submissions} submissions over {len(BUCKETS)} buckets, seed {seed}", flush=True)
    tally = Tally()
    started = time.monotonic()
    async with scene(engine) as (slack, cloudflare, fleet):
        killer = asyncio.create_task(kill_at_random(fleet, dice, tally))
        try:
            async with asyncio.timeout(SUBMIT_SECONDS):
                each = submissions // len(BUCKETS)
                await asyncio.gather(*(submit_one_by_one(slack, number, each, dice, tally) for number in range(20)))
        except TimeoutError:
            print("  time for submitting is up")
        killer.cancel()
        await asyncio.gather(killer, return_exceptions=True)
        if not all(await asyncio.gather(*(bot.wait_until_ready() for bot in fleet))):
            print("  the bot no longer starts")
            return False
        await wait_for_the_end(slack, tally)
        return print_figures(slack, cloudflare, tally, time.monotonic() - started)


@asynccontextmanager
async def scene(engine: str) -> AsyncIterator[tuple[FakeSlack, FakeCloudflare, list[BotProcess]]]:
    """Set up the doubles and the bot: one process on SQLite, a gateway and two workers on PostgreSQL."""
    people = tuple(User(id=user_id(number), name=f"p{number}", real_name=f"P {number}") for number in range(20))
    config = FakeSlackConfig()
    group = UserGroup(id="S0CHAOS01", handle="chaos", members=tuple(person.id for person in people))
    config = FakeSlackConfig(users=(*config.users, *people), user_groups=(group,))
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o711)  # the PostgreSQL server does not run as root
        cloudflare = await stack.enter_async_context(FakeCloudflare())
        slack = await stack.enter_async_context(FakeSlack(config))
        cloudflare.slow_delay, cloudflare.retry_after = 0.5, 1
        cloudflare.limit = RateLimit(requests=10**6, window_seconds=10)
        for bucket in BUCKETS:
            cloudflare.add_bucket(bucket)
        port = find_free_port()
        slack.request_url = f"http://127.0.0.1:{port}/slack/events"
        environment = bot_environment(slack, cloudflare, directory / "data", "http", port)
        if engine == "postgres":
            environment["R2_CREDENTIAL_DATABASE_URL"] = stack.enter_context(running_postgres(directory / "postgres"))
            environment["R2_CREDENTIAL_SEALING_KEY"] = generate_private_key()
        output = stack.enter_context((Path(tempfile.gettempdir()) / f"chaos-{engine}.log").open("wb"))
        fleet = [BotProcess(environment, directory, output)]
        if engine == "postgres":
            fleet += [
                BotProcess(environment | {"R2_CREDENTIAL_HTTP_PORT": str(free)}, directory, output, "worker")
                for free in (find_free_port(), find_free_port())
            ]
        for bot in fleet:
            await bot.start()
            stack.push_async_callback(bot.kill)
        await asyncio.gather(*(bot.wait_until_ready() for bot in fleet))
        yield slack, cloudflare, fleet


def user_id(number: int) -> str:
    """Return the id of a user."""
    return f"U0CHAOS{number:02d}"


async def kill_at_random(fleet: list[BotProcess], dice: random.Random, tally: Tally) -> None:
    """Kill one process after another, and restart each at once."""
    while True:
        await asyncio.sleep(dice.uniform(SHORTEST, LONGEST))
        bot = dice.choice(fleet)
        await bot.kill()
        tally.killed_at.append(time.time())
        await bot.start()


async def submit_one_by_one(slack: FakeSlack, number: int, count: int, dice: random.Random, tally: Tally) -> None:
    """Submit for one bucket, without waiting for results."""
    for turn in range(count):
        behaviour = dice.choice(FIT if dice.random() < 0.8 else UNFIT)
        token = make_token(behaviour, number * 1000 + turn)
        view_id = await submit_until_answered(slack, user_id(number), BUCKETS[number], token, tally)
        tally.acknowledged[view_id] = BUCKETS[number]
        if behaviour in FIT:
            tally.newest_fit[BUCKETS[number]] = token
        await asyncio.sleep(dice.uniform(0, LONGEST_PAUSE))


async def submit_until_answered(slack: FakeSlack, user: str, bucket: str, token: str, tally: Tally) -> str:
    """Act as a patient person: press Submit again in the same form, or in a new one if the form is no longer valid."""
    while True:
        if slack.modal(user) is not None:
            await slack.close(user, whole_stack=True)
        outcome = await slack.type_command(user, CHANNEL, f"/r2-credential {bucket}")
        if outcome.failure or outcome.message or slack.modal(user) is None:
            await asyncio.sleep(0.1)
            continue
        await slack.fill(user, "token", token)
        while True:
            modal = slack.modal(user)
            tally.pressed += 1
            answer = await slack.submit(user)
            if answer.kind == "updated" and modal is not None:
                if answer.view is not None and "Nothing was sent" in str(answer.view):
                    tally.given_up += 1
                    break  # the form was unknown: open a new one
                return modal.id
            await asyncio.sleep(0.1)


async def wait_for_the_end(slack: FakeSlack, tally: Tally) -> None:
    """Wait until every acknowledged submission has a result, or the time is up; then a little longer for duplicates."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and set(tally.acknowledged) - set(result_times(slack)):
        await asyncio.sleep(0.2)
    await asyncio.sleep(3)


def result_times(slack: FakeSlack) -> dict[str, list[float]]:
    """Return when the results of each submission were posted, by its reference."""
    times = defaultdict(list)
    for message in slack.workspace.messages:
        if message.bot_id is not None:
            for reference in set(_REFERENCE.findall(str(message.blocks))):
                times[reference].append(float(message.ts))
    return times


def print_figures(slack: FakeSlack, cloudflare: FakeCloudflare, tally: Tally, seconds: float) -> bool:
    """Print the figures."""
    times = result_times(slack)
    lost = [reference for reference in tally.acknowledged if reference not in times]
    doubled, by_kill = 0, 0
    for stamps in times.values():
        for first, second in pairwise(stamps):
            was_killed = any(first - 0.5 <= killed <= second for killed in tally.killed_at)
            by_kill, doubled = by_kill + was_killed, doubled + (not was_killed)
    wrong = [bucket for bucket, token in tally.newest_fit.items() if cloudflare.stored_token(bucket) != token]
    messages = (message for message in slack.workspace.messages if message.bot_id)
    endings = Counter(message.blocks[0]["text"]["text"].partition("\n")[0] for message in messages)
    print(f"  submissions acknowledged                {len(tally.acknowledged)} ({tally.pressed} presses)")
    print(f"  kills                                   {len(tally.killed_at)}")
    print(f"  lost                                    {len(lost)} {lost[:3]}")
    print(f"  messages duplicated                     {doubled}")
    print(f"  messages duplicated by a kill           {by_kill}")
    print(f"  slots not holding the newest fit token  {len(wrong)} {wrong[:3]}")
    print(f"  seconds                                 {seconds:.0f}")
    for ending, count in endings.most_common():
        print(f"    {count:4} {ending}")
    return not (lost or doubled or wrong)


if __name__ == "__main__":
    engines = [sys.argv[1]] if len(sys.argv) > 1 else ["sqlite", "postgres"]
    amount = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    results = [asyncio.run(main(engine, amount)) for engine in engines]
    sys.exit(not all(results))
