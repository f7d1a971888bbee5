"""All settings are checked at once; problems are reported by name, with the fix and without the value."""

import logging
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bot.model.catalog import CatalogApi
from bot.model.role import Role
from bot.model.secret import Secret
from bot.network import Network, Proxy
from bot.sealing.hpke import generate_private_key
from bot.settings import (
    _OTHERS,
    _SETTINGS_OF,
    LoadedSettings,
    SettingsError,
    SlackSettings,
    find_no_settings,
    load_database_settings,
    load_listen_settings,
    load_settings,
)
from tests.privileges import file_modes_hold

MARK = "MARKED7f3a"
"""Made up, and part of every bad value: no output may contain it."""

GOOD = {
    "SLACK_BOT_TOKEN": "xoxb-MADEUP-1",
    "SLACK_APP_TOKEN": "xapp-MADEUP-1",
    "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "CLOUDFLARE_API_TOKEN": "cfat_MADEUP0000000000",
    "R2_CREDENTIAL_ALLOWED_USERS": "U0ALICE",
}
OURS = ("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_")
SetEnvironment = Callable[[dict[str, str]], None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetEnvironment:
    """Give each test an empty directory and good settings; return a function that sets others instead."""
    monkeypatch.chdir(tmp_path)

    def become(variables: dict[str, str]) -> None:
        for name in list(os.environ):
            if name.upper().startswith(OURS):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    become(GOOD)
    return become


def problems() -> list[str]:
    """Load the settings, which must fail, and return the problems."""
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value) == "\n".join(refusal.value.problems)
    return refusal.value.problems


def loaded() -> LoadedSettings:
    """Load the settings, which must work."""
    return load_settings()


def of_slack() -> SlackSettings:
    """Load the settings of a process that speaks to Slack, which must work."""
    settings = load_settings().settings
    assert isinstance(settings, SlackSettings)
    return settings


def reported_names() -> list[str]:
    """Return the names of the settings in the problems."""
    return [problem.partition(":")[0] for problem in problems()]


NOBODY = "R2_CREDENTIAL_ALLOWED_USERS or R2_CREDENTIAL_ALLOWED_USERGROUPS"
NO_ENTRANCE = "SLACK_APP_TOKEN or SLACK_SIGNING_SECRET"


def test_the_least_that_is_needed_is_enough() -> None:
    """Five settings are enough to start; all others have the documented defaults."""
    settings = of_slack()
    assert loaded().warnings == []
    assert settings.slack_bot_token == Secret("xoxb-MADEUP-1")
    assert settings.slack_api_url == "https://slack.com/api/"
    assert settings.slack_signing_secrets == ()
    assert settings.cloudflare_base_url == "https://api.cloudflare.com/client/v4"
    assert (settings.cloudflare_email, settings.cloudflare_api_key) == (None, None)
    assert (settings.sealing_key, settings.contact) == (None, None)
    assert settings.catalog_api is CatalogApi.AUTO
    assert settings.allowed_users == ("U0ALICE",)
    assert settings.allowed_usergroups == settings.allowed_channels == settings.allowed_buckets == ()
    assert (settings.data_dir, settings.database_path) == (Path("data"), Path("data/bot.sqlite"))
    assert (settings.ttl, settings.fresh_token_patience) == (timedelta(hours=1), timedelta(seconds=60))
    assert settings.max_token_lifetime is None
    assert settings.allow_enable is False
    assert settings.expiry_reminders == (timedelta(days=14), timedelta(days=3), timedelta(0))
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 3000)
    assert (settings.log_level, settings.log_format) == ("info", None)


def test_a_name_in_a_problem_changes_no_other_line(tmp_path: Path) -> None:
    """A terminal shows each problem on a line of its own, whatever the file has in a name."""
    (tmp_path / ".env").write_text("R2_CREDENTIAL_\x1b[2J\u202e=x\n\x00SLACK_BOT_TOKEN=x\n")
    assert any("R2_CREDENTIAL_" in problem for problem in problems())
    assert all(problem.isprintable() for problem in problems())


def test_without_settings_everything_is_reported_at_once(environment: SetEnvironment) -> None:
    """One start names each missing setting once."""
    environment({})
    assert sorted(reported_names()) == [
        ".env",
        "CLOUDFLARE_ACCOUNT_ID",
        "CLOUDFLARE_API_TOKEN",
        NOBODY,
        NO_ENTRANCE,
        "SLACK_BOT_TOKEN",
    ]


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_value_is_no_value(environment: SetEnvironment, empty: str) -> None:
    """A name with an empty value, as in a copied .env, counts as not set."""
    environment(dict.fromkeys(GOOD, empty))
    reported = reported_names()
    assert {"SLACK_BOT_TOKEN", "CLOUDFLARE_ACCOUNT_ID", NOBODY} <= set(reported)
    assert "CLOUDFLARE_API_TOKEN" in reported


BAD = {
    "SLACK_BOT_TOKEN": [f"xoxp-{MARK}", f"xoxb-{MARK} x", f'xoxb-{MARK}"', "xoxb-", f"XOXB-{MARK}", f"xoxb-{MARK}é"],
    "SLACK_APP_TOKEN": [f"xoxb-{MARK}", f"xapp {MARK}", "xapp-"],
    "SLACK_SIGNING_SECRET": [
        f"{MARK},{MARK},{MARK}",
        ",",
        " , ",
        MARK,
        "0123456789ABCDEF0123456789ABCDEF",
        "a" * 31,
        f"{'a' * 32},{'a' * 33}",
        f"{'a' * 32} {'a' * 32}",
    ],
    "SLACK_API_URL": [f"http://{MARK}.example/api/", f"https://user:{MARK}@slack.com/"],
    "CLOUDFLARE_ACCOUNT_ID": [MARK, "0123456789ABCDEF0123456789ABCDEF", "a" * 31, "a" * 33, "a" * 32 + "\nx"],
    "CLOUDFLARE_API_TOKEN": [f"{MARK} {MARK}", f"{MARK}\n{MARK}", f"{MARK}\u200b", f"'{MARK}", f'{MARK}"{MARK}'],
    "CLOUDFLARE_BASE_URL": [
        f"ftp://{MARK}",
        MARK,
        "https://[::1",
        f"https://{MARK}:99999",
        f"https://{MARK}:0",
        "https://999.1.1.1",
        f"https://{MARK}..example.com",
        f"https://{MARK * 10}",
        f"https://{MARK}/\x7f",
        f"https://-{MARK}",
    ],
    "R2_CREDENTIAL_CATALOG_API": [MARK, "R2-CATALOG"],
    "R2_CREDENTIAL_ALLOWED_USERS": [f"@{MARK}", f"U0ALICE,{MARK.lower()}", "C0DATA", "u0alice", "U0ALICE U0BOB", "*"],
    "R2_CREDENTIAL_ALLOWED_USERGROUPS": [f"@{MARK}", "U0ALICE", "S0OPS;S0DATA", "S"],
    "R2_CREDENTIAL_ALLOWED_CHANNELS": [f"#{MARK}", "U0ALICE", "C0DATA, #ops", "C0DATA,D0BOB", "direct", ",", " , "],
    "R2_CREDENTIAL_ALLOWED_BUCKETS": [MARK, "Team-*", "a bucket", "events/*", "events.2026", "!team-secret", "-x", ","],
    "R2_CREDENTIAL_DATA_DIR": [f"~/{MARK}", f"$HOME/{MARK}", f'{MARK}"', f"\u201c{MARK}"],
    "R2_CREDENTIAL_DATABASE_URL": [f"mysql://{MARK}", "sqlite:///", MARK],
    "R2_CREDENTIAL_SEALING_KEY": [MARK, f"-----BEGIN RSA PRIVATE KEY-----\n{MARK}"],
    "R2_CREDENTIAL_HISTORY": [MARK, "off", "7d", "191h", "0d", "3651d", "1y", "365"],
    "R2_CREDENTIAL_TTL": [MARK, "3600", "0m", "-1h", "1.5h", "1 h", "1w", "1H", "1h30m", "9999999s", "8d", "h"],
    "R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": [MARK, "0s", "60", "8d"],
    "R2_CREDENTIAL_MAX_TOKEN_LIFETIME": [MARK, "0d", "90", "on", "OFF", "3651d", "3m6d", "1y"],
    "CLOUDFLARE_MINTING_TOKEN": [f"{MARK} {MARK}", f'{MARK}"{MARK}'],
    "R2_CREDENTIAL_ROTATE_EVERY": [MARK, "0d", "30", "on", "OFF", "23h", "1439m", "3651d", "1m"],
    "R2_CREDENTIAL_ROTATE_BUCKETS": [MARK, "Team-*", "a bucket", "!team-secret", ","],
    "R2_CREDENTIAL_ROTATE_GRACE": [MARK, "0s", "60", "8d", "off"],
    "R2_CREDENTIAL_ROTATE_SCOPE": [MARK, "Bucket", "both"],
    "R2_CREDENTIAL_ROTATE_QUOTA": [MARK, "0", "-1", "5.5", "1000001"],
    "R2_CREDENTIAL_ALLOW_ENABLE": [MARK, "2", "-1", "enable", "true false"],
    "R2_CREDENTIAL_EXPIRY_REMINDERS": [MARK, "14", "-1d", "14d;3d", "14d 3d", "2h", "1000d", "1.5d", "14D", "14d,x"],
    "R2_CREDENTIAL_CONTACT": [MARK * 30],
    "R2_CREDENTIAL_HTTP_HOST": [f"{MARK}:3000", f"http://{MARK}", f"[{MARK}]", "[::1", "*", "999.1.1.1/8", MARK * 10],
    "R2_CREDENTIAL_HTTP_PORT": [MARK, "-1", "65536", "3000.5", "0x50"],
    "R2_CREDENTIAL_METRICS_HOST": [f"{MARK}:9090", f"http://{MARK}", "*"],
    "R2_CREDENTIAL_METRICS_PORT": [MARK, "-1", "65536", "on", "OFF", "0x50"],
    "R2_CREDENTIAL_LOG_LEVEL": [MARK, "INFO", "trace"],
    "R2_CREDENTIAL_LOG_FORMAT": [MARK, "JSON", "text"],
}
KEY_PAIR = {
    "CLOUDFLARE_EMAIL": [MARK, f"{MARK}@", f"a b@{MARK}", f"a@b@{MARK}"],
    "CLOUDFLARE_API_KEY": [f"{MARK} {MARK}", f"{MARK}é"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=repr
)
def test_a_bad_value_is_reported_by_name(environment: SetEnvironment, name: str, value: str) -> None:
    """Only the bad setting is named, with the fix and without its value."""
    environment(GOOD | {name: value})
    reported = problems()
    assert [problem for problem in reported if problem.startswith(f"{name}: ")] == [
        problem for problem in reported if not problem.startswith(NOBODY)
    ]
    assert len(reported) == 1
    assert MARK.lower() not in reported[0].lower()
    assert len(reported[0]) > len(name) + 10


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in KEY_PAIR.items() for value in values])
def test_a_bad_key_pair_is_reported_by_name(environment: SetEnvironment, name: str, value: str) -> None:
    """The older credentials are checked as strictly as the token."""
    pair = {"CLOUDFLARE_EMAIL": "ops@example.com", "CLOUDFLARE_API_KEY": "MADEUPkey"}
    environment(GOOD | {"CLOUDFLARE_API_TOKEN": ""} | pair | {name: value})
    assert reported_names() == [name]


def chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an exception with all its causes and contexts."""
    return [] if error is None else [error, *chain_of(error.__cause__), *chain_of(error.__context__)]


def test_no_value_is_reported_anywhere(
    environment: SetEnvironment, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With every setting bad, all are named, and no value is in a message, traceback, output or log."""
    caplog.set_level(logging.DEBUG)
    marked = {name: next(value for value in values if MARK in value) for name, values in BAD.items()}
    environment(marked | {f"R2_CREDENTIAL_{MARK[:6]}": MARK})
    Path(".env").write_text(f"R2_CREDENTIAL_TTTL={MARK}\nthis line is no setting {MARK}\n")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    reported = refusal.value.problems
    assert {problem.partition(":")[0] for problem in reported} == {*BAD, "R2_CREDENTIAL_TTTL", ".env"}
    seen = [*reported, "".join(traceback.format_exception(refusal.value)), caplog.text, *capfd.readouterr()]
    seen += [f"{error!r} {vars(error)}" for error in chain_of(refusal.value)]
    assert [text for text in seen if MARK.lower() in text.lower()] == []


def test_a_token_together_with_a_key_is_refused(environment: SetEnvironment) -> None:
    """Two logins are ambiguous; the fix is to keep the token."""
    for extra in ({"CLOUDFLARE_EMAIL": "ops@example.com"}, {"CLOUDFLARE_API_KEY": "MADEUP"}):
        environment(GOOD | extra)
        assert problems() == [
            "CLOUDFLARE_API_TOKEN: is set together with CLOUDFLARE_EMAIL or CLOUDFLARE_API_KEY; keep only the token"
        ]


@pytest.mark.parametrize("half", [{"CLOUDFLARE_EMAIL": "ops@example.com"}, {"CLOUDFLARE_API_KEY": "MADEUP"}, {}])
def test_half_a_key_pair_is_refused(environment: SetEnvironment, half: dict[str, str]) -> None:
    """An e-mail address without a key, or a key without one, is not a login."""
    environment({**GOOD, "CLOUDFLARE_API_TOKEN": "", **half})
    (problem,) = problems()
    assert problem.startswith("CLOUDFLARE_API_TOKEN: set it (permission Workers R2 Data Catalog Write), or both")


def test_a_key_pair_replaces_the_token(environment: SetEnvironment) -> None:
    """The older login still works."""
    pair = {"CLOUDFLARE_EMAIL": "ops@example.com", "CLOUDFLARE_API_KEY": "MADEUPkey"}
    environment(GOOD | {"CLOUDFLARE_API_TOKEN": ""} | pair)
    settings = loaded().settings
    assert settings.cloudflare_api_token is None
    assert (settings.cloudflare_email, settings.cloudflare_api_key) == ("ops@example.com", Secret("MADEUPkey"))


NOTHING = st.text(" \t,\r\n\x0b\x0c\x1f\x85\u00a0\u2003\u3000", max_size=8)


@hypothesis_settings(max_examples=40, deadline=None)
@given(NOTHING, NOTHING)
def test_a_list_of_nothing_lists_no_one(users: str, groups: str) -> None:
    """Commas and blanks list no one, and a bot that no one may use does not start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R2_CREDENTIAL_ALLOWED_USERS", users)
        patch.setenv("R2_CREDENTIAL_ALLOWED_USERGROUPS", groups)
        assert problems() == [f"{NOBODY}: no one is listed, so no one could use the bot; list at least one id"]


def test_lists_may_have_blanks_and_spare_commas(environment: SetEnvironment) -> None:
    """The gaps between them are not entries."""
    environment(
        GOOD
        | {
            "R2_CREDENTIAL_ALLOWED_USERS": " U0ALICE ,, W0BOB,",
            "R2_CREDENTIAL_ALLOWED_USERGROUPS": ",S0OPS",
            "R2_CREDENTIAL_ALLOWED_CHANNELS": "C0DATA,G0OLD, ",
            "R2_CREDENTIAL_ALLOWED_BUCKETS": "team-*, events ,log-[!0-9]?,!team-secret,",
        }
    )
    settings = loaded().settings
    assert settings.allowed_users == ("U0ALICE", "W0BOB")
    assert settings.allowed_usergroups == ("S0OPS",)
    assert settings.allowed_channels == ("C0DATA", "G0OLD")
    assert settings.allowed_buckets == ("team-*", "events", "log-[!0-9]?", "!team-secret")


def test_a_contact_is_one_line(environment: SetEnvironment) -> None:
    """It is part of sentences that refused people read."""
    environment(GOOD | {"R2_CREDENTIAL_CONTACT": " the data team\n(room 4)\u202e\n"})
    assert loaded().settings.contact == "the data team (room 4)"


MISPLACED = {
    "a user among groups": ("USERGROUPS", "S0OPS,U0BOB", "entry 2 is the id of another kind: move it to {}USERS"),
    "a group among users": ("USERS", "S0OPS", "entry 1 is the id of another kind: move it to {}USERGROUPS"),
    "a channel among users": ("USERS", "U0ALICE,C0DATA", "entry 2 is the id of another kind: move it to {}CHANNELS"),
    "a user among channels": ("CHANNELS", "U0ALICE", "entry 1 is the id of another kind: move it to {}USERS"),
}


@pytest.mark.parametrize(("name", "value", "said"), MISPLACED.values(), ids=MISPLACED)
def test_an_id_in_the_wrong_list_is_reported_with_the_right_one(
    environment: SetEnvironment, name: str, value: str, said: str
) -> None:
    """The entry is named by its number, since no value is reported."""
    prefix = "R2_CREDENTIAL_ALLOWED_"
    environment(GOOD | {f"{prefix}{name}": value})
    assert problems() == [f"{prefix}{name}: {said.format(prefix)}"]


@pytest.mark.parametrize("name", ["R2_CREDENTIAL_ALLOWED_CHANNELS", "R2_CREDENTIAL_ALLOWED_BUCKETS"])
def test_a_list_of_commas_does_not_open_everything(environment: SetEnvironment, name: str) -> None:
    """The operator, or a template with empty variables, meant to allow less than everything."""
    environment(GOOD | {name: ","})
    (problem,) = problems()
    assert problem.startswith(f"{name}: lists nothing but commas: list something, or leave it out to allow any ")


def test_user_groups_alone_are_enough(environment: SetEnvironment) -> None:
    """No user needs to be listed."""
    environment(GOOD | {"R2_CREDENTIAL_ALLOWED_USERS": "", "R2_CREDENTIAL_ALLOWED_USERGROUPS": "S0OPS"})
    assert loaded().settings.allowed_usergroups == ("S0OPS",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("90s", 90), ("15m", 900), ("1h", 3600), ("24h", 86400), ("1d", 86400), ("007m", 420)],
)
def test_a_duration_has_a_unit(environment: SetEnvironment, text: str, seconds: int) -> None:
    """Seconds, minutes, hours and days."""
    environment(GOOD | {"R2_CREDENTIAL_TTL": text})
    assert loaded().settings.ttl == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "days"), [("off", None), ("", None), ("90d", 90), ("8d", 8), ("36h", 1.5), ("3650d", 3650)]
)
def test_how_long_a_token_may_live_can_be_set(environment: SetEnvironment, text: str, days: float | None) -> None:
    """It may exceed the 7 days that limit a submission; `off` allows any lifetime."""
    environment(GOOD | {"R2_CREDENTIAL_MAX_TOKEN_LIFETIME": text})
    expected = None if days is None else timedelta(days=days)
    assert loaded().settings.max_token_lifetime == expected


@pytest.mark.parametrize(
    ("text", "days"), [("", 365), ("8d", 8), ("192h", 8), ("90d", 90), ("3650d", 3650)], ids=["default", *"1234"]
)
def test_how_long_the_history_is_kept_can_be_set(environment: SetEnvironment, text: str, days: int) -> None:
    """At least a day longer than the longest TTL."""
    environment(GOOD | {"R2_CREDENTIAL_HISTORY": text})
    assert loaded().settings.history == timedelta(days=days)


def test_the_patience_with_a_fresh_token_can_be_set(environment: SetEnvironment) -> None:
    """It takes a duration like any other."""
    environment(GOOD | {"R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "2m"})
    assert loaded().settings.fresh_token_patience == timedelta(minutes=2)


@pytest.mark.parametrize(
    ("text", "is_allowed"), [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False), ("", False)]
)
def test_enabling_is_allowed_only_explicitly(environment: SetEnvironment, text: str, *, is_allowed: bool) -> None:
    """An empty value does not allow it."""
    environment(GOOD | {"R2_CREDENTIAL_ALLOW_ENABLE": text})
    assert loaded().settings.allow_enable is is_allowed


@pytest.mark.parametrize(
    ("text", "days"),
    [
        pytest.param("14d,3d,0d", [14, 3, 0], id="the default"),
        pytest.param("30d", [30], id="one"),
        pytest.param(" 3d , 14d,, ", [14, 3], id="any order, blanks and spare commas"),
        pytest.param("3d,03d,3d", [3], id="once each"),
        pytest.param(",", [], id="none"),
    ],
)
def test_reminders_are_days_before_the_expiry(environment: SetEnvironment, text: str, days: list[int]) -> None:
    """The earliest first; a comma alone switches them off."""
    environment(GOOD | {"R2_CREDENTIAL_EXPIRY_REMINDERS": text})
    assert loaded().settings.expiry_reminders == tuple(timedelta(days=number) for number in days)


def test_the_network_comes_from_either_place(environment: SetEnvironment) -> None:
    """The proxy's variables work in `.env` as well, and the environment wins; all clients use the same network."""
    assert loaded().settings.network == Network()
    Path(".env").write_text("HTTPS_PROXY=http://a:1\nNO_PROXY=localhost,[::1]\n")
    environment(GOOD | {"https_proxy": "http://b:1", "NO_PROXY": "slack.com"})
    network = loaded().settings.network
    assert network.proxy == Proxy(address="http://b:1")
    assert network.proxy_for("https", "slack.com", None) is None


def test_an_unusable_network_is_reported_with_all_other_problems(environment: SetEnvironment) -> None:
    """Under the names of its variables."""
    environment({**GOOD, "ALL_PROXY": "socks5://x", "SSL_CERT_FILE": "/nowhere.pem", "R2_CREDENTIAL_TTL": "x"})
    assert sorted(reported_names()) == ["ALL_PROXY", "R2_CREDENTIAL_TTL", "SSL_CERT_FILE"]


def test_a_proxy_that_no_request_uses_is_a_warning(environment: SetEnvironment) -> None:
    """The bot calls only https:// addresses."""
    environment({**GOOD, "HTTP_PROXY": "http://a:1"})
    assert loaded().warnings == [
        "HTTP_PROXY: is for http:// addresses, and the bot calls https:// ones; set HTTPS_PROXY if they need a proxy"
    ]


URLS = ("SLACK_API_URL", "CLOUDFLARE_BASE_URL", "R2_CREDENTIAL_AUDIT_WEBHOOK")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://api.cloudflare.com/client/v4", id="in the clear"),
        pytest.param("http://127.0.0.1.example.com/", id="a name that begins like loopback"),
        pytest.param("http://localhost.example.com/", id="a name that begins like localhost"),
        pytest.param("http://127.0.0.1@example.com/", id="loopback as a user"),
        pytest.param("http://127.0.0.1:80@example.com/", id="loopback as user and password"),
        pytest.param("http://127.0.0.2/", id="not quite loopback"),
        pytest.param("http://10.0.0.1/", id="a private network"),
        pytest.param("http://[::2]/", id="not quite loopback, version 6"),
        pytest.param("https://user:secret@example.com/", id="with a password"),
        pytest.param("https://", id="no host"),
        pytest.param("https:///path", id="an empty host"),
        pytest.param("https://example.com/?x=1", id="with a query"),
        pytest.param("https://example.com?x=1", id="with a query at once"),
        pytest.param("https://example.com/#x", id="with a fragment"),
        pytest.param("https://exam ple.com/", id="with a blank"),
        pytest.param("https://example.com/\nx", id="with a line end"),
        pytest.param("ftp://example.com/", id="another protocol"),
        pytest.param("example.com", id="no protocol"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("//example.com", id="half a URL"),
    ],
)
@pytest.mark.parametrize("name", URLS)
def test_a_url_that_could_leak_is_refused(environment: SetEnvironment, name: str, url: str) -> None:
    """Tokens go over https, or stay on this machine."""
    environment(GOOD | {name: url})
    assert problems() == [f"{name}: is https://HOST/PATH; http:// is for this machine only (127.0.0.1, localhost)"]


@pytest.mark.parametrize(
    "url",
    [
        "https://slack.com/api/",
        "https://proxy.example.com:8443/slack",
        "https://example.com",
        "http://127.0.0.1:8080/api/",
        "http://localhost/",
        "http://[::1]:8080",
    ],
)
@pytest.mark.parametrize("name", URLS)
def test_https_and_loopback_are_good(environment: SetEnvironment, name: str, url: str) -> None:
    """The operator's own proxy and the sandbox both work; the text is unchanged."""
    environment(GOOD | {name: url})
    settings = of_slack()
    assert url in (settings.slack_api_url, settings.cloudflare_base_url, settings.audit_webhook)


NEW, OLD = "a" * 32, "b" * 32


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        (NEW, [NEW]),
        (f"{NEW},{OLD}", [NEW, OLD]),
        (f" {NEW} , {OLD} ", [NEW, OLD]),
        (f"{NEW},", [NEW]),
        (f'"{NEW}","{OLD}"', [NEW, OLD]),
    ],
)
def test_one_or_two_signing_secrets(environment: SetEnvironment, text: str, secrets: list[str]) -> None:
    """There are two during a rotation; each is a Secret."""
    environment(GOOD | {"SLACK_APP_TOKEN": "", "SLACK_SIGNING_SECRET": text})
    settings = of_slack()
    assert [secret.reveal() for secret in settings.slack_signing_secrets] == secrets
    assert settings.slack_app_token is None


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///my.sqlite", "my.sqlite"), ("sqlite:////var/lib/bot/my.sqlite", "/var/lib/bot/my.sqlite")],
)
def test_a_database_url_is_a_path(environment: SetEnvironment, url: str, path: str) -> None:
    """Three slashes make a relative path, four an absolute one, as in SQLAlchemy."""
    environment(GOOD | {"R2_CREDENTIAL_DATABASE_URL": url})
    assert loaded().settings.database_path == Path(path)


def test_settings_do_not_show_secrets(environment: SetEnvironment) -> None:
    """Neither the text of the settings nor their fields contain one."""
    secret = {
        "SLACK_BOT_TOKEN": f"xoxb-{MARK}",
        "SLACK_APP_TOKEN": f"xapp-{MARK}",
        "SLACK_SIGNING_SECRET": "5ec2e7" * 5 + "00",
        "CLOUDFLARE_API_TOKEN": MARK,
        "CLOUDFLARE_MINTING_TOKEN": f"{MARK}-2",
        "R2_CREDENTIAL_SEALING_KEY": generate_private_key().replace("MC4C", MARK),
    }
    environment(GOOD | secret)
    settings = loaded().settings
    shown = f"{settings} {settings!r} {settings.model_dump()} {loaded()!r}"
    assert MARK not in shown
    assert "5ec2e7" not in shown
    with pytest.raises(ValueError, match="frozen"):
        settings.ttl = timedelta(0)  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("spell", [str.lower, str.title, str.swapcase], ids=["lower", "title", "swapped"])
def test_a_name_of_another_case_is_another_name(environment: SetEnvironment, spell: Callable[[str], str]) -> None:
    """Its value is not used, neither from the environment nor from .env."""
    other = {spell(name): value for name, value in GOOD.items()}
    environment(other)
    without = [name for name in reported_names() if name != ".env"]
    environment({})
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in other.items()))
    assert reported_names() == without
    assert len([name for name in without if name not in other]) == 5
    assert {f"{spell(name)}: is not a setting of this bot; did you mean {name}?" for name in GOOD} <= {*problems()}


def test_a_name_of_another_case_changes_nothing(environment: SetEnvironment) -> None:
    """Next to the right name it is ignored."""
    environment(GOOD | {"r2_credential_ttl": "nonsense", "slack_api_url": "http://example.com", "ttl": "9d"})
    assert loaded().settings.ttl == timedelta(hours=1)
    assert of_slack().slack_api_url == "https://slack.com/api/"


def test_env_file_is_read(environment: SetEnvironment) -> None:
    """Its values may be quoted, exported, commented and spread over lines."""
    environment({})
    pem = generate_private_key()
    lines = [
        "# made up",
        'export SLACK_BOT_TOKEN="xoxb-MADEUP-2"',
        f"SLACK_SIGNING_SECRET='{NEW}' # the only one",
        *(f"{name}={GOOD[name]}" for name in ("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN")),
        "R2_CREDENTIAL_ALLOWED_USERGROUPS=S0OPS",
        f'R2_CREDENTIAL_SEALING_KEY="{pem}"',
        "R2_CREDENTIAL_CONTACT=",
        "UNRELATED=1",
    ]
    Path(".env").write_text("\n".join(lines))
    settings = of_slack()
    assert settings.slack_bot_token == Secret("xoxb-MADEUP-2")
    assert settings.slack_signing_secrets == (Secret(NEW),)
    assert settings.sealing_key == Secret(pem.strip())
    assert settings.contact is None


def test_the_environment_wins_over_env_file() -> None:
    """A variable set for one start overrides the file."""
    Path(".env").write_text("R2_CREDENTIAL_ALLOWED_USERS=U0BOB\nR2_CREDENTIAL_TTL=2h\n")
    settings = loaded().settings
    assert (settings.allowed_users, settings.ttl) == (("U0ALICE",), timedelta(hours=2))


@pytest.mark.parametrize(
    "content",
    [b"R2_CREDENTIAL_CONTACT=caf\xe9\n", "R2_CREDENTIAL_CONTACT=x\n".encode("utf-16")],
    ids=["latin-1", "utf-16"],
)
def test_an_env_file_that_is_not_utf8_is_refused(content: bytes) -> None:
    """A file from an old editor or PowerShell is a problem to report, not a crash."""
    Path(".env").write_bytes(content)
    assert problems() == [".env: cannot be read (it is not UTF-8 text)"]


UNREAD = {
    "an open quote": 'R2_CREDENTIAL_ALLOWED_BUCKETS="team-*',
    "a quote in the middle": "R2_CREDENTIAL_ALLOWED_BUCKETS='team'-*'",
    "a colon for the sign": "R2_CREDENTIAL_ALLOWED_BUCKETS: team-*",
}


@pytest.mark.parametrize("line", UNREAD.values(), ids=UNREAD)
def test_a_line_that_python_dotenv_skips_is_refused(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A skipped list would allow everything; it is named once, and the line after it is read."""
    Path(".env").write_text(f"R2_CREDENTIAL_CONTACT=ops\n{line}\nR2_CREDENTIAL_TTTL=1h\n")
    assert problems() == [
        ".env: line 2 is not NAME=VALUE, or lacks a closing quotation mark",
        "R2_CREDENTIAL_TTTL: is not a setting of this bot; did you mean R2_CREDENTIAL_TTL?",
    ]
    assert capfd.readouterr() == ("", "")


def test_a_directory_called_env_is_no_file_of_settings() -> None:
    """Docker makes one where a file that it should mount is missing, and people keep virtual environments there."""
    Path(".env").mkdir(mode=0o755)
    assert loaded().secret_files == {}
    assert loaded().warnings == [".env: is a directory, so no settings are read from it"]


def test_an_env_file_that_this_user_may_not_read_is_refused() -> None:
    """It may restrict who may do what, so a start without it could let more people in."""
    path = Path(".env")
    path.touch(mode=0o000)
    fix = f"its mode keeps its own user out: run `chmod u+rw {path.absolute()}`"
    with file_modes_hold():
        assert problems() == [f".env: cannot be read (Permission denied): {fix}"]
        for load in (load_listen_settings, load_database_settings):
            with pytest.raises(SettingsError, match=r"^\.env: cannot be read"):
                load()


def test_a_link_to_a_missing_env_file_is_refused() -> None:
    """Someone wanted the settings in it to hold."""
    Path(".env").symlink_to("elsewhere")
    [problem] = problems()
    assert problem.startswith(".env: cannot be read (No such file or directory): it is a link that leads nowhere")
    with pytest.raises(SettingsError, match="it is a link that leads nowhere"):  # a backup of another database
        load_database_settings()


def test_a_working_directory_that_cannot_be_entered_has_no_env_file() -> None:
    """A random uid in an image's working directory starts with the settings of its environment, and a warning."""
    Path.cwd().chmod(0o000)
    with file_modes_hold():
        [warning] = loaded().warnings
        assert load_listen_settings().http_port == 3000
        assert load_database_settings().data_dir == Path("data")
    Path.cwd().chmod(0o700)
    assert warning == f".env: is not looked for, since uid {os.geteuid()} cannot enter the working directory"


def test_an_env_file_with_a_byte_order_mark_is_read() -> None:
    """The mark that Windows' Notepad writes does not become part of the first name."""
    Path(".env").write_text("\ufeffR2_CREDENTIAL_TTL=2h\n")
    assert loaded().settings.ttl == timedelta(hours=2)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("R2_CREDENTIAL_ALOWED_USERS", "; did you mean R2_CREDENTIAL_ALLOWED_USERS?"),
        ("R2_CREDENTIAL_ALLOWED_USER", "; did you mean R2_CREDENTIAL_ALLOWED_USERS?"),
        ("R2_CREDENTIAL_LOGLEVEL", "; did you mean R2_CREDENTIAL_LOG_LEVEL?"),
        ("R2_CREDENTIAL_SEALING_KEY_FIEL", "; did you mean R2_CREDENTIAL_SEALING_KEY_FILE?"),
        ("R2_CREDENTIAL_X_FILE_FILE_FILE_FILE_FILE_FILE_FILE_FILE", ""),
    ],
)
def test_an_unknown_name_is_reported(environment: SetEnvironment, name: str, meant: str) -> None:
    """In .env it is a problem, in the environment a warning; both suggest a name and show no value."""
    reported = [f"{name}: is not a setting of this bot{meant}"]
    environment(GOOD | {name: MARK})
    assert loaded().warnings == reported
    environment(GOOD)
    Path(".env").write_text(f"{name}={MARK}\n")
    assert problems() == reported


def test_unknown_names_in_env_file_are_reported_with_all_other_problems(environment: SetEnvironment) -> None:
    """They do not hide other problems, nor the other way round."""
    environment({})
    Path(".env").write_text("R2_CREDENTIAL_B=1\nR2_CREDENTIAL_A=1\n")
    reported = reported_names()
    assert reported[:2] == ["R2_CREDENTIAL_A", "R2_CREDENTIAL_B"]
    assert len(reported) == 7


def test_names_without_our_prefix_are_ignored(environment: SetEnvironment) -> None:
    """They may be set in the environment and in .env."""
    others = {"SLACK_SOMETHING": "1", "CLOUDFLARE_ZONE_ID": "1", "R2_BUCKET": "1", "NOT_R2_CREDENTIAL_X": "1"}
    environment(GOOD | others)
    Path(".env").write_text("".join(f"{name}=1\n" for name in others))
    assert loaded().warnings == []


MISSPELT = {
    "SLACK_BOT_TOKN": "SLACK_BOT_TOKEN",
    "SLAK_BOT_TOKEN": "SLACK_BOT_TOKEN",
    "SLACK_BOT_TOKEN_FIEL": "SLACK_BOT_TOKEN_FILE",
    "SLACK_APPTOKEN": "SLACK_APP_TOKEN",
    "SLACK_SIGNING_SECRETS": "SLACK_SIGNING_SECRET",
    "CLOUDFLARE_ACOUNT_ID": "CLOUDFLARE_ACCOUNT_ID",
    "CLOUDFLARE_TOKEN": "CLOUDFLARE_API_TOKEN",
    "Cloudflare_Api_Token": "CLOUDFLARE_API_TOKEN",
}


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize(("name", "meant"), MISSPELT.items(), ids=MISSPELT)
def test_a_misspelt_name_is_reported_with_the_missing_setting(
    environment: SetEnvironment, name: str, meant: str, place: str
) -> None:
    """It explains why the setting is missing; its value is not shown."""
    environment({name: MARK} if place == "environment" else {})
    if place == ".env":
        Path(".env").write_text(f"{name}={MARK}\n")
    reported = problems()
    assert f"{name}: is not a setting of this bot; did you mean {meant}?" in reported
    assert MARK not in "".join(reported)


def test_a_misspelt_list_of_people_is_reported_with_the_missing_one(environment: SetEnvironment) -> None:
    """A refused start prints no warnings, and this one explains the refusal."""
    environment({**GOOD, "R2_CREDENTIAL_ALLOWED_USERS": "", "R2_CREDENTIAL_ALOWED_USERS": "U0ALICE"})
    assert reported_names() == [NOBODY, "R2_CREDENTIAL_ALOWED_USERS"]


def test_a_misspelt_name_that_is_not_needed_is_a_warning(environment: SetEnvironment) -> None:
    """The bot starts with the default."""
    environment(GOOD | {"CLOUDFLARE_API_BASE_URL": "1", "SLACK_API_URI": "1"})
    assert loaded().warnings == [
        "CLOUDFLARE_API_BASE_URL: is not a setting of this bot; did you mean CLOUDFLARE_BASE_URL?",
        "SLACK_API_URI: is not a setting of this bot; did you mean SLACK_API_URL?",
    ]


OF_OTHER_TOOLS = [
    "SLACK_WEBHOOK_URL",
    "SLACK_TOKEN",
    "SLACK_API_TOKEN",
    "SLACK_USER_TOKEN",
    "SLACK_CLIENT_ID",
    "SLACK_CLIENT_SECRET",
    "SLACK_CHANNEL_ID",
    "CLOUDFLARE_ZONE_ID",
    "CLOUDFLARE_API_USER_SERVICE_KEY",
    "CLOUDFLARE_R2_ACCESS_KEY_ID",
    "CF_API_TOKEN",
]


def test_names_of_other_tools_are_not_reported(environment: SetEnvironment) -> None:
    """While the setting that they resemble is set or not needed."""
    environment(GOOD | dict.fromkeys(OF_OTHER_TOOLS, "1"))
    assert loaded().warnings == []


def test_the_secret_of_an_unused_transport_is_a_warning(environment: SetEnvironment) -> None:
    """The operator may expect HTTP requests that never come."""
    environment(GOOD | {"SLACK_SIGNING_SECRET": NEW})
    [warning] = loaded().warnings
    assert warning.startswith(
        "SLACK_SIGNING_SECRET: is not used, since SLACK_APP_TOKEN is set as well and means Socket"
    )


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("::", "::"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - what images set
        ("bot.internal", "bot.internal"),
    ],
)
def test_an_address_may_be_in_brackets(environment: SetEnvironment, text: str, host: str) -> None:
    """As in a URL, and in any spelling; a health check reads the same address."""
    environment(GOOD | {"R2_CREDENTIAL_HTTP_HOST": text})
    assert loaded().settings.http_host == load_listen_settings().http_host == host


def test_a_health_check_needs_no_other_setting(environment: SetEnvironment) -> None:
    """It reads the address from the environment, .env or a file, for any role."""
    environment(as_file("R2_CREDENTIAL_HTTP_PORT", "3001") | {"SLACK_BOT_TOKEN": MARK, "SSL_CERT_FILE": "/nowhere"})
    Path(".env").write_text('R2_CREDENTIAL_HTTP_HOST="127.0.0.9"\n')
    settings = load_listen_settings()
    assert (settings.http_host, settings.http_port) == ("127.0.0.9", 3001)


def test_a_health_check_reports_bad_settings(environment: SetEnvironment) -> None:
    """Each by its name and without its value."""
    environment({"R2_CREDENTIAL_HTTP_PORT": MARK, "R2_CREDENTIAL_HTTP_HOST_FILE": "missing"})
    with pytest.raises(SettingsError) as refusal:
        load_listen_settings()
    assert [problem.partition(":")[0] for problem in refusal.value.problems] == [
        "R2_CREDENTIAL_HTTP_HOST",
        "R2_CREDENTIAL_HTTP_PORT",
    ]
    assert MARK not in str(refusal.value)
    Path(".env").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read \(it is not UTF-8 text\)"):
        load_listen_settings()


AROUND = {
    "double quotes": '"{}"',
    "single quotes": "'{}'",
    "curled quotes": "\u201c{}\u201d",
    "a line end": "{}\r\n",
    "a byte order mark": "\ufeff{}",
    "blanks of any sort": "\u00a0\t {} \u3000",
    "all of them": '\ufeff " {} "\r\n',
}
EVERY_VALUE = GOOD | {
    "SLACK_SIGNING_SECRET": NEW,
    "SLACK_API_URL": "https://slack.example.com/api/",
    "CLOUDFLARE_BASE_URL": "https://cloudflare.example.com/client/v4",
    "R2_CREDENTIAL_CATALOG_API": "r2-catalog",
    "R2_CREDENTIAL_ALLOWED_USERGROUPS": "S0OPS,S0DATA",
    "R2_CREDENTIAL_ALLOWED_CHANNELS": "C0DATA",
    "R2_CREDENTIAL_ALLOWED_BUCKETS": "team-*",
    "R2_CREDENTIAL_DATABASE_URL": "sqlite:///my.sqlite",
    "R2_CREDENTIAL_DATA_DIR": "my data",
    "R2_CREDENTIAL_TTL": "2h",
    "R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "7s",
    "R2_CREDENTIAL_ALLOW_ENABLE": "true",
    "R2_CREDENTIAL_EXPIRY_REMINDERS": "7d,1d",
    "CLOUDFLARE_MINTING_TOKEN": "cfat_MADEUP0000000001",
    "R2_CREDENTIAL_ROTATE_EVERY": "30d",
    "R2_CREDENTIAL_ROTATE_BUCKETS": "team-*",
    "R2_CREDENTIAL_ROTATE_GRACE": "2h",
    "R2_CREDENTIAL_ROTATE_SCOPE": "account",
    "R2_CREDENTIAL_ROTATE_QUOTA": "1000",
    "R2_CREDENTIAL_CONTACT": "the data team's room",
    "R2_CREDENTIAL_HTTP_HOST": "127.0.0.9",
    "R2_CREDENTIAL_HTTP_PORT": "3001",
    "R2_CREDENTIAL_METRICS_HOST": "127.0.0.8",
    "R2_CREDENTIAL_METRICS_PORT": "3002",
    "R2_CREDENTIAL_LOG_LEVEL": "debug",
    "R2_CREDENTIAL_LOG_FORMAT": "json",
}


@pytest.mark.parametrize(("text", "port"), [("off", None), ("0", 0), ("9090", 9090)])
def test_the_port_for_metrics_is_off_or_a_number(environment: SetEnvironment, text: str, port: int | None) -> None:
    """It is off unless it is asked for; 0 takes a free port."""
    environment(GOOD)
    assert loaded().settings.metrics_port is None
    environment(GOOD | {"R2_CREDENTIAL_METRICS_PORT": text})
    assert loaded().settings.metrics_port == port


@pytest.mark.parametrize(
    ("http", "metrics", "is_refused"),
    [
        ("", "3000", True),
        ("4000", "4000", True),
        ("4000", "04000", True),
        ("4000", "3000", False),
        ("0", "0", False),
        ("", "off", False),
    ],
)
def test_one_port_cannot_be_for_both(environment: SetEnvironment, http: str, metrics: str, *, is_refused: bool) -> None:
    """The problem names the setting and the fix; two free ports are never the same."""
    environment(GOOD | {"R2_CREDENTIAL_HTTP_PORT": http, "R2_CREDENTIAL_METRICS_PORT": metrics})
    if not is_refused:
        assert loaded().settings.http_port != loaded().settings.metrics_port or http == "0"
        return
    assert problems() == [
        "R2_CREDENTIAL_METRICS_PORT: is the same as R2_CREDENTIAL_HTTP_PORT; give the metrics a port of their own"
    ]


@pytest.mark.parametrize("place", ["environment", ".env", "file"])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_quotes_and_blanks_around_a_value_are_removed(environment: SetEnvironment, around: str, place: str) -> None:
    """For every setting and every source: `docker run --env-file` keeps quotes, editors add the rest."""
    environment(EVERY_VALUE)
    wanted = loaded().settings
    written = {name: around.format(value) for name, value in EVERY_VALUE.items()}
    if "'" in around:
        written["R2_CREDENTIAL_CONTACT"] = EVERY_VALUE["R2_CREDENTIAL_CONTACT"]
    if place == "environment":
        environment(written)
    elif place == "file":
        environment({key: path for name, value in written.items() for key, path in as_file(name, value).items()})
    else:
        environment({})
        Path(".env").write_text("".join(f"{name}={value.strip()}\n" for name, value in written.items()), newline="\n")
    settings = of_slack()
    assert settings == wanted
    assert settings.slack_signing_secrets == (Secret(NEW),)


def test_a_key_may_be_on_one_line(environment: SetEnvironment) -> None:
    """An env file cannot hold it otherwise."""
    pem = generate_private_key()
    environment(GOOD | {"R2_CREDENTIAL_SEALING_KEY": f'"{pem.strip()}"'.replace("\n", "\\n")})
    assert loaded().settings.sealing_key == Secret(pem.strip())


def test_half_a_pair_of_quotes_is_reported(environment: SetEnvironment) -> None:
    """For every setting, even one that allows quotes."""
    environment({name: f'{value}"' for name, value in EVERY_VALUE.items()})
    reported = set(problems())
    assert reported >= {f"{name}: has a quotation mark at one end only: remove it" for name in EVERY_VALUE}


def as_file(name: str, content: str | bytes) -> dict[str, str]:
    """Write a value to a file, and return the variable that names the file."""
    path = Path(f"{name}.value")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {f"{name}_FILE": str(path.absolute())}


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_any_value_can_come_from_a_file(environment: SetEnvironment, place: str) -> None:
    """NAME_FILE may be set in either place; the line end that editors add is removed."""
    pem = generate_private_key()
    files: dict[str, str] = {}
    for name, value in {**GOOD, "R2_CREDENTIAL_SEALING_KEY": pem, "R2_CREDENTIAL_TTL": "2h"}.items():
        files |= as_file(name, f" {value}\n")
    environment(files if place == "environment" else {})
    if place == ".env":
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in files.items()))
    settings = loaded().settings
    assert settings.slack_bot_token == Secret(GOOD["SLACK_BOT_TOKEN"])
    assert settings.sealing_key == Secret(pem.strip())
    assert (settings.allowed_users, settings.ttl) == (("U0ALICE",), timedelta(hours=2))
    assert loaded().warnings == []


@pytest.mark.parametrize("direct", ["environment", ".env"])
def test_a_value_and_a_file_for_it_are_refused(environment: SetEnvironment, direct: str) -> None:
    """The bot does not guess which is meant, wherever the two are set."""
    token = {"SLACK_BOT_TOKEN": GOOD["SLACK_BOT_TOKEN"]}
    rest = {name: value for name, value in GOOD.items() if name not in token}
    environment(rest | as_file("SLACK_BOT_TOKEN", "xoxb-MADEUP-2") | (token if direct == "environment" else {}))
    if direct == ".env":
        Path(".env").write_text(f"SLACK_BOT_TOKEN={token['SLACK_BOT_TOKEN']}\n")
    assert problems() == ["SLACK_BOT_TOKEN: and SLACK_BOT_TOKEN_FILE are both set: keep one of them"]


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        pytest.param(
            lambda: f"missing-{MARK}",
            "No such file or directory): there is no such place: correct the path, or create it",
            id="missing",
        ),
        pytest.param(
            lambda: str(Path.cwd()), "Is a directory): a directory is in its place: remove that", id="a directory"
        ),
        pytest.param(
            lambda: as_file("SLACK_BOT_TOKEN", b"xoxb-\xff\xfe")["SLACK_BOT_TOKEN_FILE"],
            "it is not UTF-8 text)",
            id="no text",
        ),
        pytest.param(lambda: as_file("SLACK_BOT_TOKEN", "\n")["SLACK_BOT_TOKEN_FILE"], "it is empty)", id="empty"),
        pytest.param(lambda: "x" * 5000, "File name too long)", id="a name too long"),
        pytest.param(lambda: "with\0NUL", "that is not a possible path)", id="no possible name"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_by_name(
    environment: SetEnvironment, make: Callable[[], str], cause: str
) -> None:
    """The setting is named once, with the cause; the content is never shown, and no path that may be a secret."""
    environment({name: value for name, value in GOOD.items() if name != "SLACK_BOT_TOKEN"})
    Path(".env").write_text(f"SLACK_BOT_TOKEN_FILE={make()}\n")
    file = "the file that SLACK_BOT_TOKEN_FILE names"
    assert problems() == [f"SLACK_BOT_TOKEN: cannot be read from {file} ({cause}"]


def test_a_secret_of_another_user_comes_with_the_command_that_helps(environment: SetEnvironment) -> None:
    """As a file of root's, mounted into a container that runs as another user."""
    environment({name: value for name, value in GOOD.items() if name != "SLACK_BOT_TOKEN"})
    path = Path(as_file("SLACK_BOT_TOKEN", f"xoxb-{MARK}")["SLACK_BOT_TOKEN_FILE"])
    path.chmod(0o000)
    Path(".env").write_text(f"SLACK_BOT_TOKEN_FILE={path}\n")
    with file_modes_hold():
        [problem] = problems()
    assert problem.startswith("SLACK_BOT_TOKEN: cannot be read from the file that SLACK_BOT_TOKEN_FILE names")
    assert problem.endswith(f"(Permission denied): its mode keeps its own user out: run `chmod u+rw {path}`")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("R2_CREDENTIAL_TTL", "1h # one hour"),
        ("R2_CREDENTIAL_TTL", '"1h" # one hour'),
        ("R2_CREDENTIAL_ALLOWED_USERS", "U0ALICE # the admin"),
        ("R2_CREDENTIAL_HTTP_PORT", "3000 # inside"),
        ("CLOUDFLARE_API_TOKEN", "cfat_MADEUP0000000000\t# of 2026"),
        ("R2_CREDENTIAL_DATA_DIR", "/data # a volume"),
    ],
)
def test_a_comment_after_a_value_is_named_as_the_cause(environment: SetEnvironment, name: str, value: str) -> None:
    """`docker run --env-file` keeps it, and a directory called `data # a volume` would be made."""
    environment(GOOD | {name: value})
    [problem] = problems()
    assert problem.startswith(f"{name}: ")
    assert problem.endswith(". Its comment counts as a part of it: put that on a line of its own")


def test_a_contact_may_contain_a_number_sign(environment: SetEnvironment) -> None:
    """People write channels like this."""
    environment(GOOD | {"R2_CREDENTIAL_CONTACT": "ask #data-platform"})
    assert loaded().settings.contact == "ask #data-platform"


CUT = (
    "R2_CREDENTIAL_SEALING_KEY: ends in the middle of its PEM: write it on one line with \\n for its line ends, or set "
)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_pem_of_which_only_the_first_line_arrived_is_reported_once(environment: SetEnvironment, quote: str) -> None:
    """An env file of Docker's has one line for each value."""
    environment(GOOD | {"R2_CREDENTIAL_SEALING_KEY": f"{quote}-----BEGIN PRIVATE KEY-----"})
    assert problems() == [f"{CUT}NAME_FILE"]


def test_a_pem_without_quotes_in_an_env_file_is_reported_once() -> None:
    """Neither is the rest of it quoted, nor each of its lines reported."""
    Path(".env").write_text(f"R2_CREDENTIAL_SEALING_KEY={generate_private_key()}")
    assert problems() == [f"{CUT}NAME_FILE"]


def test_services_of_kubernetes_are_one_warning(environment: SetEnvironment) -> None:
    """With the fix, and without asking which setting was meant."""
    environment(GOOD | {"R2_CREDENTIAL_PORT": "tcp://10.0.0.1:80", "R2_CREDENTIAL_SERVICE_PORT": "80"})
    [warning] = loaded().warnings
    assert warning.startswith("R2_CREDENTIAL_PORT and 1 more: come from Services in Kubernetes and are ignored; set")


def test_a_service_with_the_name_of_a_setting_is_one_problem(environment: SetEnvironment) -> None:
    """A Service called r2-credential-http sets the port that the bot listens on."""
    environment(GOOD | {"R2_CREDENTIAL_HTTP_PORT": "tcp://10.0.0.1:80", "R2_CREDENTIAL_HTTP_SERVICE_PORT": "80"})
    [problem] = problems()
    assert problem.startswith("R2_CREDENTIAL_HTTP_PORT: is set by Kubernetes for a Service of that name: set enable")


@pytest.mark.parametrize("role", Role)
def test_each_unreadable_file_is_one_line(environment: SetEnvironment, role: Role) -> None:
    """Nothing else is said of the setting: not that it is missing, nor that it contradicts another."""
    good = GOOD | {
        "R2_CREDENTIAL_DATABASE_URL": "postgresql://bot@127.0.0.1/bot",
        "R2_CREDENTIAL_SEALING_KEY": generate_private_key(),
        "R2_CREDENTIAL_SEALING_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
    }
    if role is Role.MINTER:
        good |= {"R2_CREDENTIAL_ALLOWED_USERS": "", "R2_CREDENTIAL_POLICY": "policy.toml"}
        good |= {"CLOUDFLARE_MINTING_TOKEN": "cfat_MADEUP0000000001", "R2_CREDENTIAL_AUDIT_KEY": "k" * 32}
    names = [each.alias for each in _SETTINGS_OF[role].model_fields.values() if each.alias]
    for name in names:
        if name in _OTHERS[role]:
            continue
        environment({other: value for other, value in good.items() if other != name} | {f"{name}_FILE": "missing"})
        with pytest.raises(SettingsError) as refusal:
            load_settings(role=role)
        assert [problem.partition(":")[0] for problem in refusal.value.problems] == [name]


def test_an_unreadable_file_hides_no_other_problem(environment: SetEnvironment) -> None:
    """Those of other settings are still reported; no rule about the unreadable one is checked."""
    environment(
        {
            "SLACK_APP_TOKEN_FILE": "missing",
            "CLOUDFLARE_API_TOKEN_FILE": "missing",
            "R2_CREDENTIAL_ALLOWED_USERS_FILE": "missing",
            "CLOUDFLARE_EMAIL": "ops@example.com",
        }
    )
    assert sorted(reported_names()) == [
        ".env",
        "CLOUDFLARE_ACCOUNT_ID",
        "CLOUDFLARE_API_TOKEN",
        "R2_CREDENTIAL_ALLOWED_USERS",
        "SLACK_APP_TOKEN",
        "SLACK_BOT_TOKEN",
    ]


def test_an_empty_list_in_a_file_restricts_nothing_silently(environment: SetEnvironment) -> None:
    """An empty file would allow any channel: it is an error, and so are commas alone."""
    environment(GOOD | as_file("R2_CREDENTIAL_ALLOWED_CHANNELS", "\n"))
    [problem] = problems()
    assert problem.startswith("R2_CREDENTIAL_ALLOWED_CHANNELS: cannot be read")
    assert problem.endswith("(it is empty)")
    environment(GOOD | as_file("R2_CREDENTIAL_ALLOWED_USERS", " , \n") | {"R2_CREDENTIAL_ALLOWED_USERS": ""})
    assert reported_names() == [NOBODY]


def test_an_empty_file_name_is_ignored(environment: SetEnvironment) -> None:
    """NAME_FILE with an empty value counts as not set."""
    environment(GOOD | {"SLACK_BOT_TOKEN_FILE": "", "R2_CREDENTIAL_TTL_FILE": ""})
    assert loaded().settings.slack_bot_token == Secret(GOOD["SLACK_BOT_TOKEN"])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda _: None, ".env: there is none in {}; run this in the directory that has it, or set the variables"),
        (Path.mkdir, ".env: is a directory, so no settings are read from it"),
    ],
    ids=["none", "a directory"],
)
def test_without_settings_and_without_a_file_the_directory_is_named(
    environment: SetEnvironment, tmp_path: Path, make: Callable[[Path], None], line: str
) -> None:
    """The command was probably run in another directory; where the environment has the settings, it was not."""
    environment({})
    make(tmp_path / ".env")
    assert problems()[-1] == line.format(tmp_path)
    assert find_no_settings() == [line.format(tmp_path)]
    environment({name: value for name, value in GOOD.items() if name != "CLOUDFLARE_API_TOKEN"})
    assert reported_names() == ["CLOUDFLARE_API_TOKEN"]
    assert find_no_settings() == []


def test_a_removed_working_directory_is_no_other_failure(
    environment: SetEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no name any more."""
    environment({})
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert problems()[-1].startswith(".env: there is none in .;")


def test_a_name_that_is_in_the_file_twice_is_refused() -> None:
    """The last one would win: a list of people that someone thought to have replaced. Names of others are theirs."""
    Path(".env").write_text(
        f"R2_CREDENTIAL_ALLOWED_USERS=U0{MARK.upper()}\nOTHER=1\nOTHER=2\n"
        "# R2_CREDENTIAL_ALLOWED_USERS=U2\nexport R2_CREDENTIAL_ALLOWED_USERS=U2\n"
    )
    assert problems() == ["R2_CREDENTIAL_ALLOWED_USERS: is in .env more than once, in lines 1 and 5; keep one of them"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLACK_BOT_TOKEN", "xoxb-..."),
        ("SLACK_APP_TOKEN", "xapp-..."),
        ("CLOUDFLARE_API_TOKEN", "..."),
        ("CLOUDFLARE_API_TOKEN", "\u2026"),
    ],
)
def test_a_placeholder_of_the_readme_is_recognised(environment: SetEnvironment, name: str, value: str) -> None:
    """Slack would say only that it is invalid."""
    environment({**GOOD, name: value})
    assert problems() == [f"{name}: is still the placeholder of the README: put the real value there"]


SHORT_FORM = {
    "R2_CREDENTIAL_ALLOWED_USERS": "U0ALICE",
    "R2_CREDENTIAL_ALLOWED_USERGROUPS": "S0DATA",
    "R2_CREDENTIAL_ALLOWED_CHANNELS": "C0DATA",
    "R2_CREDENTIAL_ALLOWED_BUCKETS": "lake",
    "R2_CREDENTIAL_ALLOW_ENABLE": "true",
    "R2_CREDENTIAL_MAX_TOKEN_LIFETIME": "90d",
}


def test_a_policy_takes_the_place_of_the_lists(environment: SetEnvironment) -> None:
    """No one needs to be listed then."""
    environment(GOOD | {"R2_CREDENTIAL_ALLOWED_USERS": "", "R2_CREDENTIAL_POLICY": "policy.toml"})
    assert load_settings().settings.policy == Path("policy.toml")


@pytest.mark.parametrize("name", SHORT_FORM)
def test_a_policy_and_a_setting_that_it_replaces_contradict_each_other(environment: SetEnvironment, name: str) -> None:
    """Each could say that someone may do what the other forbids: both are named."""
    lists = {"R2_CREDENTIAL_ALLOWED_USERS": "", name: SHORT_FORM[name], "R2_CREDENTIAL_POLICY": "policy.toml"}
    environment(GOOD | lists)
    [problem] = problems()
    assert problem.startswith(f"R2_CREDENTIAL_POLICY: is set together with {name}, which its rules say instead")


@pytest.mark.parametrize("text", ['[[rule]]\nusers = ["U0ALICE"]', "rule = [[]]"])
def test_the_text_of_a_policy_is_not_its_path(environment: SetEnvironment, text: str) -> None:
    """R2_CREDENTIAL_POLICY_FILE names a file that holds the setting, which is a path."""
    environment({**GOOD, "R2_CREDENTIAL_ALLOWED_USERS": "", "R2_CREDENTIAL_POLICY": text})
    assert problems() == ["R2_CREDENTIAL_POLICY: is the path of the policy file, not its text"]
