"""How a run's kernel starts, and the papermill engine that executes its notebook."""
