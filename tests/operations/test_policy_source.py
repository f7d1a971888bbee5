"""The policy file at the start and at SIGHUP: a good one holds at once and whole, a broken one changes nothing."""

import asyncio
import hashlib
import io
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bot.model.errors import NotAllowed, StartRefused
from bot.model.finding import Finding, Mark, Part
from bot.operations.policy_source import PolicySource, load_policy, name_policy
from bot.policy.file import PolicyBroken
from bot.policy.gate import Gate, Home
from bot.policy.rules import USUAL_VERBS, Verb
from bot.settings import Settings, load_settings
from bot.slack.memberships import Memberships
from tests.everybody import EVERYBODY
from tests.make import NOW, make_key
from tests.privileges import file_modes_hold, give_to_a_stranger

OF_ADA = '[[rule]]\nusers = ["U0ADA"]\n'
OF_BOB = '[[rule]]\nusers = ["U0BOB"]\nverbs = ["store", "enable"]\n'
BROKEN = '[[rule]]\nusers = ["ada"]\nbukets = []\n'

SetUp = Callable[..., Settings]


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetUp:
    """Return a function that returns settings; the policy file is `policy.toml` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def load(**more: str) -> Settings:
        for name in [name for name in os.environ if name.startswith(("SLACK_", "CLOUDFLARE_", "R2_CREDENTIAL_"))]:
            monkeypatch.delenv(name)
        for name, value in {
            "SLACK_BOT_TOKEN": "xoxb-MADEUP-1",
            "SLACK_APP_TOKEN": "xapp-MADEUP-1",
            "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
            "CLOUDFLARE_API_TOKEN": "cfat_MADEUP0000000000",
            **({} if more else {"R2_CREDENTIAL_POLICY": "policy.toml"}),
            **{f"R2_CREDENTIAL_{name}": value for name, value in more.items()},
        }.items():
            monkeypatch.setenv(name, value)
        return load_settings().settings

    return load


def write(text: str | bytes) -> None:
    """Write the policy file, for its owner alone."""
    path = Path("policy.toml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)


def remove() -> None:
    """Remove it."""
    Path("policy.toml").unlink()


@pytest_asyncio.fixture
async def source(set_up: SetUp) -> PolicySource:
    """Return the rules of a file that names Ada."""
    write(OF_ADA)
    return PolicySource(set_up())


async def look(source: PolicySource) -> Finding:
    """Return what is found about the policy."""
    [check] = source.checks()
    [found] = await check.examine()
    return found


def make_gate(source: PolicySource) -> Gate:
    """Return a gate that follows the rules; they name no groups."""
    memberships = Memberships(None, lambda: NOW)  # type: ignore[arg-type]  # Slack is not asked
    gate = Gate(source.rules, Home(team_id="T1", enterprise_id=None), memberships, EVERYBODY)
    source.follow_by(gate.follow)
    return gate


async def test_new_rules_hold_at_once_for_everyone_who_asks(source: PolicySource) -> None:
    """Who is removed is out, who was added is in; the log has the number of rules and a digest to compare."""
    gate = make_gate(source)
    permit = await gate.permit_user("U0ADA")
    write(OF_BOB)

    with capture_logs() as logs:
        await source.reload()

    digest = hashlib.sha256(OF_BOB.encode()).hexdigest()[:12]
    assert logs == [{"event": "policy_loaded", "log_level": "info", "rules": 1, "digest": digest}]
    (await gate.permit_user("U0BOB")).require(Verb.STORE, make_key("lake"), "C1")
    with pytest.raises(NotAllowed):
        await gate.permit_user("U0ADA")
    permit.require(Verb.STORE, make_key("lake"), "C1")  # given a moment ago, for one event
    assert source.listed().users == ("U0BOB",)
    assert source.offers_enabling(make_key("lake"), "C1")
    found = await look(source)
    assert (found.event, found.mark, found.known["digest"]) == ("policy_holds", Mark.OK, digest)


@pytest.mark.parametrize(
    "text", [BROKEN, "", "x", b"\xff", OF_ADA * 20_000], ids=["two faults", "empty", "no TOML", "no UTF-8", "large"]
)
async def test_a_broken_file_changes_nothing_and_says_so(source: PolicySource, text: str | bytes) -> None:
    """In the log at once, and as a finding until a good one is read."""
    gate, before = make_gate(source), source.rules
    write(text)

    with capture_logs() as logs:
        await source.reload()

    assert [(line["event"], line["log_level"]) for line in logs] == [("policy_not_loaded", "error")]
    assert logs[0]["problems"]
    assert gate.rules == source.rules == before
    found = await look(source)
    assert (found.event, found.mark, found.setting) == ("policy_broken", Mark.FAILED, "R2_CREDENTIAL_POLICY")
    write(OF_ADA)
    await source.reload()
    assert (await look(source)).mark is Mark.OK


async def test_each_fault_of_a_broken_file_is_told(source: PolicySource) -> None:
    """With its line; the finding has the first five, for a terminal."""
    write(f"{BROKEN}colour = 1\nfont = 1\nsize = 1\nshape = 1\n")
    with capture_logs() as logs:
        await source.reload()
    assert len(logs[0]["problems"]) == 6
    found = await look(source)
    assert "policy.toml, line 2: `users`: entry 1" in found.text
    assert "did you mean `buckets`?" in found.text
    assert found.text.endswith("; and 1 more")


async def test_a_missing_file_changes_nothing(source: PolicySource) -> None:
    """An editor may just be replacing it."""
    remove()
    with capture_logs() as logs:
        await source.reload()
    assert logs[0]["event"] == "policy_not_loaded"
    assert "cannot read policy.toml" in logs[0]["problems"][0]


async def test_a_signal_reads_the_file_again_each_time(source: PolicySource, log: io.StringIO) -> None:
    """One after the other, so that the last reading is that of the last file."""
    hang_up, followed = asyncio.Event(), asyncio.Queue[int]()
    source.follow_by(lambda rules: followed.put_nowait(len(rules)))
    waiting = asyncio.create_task(source.reload_at(hang_up))
    for text, rules in ((OF_BOB, 1), (OF_ADA + OF_BOB, 2)):
        write(text)
        hang_up.set()
        assert await followed.get() == rules
    waiting.cancel()
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert events == ["policy_loaded", "policy_loaded"]


async def test_without_a_file_there_is_nothing_to_read_again(set_up: SetUp) -> None:
    """The settings are read at the start only; that is said."""
    source = PolicySource(set_up(ALLOWED_USERS="U0ADA"))
    with capture_logs() as logs:
        await source.reload()
    assert [line["event"] for line in logs] == ["policy_not_set"]
    assert source.checks() == []


def test_the_settings_are_one_rule_in_short_form(set_up: SetUp) -> None:
    """With every option of theirs."""
    [rule] = load_policy(
        set_up(
            ALLOWED_USERS="U0ADA",
            ALLOWED_USERGROUPS="S0DATA",
            ALLOWED_CHANNELS="C01",
            ALLOWED_BUCKETS="team-*",
            ALLOW_ENABLE="true",
            MAX_TOKEN_LIFETIME="90d",
        )
    ).rules
    assert rule.who.usergroups_to_ask("") == {"S0DATA"}
    assert (rule.verbs, rule.channels) == (USUAL_VERBS | {Verb.ENABLE}, frozenset({"C01"}))
    assert (rule.buckets, rule.max_token_lifetime) == (("team-*",), timedelta(days=90))
    assert (rule.approvals, rule.require_reason) == (0, False)


def test_the_start_is_refused_with_all_problems(set_up: SetUp) -> None:
    """Each names the setting, the file and the line."""
    write(BROKEN)
    with pytest.raises(StartRefused) as caught:
        PolicySource(set_up())
    lines = str(caught.value).split("\n")[1:]
    assert [line.partition(": `")[0] for line in lines] == [
        f"R2_CREDENTIAL_POLICY: policy.toml, line {number}" for number in (2, 3)
    ]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_a_file_that_others_can_write_is_refused(set_up: SetUp, mode: int) -> None:
    """Whoever writes it decides who may do what. It holds no secret, so reading it is fine."""
    write(OF_ADA)
    Path("policy.toml").chmod(0o644)
    assert load_policy(set_up()).rules
    Path("policy.toml").chmod(mode)
    with pytest.raises(PolicyBroken, match=r"decides who may do what, and others can write to it: run `chmod go-w"):
        load_policy(set_up())


def test_a_file_that_cannot_be_read_is_named_with_the_fix(set_up: SetUp) -> None:
    """With the command."""
    write(OF_ADA)
    Path("policy.toml").chmod(0)
    with file_modes_hold(), pytest.raises(PolicyBroken, match=r"chmod u"):
        load_policy(set_up())


def test_a_strangers_file_is_refused(set_up: SetUp) -> None:
    """Its owner can change it."""
    write(OF_ADA)
    give_to_a_stranger(Path("policy.toml"))
    with pytest.raises(PolicyBroken, match="it belongs to another user"):
        load_policy(set_up())


def test_a_directory_is_no_policy(set_up: SetUp) -> None:
    """That is said."""
    Path("policy.toml").mkdir()
    with pytest.raises(PolicyBroken, match=r"cannot read policy\.toml"):
        load_policy(set_up())


def test_a_pipe_is_no_policy(set_up: SetUp) -> None:
    """It can be read once, and anyone could be at its other end."""
    os.mkfifo("policy.toml")
    with pytest.raises(PolicyBroken, match=r"policy\.toml is not a file"):
        load_policy(set_up())


def test_a_link_that_leads_nowhere_is_named_with_the_fix(set_up: SetUp) -> None:
    """As for every file."""
    Path("policy.toml").symlink_to("elsewhere.toml")
    with pytest.raises(PolicyBroken, match=r"cannot read policy\.toml .*leads nowhere"):
        load_policy(set_up())


async def test_a_finding_about_listed_ids_names_what_lists_them(set_up: SetUp, source: PolicySource) -> None:
    """The operator is not sent to a setting that is not set."""
    listed, other = (
        Finding(part=Part.PEOPLE, event="usergroup_empty", text="x", setting=setting)
        for setting in ("R2_CREDENTIAL_ALLOWED_USERGROUPS", "SLACK_BOT_TOKEN")
    )
    [check] = source.checks()

    async def find() -> list[Finding]:
        return [listed, other]

    examined = await name_policy(type(check)(part=Part.PEOPLE, examine=find), set_up()).examine()
    assert [each.setting for each in examined] == ["R2_CREDENTIAL_POLICY", "SLACK_BOT_TOKEN"]
    unchanged = await name_policy(type(check)(part=Part.PEOPLE, examine=find), set_up(ALLOWED_USERS="U0ADA")).examine()
    assert [*unchanged] == [listed, other]
