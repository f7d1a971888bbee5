"""The generated key files: private, rotated daily, destroyed when no longer needed, never overwritten."""

import hashlib
import os
import resource
import signal
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.model.errors import KeyFileUnusable, SealedValueUnreadable
from bot.sealing.hpke import (
    TOKEN,
    KeyRing,
    SealingContext,
    generate_private_key,
    key_id_of,
    load_private_keys,
    public_pem,
)
from bot.sealing.key_files import KEY_LIFETIME, RETIREMENT, KeyFiles, load_key_file, write_key_file
from tests.sealing.test_private_places import give_away

NOW = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
PLAIN = "cfut_MADEUP00000000000000000000000000000000000000000"  # made up
CONTEXT = SealingContext(
    purpose=TOKEN,
    task="store",
    team_id="T0",
    user_id="U0",
    view_id="V0",
    channel_id="C0",
    account_id="a",
    bucket="events",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the path of a directory that does not exist yet."""
    return tmp_path / "data" / "sealing-keys"


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run under the umasks that a service may have."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def only_file(directory: Path) -> Path:
    """Return the only file in the directory, whatever its name."""
    (path,) = directory.iterdir()
    return path


def opens(ring: KeyRing, sealed: str) -> bool:
    """Return whether the ring still opens it."""
    try:
        return ring.open(sealed, CONTEXT).reveal() == PLAIN
    except SealedValueUnreadable:
        return False


def test_the_first_run_makes_a_private_key(directory: Path, umask: None) -> None:
    """Under any umask, the file is 0600 in a directory of 0700, and the library reads it as an X25519 key."""
    ring = KeyFiles(directory).load(NOW)
    path = only_file(directory)
    assert (mode_of(path), mode_of(directory)) == (0o600, 0o700)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, X25519PrivateKey)
    assert hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16] == ring.sealing_key.key_id


def test_a_later_start_finds_the_same_ring(directory: Path) -> None:
    """Nothing is created, and values sealed before the restart open."""
    sealed = KeyFiles(directory).load(NOW).sealing_key.seal(PLAIN, CONTEXT)
    before = only_file(directory).read_bytes()
    ring = KeyFiles(directory).load(NOW + timedelta(days=30))
    assert only_file(directory).read_bytes() == before
    assert opens(ring, sealed)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777, 0o440, 0o404], ids=oct)
def test_a_key_that_others_can_read_is_refused(directory: Path, mode: int) -> None:
    """One bit for group or others is enough, and the message contains the command that fixes it."""
    KeyFiles(directory).load(NOW)
    path = only_file(directory)
    path.chmod(mode)
    with pytest.raises(KeyFileUnusable) as refusal:
        KeyFiles(directory).load(NOW)
    assert f"`chmod 600 {path}`" in str(refusal.value)
    path.chmod(0o600)
    KeyFiles(directory).load(NOW)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o707, 0o1777], ids=oct)
def test_a_directory_that_others_can_write_is_refused(directory: Path, mode: int) -> None:
    """They could put a key there that they know; a running bot notices it too."""
    ring = KeyFiles(directory).load(NOW)
    directory.chmod(mode)
    with pytest.raises(KeyFileUnusable) as refusal:
        KeyFiles(directory).load(NOW)
    assert str(refusal.value).startswith(f"{directory}: others can write to it: run `chmod go-w {directory}`")
    with pytest.raises(KeyFileUnusable):
        KeyFiles(directory).rotate(ring, NOW, set())


@pytest.mark.parametrize("whose", ["directory", "key"])
def test_a_key_of_another_user_is_refused(directory: Path, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of a key can open what it seals."""
    KeyFiles(directory).load(NOW)
    path = directory if whose == "directory" else only_file(directory)
    give_away(path, monkeypatch)
    with pytest.raises(KeyFileUnusable, match="it belongs to another user: run `chown -R"):
        KeyFiles(directory).load(NOW)


@pytest.mark.parametrize(
    ("ahead", "is_taken"),
    [
        pytest.param(timedelta(days=2), True, id="the clock was set back"),
        pytest.param(timedelta(days=2) + MOMENT, False, id="too far for that"),
        pytest.param(timedelta(days=27_000), False, id="in 2099"),
    ],
)
def test_a_key_from_the_future_does_not_seal(directory: Path, ahead: timedelta, *, is_taken: bool) -> None:
    """It would seal forever, and no later key would replace it: it is refused at each rotation and start."""
    ring = KeyFiles(directory).load(NOW)
    KeyFiles(directory)._create(NOW + ahead)
    if is_taken:
        KeyFiles(directory).load(NOW)
        return
    with pytest.raises(KeyFileUnusable, match="its name says that it is made days from now: set this machine's clock"):
        KeyFiles(directory).load(NOW)
    with pytest.raises(KeyFileUnusable, match="made days from now"):
        KeyFiles(directory).rotate(ring, NOW, set())


@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "directory"])
def test_a_key_that_is_not_a_regular_file_is_refused(directory: Path, tmp_path: Path, kind: str) -> None:
    """A link may lead to where others can write, and reading a pipe would block."""
    KeyFiles(directory).load(NOW)
    path = only_file(directory)
    path.rename(tmp_path / "key.pem")
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(0o700)
    else:
        path.symlink_to(tmp_path / ("key.pem" if kind == "link" else "nowhere"))
    with pytest.raises(KeyFileUnusable, match="it is a link, or not a file"):
        KeyFiles(directory).load(NOW)


def _ed25519() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


MARK = "TUFSS0VE"
BROKEN = {
    "empty": b"",
    "a text": f"{MARK} is no key".encode(),
    "cut in the middle": generate_private_key().encode()[:60],
    "a changed character": generate_private_key().replace("MC4C", "MC4D").encode(),
    "a block of nonsense": f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----\n".encode(),
    "another kind of key": _ed25519(),
    "a public key": public_pem(load_private_keys(generate_private_key())[0]).encode(),
    "zeros": bytes(119),
    "bytes that are no text": MARK.encode() + b"\xff\xfe",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_key_is_refused_and_kept(directory: Path, content: bytes) -> None:
    """The refusal names the file and the fix, quotes no content, and the file stays for its owner to inspect."""
    KeyFiles(directory).load(NOW)
    path = only_file(directory)
    path.write_bytes(content)
    with pytest.raises(KeyFileUnusable) as refusal:
        KeyFiles(directory).load(NOW)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert "keygen PATH" in message
    assert not [word for word in (MARK, "0xff", "byte", "codec") if word in message]
    assert refusal.value.__cause__ is None
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "mine.pem",
        "2026-11-20-0123456789abcdef.pem",
        "20261320T083000.000000Z-x.pem",
        "20261120T083000-x.pem",
        "-x.pem",
        ".pem.pem",
    ],
)
def test_a_file_with_a_foreign_name_is_refused(directory: Path, name: str) -> None:
    """The age of a key that someone put there is unknown: the bot says so, and changes nothing."""
    KeyFiles(directory).load(NOW)
    write_key_file(directory / name, pem := generate_private_key())
    with pytest.raises(KeyFileUnusable, match="move it elsewhere") as refusal:
        KeyFiles(directory).load(NOW)
    assert refusal.value.path == directory / name
    assert (directory / name).read_text() == pem


@pytest.mark.parametrize(
    ("age", "keys"),
    [
        pytest.param(timedelta(0), 1, id="at once"),
        pytest.param(KEY_LIFETIME - MOMENT, 1, id="a moment before a day"),
        pytest.param(KEY_LIFETIME, 2, id="after a day"),
        pytest.param(timedelta(days=400), 2, id="after a year"),
        pytest.param(-timedelta(days=1), 1, id="a clock that was set back"),
    ],
)
def test_a_new_key_comes_each_day(directory: Path, age: timedelta, keys: int) -> None:
    """The day's key seals, and the replaced one still opens."""
    files = KeyFiles(directory)
    ring = files.load(NOW)
    sealed = ring.sealing_key.seal(PLAIN, CONTEXT)
    assert files.rotate(ring, NOW + age, frozenset()) == []
    assert len(ring._keys) == len(list(directory.iterdir())) == keys
    assert (ring.sealing_key.key_id == key_id_of(sealed)) == (keys == 1)
    assert opens(ring, sealed)
    assert KeyFiles(directory).load(NOW + age).sealing_key.key_id == ring.sealing_key.key_id


@pytest.mark.parametrize(
    ("since_replaced", "is_needed", "is_gone"),
    [
        pytest.param(timedelta(0), False, False, id="just replaced"),
        pytest.param(RETIREMENT - MOMENT, False, False, id="a moment before its retirement is over"),
        pytest.param(RETIREMENT, False, True, id="retired and not needed"),
        pytest.param(RETIREMENT, True, False, id="retired and needed"),
        pytest.param(timedelta(days=300), True, False, id="needed for a year"),
        pytest.param(-timedelta(hours=1), False, False, id="a clock that was set back"),
    ],
)
def test_a_replaced_key_is_destroyed_in_its_time(
    directory: Path, since_replaced: timedelta, *, is_needed: bool, is_gone: bool
) -> None:
    """Once no open submission needs it and its retirement is over, it goes from both ring and disk."""
    files = KeyFiles(directory)
    ring = files.load(NOW)
    sealed = ring.sealing_key.seal(PLAIN, CONTEXT)
    replaced_at = NOW + KEY_LIFETIME
    files.rotate(ring, replaced_at, frozenset())
    needed = frozenset({key_id_of(sealed)}) if is_needed else frozenset({"somebody-else"})
    destroyed = files.rotate(ring, replaced_at + since_replaced, needed)
    assert destroyed == ([key_id_of(sealed)] if is_gone else [])
    assert opens(ring, sealed) is not is_gone
    assert opens(KeyFiles(directory).load(replaced_at + since_replaced), sealed) is not is_gone


def test_a_destroyed_key_is_overwritten(directory: Path, tmp_path: Path) -> None:
    """A hard link made before shows that the bytes themselves are gone."""
    files = KeyFiles(directory)
    ring = files.load(NOW)
    (witness := tmp_path / "witness").hardlink_to(only_file(directory))
    length = witness.stat().st_size
    files.rotate(ring, NOW + KEY_LIFETIME, frozenset())
    files.rotate(ring, NOW + KEY_LIFETIME + RETIREMENT, frozenset())
    assert witness.read_bytes() == bytes(length)
    assert len(list(directory.iterdir())) == 1


def test_the_key_that_seals_is_never_destroyed(directory: Path) -> None:
    """However old it is: the new one comes first, and then the old one has its retirement."""
    files = KeyFiles(directory)
    ring = files.load(NOW)
    assert files.rotate(ring, NOW + timedelta(days=10_000), frozenset()) == []
    assert ring.sealing_key.key_id in ring._keys
    assert len(ring._keys) == 2


@pytest.mark.parametrize("leave", ["nothing", "the directory", "another key"])
def test_keys_removed_from_a_running_bot_are_replaced(directory: Path, leave: str) -> None:
    """The keys in memory still open, and a new key on disk seals from then on."""
    files = KeyFiles(directory)
    ring = files.load(NOW)
    sealed = ring.sealing_key.seal(PLAIN, CONTEXT)
    only_file(directory).unlink()
    if leave == "nothing":
        directory.rmdir()
    elif leave == "another key":
        KeyFiles(directory).load(NOW)
    assert files.rotate(ring, NOW + MOMENT, frozenset()) == []
    assert ring.sealing_key.key_id != key_id_of(sealed)
    assert opens(ring, sealed)
    assert KeyFiles(directory).load(NOW + MOMENT).sealing_key.key_id == ring.sealing_key.key_id


def test_a_kill_while_a_key_was_written_leaves_no_key(directory: Path) -> None:
    """A half-written draft is removed at the next start and never used as a key."""
    directory.mkdir(parents=True)
    (directory / ".20261120T083000.000000Z-0123456789abcdef.pem.draft").write_text(generate_private_key()[:50])
    ring = KeyFiles(directory).load(NOW)
    assert only_file(directory).name.endswith(f"-{ring.sealing_key.key_id}.pem")


def test_a_kill_before_the_draft_was_removed_does_not_hurt_the_key(directory: Path) -> None:
    """Then the draft is a second name of a good key: the name is removed, the key stays."""
    sealed = KeyFiles(directory).load(NOW).sealing_key.seal(PLAIN, CONTEXT)
    key = only_file(directory)
    (directory / f".{key.name}.draft").hardlink_to(key)
    assert opens(KeyFiles(directory).load(NOW), sealed)
    assert only_file(directory) == key


def test_a_kill_while_a_key_was_destroyed_is_completed(directory: Path, tmp_path: Path) -> None:
    """A renamed but not yet overwritten key is destroyed at the next start, and never opens."""
    sealed = KeyFiles(directory).load(NOW).sealing_key.seal(PLAIN, CONTEXT)
    doomed = only_file(directory).rename(directory / "20261120T083000.000000Z-x.destroyed")
    (witness := tmp_path / "witness").hardlink_to(doomed)
    ring = KeyFiles(directory).load(NOW)
    assert not opens(ring, sealed)
    assert set(witness.read_bytes()) == {0}
    assert only_file(directory).suffix == ".pem"


def test_a_written_key_is_private_and_complete(tmp_path: Path, umask: None) -> None:
    """`keygen` uses this as well: 0600 under any umask, the public half returned, no draft left."""
    path = tmp_path / "key.pem"
    public = write_key_file(path, pem := generate_private_key())
    assert (path.read_text(), mode_of(path)) == (pem, 0o600)
    assert serialization.load_pem_public_key(public.encode()) == load_key_file(path)[0].public_key()
    assert only_file(tmp_path) == path


def _existing_file(path: Path) -> None:
    path.write_text("somebody's key")


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("occupy", [_existing_file, _dangling_link, Path.mkdir], ids=["file", "link", "directory"])
def test_a_key_is_never_overwritten(tmp_path: Path, occupy: object) -> None:
    """An existing file keeps its content, and no draft is left next to it."""
    path = tmp_path / "key.pem"
    assert callable(occupy)
    occupy(path)
    before = path.lstat()
    with pytest.raises(FileExistsError):
        write_key_file(path, generate_private_key())
    assert (path.lstat().st_ino, path.lstat().st_size, path.lstat().st_mode) == (
        before.st_ino,
        before.st_size,
        before.st_mode,
    )
    assert only_file(tmp_path) == path


def test_a_draft_left_by_a_kill_does_not_block_a_new_key(tmp_path: Path) -> None:
    """A second attempt with the same name works, and does not take over the draft's mode or content."""
    (draft := tmp_path / ".key.pem.draft").write_text("half")
    draft.chmod(0o666)
    write_key_file(tmp_path / "key.pem", generate_private_key())
    assert mode_of(only_file(tmp_path)) == 0o600


def test_a_key_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path: Path) -> None:
    """The start of a private key, in a file that nobody knows of."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_key_file(tmp_path / "key.pem", generate_private_key())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    """The operating system's error reaches the caller."""
    with pytest.raises(OSError, match="No such file"):
        write_key_file(tmp_path / "missing" / "key.pem", generate_private_key())


HOURS = st.integers(min_value=0, max_value=40)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(HOURS, st.booleans()), max_size=8))
def test_needed_keys_always_open_and_the_rest_are_gone(life: list[tuple[int, bool]]) -> None:
    """Through any history: ring and disk agree, needed keys open, the newest seals, no useless one is kept."""
    with tempfile.TemporaryDirectory() as name:
        files, now = KeyFiles(Path(name)), NOW
        ring = files.load(now)
        open_tokens: list[str] = []
        for hours, is_kept in life:
            sealed = ring.sealing_key.seal(PLAIN, CONTEXT)
            open_tokens += [sealed] if is_kept else []
            now += timedelta(hours=hours)
            needed = {key_id_of(token) for token in open_tokens}
            files.rotate(ring, now, needed)
            assert all(opens(ring, token) for token in open_tokens)
            assert ring._keys.keys() == KeyFiles(Path(name)).load(now)._keys.keys()
            files.rotate(ring, now + RETIREMENT, needed)
            assert ring._keys.keys() == needed | {ring.sealing_key.key_id}
