"""How tokens are made and taken back: the only user of CLOUDFLARE_MINTING_TOKEN, in a process that may hold no other."""
