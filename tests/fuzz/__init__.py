"""What strangers, Slack, Cloudflare and operators may send, made up by hypothesis and by atheris: only our errors."""
