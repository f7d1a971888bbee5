"""Who asked for a submission: its id says it, and is signed with the rest of it. Pure."""

from enum import StrEnum


class Origin(StrEnum):
    """What led to a submission."""

    PERSON = "person"
    SCHEDULE = "schedule"
    FLEET = "fleet"
    HEALING = "heal"
    """The slot did not work without a token that was to be taken back."""

    @property
    def is_the_bot(self) -> bool:
        """Whether nobody pressed anything: the operator's settings allow it, and `user_id` is who is told."""
        return self in (Origin.SCHEDULE, Origin.HEALING)


def origin_of(submission_id: str) -> Origin:
    """Return what led to it; an id of Slack's is a person's."""
    word, dot, _ = submission_id.partition(".")
    return next((each for each in Origin if dot and each == word), Origin.PERSON)


def id_of_scheduled(bucket: str, turn: int) -> str:
    """Return the id of a bucket's rotation in a period: the same on every replica."""
    return f"{Origin.SCHEDULE}.{bucket}.{turn}"


def id_in_fleet(fleet_id: str, bucket: str) -> str:
    """Return the id of a bucket's rotation in a fleet."""
    return f"{Origin.FLEET}.{fleet_id}.{bucket}"


def id_of_healing(name: str, undone: int) -> str:
    """Return the id of the rotation that follows when a token had to be enabled again, for the n-th time."""
    return f"{Origin.HEALING}.{name.rpartition(' ')[2]}.{undone}"
