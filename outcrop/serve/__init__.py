"""The second loop: wanted models to engine processes, and the way of a prompt to them."""
