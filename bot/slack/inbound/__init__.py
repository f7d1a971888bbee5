"""What Slack sends: verified, sealed, then parsed once."""
