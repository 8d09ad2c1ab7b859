"""The small examples of CONTRIBUTING.md, and tests that execute them."""
