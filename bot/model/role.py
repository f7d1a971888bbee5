"""The role of a process."""

from enum import StrEnum


class Role(StrEnum):
    """Which part of the bot a process is."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
