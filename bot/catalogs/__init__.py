"""What we know of the account's catalogs."""
