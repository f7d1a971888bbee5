"""How tokens are made and taken back: the only user of CLOUDFLARE_MINTING_TOKEN, which other processes lack."""
