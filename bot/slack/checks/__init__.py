"""What can be examined on Slack's side: one module for each part."""
