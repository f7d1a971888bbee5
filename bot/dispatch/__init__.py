"""Ways to run deliveries."""
