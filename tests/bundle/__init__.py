"""One file that runs a command elsewhere."""
