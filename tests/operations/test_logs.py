"""Every line is structured and scrubbed, and libraries log only what is safe."""

import asyncio
import io
import json
import logging
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.model.pasted_token import MASK
from bot.model.reference import about
from bot.model.secret import Secret
from bot.operations.logs import SCRUBBED, configure_logging, scrub

# All made up.
USER = "cfut_" + "MADEUP0user1" * 3 + "abcd" + "0badc0de"
OLDER = "MADEUP-older_token-0123456789-abcdefghij"
GLOBAL_KEY = "0123456789abcdef0123456789abcdef01234"
S3_SECRET = "0123456789abcdef" * 4
BOT_TOKEN = "xoxb-1234-MADEUPslackBot"
SECRETS = {
    "user token": USER,
    "global key with prefix": "cfk_MADEUP",
    "OAuth token": "cfoat_MADEUP-1",
    "older token": OLDER,
    "global key": GLOBAL_KEY,
    "S3 secret": S3_SECRET,
    "Slack bot token": BOT_TOKEN,
    "Slack app token": "xapp-1-A0MADEUP-1-0badc0de",
    "Slack user token": "xoxp-1-MADEUP",
    "Slack refresh token": "xoxe-1-MADEUP",
    "URL of a command": "https://hooks.slack.com/commands/T0MADEUP/1/madeupmadeup",
    "URL of a button": "https://hooks.slack.com/actions/T0MADEUP/1/madeupmadeup",
    "URL of a form": "https://hooks.slack.com/app/T0MADEUP/1/madeupmadeup",
    "URL of a webhook": "https://hooks.slack.com/services/T0MADEUP/B0/madeupmadeup",
    "URL of GovSlack": "https://hooks.slack-gov.com/app/T0MADEUP/1/madeupmadeup",
    "URL of the sandbox": "http://127.0.0.1:8080/response/madeupmadeup",
}
CORE = {name: text.rpartition("/")[2] for name, text in SECRETS.items()}
"""The part of each that must not appear."""

Configure = Callable[..., io.StringIO]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Return `configure_logging` with a stream that the test can read, and restore everything afterwards."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    libraries = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    levels = [(logger, logger.level) for logger in libraries]

    def call(level: str = "debug", log_format: str | None = "json", stream: io.StringIO | None = None) -> io.StringIO:
        stream = stream or io.StringIO()
        configure_logging(level, log_format, stream)
        return stream

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    for logger in [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]:
        logger.setLevel(logging.NOTSET)
    for logger, before in levels:
        logger.setLevel(before)
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, str]]:
    """Return the logged lines, parsed as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(configure: Configure) -> None:
    """Timestamp, level and event come first, then the fields; the time is UTC with its zone."""
    stream = configure()
    structlog.get_logger("bot.delivery.deliver").warning("credential_stored", bucket="events", n=1, text="two\nlines ä")
    (line,) = lines_of(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    expected = {"level": "warning", "event": "credential_stored", "bucket": "events", "n": 1, "text": "two\nlines ä"}
    assert {name: line[name] for name in expected} == expected
    at = datetime.fromisoformat(line["timestamp"])
    assert at.tzinfo is not None
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_a_line_of_a_library_has_the_same_form(configure: Configure) -> None:
    """The standard library's records come out as JSON too, with the logger's name."""
    stream = configure()
    logging.getLogger("some.library").error("%s is %d", "answer", 42)
    (line,) = lines_of(stream)
    assert (line["event"], line["level"], line["logger"]) == ("answer is 42", "error", "some.library")


def test_context_goes_with_every_line(configure: Configure) -> None:
    """Bound context, such as a reference, is on our lines and on those of libraries."""
    stream = configure()
    with structlog.contextvars.bound_contextvars(reference="ab12"):
        structlog.get_logger("bot.x").info("ours")
        logging.getLogger("theirs").warning("theirs")
    assert [line["reference"] for line in lines_of(stream)] == ["ab12", "ab12"]


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        pytest.param("json", io.StringIO, True, id="json as asked"),
        pytest.param("json", Terminal, True, id="json as asked, even on a terminal"),
        pytest.param("console", io.StringIO, False, id="console as asked"),
        pytest.param(None, Terminal, False, id="console on a terminal"),
        pytest.param(None, io.StringIO, True, id="json elsewhere"),
    ],
)
def test_the_form_is_the_one_asked_for_or_fits_the_stream(
    configure: Configure, log_format: str | None, stream: type[io.StringIO], *, is_json: bool
) -> None:
    """A terminal and a log collector each get the format that they can read."""
    heard = configure(log_format=log_format, stream=stream())
    structlog.get_logger("bot.x").info("ready", bucket="events")
    assert heard.getvalue().startswith('{"timestamp"') == is_json
    assert "ready" in heard.getvalue()
    assert "events" in heard.getvalue()


@pytest.mark.parametrize(
    ("level", "ours", "of_a_library"),
    [("debug", "diwe", "we"), ("info", "iwe", "we"), ("warning", "we", "we"), ("error", "e", "e")],
)
def test_a_level_silences_what_is_below_it(configure: Configure, level: str, ours: str, of_a_library: str) -> None:
    """Of any library, also one that a later version brings, only warnings and errors are logged at most."""
    stream = configure(level)
    for logger in (structlog.get_logger("bot.x"), logging.getLogger("library.x")):
        logger.debug("d")
        logger.info("i")
        logger.warning("w")
        logger.error("e")
    assert "".join(line["event"] for line in lines_of(stream)) == ours + of_a_library


LIBRARIES = (
    "aiohttp",
    "aiohttp.access",
    "alembic.runtime.migration",
    "anyio",
    "asyncio",
    "concurrent.futures",
    "httpcore.connection",
    "httpx",
    "psycopg",
    "psycopg_pool",
    "py.warnings",
    "sqlalchemy.engine.Engine",
    "sqlalchemy.pool",
)


@pytest.mark.parametrize("name", LIBRARIES)
def test_talkative_libraries_log_only_warnings(configure: Configure, name: str) -> None:
    """At level debug, they and their submodules would log headers, payloads and statements."""
    stream = configure("debug")
    for logger in (logging.getLogger(name), logging.getLogger(f"{name}.part")):
        logger.debug("the whole body")
        logger.info("the whole body")
        logger.warning("trouble")
    assert [line["event"] for line in lines_of(stream)] == ["trouble", "trouble"]
    assert [list(line)[:3] for line in lines_of(stream)] == [["timestamp", "level", "event"]] * 2
    assert [line["logger"] for line in lines_of(stream)] == [name, f"{name}.part"]


@pytest.mark.parametrize("name", ["slack_bolt", "slack_sdk", "procrastinate", "psycopg.pool", "dotenv"])
def test_wordy_libraries_log_nothing(configure: Configure, name: str) -> None:
    """Their warnings and errors quote whole bodies and addresses with tickets."""
    stream = configure("debug")
    logging.getLogger(name).error("Unhandled request ({'view': 'the whole body'})")
    logging.getLogger(f"{name}.part").warning("the whole body")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["httpcore.http11", "sqlalchemy.engine.Engine", "slack_sdk.web", "some.library"])
def test_no_level_makes_a_library_tell_more(configure: Configure, name: str) -> None:
    """Whoever sets it, at whatever time, on the library's logger or on all."""
    stream = configure("info")
    for logger in (logging.getLogger(name), logging.getLogger(name.partition(".")[0]), logging.getLogger()):
        logger.setLevel(logging.DEBUG)
    logging.getLogger(name).debug("the whole body")
    logging.getLogger(name).info("the whole body")
    logging.getLogger("botany").info("the whole body")
    structlog.get_logger("bot.x").info("ours")
    assert [line["event"] for line in lines_of(stream)] == ["ours"]


def test_a_logger_with_a_way_out_of_its_own_loses_it(configure: Configure) -> None:
    """As a logging configuration may give to one: its lines come out like all others."""
    logger = logging.getLogger("some.talkative.library")
    logger.addHandler(logging.StreamHandler(before := io.StringIO()))
    logger.propagate = False
    stream = configure()
    logger.error("once")
    assert [line["event"] for line in lines_of(stream)] == ["once"]
    assert before.getvalue() == ""


def test_libraries_cannot_add_an_unscrubbed_way_out(configure: Configure) -> None:
    """Earlier handlers are removed, and a second call leaves only one."""
    logging.getLogger().addHandler(logging.StreamHandler(before := io.StringIO()))
    configure()
    stream = configure()
    logging.getLogger("some.library").error("once")
    assert len(lines_of(stream)) == 1
    assert before.getvalue() == ""


def _raise(error: Exception) -> NoReturn:
    raise error


def _log_in_context(secret: str) -> None:
    with structlog.contextvars.bound_contextvars(value=secret):
        structlog.get_logger("bot.x").info("x")


def _log_an_exception(secret: str) -> None:
    try:
        _raise(ValueError(secret))
    except ValueError:
        logging.getLogger("library").exception("it broke")


def _log_a_chained_exception(secret: str) -> None:
    try:
        try:
            _raise(KeyError(secret))
        except KeyError as error:
            raise RuntimeError({"body": f"\n{secret}"}) from error
    except RuntimeError:
        structlog.get_logger("bot.x").exception("it broke")


WAYS: dict[str, Callable[[str], None]] = {
    "our event": lambda secret: structlog.get_logger("bot.x").info(secret),
    "our field": lambda secret: structlog.get_logger("bot.x").info("x", value=secret),
    "our field's name": lambda secret: structlog.get_logger("bot.x").info("x", **{secret: 1}),
    "inside a list": lambda secret: structlog.get_logger("bot.x").info("x", value=[{secret: f"ä{secret}"}, (secret,)]),
    "behind a line end": lambda secret: structlog.get_logger("bot.x").info("x", value=f"a\n{secret}"),
    "behind a tab": lambda secret: structlog.get_logger("bot.x").info("x", value=f"a\t{secret}\t"),
    "behind a form feed": lambda secret: structlog.get_logger("bot.x").info("x", value=f"\f{secret}\b"),
    "behind a letter beyond ASCII": lambda secret: structlog.get_logger("bot.x").info("x", value=f"ä{secret}ä"),
    "between quotes": lambda secret: structlog.get_logger("bot.x").info("x", value=f'"{secret}"'),
    "in an object": lambda secret: structlog.get_logger("bot.x").info("x", value=ValueError(f'ä{secret}"')),
    "in bytes": lambda secret: structlog.get_logger("bot.x").info("x", value=f"\n{secret}\n".encode()),
    "a library's message": lambda secret: logging.getLogger("library").warning("sent %s", secret),
    "a library's f-string": lambda secret: logging.getLogger("library").warning(f"sent\n{secret}"),  # noqa: G004
    "a header": lambda secret: logging.getLogger("library").warning({"Authorization": f"Bearer {secret}"}),
    "a context": _log_in_context,
    "an exception": _log_an_exception,
    "a chained exception": _log_a_chained_exception,
}


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("log", WAYS.values(), ids=WAYS.keys())
def test_no_secret_gets_out(configure: Configure, log: Callable[[str], None], log_format: str) -> None:
    """Each secret is masked in any field, message or traceback, in both formats, and the line is still logged."""
    heard = {name: configure(log_format=log_format) for name in SECRETS}
    for name, stream in heard.items():
        configure(log_format=log_format, stream=stream)
        log(SECRETS[name])
    assert [name for name, stream in heard.items() if CORE[name] in stream.getvalue()] == []
    assert [name for name, stream in heard.items() if "masked" not in stream.getvalue()] == []
    if log_format == "json":
        assert [len(lines_of(stream)) for stream in heard.values()] == [1] * len(SECRETS)


def _send_made_up_token(authorization_header: str) -> None:
    local_value = "nobody should read".replace(" ", "-")  # built here, since a traceback quotes the code
    raise ConnectionError(len(local_value + authorization_header))


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("logger", [structlog.get_logger, logging.getLogger], ids=["ours", "a library's"])
def test_a_traceback_has_no_local_variables(
    configure: Configure, logger: Callable[[str], logging.Logger], log_format: str
) -> None:
    """It has file, line and code, like Python's own, and no value from a frame."""
    stream = configure(log_format=log_format)
    try:
        _send_made_up_token("Bearer made up".replace(" ", "-"))
    except ConnectionError:
        logger("x").exception("it broke")
    text = stream.getvalue()
    assert "ConnectionError: 32" in text
    assert "_send_made_up_token" in text
    assert "nobody-should-read" not in text
    assert "Bearer-made-up" not in text


def test_a_secret_object_is_logged_as_its_mask(configure: Configure) -> None:
    """Even a secret whose format the scrubber does not know."""
    stream = configure()
    structlog.get_logger("bot.x").info("x", token=Secret("hunter2"), holder={"token": Secret("hunter2")})
    assert "hunter2" not in stream.getvalue()
    assert lines_of(stream)[0]["event"] == "x"


def test_a_line_that_cannot_be_formatted_is_not_printed_raw(
    configure: Configure, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python would print message and arguments to stderr unscrubbed; instead the line is dropped."""
    stream = configure()
    logging.getLogger("library").warning("%d tokens", USER)
    logging.getLogger("library").warning("next")
    assert [line["event"] for line in lines_of(stream)] == ["next"]
    assert capfd.readouterr() == ("", "")


async def test_the_error_of_a_forgotten_task_is_scrubbed(configure: Configure) -> None:
    """The message of asyncio about an exception that was never retrieved is scrubbed too."""
    stream = configure()

    async def fail() -> None:
        raise ValueError(USER)

    task = asyncio.ensure_future(fail())
    await asyncio.wait({task})
    with about("V1"):  # whatever is being worked on when it is found
        del task
    (line,) = lines_of(stream)
    assert (line["logger"], line["level"]) == ("asyncio", "error")
    assert "reference" not in line
    assert MASK in str(line)
    assert USER not in stream.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "",
        '{"event": "credential_stored", "bucket": "analytics-events", "cf_ray": "8f00a1b2c3d4e5f6-AMS"}',
        '{"id": "V0123ABCD", "user": "U0123ABCD", "reference": "0badc0de"}',
        '  File "/app/bot/slack/actions.py", line 12, in _send\n',
        '{"key_ids": ["0123456789abcdef"], "account": "0123456789abcdef0123456789abcdef"}',
        "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/r2-catalog",
        "https://slack.com/api/chat.postMessage",
    ],
)
def test_useful_details_are_not_masked(line: str) -> None:
    """Ids, references, paths and addresses are not secrets."""
    assert scrub(line) == line


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(SECRETS)),
    before=st.text(string.printable + "\x1b\u00e4"),
    after=st.text(" \n\t\r\"'\x1b,;)]}", max_size=5),
)
def test_surrounding_text_does_not_hide_a_secret(name: str, before: str, after: str) -> None:
    """Whatever precedes or follows it, it is masked."""
    assert CORE[name] not in scrub(before + SECRETS[name] + after)
    assert CORE[name] not in scrub(json.dumps({"x": before + SECRETS[name] + after}))
    assert CORE[name] not in scrub(repr([before + SECRETS[name] + after]))


def test_what_is_scrubbed_is_counted(log: io.StringIO) -> None:
    """Our code logs no secret: each one that is masked is worth an alert, and an innocent line is not."""
    before = _scrubbed()

    logging.getLogger("bot").warning("nothing to hide")
    assert _scrubbed() == before
    logging.getLogger("bot").warning("a token: %s", "xoxb-1234567890-made-up")
    assert _scrubbed() == before + 1


def _scrubbed() -> float:
    return next(iter(SCRUBBED.collect())).samples[0].value
