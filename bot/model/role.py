"""The roles that the processes of one bot can have, and what each does: nothing else compares roles."""

from enum import StrEnum


class Role(StrEnum):
    """Which part of the bot a process runs.

    Ask what a role does, never which one it is not: a role that comes later would be taken for one of the others.
    """

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
    MINTER = "minter"

    @property
    def takes_payloads(self) -> bool:
        """Whether Slack reaches this process."""
        return self in {Role.ALL, Role.GATEWAY}

    @property
    def delivers(self) -> bool:
        """Whether it opens sealed tokens, calls Cloudflare with the bot's own credentials, and posts results."""
        return self in {Role.ALL, Role.WORKER}

    @property
    def mints(self) -> bool:
        """Whether it may hold the token that makes and revokes tokens."""
        return self in {Role.ALL, Role.MINTER}

    @property
    def speaks_to_slack(self) -> bool:
        """Whether it calls Slack."""
        return self.takes_payloads or self.delivers

    @property
    def calls_cloudflare(self) -> bool:
        """Whether it calls Cloudflare, with whichever token."""
        return self.delivers or self.mints
