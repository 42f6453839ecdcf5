"""A trained policy away from training: loaded, exported, by a deadline, kept in a record."""
