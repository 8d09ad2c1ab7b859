"""The only importer of google.colab: mount, secrets, notebook, runtime, ports."""
