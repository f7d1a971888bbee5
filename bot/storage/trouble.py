"""Why a database cannot be used, in the same words at the start, while the bot runs, and in the command `check`."""

from dataclasses import dataclass
from typing import Final

from bot.model.finding import Finding, Mark, Part

DATABASE_SETTING: Final = "R2_CREDENTIAL_DATABASE_URL"
DATA_DIR_SETTING: Final = "R2_CREDENTIAL_DATA_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A failure, and the fix where one is known. Quotes no value."""

    reason: str
    fix: str = ""

    def finding(self) -> Finding:
        """Return it as a finding: while it lasts, nothing can be recorded."""
        return Finding(
            part=Part.DATABASE,
            event="database_not_reached",
            text=self.reason,
            mark=Mark.FAILED,
            setting=DATABASE_SETTING,
            fix=self.fix,
            blocks=True,
        )


def no_room(place: object) -> Finding:
    """Return what is found while the disk is full."""
    return Finding(
        part=Part.DATABASE,
        event="disk_full",
        text=f"no room is left for {place}",
        mark=Mark.FAILED,
        setting=DATA_DIR_SETTING,
        fix="make room on that disk",
        blocks=True,
    )
