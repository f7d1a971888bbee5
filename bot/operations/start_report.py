"""What the line "ready" says about the start."""

from bot import __version__
from bot.settings import Settings


def describe_start(
    settings: Settings, *, transport: str, http_address: str, metrics_address: str | None
) -> dict[str, object]:
    """Return the fields of the line "ready": what was started, and how much each allowlist lists."""
    return {
        "version": __version__,
        "role": settings.role.value,
        "database": "sqlite" if settings.postgres_url is None else "postgresql",
        "transport": transport,
        "http": http_address,
        "metrics": metrics_address or "off",
        "users": len(settings.allowed_users),
        "usergroups": len(settings.allowed_usergroups),
        "channels": len(settings.allowed_channels) or "any",
        "buckets": len(settings.allowed_buckets) or "any",
    }
