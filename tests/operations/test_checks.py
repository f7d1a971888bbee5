"""What is examined of the process itself."""

import resource
from pathlib import Path

import pytest

from bot.model.finding import Finding, Mark, Part
from bot.operations.checks import find_in_files, find_in_process, find_wrong_settings, jobs_check
from bot.operations.conditions import is_ready


async def test_a_job_runner_that_stands_still_blocks() -> None:
    """What is recorded would wait without anyone knowing."""
    runs = False
    check = jobs_check(lambda: runs)
    [before] = await check.examine()
    runs = True
    assert is_ready(await check.examine())
    runs = False
    [after] = await check.examine()

    assert (before.mark, before.blocks, after.mark, after.blocks) == (Mark.OK, True, Mark.FAILED, True)
    assert check.is_quick


def test_files_that_others_can_read_are_warnings() -> None:
    """And where there are none, that is said."""
    assert [each.mark for each in find_in_files(["one", "two"])] == [Mark.WARNING] * 2
    assert [each.mark for each in find_in_files([])] == [Mark.OK]


def test_core_dumps_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hold the tokens that were in memory."""
    limits = {"possible": (0, 1), "impossible": (0, 0)}
    events = []
    for limit in limits.values():
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: limit)
        events += [each.event for each in find_in_process([])]
    assert events == ["core_dumps_possible", "process_hardened"]
    assert [each.text for each in find_in_process(["prctl: no"])] == ["prctl: no"]


def test_each_problem_of_the_settings_is_a_failed_finding() -> None:
    """Under the setting's name, with the whole line."""
    found = list(find_wrong_settings(["SLACK_BOT_TOKEN: set it", f"{Path('.env')} cannot be read"]))
    assert [(each.setting, each.mark) for each in found] == [("SLACK_BOT_TOKEN", Mark.FAILED), ("", Mark.FAILED)]
    assert found[0].text == "SLACK_BOT_TOKEN: set it"
    assert all(isinstance(each, Finding) and each.part is Part.SETTINGS for each in found)
