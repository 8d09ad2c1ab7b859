"""Runs as tasks of a cluster's job arrays: ``on=slurm``."""
