"""Every target."""

from typing import Final

from tests.fuzz import cloudflare, http, payloads, rules, sealed, settings, slack, texts
from tests.fuzz.target import Target

TARGETS: Final[tuple[Target, ...]] = (
    *http.TARGETS,
    *payloads.TARGETS,
    *texts.TARGETS,
    *sealed.TARGETS,
    *cloudflare.TARGETS,
    *slack.TARGETS,
    *settings.TARGETS,
    *rules.TARGETS,
)
