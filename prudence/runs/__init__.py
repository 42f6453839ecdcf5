"""What a run leaves on the disk: its directory, configuration, checkpoints, metrics."""
