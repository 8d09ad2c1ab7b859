"""Runs on other machines, by ssh alone."""
