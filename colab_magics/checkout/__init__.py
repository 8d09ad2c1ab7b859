"""A project's checkout: clone, install, folders."""
