"""A fake Slack and a fake Cloudflare on loopback, to try the bot with."""
