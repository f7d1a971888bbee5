"""A small Slack and a small Cloudflare on loopback, to try the bot on."""
