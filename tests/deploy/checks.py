"""What can be checked of the files for deployment without a cluster, an engine or a running systemd.

Each check runs a tool in a directory laid out like this repository. A tool that this machine lacks is reported as such.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.deploy.images import find_unpinned
from tests.project_checks import Check, ask, find_problems, find_tool, lacks, run

UNIT: Final = Path("deploy", "r2-credential-bot.service")
MOST_EXPOSED: Final = 20
"""The highest exposure that `systemd-analyze security` may find, in tenths."""

_PRESENT: Final = "/bin/true"


@cache
def _lacks_compose() -> str:
    if find_tool("docker") is None:
        return "there is no docker here"
    return "docker has no compose plugin here" if find_problems(Path(), ["docker", "compose", "version"]) else ""


def _ask_compose(directory: Path) -> str:
    command = ["docker", "compose", "--env-file", os.devnull, "config", "--quiet"]
    return find_problems(directory, command, {"CLOUDFLARE_ACCOUNT_ID": "0" * 32})


def _verify_unit(directory: Path) -> str:
    """Verify a copy whose program exists. systemd ignores what it does not know and exits with 0: any word counts."""
    with TemporaryDirectory() as copies:
        copy = Path(copies, UNIT.name)
        copy.write_text("".join(_with_a_program((directory / UNIT).read_text())))
        code, said = ask(directory, ["systemd-analyze", "verify", "--man=no", str(copy)])
    return said.replace(str(copy), str(UNIT)) or ("" if code == 0 else f"exit code {code}")


def _with_a_program(unit: str) -> Iterator[str]:
    for line in unit.splitlines(keepends=True):
        yield f"ExecStart={_PRESENT}\n" if line.startswith("ExecStart=") else line


def _judge_unit(directory: Path) -> str:
    question = ["security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}"]
    return find_problems(directory, ["systemd-analyze", *question, str(UNIT)])


_KUBERNETES = ("deploy/kubernetes.yaml", "deploy/kubernetes-minter.yaml")
_ALERTS, _ALERT_TESTS = Path("deploy", "alerts.yml"), Path("deploy", "alerts.test.yml")

IMAGES: Final = Check(name="images by digest", run=lambda directory: "\n".join(find_unpinned(directory)))

CHECKS: Final = (
    IMAGES,
    Check(name="yamllint", run=run("yamllint", "--strict", "."), missing=lacks("yamllint")),
    Check(name="hadolint", run=run("hadolint", "Dockerfile"), missing=lacks("hadolint")),
    Check(
        name="compose schema",
        run=run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
        missing=lacks("check-jsonschema"),
    ),
    Check(name="docker compose config", run=_ask_compose, missing=_lacks_compose),
    Check(
        name="kubernetes-validate",
        run=run("kubernetes-validate", "--strict", "--quiet", *_KUBERNETES),
        missing=lacks("kubernetes-validate"),
    ),
    Check(name="systemd-analyze verify", run=_verify_unit, missing=lacks("systemd-analyze")),
    Check(name="systemd-analyze security", run=_judge_unit, missing=lacks("systemd-analyze")),
    Check(
        name="promtool check rules",
        run=run("promtool", "check", "rules", "--lint-fatal", str(_ALERTS)),
        missing=lacks("promtool"),
        needs=[_ALERTS],
    ),
    Check(
        name="promtool test rules",
        run=run("promtool", "test", "rules", str(_ALERT_TESTS)),
        missing=lacks("promtool"),
        needs=[_ALERTS, _ALERT_TESTS],
    ),
)
