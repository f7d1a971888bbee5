"""How tokens are made and taken back, by a press, by a schedule or for many buckets at once."""
