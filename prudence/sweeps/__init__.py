"""Sweeps: many runs of `prudence train`, each evaluated and compared by task. Ray shares out the machines."""
