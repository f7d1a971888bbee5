"""Generates docs/metrics.md from the declarations of the metrics; `make docs` rewrites the page."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import PlatformCollector, ProcessCollector

from bot.metrics import COUNTED, OF_THE_LOG, Family, Kind, Label
from bot.operations.gauges import READ

DOCUMENT = Path(__file__).parent.parent / "docs" / "metrics.md"
COMMAND = "make docs"

_INTRODUCTION = """\
# Metrics

The table is generated from the code by `make docs`; a test fails when it is out of date.

`R2_CREDENTIAL_METRICS_PORT` opens a second port with `/metrics` in Prometheus's text format, and `/readyz` as JSON with
a reason for each part. The Docker image sets it to 9090. It has no login and no TLS: let only your monitoring reach it.

```yaml
scrape_configs:
  - job_name: r2-credential-bot
    static_configs:
      - targets: ["bot.internal:9090"]
```

- Alerts are in [deploy/alerts.yml](../deploy/alerts.yml), and what to do about each in [alerts.md](alerts.md).
- Each process counts for itself, from zero: add counters and histograms up over processes, with `sum`. Gauges *from the
  database* are the same on every process that uses it: take their `max`, or two workers would count everything twice.
- Times are in seconds, and moments in seconds since 1970, as Prometheus recommends. The days until a credential
  expires, negative afterwards, are
  `(max by (bucket) (r2_credential_bot_credential_expiry_timestamp_seconds) - time()) / 86400`. The alerts record them
  as `bucket:r2_credential_bot_credential_expiry:days`.
- Every label has a bounded set of values: what is not listed is counted as `other`. No label names a person, a channel
  or a token. The only name is the bucket's, on the expiry.
- A page is written at most once a second. A database that is down or hangs costs the gauges that come from it, and
  `r2_credential_bot_source_up` says so.

"""


def families() -> Iterator[Family]:
    """Yield every metric of the page: ours, and what the library says of the process."""
    yield from (*COUNTED, *OF_THE_LOG, *READ)
    for metric in (*ProcessCollector(registry=None).collect(), *PlatformCollector(registry=None).collect()):
        kind = Kind(metric.type)
        labels = sorted({name for sample in metric.samples for name in sample.labels})
        yield Family(
            kind=kind,
            name=metric.name + ("_total" if kind is Kind.COUNTER else ""),
            meaning=metric.documentation.removesuffix(".") + ".",
            labels=tuple(Label(name=name, described="text") for name in labels),
        )


def build_document() -> str:
    """Return the whole page."""
    rows = [_row(family) for family in families()]
    return "\n".join([_INTRODUCTION + "| name | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _row(family: Family) -> str:
    return f"| `{family.name}` | {family.kind} | {'; '.join(_labels(family.labels))} | {family.meaning} |"


def _labels(labels: Iterable[Label]) -> Iterator[str]:
    for label in labels:
        values = label.described or ", ".join(f"`{value}`" for value in label.values)
        yield f"`{label.name}`: {values}"


if __name__ == "__main__":
    DOCUMENT.write_text(build_document(), encoding="utf-8")
