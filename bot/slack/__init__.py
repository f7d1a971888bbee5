"""Where Slack enters and leaves."""
