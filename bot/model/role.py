"""The roles that the processes of one bot can have."""

from enum import StrEnum


class Role(StrEnum):
    """Which part of the bot a process runs."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
