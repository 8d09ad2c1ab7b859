"""Keeping outputs at a Place: guard, transfer, and the process that does it."""
