"""Attacks by someone who can write the database or the bot's directories, or inspect its process."""

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.sandbox.tokens import Behaviour, make_token
from bot.sealing.hpke import RESPONSE_URL, SealingContext, generate_private_key
from bot.sealing.key_files import KeyFiles, write_key_file
from bot.storage.schema import SUBMISSIONS
from tests.attack.attack import Arena, Attack, Case, Engine
from tests.postgres import execute
from tests.scene import CROWD, PLATFORM, Scene, open_scene
from tests.storage.test_damage import ON_BOTH, ON_SQLITE

_NOT_MEMBER: Final = "C0ANALYTX"
_KEYS: Final = "sealing-keys"
_WAITING: Final = {"R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "60s"}
_PATIENCE: Final = 30

_CHANGES: Final = {
    "a dry run becomes a write": "task = 'store'",
    "a dry run becomes a write that was checked": "task = 'store', checked_at = accepted_at",
    "a dry run becomes a write in progress": "task = 'store', state = 'storing', attempts = 1",
    "another user's": "task = 'store', user_id = 'U0GRACE01'",
    "in another channel": "channel_id = 'C0ANALYTX'",
    "for another bucket": "bucket = bucket || '-other'",
    "of another workspace": "team_id = 'T0OTHER'",
    "of another view": "id = id || 'X'",
    "checked already": "checked_at = expires_at, token_id = '0123456789abcdef', token_owner = 'user'",
    "approved already": "decided_by = 'U0GRACE01', approval_channel = 'C0ANALYTX'",
}


def _execute(scene: Scene, statement: str) -> list[tuple[object, ...]]:
    url = scene.environment.get("R2_CREDENTIAL_DATABASE_URL")
    if url is not None:
        return execute(url, statement)
    with closing(sqlite3.connect(scene.data_dir / "bot.sqlite", isolation_level=None, timeout=10)) as connection:
        return connection.execute(statement).fetchall()


async def _wait_for(look: Callable[[], bool], seconds: float = _PATIENCE) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not look():  # noqa: ASYNC110 - a row sets no event
                await asyncio.sleep(0.05)
            return True
    return False


async def _submit(scene: Scene, bucket: str, token: str, user: str, *, dry: bool = False, to: str = PLATFORM) -> None:
    await scene.open_form(bucket, user=user)
    await scene.slack.fill(user, "token", token)
    await scene.slack.fill(user, "channel", to)
    if dry:
        await scene.slack.fill(user, "check", ["check"])
    await scene.slack.submit(user)


def _holds(scene: Scene, bucket: str, token: str) -> bool:
    return scene.cloudflare.stored_token(bucket) == token


async def change_rows(arena: Arena, engine: Engine = "sqlite") -> AsyncIterator[Case]:
    """Change one column of a waiting submission: it is not written anywhere, and each bucket takes its next token."""
    async with arena.scene_on(engine, _WAITING) as scene:
        scene.cloudflare.fresh_seconds = 3.0
        buckets = {name: f"rows-{number:02d}" for number, name in enumerate(_CHANGES)}
        for number, (name, bucket) in enumerate(buckets.items()):
            for each in (bucket, f"{bucket}-other"):
                scene.cloudflare.add_bucket(each)
            is_dry = "task" in _CHANGES[name]
            await _submit(scene, bucket, make_token(Behaviour.FRESH, number), CROWD[number], dry=is_dry)
        for name, bucket in buckets.items():
            _execute(scene, f"UPDATE submissions SET {_CHANGES[name]} WHERE bucket = '{bucket}'")  # noqa: S608 - our own words
        for number, bucket in enumerate(buckets.values()):
            for each in (bucket, f"{bucket}-other"):
                await _submit(scene, each, make_token(Behaviour.GOOD, number), CROWD[number])
        for number, (name, bucket) in enumerate(buckets.items()):
            good, forged = make_token(Behaviour.GOOD, number), make_token(Behaviour.FRESH, number)
            both = [bucket, f"{bucket}-other"]
            is_up = all([await _wait_for(partial(_holds, scene, each, good)) for each in both])
            is_written = any(write.token == forged for write in scene.cloudflare.writes)
            yield Case.of(name, got_in=is_written, took_down=not is_up)


async def name_other_urls(arena: Arena) -> AsyncIterator[Case]:
    """Have the bot post to an address that is not Slack's: one sealed into a row, or one in a payload."""
    heard: list[str] = []

    async def take(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    async with TestServer(app) as server, arena.scene(_WAITING) as scene:
        scene.cloudflare.fresh_seconds = 3.0
        hosts = ("127.0.0.1", "localhost", "127.1", "0.0.0.0", "2130706433", "user:word@127.0.0.1")  # noqa: S104 - compared, not listened on
        for number, host in enumerate(hosts):
            scene.cloudflare.add_bucket(f"urls-{number}")
            token = make_token(Behaviour.FRESH, 50 + number)
            await _submit(scene, f"urls-{number}", token, CROWD[number], to=_NOT_MEMBER)
            _seal_url(scene, f"urls-{number}", f"http://{host}:{server.port}/row-{number}")
        scene.slack.response_urls.base_url = f"http://127.0.0.1:{server.port}/payload"
        await scene.slack.type_command(CROWD[0], PLATFORM, "/r2-credential status")
        for number in range(len(hosts)):  # what was changed is set aside, and the bucket takes its next token
            await _submit(scene, f"urls-{number}", make_token(Behaviour.GOOD, number), CROWD[number])
        for number, host in enumerate(hosts):
            is_up = await _wait_for(partial(_holds, scene, f"urls-{number}", make_token(Behaviour.GOOD, number)))
            yield Case.of(f"sealed for {host}", got_in=f"/row-{number}" in heard, took_down=not is_up)
        await _wait_for(lambda: any("payload" in each for each in heard) or b"lookup_not_answered" in scene.printed())
        yield Case.of("of a command", got_in=any("payload" in each for each in heard))


def _seal_url(scene: Scene, bucket: str, url: str) -> None:
    """Do what the public key and write access to the rows allow: seal a URL for a row."""
    names = ("team_id", "user_id", "id", "account_id", "bucket", "task", "channel_id")
    query = f"SELECT {', '.join(names)} FROM submissions WHERE bucket = '{bucket}'"  # noqa: S608 - our own words
    row = dict(zip(names, _execute(scene, query)[0], strict=True))
    values = row | {"purpose": RESPONSE_URL, "view_id": row["id"]}
    context = SealingContext(**{each.name: str(values[each.name]) for each in fields(SealingContext)})
    sealed = KeyFiles(scene.data_dir / _KEYS).load(datetime.now(UTC)).sealing_key.seal(url, context)
    _execute(scene, f"UPDATE submissions SET sealed_response_url = '{sealed}' WHERE bucket = '{bucket}'")  # noqa: S608 - our own words


async def damage_rows(arena: Arena) -> AsyncIterator[Case]:
    """Leave a damaged row in each of many buckets: the bot starts, and each bucket's next token is stored."""
    damages = _DAMAGES | ON_BOTH | ON_SQLITE
    buckets = {name: f"damage-{number:02d}" for number, name in enumerate(damages)}
    async with arena.scene() as scene:
        for bucket in ("damage", *buckets.values()):
            scene.cloudflare.add_bucket(bucket)
        await scene.submit("damage", make_token(Behaviour.GOOD, 99))
        await scene.wait_for_result("damage")
        await scene.bot.stop()
        for name, change in damages.items():
            _add_damaged(scene, buckets[name], change)
        await scene.start_bot()
        # not ready, since a row needs a key that is not there; all the same, it works
        is_up = "keys_missing" in await scene.wait_until_printed('"not_ready"')
        yield Case.of("it starts", took_down=not is_up)
        if arena.transport == "socket":
            await scene.slack.wait_for_connections()
        for number, bucket in enumerate(buckets.values()):
            await scene.submit(bucket, make_token(Behaviour.GOOD, number), user=CROWD[number % len(CROWD)])
        for number, (name, bucket) in enumerate(buckets.items()):
            token = make_token(Behaviour.GOOD, number)
            is_stored = await _wait_for(partial(_holds, scene, bucket, token))
            yield Case.of(name, took_down=not is_stored)
        for words in ("status", "history", "history damage"):
            outcome = await scene.slack.type_command(CROWD[0], PLATFORM, f"/r2-credential {words}")
            is_answered = outcome.failure is None and "damage" in str(outcome.message)
            yield Case.of(words, took_down=not is_answered)


def _add_damaged(scene: Scene, bucket: str, change: str) -> None:
    """Add a waiting submission as a copy of one that has ended, and damage it."""
    later = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+1 hour')"
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    columns = [column.name for column in SUBMISSIONS.columns if column.name != "sequence"]
    given = dict.fromkeys(columns, "NULL") | {name: name for name in _KEPT} | _FRESH
    given |= {"id": f"'{bucket}'", "bucket": f"'{bucket}'", "expires_at": later}
    given |= dict.fromkeys(("sent_at", "accepted_at", "next_attempt_at"), now)
    values = ", ".join(given[name] for name in columns)
    template = "FROM submissions WHERE bucket = 'damage'"
    _execute(scene, f"INSERT INTO submissions ({', '.join(columns)}) SELECT {values} {template}")
    _execute(scene, f"UPDATE submissions SET {change} WHERE id = '{bucket}'")  # noqa: S608 - our own words


_KEPT: Final = ("team_id", "user_id", "account_id", "channel_id", "reason", "token_kind", "last_four")
_FRESH: Final = {
    "task": "'store'",
    "state": "'accepted'",
    "attempts": "0",
    "possibly_written": "0",
    "revision": "0",
    "sealed_token": "'sealed.v1.0000000000000000.AAAA'",
}
_DAMAGES: Final = {
    "garbage for a sealed token": "sealed_token = 'garbage'",
    "garbage for a sealed URL": "sealed_response_url = 'garbage'",
    "a cause of a newer version": "error_code = 'of_tomorrow'",
    "an ended one with such a cause": "error_code = 'of_tomorrow', state = 'failed', ended_at = accepted_at",
    "another account's": "account_id = '00000000000000000000000000000000'",
    "a bucket of bytes": "bucket = x'00ff'",
    "a reason with half a character": "reason = CAST(x'ff' AS TEXT)",
    "sent, and never tried": "state = 'storing', expires_at = accepted_at",
    "a dry run that is confirmed": "task = 'check', state = 'confirming'",
    "an enabling that is verified": "task = 'enable', state = 'verifying'",
}


def _open_data(data: Path) -> None:
    data.chmod(0o777)


def _open_keys(data: Path) -> None:
    (data / _KEYS).mkdir()
    (data / _KEYS).chmod(0o777)


def _key_of_2099(data: Path) -> None:
    (data / _KEYS).mkdir(mode=0o700)
    write_key_file(data / _KEYS / "20990101T000000.000000Z-madeup.pem", generate_private_key())


def _key_of_another_owner(data: Path) -> None:
    KeyFiles(data / _KEYS).load(datetime.now(UTC))
    [path] = (data / _KEYS).iterdir()
    _give_away(path)


def _data_of_another_owner(data: Path) -> None:
    _give_away(data)


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:  # only root can give files away
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o777)


_PLANTS: Final = (
    _open_data,
    _open_keys,
    _key_of_2099,
    _key_of_another_owner,
    _data_of_another_owner,
)


async def plant_files(arena: Arena) -> AsyncIterator[Case]:
    """Prepare the directories of a bot before its start: it refuses to start, and says what to do."""
    for plant in _PLANTS:
        async with open_scene(arena.transport, arena.new_directory()) as scene:
            scene.data_dir.mkdir(mode=0o700)
            plant(scene.data_dir)
            bot = await scene.start_bot()
            is_up = await bot.wait_until_ready()
            is_reported = b"The bot cannot start" in scene.printed() and b"Traceback" not in scene.printed()
            yield Case.of(plant.__name__.strip("_").replace("_", " "), got_in=is_up, lied=not is_up and not is_reported)


async def look_at_process(arena: Arena) -> AsyncIterator[Case]:
    """Search what a started process exposes to others: a core dump, its memory, TLS keys, files that they can read."""
    key_log = arena.new_directory() / "keys.log"
    async with open_scene(arena.transport, arena.new_directory()) as scene:
        scene.environment["SSLKEYLOGFILE"] = str(key_log)
        bot = await scene.start_ready_bot()
        process = Path(f"/proc/{bot.pid}")
        yield Case.of("a log of TLS keys", leaked=key_log.exists() or b"SSLKEYLOGFILE" not in scene.printed())
        if process.exists():
            limits = (process / "limits").read_text()
            yield Case.of("a core file", leaked=not re.search(r"Max core file size +0 +0 ", limits))
            yield Case.of("its memory", leaked=(process / "mem").stat().st_uid != 0)
        modes = [path.stat().st_mode & 0o077 for path in scene.data_dir.rglob("*")]
        yield Case.of("its files", leaked=any(modes))


ATTACKS: Final = (
    Attack(name="rows that are changed while they wait", run=change_rows, over=("http",)),
    Attack(
        name="rows of PostgreSQL that are changed while they wait",
        run=partial(change_rows, engine="postgresql"),
        over=("http",),
    ),
    Attack(name="response URLs that are not Slack's", run=name_other_urls, over=("http",)),
    Attack(name="damaged rows", run=damage_rows, over=("http",)),
    Attack(name="directories and keys of others", run=plant_files, over=("http",)),
    Attack(name="what a process leaves to others", run=look_at_process, over=("http",)),
)
