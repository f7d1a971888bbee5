"""Examines what belongs to the process itself: its job runner, its hardening, its files and its settings."""

import resource
from collections.abc import Callable, Iterable, Iterator, Sequence

from bot.model.finding import Check, Finding, Mark, Part, log_finding
from bot.operations.exposed_files import find_exposed
from bot.settings import LoadedSettings


def jobs_check(is_working: Callable[[], bool]) -> Check:
    """Return the check of the job runner: without it, a submission is recorded and waits."""
    has_worked = False

    async def examine() -> Sequence[Finding]:
        nonlocal has_worked
        if is_working():
            has_worked = True
            return [Finding(part=Part.JOBS, event="jobs_run", text="jobs are run")]
        if not has_worked:
            return [Finding(part=Part.JOBS, event="jobs_begin", text="the job runner is starting", blocks=True)]
        return [
            Finding(
                part=Part.JOBS,
                event="jobs_stand_still",
                text="the job runner has not reached the database for some seconds",
                mark=Mark.FAILED,
                blocks=True,
            )
        ]

    return Check(part=Part.JOBS, examine=examine, is_quick=True)


def log_doubts(loaded: LoadedSettings, not_hardened: Sequence[str]) -> None:
    """Log what the start finds questionable, as `check` prints it."""
    found = (*find_in_settings(loaded), *find_in_process(not_hardened), *find_in_files(find_exposed(loaded)))
    for finding in found:
        if finding.mark is not Mark.OK:
            log_finding(finding)


def find_in_settings(loaded: LoadedSettings) -> Iterator[Finding]:
    """Yield the warnings that came with the settings, or that there are none."""
    yield from _warnings(Part.SETTINGS, "setting_questionable", loaded.warnings)
    if not loaded.warnings:
        yield Finding(part=Part.SETTINGS, event="settings_read", text=f"complete, for the role {loaded.settings.role}")


def find_in_files(exposed: Iterable[str]) -> Iterator[Finding]:
    """Yield a warning for each file with secrets that others can read."""
    warnings = list(exposed)
    yield from _warnings(Part.FILES, "file_exposed", warnings)
    if not warnings:
        yield Finding(part=Part.FILES, event="files_private", text="no file with secrets can be read by others")


def find_in_process(not_hardened: Sequence[str]) -> Iterator[Finding]:
    """Yield what keeps this process from being hardened; the bot's own process is hardened in the same way."""
    yield from _warnings(Part.PROCESS, "process_not_hardened", not_hardened)
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        text = "a crash could write the process's memory to disk"
        yield Finding(
            part=Part.PROCESS,
            event="core_dumps_possible",
            text=text,
            mark=Mark.WARNING,
            fix="start the bot with `ulimit -c 0`, or LimitCORE=0 under systemd",
        )
    elif not not_hardened:
        yield Finding(
            part=Part.PROCESS, event="process_hardened", text="no core dumps, and no debugger of the same user"
        )


def find_wrong_settings(problems: Iterable[str]) -> Iterator[Finding]:
    """Yield a failed finding for each line of a SettingsError."""
    for problem in problems:
        name, _, fault = problem.partition(": ")
        yield Finding(
            part=Part.SETTINGS,
            event="setting_wrong",
            text=problem,
            mark=Mark.FAILED,
            setting=name if fault else "",
            blocks=True,
        )


def _warnings(part: Part, event: str, warnings: Iterable[str]) -> Iterator[Finding]:
    return (Finding(part=part, event=event, text=warning, mark=Mark.WARNING) for warning in warnings)
