"""Buckets of object stores, ``s3://…`` and ``gs://…``: opened with whose keys, listed, filled, emptied, compared."""
