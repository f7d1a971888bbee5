"""Where Cloudflare is called and its answers are understood."""
