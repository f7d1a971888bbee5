"""Encryption of tokens at rest: the only user of cryptography."""
