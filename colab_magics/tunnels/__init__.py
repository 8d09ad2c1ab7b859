"""Ways into this machine for its user: what is served on the loopback, and how it is reached from elsewhere."""
