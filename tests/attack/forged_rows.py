"""Rows by someone who can write the database and seals with the public key: nothing is opened, sent or announced."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import Final

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import dm_id
from bot.sealing.hpke import TOKEN, KeyRing, SealingContext, SealingKey, load_private_keys
from bot.sealing.key_files import KeyFiles
from bot.storage.schema import OPENINGS, SUBMISSIONS
from tests.attack.attack import Arena, Attack, Case, Engine
from tests.attack.rows import _execute, _wait_for
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene

_MARK: Final = "forged by a writer of the database"
_WAITING: Final = {"R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "60s"}
_Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forgery:
    """A row that is inserted for a bucket of its own, or a change of what is there."""

    name: str
    write: Callable[["_Writer", str], None]


@dataclass(slots=True, kw_only=True)
class _Writer:
    """What a writer of the database has: all rows, the public key, and tokens of their own."""

    scene: Scene
    key: SealingKey
    template: _Row
    waiting: _Row
    nonce: str
    """Of a form that is open, and was signed."""

    def insert(self, bucket: str, row: Mapping[str, object], **changes: object) -> None:
        """Insert a submission for a bucket, with a token sealed for it."""
        new = dict(row) | {"id": f"V0FORGED{bucket[-2:]}", "bucket": bucket, "reason": _MARK, "last_four": "Mark"}
        new |= changes
        if new["sealed_token"] is not None and "sealed_token" not in changes:
            new["sealed_token"] = self.seal(new, make_token(Behaviour.GOOD, _number(bucket)))
        _insert(self.scene, SUBMISSIONS.name, new)

    def seal(self, row: Mapping[str, object], token: str) -> str:
        """Seal a token for a row, as the gateway does."""
        values = {**row, "purpose": TOKEN, "view_id": row["id"]}
        context = SealingContext(**{each.name: str(values[each.name]) for each in fields(SealingContext)})
        return str(self.key.seal(token, context))


def _number(bucket: str) -> int:
    return 600 + int(bucket[-2:])


def _insert(scene: Scene, table: str, row: Mapping[str, object]) -> None:
    values = ", ".join("NULL" if value is None else _literal(value) for value in row.values())
    _execute(scene, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})")  # noqa: S608 - our own words


def _literal(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _read(scene: Scene, bucket: str) -> _Row:
    names = [column.name for column in SUBMISSIONS.columns if column.name != "sequence"]
    query = f"SELECT {', '.join(names)} FROM submissions WHERE bucket = '{bucket}'"  # noqa: S608 - our own words
    return dict(zip(names, _execute(scene, query)[-1], strict=True))


_ANEW: Final = {"state": "accepted", "attempts": 0, "ended_at": None, "reported_at": None, "revision": 0}
_NOT_SIGNED: Final = {"signature": None, "nonce": None, "token_digest": None, "response_url_digest": None}


def _forgeries() -> Iterator[_Forgery]:
    def insert(name: str, **changes: object) -> _Forgery:
        return _Forgery(name=name, write=lambda writer, bucket: writer.insert(bucket, writer.template, **changes))

    yield insert("a store in a listed person's name, unsigned", **_ANEW, **_NOT_SIGNED)
    yield insert("a dry run, unsigned", task="check", **_ANEW, **_NOT_SIGNED)
    yield insert("an enabling, unsigned", task="enable", **_ANEW, **_NOT_SIGNED)
    yield insert("with the signature of another row", **_ANEW)
    yield insert("with a signature of no key", **_ANEW, signature="v1.0000000000000000." + "0" * 64)
    yield insert("with another version's signature", **_ANEW, signature="v0.")
    yield insert("as one from before there were signatures", **_ANEW, **_NOT_SIGNED | {"nonce": "adopted"})
    yield insert("as one without a form", **_ANEW, **_NOT_SIGNED | {"nonce": ""})
    yield insert("as one that is being written", **_ANEW | {"state": "storing", "attempts": 1}, **_NOT_SIGNED)
    yield insert("as one that is written", **_ANEW | {"state": "confirming"}, **_NOT_SIGNED)
    yield insert("as one that ended well, and is not announced", state="stored", reported_at=None)
    yield insert("as one that failed, and is not announced", state="failed", error_code="expired", reported_at=None)
    yield _Forgery(name="for an open form, in its person's name", write=_for_an_open_form)
    yield _Forgery(name="for a form that was never opened", write=_for_a_forged_opening)
    yield _Forgery(name="a copy of one that waits, under another id", write=_copy_under_another_id)
    yield _Forgery(name="a copy of one that waits, for another bucket", write=_copy_as_it_is)


def _for_an_open_form(writer: _Writer, bucket: str) -> None:
    writer.insert(bucket, writer.template, **_ANEW, nonce=writer.nonce)
    _execute(writer.scene, f"UPDATE openings SET used_by = 'V0FORGED{bucket[-2:]}' WHERE nonce = '{writer.nonce}'")  # noqa: S608 - our own words


def _for_a_forged_opening(writer: _Writer, bucket: str) -> None:
    names = [column.name for column in OPENINGS.columns]
    opening = dict(zip(names, _execute(writer.scene, f"SELECT {', '.join(names)} FROM openings")[0], strict=True))  # noqa: S608 - our own words
    _insert(writer.scene, OPENINGS.name, opening | {"nonce": "f" * 32, "user_id": ADA, "used_by": None})
    writer.insert(bucket, writer.template, **_ANEW, nonce="f" * 32)


def _copy_under_another_id(writer: _Writer, bucket: str) -> None:
    kept = {name: writer.waiting[name] for name in ("bucket", "sealed_token", "reason")}
    _insert(writer.scene, SUBMISSIONS.name, writer.waiting | kept | {"id": f"V0FORGED{bucket[-2:]}"})


def _copy_as_it_is(writer: _Writer, bucket: str) -> None:
    _insert(writer.scene, SUBMISSIONS.name, writer.waiting | {"id": f"V0FORGED{bucket[-2:]}", "bucket": bucket})


async def _write_rows(arena: Arena, engine: Engine = "sqlite") -> AsyncIterator[Case]:
    """Write each forgery, start the bot anew, and let its bucket take a real token: that alone is stored and told."""
    async with arena.scene_on(engine, _WAITING) as scene:
        forgeries = {f"forged-{number:02d}": each for number, each in enumerate(_forgeries())}
        for bucket in ("template", "waiting", "opened", *forgeries):
            scene.cloudflare.add_bucket(bucket)
        writer = await _prepare(scene)
        await scene.bot.stop()
        for bucket, forgery in forgeries.items():
            forgery.write(writer, bucket)
        replayed = _replay(writer)
        said, asked = len(scene.slack.workspace.messages), len(scene.cloudflare.requests)
        await scene.start_ready_bot()
        for number, bucket in enumerate(forgeries):
            await scene.submit(bucket, _good(bucket), user=CROWD[number % len(CROWD)])
        for bucket, forgery in forgeries.items():
            is_up = await _wait_for(partial(_is_told, scene, bucket, said))
            yield _judge(scene, bucket, forgery.name, said, is_up=is_up)
        yield Case.of("one that has ended, put back", got_in=_was_sent(scene, replayed, since=asked))


def _good(bucket: str) -> str:
    return make_token(Behaviour.GOOD, 1000 + _number(bucket))


async def _prepare(scene: Scene) -> _Writer:
    """Record one submission that has ended, one that waits, and an open form."""
    await scene.submit("template", make_token(Behaviour.FRESH, 1), user=ADA)
    waits = _read(scene, "template")
    await scene.wait_for_result("template")
    await _wait_for(lambda: _read(scene, "template")["reported_at"] is not None)
    scene.cloudflare.fresh_seconds = 3600.0
    await scene.submit("waiting", make_token(Behaviour.FRESH, 2), user=GRACE)
    await scene.open_form("opened", user=CROWD[0])
    nonce = (await scene.slack.wait_for_view(CROWD[0], lambda view: view.has_submit)).private_metadata
    return _Writer(
        scene=scene,
        key=_sealing_key(scene),
        template=waits,
        waiting=_read(scene, "waiting"),
        nonce=nonce,
    )


def _sealing_key(scene: Scene) -> SealingKey:
    """Return what is public of the bot's keys."""
    given = scene.environment.get("R2_CREDENTIAL_SEALING_KEY")
    if given is not None:
        return KeyRing(*load_private_keys(given)).sealing_key
    return KeyFiles(scene.data_dir / "sealing-keys").load(datetime.now(UTC)).sealing_key


def _replay(writer: _Writer) -> str:
    """Put back, as it was while it waited, a row that has ended; return its token."""
    row = {**writer.template, "state": "accepted"}
    changes = ", ".join(f"{name} = {'NULL' if value is None else _literal(value)}" for name, value in row.items())
    _execute(writer.scene, f"UPDATE submissions SET {changes} WHERE bucket = 'template'")  # noqa: S608 - our own words
    return make_token(Behaviour.FRESH, 1)


def _is_told(scene: Scene, bucket: str, said: int) -> bool:
    """Say whether the real submission of a bucket has its result."""
    return scene.cloudflare.stored_token(bucket) == _good(bucket) and any(
        f"`{bucket}`" in message.text for message in scene.slack.workspace.messages[said:]
    )


def _judge(scene: Scene, bucket: str, name: str, said: int, *, is_up: bool) -> Case:
    new = [message for message in scene.slack.workspace.messages[said:] if f"`{bucket}`" in message.text]
    forged = make_token(Behaviour.GOOD, _number(bucket))
    shown = [message.shown_text for message in new]
    return Case.of(
        name,
        got_in=_was_sent(scene, forged),
        leaked=any(message.channel_id not in {PLATFORM, *map(dm_id, CROWD)} for message in new),
        lied=len(new) > 1 or any(_MARK in text or f"<@{ADA}>" in text for text in shown),
        took_down=not is_up,
    )


def _was_sent(scene: Scene, token: str, since: int = 0) -> bool:
    """Say whether a token left the bot, to be verified or stored."""
    requests = scene.cloudflare.requests[since:]
    return any(token.encode() in request.body or token in str(request.headers) for request in requests)


ATTACKS: Final = (
    Attack(name="what a writer of the database makes up", run=_write_rows, over=("http",)),
    Attack(
        name="what a writer of PostgreSQL makes up",
        run=partial(_write_rows, engine="postgresql"),
        over=("http",),
    ),
)
