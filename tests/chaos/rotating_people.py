"""The people of `tests.chaos.rotations`: each has a bucket, and does not give up."""

import asyncio
from typing import Final

from bot.sandbox.tokens import Behaviour, make_token
from tests.chaos.world import World

CHANNEL: Final = "C0DATAPLT"
_LOOK_EVERY: Final = 0.3
_AFTER_REFUSAL: Final = 0.5
_LONGEST_PAUSE: Final = 1.0
_PASTED, _IMPATIENT = 0.12, 0.25
"""How often somebody pastes a token instead, and how often nobody waits for the result before the next press."""


class Person:
    """Presses, again and again, until the bot has taken it."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._user = f"U0CHAOS{number:02d}"
        self._bucket = world.buckets[number]
        self._pasted = 0

    async def rotate_often(self, times: int) -> None:
        """Rotate so many times, with pastes in between, mostly after the result of what was before."""
        dice = self._world.dice
        for _ in range(times):
            if dice.random() < _PASTED:
                await self.paste()
            submission_id = await self.rotate()
            if dice.random() >= _IMPATIENT:
                await self.wait_for(submission_id)
            await asyncio.sleep(dice.uniform(0, _LONGEST_PAUSE))

    async def rotate_at_last(self) -> None:
        """Rotate until it ended well, which only a token that Cloudflare made too weak delays."""
        while await self.wait_for(await self.rotate()) != "stored":
            self._world.done["rotations repeated at the end"] += 1

    async def wait_for(self, submission_id: str) -> object:
        """Return how it ended, once its result is posted."""
        query = f"SELECT state FROM submissions WHERE id = '{submission_id}' AND reported_at IS NOT NULL"  # noqa: S608 - our own words
        while True:
            rows = await self._world.rows(query)
            if rows:
                return rows[0][0]
            await asyncio.sleep(_LOOK_EVERY)

    async def rotate(self) -> str:
        """Rotate, and return the reference."""
        submission_id = await self._submit(f"/r2-credential rotate {self._bucket}", {})
        self._world.rotations[submission_id] = self._bucket
        return submission_id

    async def paste(self) -> None:
        """Have another token stored."""
        self._pasted += 1
        token = make_token(Behaviour.GOOD, self._number * 1000 + self._pasted)
        submission_id = await self._submit(f"/r2-credential {self._bucket}", {"token": token})
        self._world.pastes[submission_id] = self._bucket

    async def _submit(self, command: str, fields: dict[str, str]) -> str:
        """Return the reference of what was taken; opens another form when this one is refused or unknown."""
        slack = self._world.slack
        while True:
            if slack.modal(self._user) is not None:
                await slack.close(self._user, whole_stack=True)
            outcome = await slack.type_command(self._user, CHANNEL, command)
            modal = slack.modal(self._user)
            if outcome.failure or outcome.message or modal is None or not modal.has_submit:
                await asyncio.sleep(_AFTER_REFUSAL)
                continue
            for name, value in fields.items():
                await slack.fill(self._user, name, value)
            if await self._press(modal.id):
                return modal.id
            await asyncio.sleep(_AFTER_REFUSAL)

    async def _press(self, view_id: str) -> bool:
        """Press Submit until the bot answers; return whether it was taken. Pressing again is safe."""
        slack, done = self._world.slack, self._world.done
        while True:
            modal = slack.modal(self._user)
            if modal is None or not modal.has_submit:  # taken by a press whose answer came too late
                return bool(await self._world.rows(f"SELECT 1 FROM submissions WHERE id = '{view_id}'"))  # noqa: S608 - our own words
            done["presses"] += 1
            answer = await slack.submit(self._user)
            view = answer.view
            if answer.kind == "updated":
                is_taken = view is not None and view.id == view_id and not view.has_submit
                is_unknown = "Nothing was sent" in str(view) or "No token was made" in str(view)
                done["presses refused"] += not is_taken or is_unknown
                return is_taken and not is_unknown
            if answer.kind == "errors" and "Press" not in str(answer.errors):
                done["presses refused"] += 1
                return False
            await asyncio.sleep(_AFTER_REFUSAL)
