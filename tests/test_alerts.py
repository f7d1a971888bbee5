"""deploy/alerts.yml: its rules and their unit tests pass promtool, and speak of metrics and pages that exist."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.metrics import COUNTED, OF_THE_LOG, Family
from bot.operations.gauges import READ
from tests.promtool import run_promtool

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "alerts.yml"
TESTS = ROOT / "deploy" / "alerts.test.yml"
FAMILIES: dict[str, Family] = {family.name: family for family in (*COUNTED, *OF_THE_LOG, *READ)}
LONGEST_SENTENCE = 35


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in _rules() if "record" in rule}


def test_the_rules_are_valid() -> None:
    """As Prometheus would load them."""
    done = run_promtool("check", "rules", RULES)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """By the unit tests beside the rules."""
    done = run_promtool("test", "rules", TESTS)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("right", "wrong"), [("> 900", "> 90000"), ("for: 2m", "for: 1m"), ('"failed"', '"faild"')])
def test_the_unit_tests_find_a_wrong_rule(tmp_path: Path, right: str, wrong: str) -> None:
    """A threshold, a duration or a label that is wrong by a little."""
    assert right in RULES.read_text()
    (tmp_path / RULES.name).write_text(RULES.read_text().replace(right, wrong))
    shutil.copy(TESTS, tmp_path)

    assert run_promtool("test", "rules", tmp_path / TESTS.name).returncode == 1


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_tested_both_ways(name: str) -> None:
    """One test in which it fires, and one in which it does not."""
    tested = [
        bool(case.get("exp_alerts"))
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]

    assert set(tested) == {True, False}


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_each_rule_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    """Prometheus itself takes a misspelt name for one without series, and never fires."""
    selectors = re.findall(r"(?<![\w:])(r2_credential_\w+)(?:\{([^}]*)\})?", rule["expr"])
    recorded = re.findall(r"\w+:r2_credential_bot_\w+:\w+", rule["expr"])

    assert selectors or recorded or rule["alert"] == "R2CredentialBotDown"
    assert set(recorded) <= RECORDED
    for name, matchers in selectors:
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
            [known] = [each for each in FAMILIES[name].labels if each.name == label]
            assert all(known.value(value) == value != "other" for value in values.split("|"))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_happened_and_what_to_do(name: str) -> None:
    """In a summary, a description in sentences that can be read at night, and a page with more."""
    rule = ALERTS[name]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert anchor == name.lower()
    assert name in headings
    assert set(headings) == ALERTS.keys()
    for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
        assert all(len(sentence.split()) <= LONGEST_SENTENCE for sentence in re.split(r"[.:;] ", text))


def test_each_log_event_that_the_pages_name_exists() -> None:
    """An operator searches the log for it."""
    sources = "".join(path.read_text() for path in (ROOT / "bot").rglob("*.py"))
    pages = (ROOT / "docs" / "alerts.md").read_text() + RULES.read_text()
    words = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", re.sub(r"r2_credential_\w+", "", pages)))

    assert {word for word in words - {"who_acts", "rule_files", "max_over_time"} if f'"{word}"' not in sources} == set()
