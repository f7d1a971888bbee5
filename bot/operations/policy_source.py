"""Where the rules come from: the policy file, read at the start and again at SIGHUP, or the settings in short form."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from bot.file_access import explain
from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, StartRefused
from bot.model.finding import Check, Finding, Mark, Part
from bot.policy.decision import refuse
from bot.policy.explain import Explanation
from bot.policy.file import PolicyBroken, read_rules
from bot.policy.listed import Listed, list_ids
from bot.policy.rules import Allowlist, Request, Rule, Verb
from bot.sealing.private_places import find_exposure
from bot.settings import Settings

SETTING: Final = "R2_CREDENTIAL_POLICY"

_LARGEST: Final = 256 * 1024
_DIGITS: Final = 12
_MOST_TOLD: Final = 5

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules, and the beginning of the SHA-256 of the file that holds them; "" if they come from the settings."""

    rules: tuple[Rule, ...]
    digest: str = ""


def load_policy(settings: Settings) -> Policy:
    """Return the rules of the policy file, or those of the four settings; raises PolicyBroken with all problems."""
    if settings.policy is not None:
        return _read(settings.policy)
    allowlist = Allowlist(
        users=frozenset(settings.allowed_users),
        usergroups=frozenset(settings.allowed_usergroups),
        channels=frozenset(settings.allowed_channels),
        buckets=settings.allowed_buckets,
        may_enable=settings.allow_enable,
        max_token_lifetime=settings.max_token_lifetime,
    )
    return Policy(rules=allowlist.rules())


def _read(path: Path) -> Policy:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait, and empty it
            raise PolicyBroken([f"{SETTING}: {path} is not a file: write the rules to one"])
        exposure = find_exposure(path) if path.is_file() else None
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise PolicyBroken([f"{SETTING}: cannot read {path} {explain(error, path)}"]) from None
    if exposure is not None:
        raise PolicyBroken([f"{SETTING}: anyone who can change {path} decides who may do what, and {exposure}"])
    if len(content) > _LARGEST:
        raise PolicyBroken([f"{SETTING}: {path} is larger than {_LARGEST // 1024} KiB: list user groups, not users"])
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise PolicyBroken([f"{SETTING}: {path} is not UTF-8 text: save it as that"]) from None
    return Policy(rules=read_rules(text, f"{SETTING}: {path}"), digest=hashlib.sha256(content).hexdigest()[:_DIGITS])


class PolicySource:
    """Keeps the rules that hold. A file that is broken changes nothing."""

    def __init__(self, settings: Settings) -> None:
        """Read the rules; raises StartRefused with all problems."""
        self._settings = settings
        self._turn = asyncio.Lock()
        self._followers: list[Callable[[Sequence[Rule]], None]] = []
        self._problems: Sequence[str] = ()
        try:
            self._policy = load_policy(settings)
        except PolicyBroken as broken:
            message = "\n".join(["Fix the rules:", *broken.problems])
            raise StartRefused(message) from None
        if settings.policy is not None:
            self._log_loaded()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold now."""
        return self._policy.rules

    def listed(self) -> Listed:
        """Return the ids that the rules name now."""
        return list_ids(self._policy.rules)

    def offers_enabling(self, key: BucketKey, channel_id: str) -> bool:
        """Return whether someone may enable a catalog, so that it is offered where all can see it."""
        return refuse(self.rules, Request(verb=Verb.ENABLE, key=key, channel_id=channel_id)) is None

    def follow_by(self, follow: Callable[[Sequence[Rule]], None]) -> None:
        """Hand new rules on, all at once, when they are read."""
        self._followers.append(follow)

    async def reload_at(self, hang_up: asyncio.Event) -> None:
        """Read the file again each time the event is set, until cancelled."""
        while True:
            await hang_up.wait()
            hang_up.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the file again. Raises nothing: if it is broken, the old rules go on holding."""
        if self._settings.policy is None:
            _log.info("policy_not_set", found=f"{SETTING} is not set, so there is nothing to read again")
            return
        async with self._turn:  # or an older reading could end last
            try:
                self._policy = await asyncio.to_thread(load_policy, self._settings)
            except PolicyBroken as broken:
                self._problems = broken.problems
                _log.error("policy_not_loaded", problems=broken.problems, kept=self._policy.digest)
                return
            self._problems = ()
            for follow in self._followers:
                follow(self.rules)
            self._log_loaded()

    def _log_loaded(self) -> None:
        _log.info("policy_loaded", rules=len(self.rules), digest=self._policy.digest)

    def checks(self) -> list[Check]:
        """Return the check of the policy file, if there is one."""

        async def examine() -> Sequence[Finding]:
            return find_in_policy(self._policy, self._problems)

        is_file = self._settings.policy is not None
        return [Check(part=Part.POLICY, examine=examine, is_quick=True)] if is_file else []


def find_in_explanation(explanation: Explanation) -> Finding:
    """Return what a person may do as a finding: a no is as fine as a yes, but not to know it is not."""
    is_yes = explanation.is_known and explanation.allows
    return Finding(
        part=Part.POLICY,
        event="policy_allows" if is_yes else "policy_refuses" if explanation.is_known else "policy_unsure",
        text=explanation.text,
        mark=Mark.OK if explanation.is_known else Mark.FAILED,
        known={
            "verb": explanation.verb,
            "allowed": is_yes if explanation.is_known else None,
            "rules": [rule.name for rule in explanation.rules],
        },
    )


def find_unfit(refusal: AccessRefused) -> Finding:
    """Return that a person is refused whatever the rules say, or that Slack does not tell."""
    is_unknown = refusal.retryable
    return Finding(
        part=Part.POLICY,
        event="policy_unsure" if is_unknown else "policy_refuses_person",
        text=(
            "Slack does not say whether this is an active, full member of the workspace; nobody else is let in"
            if is_unknown
            else "Slack calls this person a guest, a bot, deactivated or a stranger: refused, whatever the rules say"
        ),
        mark=Mark.FAILED,
        known={"code": refusal.code},
    )


def name_policy(check: Check, settings: Settings) -> Check:
    """Let a check of listed ids name the policy file instead of the settings, where that is what lists them."""
    if settings.policy is None:
        return check

    async def examine() -> Sequence[Finding]:
        return [_rename(finding) for finding in await check.examine()]

    return replace(check, examine=examine)


def find_in_policy(policy: Policy, problems: Sequence[str]) -> list[Finding]:
    """Return the finding about the policy file: how many rules hold, and whether it was broken when last read."""
    known: dict[str, object] = {"rules": len(policy.rules), "digest": policy.digest}
    if not problems:
        count = f"{len(policy.rules)} {'rule holds' if len(policy.rules) == 1 else 'rules hold'}"
        return [Finding(part=Part.POLICY, event="policy_holds", text=f"{count}, of {SETTING}", known=known)]
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return [
        Finding(
            part=Part.POLICY,
            event="policy_broken",
            text=f"the policy file is broken, so its former rules hold: {'; '.join(problems[:_MOST_TOLD])}{more}",
            mark=Mark.FAILED,
            setting=SETTING,
            fix="correct the file and send the process SIGHUP; before that, a restart would fail",
            known=known,
        )
    ]


def _rename(finding: Finding) -> Finding:
    is_of_lists = finding.setting.startswith("R2_CREDENTIAL_ALLOWED_")
    return replace(finding, setting=SETTING if is_of_lists else finding.setting)
