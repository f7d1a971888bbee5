"""Each rule of a rotation that is left out leads to a history that breaks an invariant: the machine finds it.

`python -m tests.rotation.plants` looks for all of them.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.project_checks import Plant, ask

HERE = Path(__file__).parents[2]
EXAMPLES = "100"
PLANTS = (
    Plant(
        check="a create without a row",
        file="bot/storage/minted_tokens.py",
        good="                raise LeaseLost\n            add_token(connection, self._chain, token)",
        bad="                raise LeaseLost",
        named="3: ",
    ),
    Plant(
        check="any number of unknown creates",
        file="bot/model/minted.py",
        good="MOST_UNSETTLED: Final = 2",
        bad="MOST_UNSETTLED: Final = 9",
        named="10: ",
    ),
    Plant(
        check="a stored token counts as proven",
        file="bot/delivery/confirm.py",
        good="is_proven = tested_at is not None and status is CredentialStatus.VALID",
        bad="is_proven = status is not None",
        named="5: ",
    ),
    Plant(
        check="revoked whatever the test says",
        file="bot/rotation/slot_test.py",
        good="return MintedState.TESTED if is_proven or not token.was_sent else MintedState.UNDOING",
        bad="return MintedState.TESTED",
        named="6: ",
    ),
    Plant(
        check="tested too early",
        file="bot/model/minted.py",
        good="PROBE_AFTER: Final = timedelta(seconds=90)",
        bad="PROBE_AFTER: Final = timedelta(seconds=9)",
        named=": ",
    ),
    Plant(
        check="any installation's tokens are ours",
        file="bot/model/token_name.py",
        good="return self.installation == mark",
        bad="return len(self.installation) == len(mark)",
        named=": ",
    ),
    Plant(
        check="what nobody knows is left alone",
        file="bot/rotation/housekeeping.py",
        good="            await self._tokens.adopt(self._as_row(seen, now))\n",
        bad="",
        named="8: ",
    ),
    Plant(
        check="a token of an ended submission is left alone",
        file="bot/storage/minted_moves.py",
        good="    if token.state is MintedState.CREATED or is_refused:\n",
        bad="    if is_refused:\n",
        named="8: ",
    ),
)


def plant(fault: Plant, directory: Path) -> None:
    """Copy the bot and its tests, and plant the fault into the copy."""
    for part in ("bot", "tests"):
        shutil.copytree(HERE / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
    path = directory / fault.file
    text = path.read_text()
    assert text.count(fault.good) == 1
    path.write_text(text.replace(fault.good, fault.bad))


def is_found(fault: Plant) -> bool:
    """Return whether the machine finds it within a hundred histories, by the invariant that it breaks."""
    with TemporaryDirectory() as directory:
        plant(fault, Path(directory))
        code, said = ask(Path(directory), (sys.executable, "-m", "tests.rotation.search", EXAMPLES))
    return code == 1 and fault.named in said.splitlines()[0]


def main() -> int:
    """Look for each, and return how many were not found."""
    missed = 0
    for fault in PLANTS:
        found = is_found(fault)
        missed += not found
        print(f"{'found' if found else 'NOT FOUND'}: {fault.check}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
