"""Files of a run: its directory, configuration, checkpoints and metrics."""
