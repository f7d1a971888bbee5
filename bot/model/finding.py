"""Findings: what holds of a part of the bot, said once and in the same words wherever an operator looks.

The command `check` prints them, the running bot logs those that change, `/readyz` as JSON and `/metrics` show them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from bot.model.foreign_text import one_line
from bot.model.pasted_token import mask_tokens

_log = structlog.get_logger()


class Part(StrEnum):
    """What is examined, in the order in which it is shown."""

    START = "start"
    SETTINGS = "settings"
    POLICY = "policy"
    INSTALLATION = "installation"
    PROCESS = "process"
    FILES = "files"
    NETWORK = "network"
    PORTS = "ports"
    DATABASE = "database"
    KEYS = "keys"
    AUDIT = "audit"
    WEBHOOK = "webhook"
    JOBS = "jobs"
    SLACK = "slack"
    TRANSPORT = "transport"
    PEOPLE = "people"
    CHANNELS = "channels"
    CLOUDFLARE = "cloudflare"
    CATALOGS = "catalogs"
    ROTATION = "rotation"
    CLOCK = "clock"


class Mark(StrEnum):
    """How good a finding is: a failed one needs someone to act, or keeps the bot from its work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


_LEVELS: Final = {Mark.OK: logging.DEBUG, Mark.WARNING: logging.WARNING, Mark.FAILED: logging.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found.

    Words of Slack, of Cloudflare or of a database can stand in any field: each text is made one visible line, without
    a token.
    """

    part: Part
    event: str
    """The stable name, under which it is logged and explained in docs/troubleshooting.md."""

    text: str
    """One sentence without a full stop, for the operator."""

    mark: Mark = Mark.OK
    setting: str = ""
    fix: str = ""
    """What to do about it, beginning with a verb; empty where only waiting helps.

    It names no person, channel or workspace: unlike the text, it is shown on a port without a login.
    """

    blocks: bool = False
    """Whether no submission can be stored while this lasts: the bot is not ready."""

    known: Mapping[str, object] = field(default_factory=dict)
    """Counts and ids, for the log and JSON."""

    about: str = ""
    """Which of several things this is about, such as a channel: each is news of its own."""

    def __post_init__(self) -> None:
        """Make every text safe to show. On a terminal, a line break or an escape could forge another finding."""
        for name in ("text", "setting", "fix", "known", "about"):
            object.__setattr__(self, name, _safe(getattr(self, name)))


def _safe(value: object) -> object:
    if isinstance(value, str):
        return mask_tokens(one_line(value))
    if isinstance(value, Mapping):
        return {_safe(name): _safe(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(each) for each in value]
    return value if value is None or isinstance(value, int | float) else _safe(str(value))


def log_finding(finding: Finding) -> None:
    """Log a finding, in the words that `check` prints."""
    what_to_do = {name: said for name, said in (("setting", finding.setting), ("fix", finding.fix)) if said}
    level = _LEVELS[finding.mark]
    _log.log(level, finding.event, part=finding.part.value, found=finding.text, **finding.known, **what_to_do)


def log_each_once() -> Callable[[Finding], None]:
    """Return a function that logs a finding, unless it got the same one just before: some are told every second."""
    last: Finding | None = None

    def log(finding: Finding) -> None:
        nonlocal last
        if finding != last:
            log_finding(finding)
        last = finding

    return log


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a part is examined. `examine` returns at least one finding."""

    part: Part
    examine: Callable[[], Awaitable[Sequence[Finding]]]
    is_quick: bool = False
    """Whether it asks only this process and its database: it is then examined for each question about readiness."""
