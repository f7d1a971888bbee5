"""How a token is kept on its way: the only user of cryptography."""
