"""People of whom Slack says nothing, so that only the rules decide."""

from typing import Final

from bot.policy.profile import Profile


class _Everybody:
    async def profile_of(self, user_id: str) -> Profile | None:
        return None


EVERYBODY: Final = _Everybody()
