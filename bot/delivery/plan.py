"""The steps of each task, in order. A new step is a module and an entry here."""

from collections.abc import Mapping
from typing import Final

from bot.delivery.approve import Approve
from bot.delivery.confirm import Confirm
from bot.delivery.enable import Enable
from bot.delivery.mint import Mint
from bot.delivery.permit import Permit
from bot.delivery.step import Step
from bot.delivery.store import Store
from bot.delivery.verify import Verify
from bot.model.submission import Task

Plan = tuple[type[Step], ...]

PLANS: Final[Mapping[Task, Plan]] = {
    Task.STORE: (Permit, Verify, Approve, Store, Confirm),
    Task.CHECK: (Permit, Verify),
    Task.ENABLE: (Permit, Approve, Enable),
    Task.ROTATE: (Permit, Approve, Mint, Verify, Store, Confirm),
}
"""Steps that are done are skipped; the report follows the last step, or the one that ended the submission."""
