"""What people read: sentences and Block Kit. No secret is ever in here."""
