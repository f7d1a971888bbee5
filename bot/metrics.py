"""What the bot counts and times. Any room may count here; `bot.operations.metrics` shows it to Prometheus.

A label has a bounded set of values, so that nobody can fill the memory, or the operator's disk, with series. None of
them names a person, a channel or a token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from bot.model.errors import AccessRefused, WhoActs, error_of_code, leaves
from bot.model.submission import ENDINGS, State, Task

# The time at which each series began: as many series again, and nobody asks
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client does not annotate it

OTHER: Final = "other"
NONE: Final = "none"


class Kind(StrEnum):
    """The type of a metric, as Prometheus calls it."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label with its only values; or, where they are too many to list, what `bound` makes of any text."""

    name: str
    values: tuple[str, ...] = ()
    described: str = ""
    """The values in words, where they are not listed."""

    bound: Callable[[str], str] | None = None

    def value(self, text: str) -> str:
        """Return the text if it is one of the values."""
        if self.bound is not None:
            return self.bound(text)
        return text if text in self.values else OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric with its labels. One whose labels list all values begins with a zero for each."""

    kind: Kind
    name: str
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()


def _known_code(code: str) -> str:
    return code if code == NONE else error_of_code(code).code


def _known_status(status: str) -> str:
    return status if status in _STATUSES else OTHER


_STATUSES: Final = frozenset({NONE, *(str(int(status)) for status in HTTPStatus)})
_STATUS: Final = Label(
    name="status", described="the HTTP status, `none` without an answer, `other`", bound=_known_status
)
_CODE: Final = Label(name="code", described="a code of [every cause](diagnosis.md), or `none`", bound=_known_code)
_FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 3.0)
"""Slack waits for 3 s; the bot answers after 2.5 s in any case."""

_SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""No request takes longer than 30 s."""

ACKNOWLEDGED: Final = Family(
    kind=Kind.HISTOGRAM,
    name="r2_credential_bot_acknowledgement_duration_seconds",
    meaning="From a verified payload of Slack's to the bot's answer.",
    labels=(
        Label(
            name="kind",
            values=(
                "command",
                "view_submission",
                "view_closed",
                "block_actions",
                "block_suggestion",
                "event_callback",
                OTHER,
            ),
        ),
    ),
    buckets=_FAST,
)
STEPS: Final = Family(
    kind=Kind.HISTOGRAM,
    name="r2_credential_bot_step_duration_seconds",
    meaning="One attempt at a step of a submission, with what it records; `report` is the message with the result.",
    labels=(Label(name="step", values=("permit", "verify", "store", "confirm", "enable", "report")),),
    buckets=_SLOW,
)
ENDED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_submissions_ended_total",
    meaning="Submissions that ended, counted by the process that ended them.",
    labels=(
        Label(name="task", values=tuple(Task)),
        Label(name="ending", values=tuple(sorted(ENDINGS))),
        _CODE,
        Label(name="who_acts", values=(*WhoActs, NONE)),
    ),
)
ROTATIONS: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_rotations_total",
    meaning="Rotations that ended, of people and of the bot itself, counted by the process that ended them.",
    labels=(Label(name="outcome", values=tuple(sorted(ENDINGS - {State.CHECKED, State.ENABLED}))),),
)
CHANGED_BY_HAND: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_tokens_changed_by_hand_total",
    meaning="Tokens in a slot that the bot made, and that somebody else has deleted or disabled; of the minter.",
    labels=(Label(name="how", values=("deleted", "disabled")),),
)
RETRIED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_retries_total",
    meaning="Attempts that failed and will be repeated, by the cause: steps of submissions, and their messages.",
    labels=(_CODE,),
)
CLOUDFLARE_CALLS: Final = (
    "list_catalogs",
    "get_catalog",
    "verify_token",
    "get_token",
    "test_credential",
    "store_credential",
    "enable_catalog",
    "create_token",
    "list_tokens",
    "set_token_status",
    "delete_token",
    "list_permission_groups",
)
CLOUDFLARE_REQUESTS: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_cloudflare_requests_total",
    meaning="Requests to Cloudflare.",
    labels=(Label(name="call", values=(*CLOUDFLARE_CALLS, OTHER)), _STATUS),
)
CLOUDFLARE_DURATION: Final = Family(
    kind=Kind.HISTOGRAM,
    name="r2_credential_bot_cloudflare_request_duration_seconds",
    meaning="Requests to Cloudflare, without the time in the bot's own queue.",
    labels=(Label(name="call", values=(*CLOUDFLARE_CALLS, OTHER)),),
    buckets=_SLOW,
)
SLACK_METHODS: Final = (
    "apps.connections.open",
    "auth.test",
    "chat.postMessage",
    "conversations.info",
    "usergroups.users.list",
    "users.info",
    "views.open",
    "views.publish",
    "views.push",
    "views.update",
    "response_url",
    "socket",
)
SLACK_REQUESTS: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_slack_requests_total",
    meaning="Requests to Slack. An answer of status 200 may still be a refusal; those are counted below.",
    labels=(Label(name="method", values=(*SLACK_METHODS, OTHER)), _STATUS),
)
SLACK_DURATION: Final = Family(
    kind=Kind.HISTOGRAM,
    name="r2_credential_bot_slack_request_duration_seconds",
    meaning="Requests to Slack, until the headers of the answer.",
    labels=(Label(name="method", values=(*SLACK_METHODS, OTHER)),),
    buckets=_SLOW,
)
SLACK_REFUSALS: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_slack_refusals_total",
    meaning="Calls that Slack answered with an error. `not_found` is a form that its person has closed.",
    labels=(
        Label(
            name="error",
            values=(
                "account_inactive",
                "channel_not_found",
                "exchanged_trigger_id",
                "expired_trigger_id",
                "invalid_arguments",
                "invalid_auth",
                "is_archived",
                "missing_scope",
                "not_allowed_token_type",
                "not_found",
                "not_in_channel",
                "push_limit_reached",
                "ratelimited",
                "restricted_action",
                "token_expired",
                "token_revoked",
                OTHER,
            ),
        ),
    ),
)
SOCKET_RECONNECTS: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_socket_mode_reconnects_total",
    meaning=(
        "Socket Mode connections that were replaced, by why they ended. Slack itself ends each after some hours; with "
        "`renewal`, the bot lets Slack count the app's connections again."
    ),
    labels=(
        Label(
            name="reason",
            values=(
                "warning",
                "refresh_requested",
                "link_disabled",
                "too_many_websockets",
                "closed",
                "renewal",
                "unknown",
            ),
        ),
    ),
)
CONNECTIONS_REFUSED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_connections_refused_total",
    meaning="Connections to one of the bot's ports that it cut.",
    labels=(
        Label(
            name="reason",
            values=("too_many_connections", "too_many_bytes", "too_slow", "no_descriptor_left", "malformed_request"),
        ),
    ),
)
REQUESTS_REFUSED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_slack_payloads_refused_total",
    meaning="Requests to `/slack/events` that were not Slack's, or too late, or could not be read.",
    labels=(
        Label(
            name="reason",
            values=(
                "bad_signature",
                "stale_timestamp",
                "encoded_body",
                "large_body",
                "slow_body",
                "malformed_body",
            ),
        ),
    ),
)
ACCESS_REFUSED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_access_refused_total",
    meaning="People whom the allowlist refused, at any entrance.",
    labels=(Label(name="reason", values=tuple(leaf.code for leaf in leaves(AccessRefused))),),
)
LOG_DROPPED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_log_lines_dropped_total",
    meaning="Log lines that were lost because nobody read the log, or its disk was full.",
)
LOG_SCRUBBED: Final = Family(
    kind=Kind.COUNTER,
    name="r2_credential_bot_log_values_scrubbed_total",
    meaning="Values in the log that looked like a secret, and were masked. Each is a fault of the bot's, or an attack.",
)
COUNTED: Final = (
    ACKNOWLEDGED,
    STEPS,
    ENDED,
    ROTATIONS,
    CHANGED_BY_HAND,
    RETRIED,
    CLOUDFLARE_REQUESTS,
    CLOUDFLARE_DURATION,
    SLACK_REQUESTS,
    SLACK_DURATION,
    SLACK_REFUSALS,
    SOCKET_RECONNECTS,
    CONNECTIONS_REFUSED,
    REQUESTS_REFUSED,
    ACCESS_REFUSED,
)
OF_THE_LOG: Final = (LOG_DROPPED, LOG_SCRUBBED)


class Metrics:
    """The counters of one bot, from zero. A process may run several bots, as tests do, so nothing here is global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {each: self._counter(each) for each in COUNTED if each.kind is Kind.COUNTER}
        self._histograms = {each: self._histogram(each) for each in COUNTED if each.kind is Kind.HISTOGRAM}

    def count(self, family: Family, *values: str, by: int = 1) -> None:
        """Count an event; `values` are those of the family's labels, in their order."""
        counter = self._counters[family]
        (counter.labels(*_bounded(family, values)) if values else counter).inc(by)

    def observe(self, family: Family, seconds: float, *values: str) -> None:
        """Record how long something took."""
        self._histograms[family].labels(*_bounded(family, values)).observe(seconds)

    def _counter(self, family: Family) -> Counter:
        counter = counter_of(family, self.registry)
        for values in _all_values(family):
            counter.labels(*values)
        return counter

    def _histogram(self, family: Family) -> Histogram:
        histogram = Histogram(
            family.name, family.meaning, _names(family), registry=self.registry, buckets=family.buckets
        )
        for values in _all_values(family):
            histogram.labels(*values)
        return histogram


def counter_of(family: Family, registry: CollectorRegistry | None = None) -> Counter:
    """Return a counter of its own, for what belongs to the process and not to a bot."""
    return Counter(family.name, family.meaning, _names(family), registry=registry)


def _all_values(family: Family) -> Iterator[tuple[str, ...]]:
    """Yield every combination, where the labels list their values: Prometheus sees no increase to a first event."""
    if family.labels and all(label.values for label in family.labels):
        yield from product(*(label.values for label in family.labels))


def _names(family: Family) -> list[str]:
    return [label.name for label in family.labels]


def _bounded(family: Family, values: tuple[str, ...]) -> list[str]:
    return [label.value(value) for label, value in zip(family.labels, values, strict=True)]
