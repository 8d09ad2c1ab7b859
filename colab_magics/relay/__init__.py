"""Kernels on other machines that outlive their connection: the relay there, and the handle here."""
