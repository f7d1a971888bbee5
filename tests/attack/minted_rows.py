"""Rows about tokens by someone who can write the database: for them, Cloudflare is asked to make or change nothing."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Table

from bot.sandbox.workspace import PATIENCE
from bot.sealing.hpke import generate_private_key
from bot.storage.schema import INSTALLATIONS, MINTED_TOKENS, MINTING_LEASES, SUBMISSIONS
from tests.attack.attack import Arena, Attack, Case, Engine
from tests.attack.rows import _execute, _wait_for
from tests.postgres import running_postgres
from tests.scene import CROWD, Scene, open_scene, press_rotate

POLICY: Final = (
    '[[rule]]\nusergroups = ["S0DATAENG"]\nbuckets = ["*", "!kept-*"]\nverbs = ["store", "status", "rotate"]\n'
)
"""Nobody may rotate the buckets that are kept."""

_LISTS: Final = ("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE")
_TOKEN: Final = re.compile(r".*/tokens/([0-9a-f]{32})")
_Row = dict[str, object]


@asynccontextmanager
async def open_rotating(
    arena: Arena, engine: Engine = "sqlite", policy: str = POLICY, buckets: Iterable[str] = ()
) -> AsyncIterator[Scene]:
    """Make a scene whose bot makes tokens, and start it."""
    directory = arena.new_directory()
    path = directory / "policy.toml"
    path.write_text(policy)
    path.chmod(0o600)
    settings = {"R2_CREDENTIAL_POLICY": str(path)}
    async with AsyncExitStack() as stack:
        if engine == "postgresql":
            url = stack.enter_context(running_postgres(directory / "server"))
            settings |= {"R2_CREDENTIAL_DATABASE_URL": url, "R2_CREDENTIAL_SEALING_KEY": generate_private_key()}
        scene = await stack.enter_async_context(open_scene(arena.transport, directory, settings))
        for name in _LISTS:
            del scene.environment[name]
        for bucket in buckets:
            scene.cloudflare.add_bucket(bucket)
        scene.environment["CLOUDFLARE_MINTING_TOKEN"] = scene.cloudflare.minting_token
        await scene.start_ready_bot()
        yield scene


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forgery:
    """What is written for a bucket of its own, which has one token of ours: its row is given.

    `write` returns the key of what it wrote, if the bot is to report that.
    """

    name: str
    write: Callable[["_Writer", _Row], str]


@dataclass(slots=True, kw_only=True)
class _Writer:
    """What a writer of the database has: all rows, and the ids of other people's tokens."""

    scene: Scene
    foreign: str
    """The id of a token that somebody else made."""

    neighbour: str
    """The id of a token that another installation made."""

    def change(self, row: _Row, **changes: object) -> str:
        """Change the row of a token."""
        return self._update(MINTED_TOKENS, "name", row["name"], changes)

    def change_submission(self, row: _Row, **changes: object) -> str:
        """Change the submission for which a token was made."""
        return self._update(SUBMISSIONS, "id", row["submission_id"], changes)

    def add(self, row: _Row, **changes: object) -> str:
        """Insert the row of a token."""
        name = f"{str(row['name'])[:-10]}f0rg3dr0w0"
        insert(self.scene, MINTED_TOKENS, row | {"name": name} | changes)
        return name

    def _update(self, table: Table, key: str, value: object, changes: Mapping[str, object]) -> str:
        words = ", ".join(f"{name} = {_literal(each)}" for name, each in changes.items())
        _execute(self.scene, f"UPDATE {table.name} SET {words} WHERE {key} = {_literal(value)}")  # noqa: S608 - our own words
        return str(value)


def insert(scene: Scene, table: Table, row: Mapping[str, object]) -> None:
    """Insert a row."""
    values = ", ".join(map(_literal, row.values()))
    _execute(scene, f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({values})")  # noqa: S608 - our own words


def _literal(value: object) -> str:
    if value is None or isinstance(value, bool | int):
        return "NULL" if value is None else str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _read(scene: Scene, table: Table, condition: str) -> _Row:
    names = [column.name for column in table.columns if column.name != "sequence"]
    query = f"SELECT {', '.join(names)} FROM {table.name} WHERE {condition}"  # noqa: S608 - our own words
    return dict(zip(names, _execute(scene, query)[-1], strict=True))


_PAST: Final = f"{datetime.now(UTC).replace(tzinfo=None) - timedelta(days=2):%Y-%m-%d %H:%M:%S.%f}"
_FUTURE: Final = f"{datetime.now(UTC).replace(tzinfo=None) + timedelta(days=2):%Y-%m-%d %H:%M:%S.%f}"
_DUE: Final = {"due_at": _PAST}
_AGAIN: Final = {"state": "minting", "ended_at": None, "reported_at": None}


def _forgeries() -> Iterator[_Forgery]:
    def change(name: str, **changes: object) -> _Forgery:
        return _Forgery(name=name, write=lambda writer, row: writer.change(row, **changes))

    def point(name: str, state: str, whose: str, **changes: object) -> _Forgery:
        def write(writer: _Writer, row: _Row) -> str:
            return writer.change(row, state=state, token_id=getattr(writer, whose), **changes)

        return _Forgery(name=name, write=write)

    for state in ("retired", "disabling", "tested", "deleting", "undoing", "undone"):
        yield change(f"the token in use as {state}", state=state, **_DUE, tested_at=_PAST, disabled_at=_PAST)
        yield point(f"somebody's token as {state}", state, "foreign", **_DUE, tested_at=_PAST, disabled_at=_PAST)
    yield point("a token of another installation as retired", "retired", "neighbour", **_DUE)
    yield change("the token in use as lost", state="lost", **_DUE)
    yield change("the token in use as gone", state="gone")
    yield change("another expiry", expires_at=_FUTURE, state="retired", **_DUE)
    yield change("another reach", scope="account", state="retired", **_DUE)
    yield change("without a signature that fits", signature="v1.0000000000000000." + "0" * 64, state="retired", **_DUE)
    yield _Forgery(
        name="a row for somebody's token, with the signature of another row",
        write=lambda writer, row: writer.add(row, token_id=writer.foreign, state="retired", **_DUE),
    )
    yield _Forgery(
        name="a row for another submission, as the token that it sends",
        write=lambda writer, row: writer.add(row, state="created"),
    )
    yield _Forgery(name="an ended submission back in minting", write=lambda w, row: w.change_submission(row, **_AGAIN))
    yield _Forgery(name="a submission in minting, made up", write=_make_up)
    yield _Forgery(name="a submission for a bucket that nobody may rotate", write=partial(_make_up, bucket="kept-lake"))
    yield _Forgery(
        name="a rotation as if by the schedule", write=partial(_make_up, submission_id="schedule.{bucket}.7")
    )
    yield _Forgery(name="a rotation as if by a fleet", write=partial(_make_up, submission_id="fleet.ab12.{bucket}"))
    yield _Forgery(name="a rotation as if the slot needed one", write=partial(_make_up, submission_id="heal.ab12.1"))
    yield _Forgery(name="a lease that somebody holds for ever", write=_hold_lease)


def _make_up(writer: _Writer, row: _Row, bucket: str = "", submission_id: str = "V0MADEUP{bucket}") -> str:
    """Insert a copy of the submission as one that waits for a token, in a listed person's name."""
    template = _read(writer.scene, SUBMISSIONS, f"id = {_literal(row['submission_id'])}")
    bucket = bucket or str(row["bucket"])
    key = submission_id.format(bucket=bucket)
    new = template | _AGAIN | {"id": key, "bucket": bucket, "revision": 0}
    insert(writer.scene, SUBMISSIONS, new | {"expires_at": _FUTURE, "accepted_at": _FUTURE, "sent_at": _FUTURE})
    return key


def _hold_lease(writer: _Writer, row: _Row) -> str:
    held = f"held_until = '{_FUTURE}', holder = 'forged', epoch = 7"
    _execute(
        writer.scene,
        f"UPDATE {MINTING_LEASES.name} SET {held} WHERE bucket = '{row['bucket']}'",  # noqa: S608 - our own words
    )
    return ""


async def _write_rows(arena: Arena, engine: Engine = "sqlite") -> AsyncIterator[Case]:
    """Write each forgery while the bot is down, start it, and let it work: only another bucket gets a token."""
    async with open_rotating(arena, engine) as scene:
        forgeries = {f"minted-{number:02d}": each for number, each in enumerate(_forgeries())}
        for bucket in (*forgeries, "kept-lake", "honest"):
            scene.cloudflare.add_bucket(bucket)
        for number, bucket in enumerate(forgeries):
            await press_rotate(scene, bucket, CROWD[number % len(CROWD)])
        for bucket in forgeries:
            await scene.wait_for_result(bucket)
        writer = _Writer(
            scene=scene,
            foreign=scene.cloudflare.tokens.add("terraform", []).id,
            neighbour=scene.cloudflare.tokens.add("r2-credential-bot ffffffff minted-00 0123456789", []).id,
        )
        await scene.bot.stop()
        rows = {bucket: _read(scene, MINTED_TOKENS, f"bucket = '{bucket}'") for bucket in forgeries}
        keys = {bucket: forgery.write(writer, rows[bucket]) for bucket, forgery in forgeries.items()}
        before, printed = len(scene.cloudflare.requests), len(scene.printed())
        made = set(scene.cloudflare.tokens.tokens)
        await scene.start_ready_bot()
        await press_rotate(scene, "honest")
        is_up = await _wait_for(lambda: bool(scene.results("honest")), PATIENCE.total_seconds())
        for bucket, forgery in forgeries.items():
            key = keys[bucket]
            is_told_once = not key or await _wait_for(partial(_is_told_once, scene, printed, key))
            yield Case.of(
                forgery.name,
                got_in=rows[bucket]["token_id"] in _touched(scene, before) or _was_made(scene, made, bucket),
                lied=len(scene.results(bucket)) > 1 or not is_told_once,
                took_down=not is_up,
            )
        touched = _touched(scene, before)
        yield Case.of("the tokens of others", got_in=bool(touched & {writer.foreign, writer.neighbour}))
        yield Case.of("a bucket that nobody may rotate", got_in=_was_made(scene, made, "kept-lake"))


def _touched(scene: Scene, since: int) -> set[str]:
    """Return the ids of the tokens for which a change or a deletion was asked."""
    requests = [request for request in scene.cloudflare.requests[since:] if request.method in ("PUT", "DELETE")]
    return {path[1] for request in requests if (path := _TOKEN.fullmatch(request.path))}


def _was_made(scene: Scene, before: set[str], bucket: str) -> bool:
    new = [token for token in scene.cloudflare.tokens.tokens.values() if token.id not in before]
    return any(f" {bucket} " in token.name for token in new)


def _is_told_once(scene: Scene, since: int, key: str) -> bool:
    """Say whether exactly one line of the log says that the row with this key was not written by the bot."""
    lines = scene.printed()[since:].decode().splitlines()
    return sum("record_not_authentic" in line and f'"{key}"' in line for line in lines) == 1


async def _claim_another_installation(arena: Arena, engine: Engine = "sqlite") -> AsyncIterator[Case]:
    """Have the bot take the tokens of another installation for its own: it does not start, and says what to do."""
    async with open_rotating(arena, engine) as scene:
        neighbour = scene.cloudflare.tokens.add("r2-credential-bot ffffffff honest 0123456789", [])
        scene.cloudflare.add_bucket("honest")
        await press_rotate(scene, "honest")
        await scene.wait_for_result("honest")
        await scene.bot.stop()
        _execute(scene, f"UPDATE {INSTALLATIONS.name} SET mark = 'ffffffff'")  # noqa: S608 - our own words
        before = len(scene.cloudflare.requests)
        is_up = await (await scene.start_bot()).wait_until_ready()
        listed = scene.cloudflare.tokens.tokens[neighbour.id]
        yield Case.of(
            "the mark of another installation",
            got_in=is_up or bool(_touched(scene, before)) or listed.is_deleted or len(listed.changes) > 1,
            lied=b"R2_CREDENTIAL_DATABASE_URL" not in scene.printed(),
        )


ATTACKS: Final = (
    Attack(name="rows about tokens that a writer makes up", run=_write_rows, over=("socket",)),
    Attack(
        name="rows of PostgreSQL about tokens that a writer makes up",
        run=partial(_write_rows, engine="postgresql"),
        over=("socket",),
    ),
    Attack(name="the mark of another installation", run=_claim_another_installation, over=("socket",)),
)
