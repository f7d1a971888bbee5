"""What is counted: labels stay bounded, whatever comes, and each bot counts for itself."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bot.cloudflare.errors import CallerRejected
from bot.metrics import (
    ACCESS_REFUSED,
    ACKNOWLEDGED,
    CLOUDFLARE_REQUESTS,
    CONNECTIONS_REFUSED,
    COUNTED,
    ENDED,
    OF_THE_LOG,
    RETRIED,
    SLACK_REQUESTS,
    Family,
    Kind,
    Metrics,
)

STRANGE = "U0ADA0001 cfat_something"
SERIES_OF_ONE_LABEL = 30


def _value(metrics: Metrics, family: Family, *values: str) -> float | None:
    labels = {label.name: value for label, value in zip(family.labels, values, strict=True)}
    suffix = "_count" if family.kind is Kind.HISTOGRAM else ""
    return metrics.registry.get_sample_value(family.name + suffix, labels)


def test_each_bot_counts_for_itself() -> None:
    """Several bots in one process share nothing, and the library's own registry stays as it was."""
    one, other = Metrics(), Metrics()

    one.count(CONNECTIONS_REFUSED, "malformed_request")

    assert _value(one, CONNECTIONS_REFUSED, "malformed_request") == 1
    assert _value(other, CONNECTIONS_REFUSED, "malformed_request") == 0


@pytest.mark.parametrize(
    ("family", "given", "counted"),
    [
        (CONNECTIONS_REFUSED, [STRANGE], ["other"]),
        (CLOUDFLARE_REQUESTS, [STRANGE, "999"], ["other", "other"]),
        (CLOUDFLARE_REQUESTS, ["list_catalogs", "none"], ["list_catalogs", "none"]),
        (SLACK_REQUESTS, ["views.open", "200"], ["views.open", "200"]),
        (SLACK_REQUESTS, ["admin.users.list", STRANGE], ["other", "other"]),
        (RETRIED, [STRANGE], ["unknown_cause"]),
        (RETRIED, [CallerRejected.code], ["caller_rejected"]),
        (ENDED, ["store", "stored", "none", "none"], ["store", "stored", "none", "none"]),
        (ENDED, [STRANGE] * 4, ["other", "other", "unknown_cause", "other"]),
    ],
)
def test_a_value_that_is_not_listed_is_not_shown(family: Family, given: list[str], counted: list[str]) -> None:
    """A stranger, or a newer service, cannot add series: what is not known is counted under one name."""
    metrics = Metrics()

    metrics.count(family, *given)

    assert _value(metrics, family, *counted) == 1
    assert STRANGE not in generate_latest(metrics.registry).decode()


def test_a_duration_of_an_unknown_kind_is_kept_too() -> None:
    """It is counted under one name, with its seconds."""
    metrics = Metrics()

    metrics.observe(ACKNOWLEDGED, 0.5, STRANGE)

    assert _value(metrics, ACKNOWLEDGED, "other") == 1
    assert metrics.registry.get_sample_value(f"{ACKNOWLEDGED.name}_sum", {"kind": "other"}) == 0.5


def test_what_is_rare_begins_at_zero() -> None:
    """Prometheus sees no increase where a series appears with its first event."""
    metrics = Metrics()
    text = generate_latest(metrics.registry).decode()

    parsed = {family.name: family for family in text_string_to_metric_families(text)}
    refused = parsed[ACCESS_REFUSED.name.removesuffix("_total")]
    assert {sample.labels["reason"]: sample.value for sample in refused.samples} == dict.fromkeys(
        ACCESS_REFUSED.labels[0].values, 0.0
    )
    assert "not_allowed" in ACCESS_REFUSED.labels[0].values


def test_names_follow_the_conventions() -> None:
    """One prefix, base units, `_total` for counters, and no label with more values than people can read."""
    for family in (*COUNTED, *OF_THE_LOG):
        assert family.name.startswith("r2_credential_")
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
        assert family.name.endswith("_seconds") == (family.kind is Kind.HISTOGRAM)
        assert family.meaning.endswith(".")
        assert sorted(family.buckets) == list(family.buckets)
        for label in family.labels:
            assert (label.bound is None) == bool(label.values) == (not label.described)
            assert len(label.values) == len(set(label.values)) < SERIES_OF_ONE_LABEL
