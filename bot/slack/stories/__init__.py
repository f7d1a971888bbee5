"""What a person can do: one module each, which registers itself."""
