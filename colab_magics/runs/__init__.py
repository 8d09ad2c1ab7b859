"""A run is one folder: what it is to do, how far it is, what it left; plans, the runner and the scheduler."""
