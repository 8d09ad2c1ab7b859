"""The only importer of google.colab: mount, secrets, notebook, runtime; and what it asks in runs."""
