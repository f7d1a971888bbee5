"""Encryption of tokens at rest, and the keys of that and of what is signed: the only user of cryptography."""
