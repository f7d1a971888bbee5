"""What a run of one target tells."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Run:
    """How many inputs were tried, and those after which a property did not hold, each with the error."""

    tried: int = 0
    broke: dict[bytes, str] = field(default_factory=dict)
