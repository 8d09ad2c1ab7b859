"""From a line to runs that are executed: their plan, the scheduler and its source, the runner, the board."""
