"""The only importer of google.colab: mount, secrets, notebook, runtime, ports; and what it asks in runs."""
