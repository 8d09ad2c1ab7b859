"""Runs that come from a queue: a sweep that claims them, and loops of users' own programs over them."""
