"""A Slack bot that stores the credential of a Cloudflare R2 Data Catalog (now also called Basin Catalog)."""

__version__ = "0.1.0"
