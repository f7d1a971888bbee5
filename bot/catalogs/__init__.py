"""Keeps the records of the account's catalogs fresh."""
