"""The checks of Slack's side, against the fake Slack."""
