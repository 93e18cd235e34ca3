"""State, objectives -> step, parallelism, loop, checkpoints, logging; knows no system."""
