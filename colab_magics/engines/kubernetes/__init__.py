"""Runs as pods of a Kubernetes cluster.

None of this was tried on a real cluster yet: what is built passes Kubernetes' own schemas and the official client's
models.
"""
